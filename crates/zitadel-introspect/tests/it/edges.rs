//! Edges of caching, keys, discovery and the way to the issuer, each found by a mutant that no other test killed.

use std::time::{Duration, SystemTime};

use zitadel_introspect::{Requirement, TestClock};
use zitadel_introspect_testkit::Fault;

use crate::setup::{World, authorize, require, status};

#[tokio::test]
async fn a_denial_is_lifted_by_a_newer_verdict_though_the_issuer_is_away() {
    let world = World::new().await;
    let clock = TestClock::new();
    let verifier = world.builder().clock(&clock).build().unwrap();
    let viewer = Requirement::role("viewer");
    let caller = authorize(&verifier, &world.token).await.unwrap();
    world.admin.grant(&world.project, ["viewer"]);
    clock.advance(Duration::from_secs(5)); // the caller's own question is not just asked any more
    let _ = require(&verifier, &world.token, &viewer.clone().fresh_within(Duration::ZERO)).await.unwrap();
    world.issuer.stop().await;
    assert_eq!(status(&caller.require(&viewer).await), 200);
}

#[tokio::test]
async fn a_held_jwt_is_read_once() {
    let world = World::new().await;
    let request = world.admin.access_token().for_project(&world.project).jwt();
    let token = request.scopes("urn:zitadel:iam:org:projects:roles").issue();
    let verifier =
        world.builder().verify_jwts_locally_without_revocation(world.project.id()).build().unwrap();
    for _ in 0..3 {
        let _ = authorize(&verifier, &token).await.unwrap();
    }
    assert_eq!((verifier.stats().local, verifier.stats().hits), (1, 2));
}

#[tokio::test]
async fn the_issuers_clock_can_be_asked() {
    let world = World::new().await;
    world.issuer.set_clock_ahead(3600);
    let time = world.verifier().issuer_time().await.unwrap().unwrap();
    let ahead = time.duration_since(SystemTime::now()).unwrap();
    assert!((3590..=3610).contains(&ahead.as_secs()), "{ahead:?}");
}

#[tokio::test]
async fn a_denial_counts_its_hit_and_a_renewal_is_counted_as_such() {
    let world = World::new().await;
    let clock = TestClock::new();
    let verifier = world.builder().clock(&clock).build().unwrap();
    let _ = authorize(&verifier, &world.token).await.unwrap();
    assert_eq!(status(&require(&verifier, &world.token, &Requirement::role("viewer")).await), 403);
    let stats = verifier.stats();
    assert_eq!((stats.hits, stats.misses, stats.renewals, stats.refreshes_on_denial), (1, 1, 0, 1));
    clock.advance(Duration::from_secs(10));
    let fresh = Requirement::any_caller().fresh_within(Duration::from_secs(5));
    let _ = require(&verifier, &world.token, &fresh).await.unwrap();
    assert_eq!(verifier.stats().renewals, 1);
    clock.advance(Duration::from_secs(70));
    let _ = authorize(&verifier, &world.token).await.unwrap();
    assert_eq!(verifier.stats().renewals, 1, "one that has lapsed is no renewal");
}

#[tokio::test]
async fn a_renewal_ahead_that_failed_is_tried_again() {
    let world = World::new().await;
    let clock = TestClock::new();
    let verifier = world.builder().refresh_ahead(Duration::from_secs(10)).clock(&clock).build().unwrap();
    let _ = authorize(&verifier, &world.token).await.unwrap();
    clock.advance(Duration::from_secs(52));
    world.issuer.inject(Fault::status(500).times(1));
    let _ = authorize(&verifier, &world.token).await.unwrap();
    let renewed = async {
        while verifier.stats().active < 2 {
            let _ = authorize(&verifier, &world.token).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), renewed).await.unwrap();
    assert_eq!(verifier.stats().failed, 1);
}

#[tokio::test]
async fn evicting_another_session_or_user_forgets_nothing() {
    let world = World::new().await;
    let verifier = world.verifier();
    let token = world.admin.access_token().for_project(&world.project).issue();
    let _ = authorize(&verifier, &token).await.unwrap();
    verifier.evict_user(&"somebody else".into());
    verifier.evict_token_id(&"something else".into());
    let _ = authorize(&verifier, &token).await.unwrap();
    assert_eq!(world.issuer.introspections(), 1, "still held");
    verifier.evict_token_id(&token.id().split("-at_").next().unwrap().into());
    let _ = authorize(&verifier, &token).await.unwrap();
    assert_eq!(world.issuer.introspections(), 2);
}

fn jwt(world: &World) -> zitadel_introspect_testkit::Token {
    let request = world.admin.access_token().for_project(&world.project).jwt();
    request.scopes("urn:zitadel:iam:org:projects:roles").issue()
}

async fn publish(world: &World, change: impl FnOnce(&mut Vec<serde_json::Value>)) {
    let document = reqwest::get(format!("{}/oauth/v2/keys", world.issuer.url())).await.unwrap();
    let mut document: serde_json::Value = serde_json::from_slice(&document.bytes().await.unwrap()).unwrap();
    change(document["keys"].as_array_mut().unwrap());
    let answer = Fault::answer(200, "application/json", document.to_string());
    world.issuer.inject(answer.on(zitadel_introspect_testkit::Endpoint::Keys));
}

#[tokio::test]
async fn only_a_key_that_cannot_be_read_here_makes_the_issuer_be_asked() {
    for (algorithm, outcome, asked) in [("PS256", 200, 1), ("RS384", 401, 0), ("RS512", 401, 0)] {
        let world = World::new().await;
        let token = jwt(&world);
        publish(&world, |keys| keys[0]["alg"] = algorithm.into()).await;
        let verifier = world.builder().verify_jwts_locally_without_revocation(world.project.id());
        assert_eq!(status(&authorize(&verifier.build().unwrap(), &token).await), outcome, "{algorithm}");
        assert_eq!(world.issuer.introspections(), asked, "{algorithm}");
    }
    // Beside one that fits it changes nothing.
    let world = World::new().await;
    let token = jwt(&world);
    let add = |keys: &mut Vec<serde_json::Value>| {
        let mut other = keys[0].clone();
        other["alg"] = "PS256".into();
        keys.push(other);
    };
    publish(&world, add).await;
    let verifier = world.builder().verify_jwts_locally_without_revocation(world.project.id());
    assert_eq!(status(&authorize(&verifier.build().unwrap(), &token).await), 200);
    assert_eq!(world.issuer.introspections(), 0);
}

#[tokio::test]
async fn many_first_jwts_at_once_wait_for_one_fetch_of_the_keys() {
    let world = World::new().await;
    let issuer = zitadel_introspect::Issuer::parse(&world.issuer.url()).unwrap();
    let verifier = zitadel_introspect::Verifier::jwt_builder_without_revocation(issuer, world.project.id());
    let verifier = verifier.build().unwrap();
    let held = world.issuer.hold(zitadel_introspect_testkit::Endpoint::Keys);
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), jwt(&world).to_string());
            tokio::spawn(async move { status(&authorize(&verifier, &token).await) })
        })
        .collect();
    world.issuer.asked(zitadel_introspect_testkit::Endpoint::Keys, 1).await;
    while verifier.stats().local < 20 {
        tokio::task::yield_now().await;
    }
    drop(held);
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!(world.issuer.request_count(zitadel_introspect_testkit::Endpoint::Keys), 1);
}

#[tokio::test]
async fn known_keys_are_not_fetched_again_within_five_minutes() {
    let world = World::new().await;
    let clock = TestClock::new();
    let issuer = zitadel_introspect::Issuer::parse(&world.issuer.url()).unwrap();
    let verifier = zitadel_introspect::Verifier::jwt_builder_without_revocation(issuer, world.project.id());
    let verifier = verifier.clock(&clock).build().unwrap();
    for _ in 0..4 {
        let _ = authorize(&verifier, &jwt(&world)).await.unwrap();
        clock.advance(Duration::from_secs(70));
    }
    round_trips(&world).await;
    assert_eq!(world.issuer.request_count(zitadel_introspect_testkit::Endpoint::Keys), 1);
}

/// Round trips on connections of their own: requests that were sent before them have arrived by then.
async fn round_trips(world: &World) {
    for _ in 0..50 {
        reqwest::get(format!("{}/debug/healthz", world.issuer.url())).await.unwrap();
    }
}

#[tokio::test]
async fn a_jwt_that_was_revoked_stays_so_after_a_sweep() {
    for by_eviction in [false, true] {
        let world = World::new().await;
        let clock = TestClock::new();
        let verifier = world.builder().verify_jwts_locally_without_revocation(world.project.id());
        let verifier = verifier.clock(&clock).build().unwrap();
        let token = jwt(&world);
        let _ = authorize(&verifier, &token).await.unwrap();
        token.revoke();
        if by_eviction {
            verifier.evict_token(&token);
        } else {
            verifier.evict_user(&world.admin.id().into());
        }
        assert_eq!(status(&authorize(&verifier, "never-was").await), 401);
        clock.advance(Duration::from_secs(300));
        let swept = async {
            while verifier.stats().held_bad > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), swept).await.unwrap();
        round_trips(&world).await; // the same sweep goes on with the revoked ones
        assert_eq!(status(&authorize(&verifier, &token).await), 401, "{by_eviction}");
    }
}

#[tokio::test]
async fn an_eviction_by_organization_forgets_who_has_a_role_of_it() {
    let world = World::new().await;
    let verifier = world.verifier();
    let guests = world.issuer.organization("Guests");
    world.project.grant_to(&guests);
    world.admin.grant_in(&guests, &world.project, ["viewer"]);
    let caller = authorize(&verifier, &world.token).await.unwrap();
    assert!(caller.claims().roles().contains_in("viewer", &guests.id().into()));
    assert_ne!(caller.claims().organization_id(), Some(&*guests.id()));
    verifier.evict_organization(&guests.id().into());
    let _ = authorize(&verifier, &world.token).await.unwrap();
    assert_eq!(world.issuer.introspections(), 2);
}

#[tokio::test]
async fn a_caller_is_unauthorized_when_the_token_ends_and_not_before() {
    let world = World::new().await;
    let verifier = world.verifier();
    let token =
        world.admin.access_token().for_project(&world.project).lifetime(Duration::from_secs(3)).issue();
    let caller = authorize(&verifier, &token).await.unwrap();
    let end = caller.claims().expires_at().unwrap();
    let error = caller.until_unauthorized(&Requirement::any_caller(), Duration::from_secs(3600)).await;
    assert_eq!(error.status().as_u16(), 401);
    assert!(SystemTime::now() >= end && SystemTime::now() < end + Duration::from_secs(1));
}

#[tokio::test]
async fn each_endpoint_that_is_less_safe_is_told_by_its_reason() {
    let world = World::new().await;
    for (endpoint, problem) in [
        ("ftp://127.0.0.1/x", "neither https nor http"),
        ("http://id@127.0.0.1/x", "user information"),
        ("http://:secret@127.0.0.1/x", "user information"),
    ] {
        world.issuer.heal();
        let document =
            serde_json::json!({"issuer": world.issuer.url(), "introspection_endpoint": endpoint}).to_string();
        let discovery = zitadel_introspect_testkit::Endpoint::Discovery;
        world.issuer.inject(Fault::answer(200, "application/json", document).on(discovery));
        let error = world.verifier().check().await.unwrap_err().to_string();
        assert!(error.contains(problem), "{endpoint}: {error}");
    }
}

#[tokio::test]
async fn what_does_not_speak_http_is_told_from_what_cannot_be_reached() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await;
        }
    });
    let issuer = zitadel_introspect::Issuer::parse(&format!("http://{address}")).unwrap();
    let verifier = zitadel_introspect::Verifier::jwt_builder_without_revocation(issuer, "1").build().unwrap();
    let error = verifier.check().await.unwrap_err();
    assert!(matches!(error, zitadel_introspect::IssuerError::Unusable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_error_of_some_kilobytes_is_read() {
    let world = World::new().await;
    let body =
        serde_json::json!({"error": "invalid_client", "error_description": "x".repeat(8000)}).to_string();
    world.issuer.inject(Fault::answer(400, "application/json", body));
    let error = world.verifier().check().await.unwrap_err();
    assert!(matches!(error, zitadel_introspect::IssuerError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_denial_joins_the_question_that_is_under_way() {
    let world = World::new().await;
    let verifier = world.builder().timeout(Duration::from_secs(10)).build().unwrap();
    let (viewer, any) = (Requirement::role("viewer"), Requirement::any_caller());
    let _ = require(&verifier, &world.token, &any).await.unwrap();
    let caller = require(&verifier, &world.token, &any).await.unwrap(); // of a held verdict: not just asked
    while verifier.stats().refreshes_on_denial < 5 {
        assert_eq!(status(&require(&verifier, &world.token, &viewer).await), 403);
    }
    world.admin.grant(&world.project, ["viewer"]);
    let held = world.issuer.hold(zitadel_introspect_testkit::Endpoint::Introspection);
    let asked = world.issuer.introspections();
    let now = any.fresh_within(Duration::ZERO);
    let asking = tokio::spawn({
        let (verifier, token) = (verifier.clone(), world.token.to_string());
        async move { status(&require(&verifier, &token, &now).await) }
    });
    world.issuer.asked(zitadel_introspect_testkit::Endpoint::Introspection, asked + 1).await;
    let denied = tokio::spawn(async move { status(&caller.require(&viewer).await) });
    while verifier.stats().coalesced < 1 && !denied.is_finished() {
        tokio::task::yield_now().await;
    }
    drop(held);
    assert_eq!((asking.await.unwrap(), denied.await.unwrap()), (200, 200));
    assert_eq!(world.issuer.introspections(), asked + 1);
}

#[tokio::test]
async fn a_question_that_is_fresh_enough_is_joined() {
    let world = World::new().await;
    let verifier = world.builder().timeout(Duration::from_secs(10)).build().unwrap();
    let held = world.issuer.hold(zitadel_introspect_testkit::Endpoint::Introspection);
    let ask = |requirement: Requirement| {
        let (verifier, token) = (verifier.clone(), world.token.to_string());
        tokio::spawn(async move { status(&require(&verifier, &token, &requirement).await) })
    };
    let first = ask(Requirement::any_caller());
    world.issuer.asked(zitadel_introspect_testkit::Endpoint::Introspection, 1).await;
    let second = ask(Requirement::any_caller().fresh_within(Duration::from_secs(10)));
    while verifier.stats().coalesced < 1 {
        tokio::task::yield_now().await;
    }
    drop(held);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (200, 200));
    assert_eq!(world.issuer.introspections(), 1);
}

#[tokio::test]
async fn at_most_sixteen_verdicts_are_renewed_ahead_at_once() {
    let world = World::new().await;
    let clock = TestClock::new();
    let verifier = world.builder().refresh_ahead(Duration::from_secs(10)).timeout(Duration::from_secs(10));
    let verifier = verifier.clock(&clock).build().unwrap();
    let tokens: Vec<_> = (0..20).map(|_| world.admin.pat()).collect();
    for token in &tokens {
        let _ = authorize(&verifier, token).await.unwrap();
    }
    clock.advance(Duration::from_secs(52));
    let held = world.issuer.hold(zitadel_introspect_testkit::Endpoint::Introspection);
    for token in &tokens {
        let _ = authorize(&verifier, token).await.unwrap();
    }
    assert_eq!(verifier.stats().renewals, 16);
    drop(held);
    while verifier.stats().active < 36 {
        tokio::task::yield_now().await;
    }
    let rest = async {
        while verifier.stats().active < 40 {
            for token in &tokens {
                let _ = authorize(&verifier, token).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), rest).await.expect("the others get their turn");
    assert_eq!(verifier.stats().renewals, 20);
}

#[tokio::test]
async fn an_expired_jwt_is_suspected_of_that() {
    let world = World::new().await;
    let token = world.issuer.forge(
        &serde_json::json!({"alg": "RS256", "typ": "JWT"}),
        &serde_json::json!({"iss": world.issuer.url(), "aud": [world.api.client_id()], "exp": 1000}),
    );
    let suspicions = format!("{:?}", world.verifier().suspect(&token));
    assert!(suspicions.contains("Expired"), "{suspicions}");
}
