//! Header to caller: who gets in, who does not, and what it costs upstream.

use std::time::Duration;

use zitadel_introspect::{
    AccessToken, AuthError, Caller, ClientAuth, ConfigError, InvalidToken, Issuer, IssuerError, Reason,
    ReloadError, Requirement, Role, TestCaller, TestClock, TestTokens, Verifier,
};

use crate::setup::{World, authorize, reason, require, status};

#[tokio::test]
async fn a_live_token_yields_its_caller() {
    let world = World::new().await;
    let caller = require(&world.verifier(), &world.token, &Requirement::role("admin")).await.unwrap();
    assert_eq!(caller.claims().subject(), Some(&*world.admin.id()));
    assert_eq!(caller.claims().username(), Some("admin"));
    let organization = world.issuer.default_organization();
    assert!(caller.claims().roles().contains_in("admin", &organization.id().into()));
}

#[tokio::test]
async fn what_is_refused_locally_costs_no_question() {
    let world = World::new().await;
    let verifier = world.verifier();
    let any = Requirement::any_caller();
    let good = format!("Bearer {}", world.token);
    let huge = format!("Bearer {}", "a".repeat(16 * 1024 + 1));
    let fields: [&[&[u8]]; 7] = [
        &[],
        &[b""],
        &[b"Basic YTpi"],
        &[b"Bearer"],
        &[b"Bearer a b"],
        &[huge.as_bytes()],
        &[good.as_bytes(), good.as_bytes()],
    ];
    let mut statuses = Vec::new();
    for fields in fields {
        statuses.push(status(&verifier.authorize(fields.iter().copied(), &any).await));
    }
    let too_long = reason(verifier.authorize([huge.as_bytes()], &any).await);
    assert!(matches!(too_long, Reason::TokenTooLong));
    assert_eq!((statuses, world.issuer.introspections()), (vec![401, 401, 401, 401, 401, 401, 400], 0));
}

#[tokio::test]
async fn dead_tokens_are_invalid() {
    let world = World::new().await;
    let verifier = world.verifier();
    let revoked = world.admin.pat();
    revoked.revoke();
    let expired = world.admin.access_token().for_project(&world.project).issue();
    expired.expire();
    let elsewhere = world.admin.access_token().issue();
    let inactive = |reason| matches!(reason, Reason::InvalidToken(InvalidToken::Inactive));
    for dead in ["never-was", &revoked, &expired, &elsewhere] {
        assert!(inactive(reason(authorize(&verifier, dead).await)), "{dead}");
    }
    world.admin.deactivate();
    verifier.evict_all();
    assert!(inactive(reason(authorize(&verifier, &world.token).await)));
}

#[tokio::test]
async fn a_role_granted_shows_at_the_next_request_and_one_taken_when_the_verdict_is_forgotten() {
    let world = World::new().await;
    let verifier = world.verifier();
    let viewer = Requirement::role("viewer");
    assert_eq!(status(&require(&verifier, &world.token, &viewer).await), 403);
    let grant = world.admin.grant(&world.project, ["viewer"]);
    assert_eq!(status(&require(&verifier, &world.token, &viewer).await), 200);
    grant.remove();
    verifier.evict_user(&world.admin.id().into());
    assert_eq!(status(&require(&verifier, &world.token, &viewer).await), 403);
}

#[tokio::test]
async fn a_caller_can_be_asked_for_more_inside_a_handler() {
    let world = World::new().await;
    let caller = authorize(&world.verifier(), &world.token).await.unwrap();
    assert!(caller.require(&Requirement::role("admin")).await.is_ok());
    let organization = world.issuer.default_organization().id();
    let here = Requirement::role("admin").in_organization(organization);
    assert!(caller.require(&here).await.is_ok());
    let elsewhere = Requirement::role("admin").in_organization("400000000000000099".to_owned());
    let error = caller.require(&elsewhere).await.unwrap_err();
    assert_eq!(error.text(), "permission denied: missing required role: `admin`");
}

#[tokio::test]
async fn our_own_clock_has_the_last_word() {
    let world = World::new().await;
    let token =
        world.admin.access_token().for_project(&world.project).lifetime(Duration::from_secs(3600)).issue();
    let api = world.project.secret_api("secret api");
    let at = |seconds: i64| {
        let clock = TestClock::new();
        clock.set_ahead_millis(seconds * 1000);
        // A secret: an assertion is dated by the same clock, and ZITADEL would refuse it.
        let auth = ClientAuth::secret(api.client_id(), api.secret()).unwrap();
        let issuer = Issuer::parse(&world.issuer.url()).unwrap();
        Verifier::builder(issuer, auth).clock(&clock).build().unwrap()
    };
    assert_eq!(status(&authorize(&at(3590), &token).await), 200);
    let expired = reason(authorize(&at(3601), &token).await);
    assert!(matches!(expired, Reason::InvalidToken(InvalidToken::Expired)));
    assert!(matches!(
        reason(authorize(&at(-120), &token).await),
        Reason::InvalidToken(InvalidToken::NotYetValid)
    ));
}

#[tokio::test]
async fn the_assertion_is_dated_by_the_same_clock() {
    let world = World::new().await;
    let clock = TestClock::new();
    let verifier = world.builder().clock(&clock).build().unwrap();
    clock.advance(Duration::from_secs(7200));
    assert_eq!(status(&authorize(&verifier, &world.token).await), 503, "ZITADEL refuses one from the future");
    world.issuer.set_clock_ahead(7200);
    assert_eq!(status(&authorize(&verifier, &world.admin.pat()).await), 200);
}

#[tokio::test]
async fn optional_credentials_are_absent_refused_or_good() {
    let world = World::new().await;
    let verifier = world.verifier();
    let any = Requirement::any_caller();
    let ask = async |fields: &[&str]| {
        let fields = fields.iter().map(|field| field.as_bytes());
        verifier.authorize_optional(fields, &any).await.map(|caller| caller.is_some())
    };
    assert!(!ask(&[]).await.unwrap() && !ask(&[""]).await.unwrap() && !ask(&["Basic YTpi"]).await.unwrap());
    assert!(ask(&[&format!("Bearer {}", world.token)]).await.unwrap());
    assert_eq!(status(&ask(&["Bearer never-was"]).await), 401);
    assert_eq!(status(&ask(&["Bearer a b"]).await), 401);
    assert_eq!(status(&ask(&["Basic YTpi", "Bearer x"]).await), 400);
}

#[tokio::test]
async fn a_configured_audience_narrows_what_zitadel_lets_through() {
    let world = World::new().await;
    let token = world.admin.access_token().for_project(&world.project).issue();
    let right = world.builder().audience(world.project.id()).build().unwrap();
    assert_eq!(status(&authorize(&right, &token).await), 200);
    let wrong = world.builder().audience("400000000000000099").build().unwrap();
    assert!(matches!(
        reason(authorize(&wrong, &token).await),
        Reason::InvalidToken(InvalidToken::OtherAudience)
    ));
}

#[tokio::test]
async fn a_configured_project_is_whose_roles_count() {
    let world = World::new().await;
    let admin = Requirement::role("admin");
    let own = world.builder().project(world.project.id()).build().unwrap();
    assert_eq!(status(&require(&own, &world.token, &admin).await), 200);
    let other = world.builder().project(world.issuer.project("other").id()).build().unwrap();
    assert_eq!(status(&require(&other, &world.token, &admin).await), 403);
}

#[tokio::test]
async fn a_verifier_serves_several_runtimes_one_after_the_other() {
    let world = World::new().await;
    let verifier = world.builder().cache_off().build().unwrap();
    let token = world.token.to_string();
    for _ in 0..3 {
        let (verifier, token) = (verifier.clone(), token.clone());
        let in_a_runtime_of_its_own = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { status(&authorize(&verifier, &token).await) })
        });
        assert_eq!(in_a_runtime_of_its_own.join().unwrap(), 200);
    }
    assert_eq!(world.issuer.introspections(), 3);
}

/// What users keep in their state, send to other threads and return from `main`.
#[test]
fn types_are_what_users_need_them_to_be() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn sent<T: Send>(_: T) {}
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    shared::<Verifier>();
    shared::<Caller>();
    shared::<Requirement>();
    shared::<AccessToken>();
    error::<AuthError>();
    error::<ConfigError>();
    error::<IssuerError>();
    error::<ReloadError>();
    let verifier = TestTokens::new().caller("token", TestCaller::new("ada")).verifier();
    let any = Requirement::any_caller();
    sent(verifier.authorize([&b"Bearer token"[..]], &any));
    sent(verifier.verify("token".parse().unwrap(), &any));
    sent(verifier.check());
    let caller = verifier.authorize_held([&b"Bearer token"[..]], &any);
    assert!(caller.is_none(), "nothing is held yet");
    for id in [Role::from("a"), Role::from(&"a".to_owned()), "a".parse().unwrap(), "a".to_owned().into()] {
        assert!(id == "a" && id.as_ref() == "a");
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"a\"");
        assert_eq!(serde_json::from_str::<Role>("\"a\"").unwrap(), id);
    }
}

#[tokio::test]
async fn a_token_that_came_by_another_way_is_verified_as_well() {
    let verifier = TestTokens::new().caller("token", TestCaller::new("ada").role("admin")).verifier();
    let admin = Requirement::role("admin");
    let caller = verifier.verify("token".parse().unwrap(), &admin).await.unwrap();
    assert_eq!(caller.user_id(), "ada");
    let held = verifier.authorize_held([&b"Bearer token"[..]], &admin).expect("held now");
    assert!(verifier.has_verified(&held) && !TestTokens::new().verifier().has_verified(&held));
    let refused = verifier.verify("other".parse().unwrap(), &admin).await.unwrap_err();
    assert_eq!(refused.status().as_u16(), 401);
    assert!("no token".parse::<AccessToken>().is_err());
}

#[test]
fn errors_read_well_when_main_returns_them() {
    let error = Issuer::parse("https://user@host.example").unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());
    let error = IssuerError::Refused { error: "unauthorized_client".to_owned() };
    assert!(format!("{error:?}").contains("the key may be removed or expired"), "{error:?}");
}
