//! Verdicts that are held: for how long, for whom, and when the issuer is asked all the same.

use std::time::Duration;

use zitadel_introspect::{
    ClientAuth, InvalidToken, Issuer, Reason, Requirement, TestClock, Verifier, VerifierBuilder,
};
use zitadel_introspect_testkit::{Endpoint, Fault};

use crate::setup::{World, authorize, reason, require, status};

/// A verifier whose clock the test moves.
struct Timed {
    verifier: Verifier,
    clock: TestClock,
}

impl Timed {
    fn new(builder: VerifierBuilder) -> Self {
        let clock = TestClock::new();
        Self { verifier: builder.clock(&clock).build().unwrap(), clock }
    }

    fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_good_verdict_is_held_for_its_time_and_use_does_not_prolong_it() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    for _ in 0..6 {
        assert_eq!(status(&authorize(&timed.verifier, &world.token).await), 200);
        timed.advance(SECOND * 9);
    }
    assert_eq!(world.issuer.introspections(), 1);
    timed.advance(SECOND * 6);
    assert_eq!(status(&authorize(&timed.verifier, &world.token).await), 200);
    assert_eq!(world.issuer.introspections(), 2);
}

#[tokio::test]
async fn a_revoked_token_works_at_most_until_the_verdict_lapses() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    assert_eq!(status(&authorize(&timed.verifier, &world.token).await), 200);
    world.token.revoke();
    timed.advance(SECOND * 59);
    assert_eq!(status(&authorize(&timed.verifier, &world.token).await), 200);
    timed.advance(SECOND);
    assert_eq!(status(&authorize(&timed.verifier, &world.token).await), 401);
}

#[tokio::test]
async fn a_held_token_dies_on_its_second() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    let token = world.admin.access_token().for_project(&world.project).lifetime(SECOND * 30).issue();
    assert_eq!(status(&authorize(&timed.verifier, &token).await), 200);
    timed.advance(SECOND * 28);
    assert_eq!(status(&authorize(&timed.verifier, &token).await), 200);
    timed.advance(SECOND * 2);
    let dead = reason(authorize(&timed.verifier, &token).await);
    assert!(matches!(dead, Reason::InvalidToken(InvalidToken::Expired)));
    assert_eq!(world.issuer.introspections(), 1);
}

#[tokio::test]
async fn a_bad_verdict_is_held_for_five_seconds() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    for _ in 0..20 {
        assert_eq!(status(&authorize(&timed.verifier, "never-was").await), 401);
    }
    assert_eq!((world.issuer.introspections(), timed.verifier.stats().negative_hits), (1, 19));
    timed.advance(SECOND * 5);
    assert_eq!(status(&authorize(&timed.verifier, "never-was").await), 401);
    assert_eq!(world.issuer.introspections(), 2);
}

#[tokio::test]
async fn random_tokens_cannot_push_out_good_ones() {
    let world = World::new().await;
    let verifier = world.builder().cache_capacity(10).negative_cache_capacity(10).build().unwrap();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
    for number in 0..200 {
        assert_eq!(status(&authorize(&verifier, &format!("random-{number}")).await), 401);
    }
    let asked = world.issuer.introspections();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
    assert_eq!(world.issuer.introspections(), asked);
    assert!(verifier.stats().held_bad <= 20, "{:?}", verifier.stats());
}

#[tokio::test]
async fn failures_are_not_held() {
    let world = World::new().await;
    let verifier = world.verifier();
    world.issuer.inject(Fault::status(500).times(1));
    assert_eq!(status(&authorize(&verifier, &world.token).await), 503);
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
}

#[tokio::test]
async fn one_call_turns_the_cache_off() {
    let world = World::new().await;
    let verifier = world.builder().cache_off().build().unwrap();
    for _ in 0..3 {
        assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
        assert_eq!(status(&authorize(&verifier, "never-was").await), 401);
    }
    assert_eq!(world.issuer.introspections(), 6);
}

#[tokio::test]
async fn what_has_lapsed_is_given_back_without_being_pushed_out() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    for _ in 0..20 {
        let _ = authorize(&timed.verifier, &world.admin.pat()).await.unwrap();
    }
    authorize(&timed.verifier, "never-was").await.unwrap_err();
    let stats = timed.verifier.stats();
    assert_eq!((stats.held, stats.held_bad), (20, 1));
    timed.advance(SECOND * 60 * 3);
    let given_back = async {
        while timed.verifier.stats().held + timed.verifier.stats().held_bad > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SECOND * 20, given_back).await.unwrap();
}

#[tokio::test]
async fn verdicts_are_bounded_in_bytes() {
    let world = World::new().await;
    for key in 0..20 {
        world.admin.set_metadata(&format!("key-{key}"), [b'x'; 4000]);
    }
    // 80 KB of metadata stand in the answer about each token, and once more decoded.
    let verifier = world.builder().max_answer_bytes(128 * 1024).cache_bytes(2 * 1024 * 1024).build().unwrap();
    for _ in 0..30 {
        let _ = authorize(&verifier, &world.admin.pat()).await.unwrap();
    }
    let held = verifier.stats().held;
    assert!((2..=11).contains(&held), "{held} of 30 fit into 2 MiB");
}

#[tokio::test]
async fn two_verifiers_never_share_a_verdict() {
    let world = World::new().await;
    let other_api = world.issuer.project("other").api("other api");
    let other = ClientAuth::key_json(&other_api.key_json()).unwrap();
    let other = Verifier::builder(Issuer::parse(&world.issuer.url()).unwrap(), other).build().unwrap();
    let admin = Requirement::role("admin");
    assert_eq!(status(&require(&world.verifier(), &world.token, &admin).await), 200);
    assert_eq!(status(&require(&other, &world.token, &admin).await), 403);
}

#[tokio::test]
async fn a_role_granted_in_the_console_works_on_the_very_next_request() {
    let world = World::new().await;
    let verifier = world.verifier();
    let viewer = Requirement::role("viewer");
    assert_eq!(status(&require(&verifier, &world.token, &viewer).await), 403);
    assert_eq!(world.issuer.introspections(), 1, "what was just asked is not asked again");
    world.admin.grant(&world.project, ["viewer"]);
    let caller = require(&verifier, &world.token, &viewer).await.unwrap();
    assert!(caller.claims().has_role("viewer"), "the caller is the newest one");
    assert_eq!(verifier.stats().refreshes_on_denial, 1);
}

#[tokio::test]
async fn a_caller_without_the_role_cannot_hammer_the_issuer() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    let viewer = Requirement::role("viewer");
    for _ in 0..50 {
        assert_eq!(status(&require(&timed.verifier, &world.token, &viewer).await), 403);
    }
    let asked = world.issuer.introspections();
    assert!((6..=7).contains(&asked), "once to know, five times before a held verdict refused: {asked}");
    timed.advance(SECOND);
    for _ in 0..50 {
        assert_eq!(status(&require(&timed.verifier, &world.token, &viewer).await), 403);
    }
    let more = world.issuer.introspections() - asked;
    assert!((1..=2).contains(&more), "one for each second: {more}");
    timed.advance(SECOND * 20);
    assert_eq!(status(&require(&timed.verifier, &world.token, &viewer).await), 403);
    let asked = world.issuer.introspections();
    for _ in 0..50 {
        assert_eq!(status(&require(&timed.verifier, &world.token, &viewer).await), 403);
    }
    assert!((4..=5).contains(&(world.issuer.introspections() - asked)), "never more than five at once");
}

#[tokio::test]
async fn a_role_granted_right_after_a_denial_that_was_asked_about_works_on_the_next_request() {
    let world = World::new().await;
    let verifier = world.verifier();
    let viewer = Requirement::role("viewer");
    for _ in 0..3 {
        assert_eq!(status(&require(&verifier, &world.token, &viewer).await), 403);
    }
    world.admin.grant(&world.project, ["viewer"]);
    assert_eq!(status(&require(&verifier, &world.token, &viewer).await), 200);
}

#[tokio::test]
async fn what_a_slow_issuer_has_just_said_is_not_asked_again() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    let held = world.issuer.hold(Endpoint::Introspection);
    let (verifier, token) = (timed.verifier.clone(), world.token.to_string());
    let viewer = Requirement::role("viewer").fresh_within(Duration::ZERO);
    let asking = tokio::spawn(async move { status(&require(&verifier, &token, &viewer).await) });
    world.issuer.asked(Endpoint::Introspection, 1).await;
    timed.advance(SECOND * 3);
    drop(held);
    assert_eq!(asking.await.unwrap(), 403);
    assert_eq!(world.issuer.introspections(), 1);
}

#[tokio::test]
async fn a_held_denial_stands_while_the_issuer_is_away() {
    let world = World::new().await;
    let verifier = world.verifier();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
    world.issuer.stop().await;
    assert_eq!(status(&require(&verifier, &world.token, &Requirement::role("viewer")).await), 403);
}

#[tokio::test]
async fn a_surprise_is_asked_for_once_more() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    assert_eq!(status(&authorize(&timed.verifier, &world.token).await), 200);
    timed.advance(SECOND * 60);
    world.issuer.inject(Fault::inactive().times(1));
    assert_eq!(status(&authorize(&timed.verifier, &world.token).await), 200, "a trouble of the issuer's own");
    assert_eq!(world.issuer.introspections(), 3);
    timed.advance(SECOND * 60);
    world.token.revoke();
    assert_eq!(status(&authorize(&timed.verifier, &world.token).await), 401);
    assert_eq!(world.issuer.introspections(), 5);
    assert_eq!(status(&authorize(&timed.verifier, "never-was").await), 401);
    assert_eq!(world.issuer.introspections(), 6, "no surprise: asked once");
}

#[tokio::test]
async fn a_requirement_says_how_fresh_the_verdict_must_be() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    let within = |age| Requirement::any_caller().fresh_within(age);
    assert_eq!(status(&authorize(&timed.verifier, &world.token).await), 200);
    timed.advance(SECOND * 10);
    assert_eq!(status(&require(&timed.verifier, &world.token, &within(SECOND * 20)).await), 200);
    assert_eq!(world.issuer.introspections(), 1);
    assert_eq!(status(&require(&timed.verifier, &world.token, &within(SECOND * 5)).await), 200);
    assert_eq!(world.issuer.introspections(), 2);
    assert_eq!(status(&require(&timed.verifier, &world.token, &within(Duration::ZERO)).await), 200);
    assert_eq!(world.issuer.introspections(), 3, "zero asks now");
    world.token.revoke();
    assert_eq!(status(&require(&timed.verifier, &world.token, &within(Duration::ZERO)).await), 401);
}

#[tokio::test]
async fn freshness_inside_a_handler_asks_once_for_a_request() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    let _ = authorize(&timed.verifier, &world.token).await.unwrap();
    timed.advance(SECOND * 10);
    let now = Requirement::any_caller().fresh_within(Duration::ZERO);
    let caller = require(&timed.verifier, &world.token, &now).await.unwrap();
    let caller = caller.require(&now).await.unwrap();
    let _ = caller.require(&now).await.unwrap();
    assert_eq!(world.issuer.introspections(), 2);
    let other = world.admin.pat();
    let stream = require(&timed.verifier, &other, &now).await.unwrap();
    timed.advance(SECOND * 60);
    other.revoke();
    assert_eq!(status(&stream.require(&now).await), 401, "a stream that outlives its beginning asks anew");
}

#[tokio::test]
async fn what_is_fresh_is_not_served_stale() {
    let world = World::new().await;
    let verifier = world.verifier();
    let _ = authorize(&verifier, &world.token).await.unwrap();
    world.issuer.stop().await;
    let now = Requirement::any_caller().fresh_within(Duration::ZERO);
    assert_eq!(status(&require(&verifier, &world.token, &now).await), 503);
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200, "the held verdict serves on");
}

#[tokio::test]
async fn verdicts_are_forgotten_by_token_id_user_organization_and_all() {
    let world = World::new().await;
    let verifier = world.verifier();
    let session_token = world.admin.access_token().for_project(&world.project).issue();
    let session = session_token.id().split("-at_").next().unwrap().to_owned();
    let organization = world.issuer.default_organization().id().into();
    let forget: [(&str, &dyn Fn()); 6] = [
        (&world.token, &|| verifier.evict_token(&world.token)),
        (&world.token, &|| verifier.evict_token_id(&world.token.id().into())),
        (&session_token, &|| verifier.evict_token_id(&session.as_str().into())),
        (&world.token, &|| verifier.evict_user(&world.admin.id().into())),
        (&world.token, &|| verifier.evict_organization(&organization)),
        (&world.token, &|| verifier.evict_all()),
    ];
    for (index, (token, forget)) in forget.iter().enumerate() {
        let _ = authorize(&verifier, token).await.unwrap();
        let asked = world.issuer.introspections();
        let _ = authorize(&verifier, token).await.unwrap();
        assert_eq!(world.issuer.introspections(), asked, "{index}: held");
        verifier.evict_user(&"somebody else".into());
        verifier.evict_token_id(&"something else".into());
        forget();
        let _ = authorize(&verifier, token).await.unwrap();
        assert_eq!(world.issuer.introspections(), asked + 1, "{index}: forgotten");
    }
}

#[tokio::test]
async fn an_answer_from_before_an_eviction_is_not_kept() {
    let world = World::new().await;
    let verifier = world.verifier();
    let held = world.issuer.hold(Endpoint::Introspection);
    let asking = tokio::spawn({
        let (verifier, token) = (verifier.clone(), world.token.to_string());
        async move { status(&authorize(&verifier, &token).await) }
    });
    world.issuer.asked(Endpoint::Introspection, 1).await;
    verifier.evict_user(&world.admin.id().into());
    drop(held);
    assert_eq!(asking.await.unwrap(), 200);
    world.token.revoke();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 401, "asked anew");
}

/// Two callers around an eviction: the issuer holds the question of the first back until the second has asked.
async fn around_an_eviction(
    evict: impl FnOnce(&World, &Verifier),
    requirement: &Requirement,
) -> (World, u16, u16) {
    let world = World::new().await;
    let verifier = world.builder().timeout(SECOND * 10).build().unwrap();
    let held = world.issuer.hold(Endpoint::Introspection);
    let ask = |requirement: &Requirement| {
        let (verifier, token) = (verifier.clone(), world.token.to_string());
        let requirement = requirement.clone();
        tokio::spawn(async move { status(&require(&verifier, &token, &requirement).await) })
    };
    let before = ask(&Requirement::any_caller());
    world.issuer.asked(Endpoint::Introspection, 1).await;
    evict(&world, &verifier);
    let after = ask(requirement);
    while verifier.stats().coalesced < 1 {
        tokio::task::yield_now().await;
    }
    drop(held);
    let (before, after) = (before.await.unwrap(), after.await.unwrap());
    (world, before, after)
}

#[tokio::test]
async fn a_question_sent_before_an_eviction_is_not_joined_after_it() {
    let any = Requirement::any_caller();
    let (world, before, after) =
        around_an_eviction(|world, verifier| verifier.evict_user(&world.admin.id().into()), &any).await;
    assert_eq!((before, after), (200, 200));
    assert_eq!(world.issuer.introspections(), 2, "who came after the eviction has a question of their own");
    let (world, ..) = around_an_eviction(|_, _| {}, &any).await;
    assert_eq!(world.issuer.introspections(), 1, "without an eviction it is shared");
}

#[tokio::test]
async fn a_denial_does_not_join_a_question_sent_before_an_eviction() {
    let world = World::new().await;
    let verifier = world.builder().timeout(SECOND * 10).build().unwrap();
    let (viewer, any) = (Requirement::role("viewer"), Requirement::any_caller());
    let _ = require(&verifier, &world.token, &any).await.unwrap();
    // The questions before a denial are used up.
    while verifier.stats().refreshes_on_denial < 5 {
        assert_eq!(status(&require(&verifier, &world.token, &viewer).await), 403);
    }
    // Of a held verdict: what was just asked is not asked again.
    let caller = require(&verifier, &world.token, &any).await.unwrap();
    let held = world.issuer.hold(Endpoint::Introspection);
    let now = Requirement::any_caller().fresh_within(Duration::ZERO);
    let asking = tokio::spawn({
        let (verifier, token) = (verifier.clone(), world.token.to_string());
        async move { status(&require(&verifier, &token, &now).await) }
    });
    let asked = world.issuer.introspections();
    world.issuer.asked(Endpoint::Introspection, asked + 1).await;
    world.admin.grant(&world.project, ["viewer"]);
    verifier.evict_user(&world.admin.id().into());
    let coalesced = verifier.stats().coalesced;
    assert_eq!(status(&caller.require(&viewer).await), 403, "refused by what is known, without waiting");
    assert_eq!(verifier.stats().coalesced, coalesced);
    drop(held);
    assert_eq!(asking.await.unwrap(), 200);
    assert_eq!(status(&require(&verifier, &world.token, &viewer).await), 200);
}

#[tokio::test]
async fn an_eviction_matches_what_is_not_known() {
    let world = World::new().await;
    let verifier = world.verifier();
    let person = world.issuer.person("paula", zitadel_introspect_testkit::Profile::default());
    // No role, and no scope that tells the organization.
    let token = person.access_token().for_project(&world.project).issue();
    let caller = authorize(&verifier, &token).await.unwrap();
    assert_eq!((caller.claims().organization_id(), caller.claims().roles().is_empty()), (None, true));
    verifier.evict_organization(&world.issuer.default_organization().id().into());
    token.revoke();
    assert_eq!(status(&authorize(&verifier, &token).await), 401);
    // The administrator's token names its organization, which is another one.
    let _ = authorize(&verifier, &world.token).await.unwrap();
    let asked = world.issuer.introspections();
    verifier.evict_organization(&"400000000000000099".into());
    let _ = authorize(&verifier, &world.token).await.unwrap();
    assert_eq!(world.issuer.introspections(), asked, "still held");
}

#[tokio::test]
async fn an_eviction_by_user_or_token_matches_a_verdict_that_names_none() {
    for evict in [(|verifier: &Verifier| verifier.evict_user(&"7".into())) as fn(&Verifier), |verifier| {
        verifier.evict_token_id(&"7".into());
    }] {
        let world = World::new().await;
        let verifier = world.verifier();
        world.issuer.inject(Fault::answer(200, "application/json", r#"{"active":true}"#).times(1));
        let _ = authorize(&verifier, "anonymous").await.unwrap();
        evict(&verifier);
        assert_eq!(status(&authorize(&verifier, "anonymous").await), 401);
    }
}

#[tokio::test]
async fn verdicts_in_use_are_renewed_ahead_where_asked_for() {
    let world = World::new().await;
    let timed = Timed::new(world.builder().refresh_ahead(SECOND * 10));
    let _ = authorize(&timed.verifier, &world.token).await.unwrap();
    timed.advance(SECOND * 52);
    let _ = authorize(&timed.verifier, &world.token).await.unwrap();
    world.issuer.asked(Endpoint::Introspection, 2).await;
    while timed.verifier.stats().active < 2 {
        tokio::task::yield_now().await;
    }
    timed.advance(SECOND * 20);
    let _ = authorize(&timed.verifier, &world.token).await.unwrap();
    assert_eq!(world.issuer.introspections(), 2, "nobody waited after the first");
}

#[tokio::test]
async fn stale_verdicts_serve_only_where_chosen_bounded_and_never_past_the_tokens_end() {
    let world = World::new().await;
    let strict = Timed::new(world.builder());
    let lenient = Timed::new(world.builder().serve_stale_on_error(SECOND * 120));
    let short = world.admin.access_token().for_project(&world.project).lifetime(SECOND * 90).issue();
    for timed in [&strict, &lenient] {
        let _ = authorize(&timed.verifier, &world.token).await.unwrap();
        let _ = authorize(&timed.verifier, &short).await.unwrap();
    }
    world.issuer.stop().await;
    for timed in [&strict, &lenient] {
        timed.advance(SECOND * 70);
    }
    assert_eq!(status(&authorize(&strict.verifier, &world.token).await), 503);
    assert_eq!(status(&authorize(&lenient.verifier, &world.token).await), 200);
    assert_eq!(status(&authorize(&lenient.verifier, &short).await), 200);
    let now = Requirement::any_caller().fresh_within(Duration::ZERO);
    assert_eq!(status(&require(&lenient.verifier, &world.token, &now).await), 503);
    lenient.advance(SECOND * 25);
    assert_eq!(status(&authorize(&lenient.verifier, &short).await), 401, "past its end");
    lenient.advance(SECOND * 90);
    assert_eq!(status(&authorize(&lenient.verifier, &world.token).await), 503, "past the bound");
    world.issuer.resume().await;
    world.token.revoke();
    let refused = async { while status(&authorize(&lenient.verifier, &world.token).await) != 401 {} };
    tokio::time::timeout(SECOND * 10, refused).await.unwrap();
}

#[tokio::test]
async fn an_eviction_of_somebody_else_does_not_lose_an_answer_in_flight() {
    let world = World::new().await;
    let verifier = world.verifier();
    let held = world.issuer.hold(Endpoint::Introspection);
    let asking = tokio::spawn({
        let (verifier, token) = (verifier.clone(), world.token.to_string());
        async move { status(&authorize(&verifier, &token).await) }
    });
    world.issuer.asked(Endpoint::Introspection, 1).await;
    for number in 0..100 {
        verifier.evict_user(&format!("somebody else {number}").into());
        verifier.evict_token(&format!("another-token-{number}"));
    }
    drop(held);
    assert_eq!(asking.await.unwrap(), 200);
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
    assert_eq!(world.issuer.introspections(), 1, "the answer is held");
}

#[tokio::test]
async fn an_eviction_of_a_role_finds_who_has_it_and_nobody_else() {
    let world = World::new().await;
    let verifier = world.verifier();
    let viewer = world.issuer.service_user("viewer");
    viewer.grant(&world.project, ["viewer"]);
    let (admin, viewer) = (world.token.clone(), viewer.pat());
    let asked_about = async |token: &str| {
        let before = world.issuer.introspections();
        let _ = authorize(&verifier, token).await.unwrap();
        world.issuer.introspections() > before
    };
    assert!(asked_about(&admin).await && asked_about(&viewer).await);
    let project = world.project.id().into();
    verifier.evict_role(&project, &"owner".into());
    assert!(!asked_about(&admin).await && !asked_about(&viewer).await);
    verifier.evict_role(&project, &"admin".into());
    assert!(asked_about(&admin).await && !asked_about(&viewer).await);
    // The generic claim does not name its project.
    verifier.evict_role(&"77".into(), &"viewer".into());
    assert!(!asked_about(&admin).await && asked_about(&viewer).await);
}

#[tokio::test]
async fn a_verdict_is_as_old_as_its_question() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    let _ = authorize(&timed.verifier, &world.token).await.unwrap();
    timed.advance(SECOND * 40);
    let caller = authorize(&timed.verifier, &world.token).await.unwrap();
    assert!((SECOND * 40..SECOND * 41).contains(&caller.verdict_age()), "{:?}", caller.verdict_age());
}

#[tokio::test]
async fn an_old_caller_is_judged_by_the_newest_verdict_and_not_by_their_own() {
    let world = World::new().await;
    let any = Requirement::any_caller();
    let timed = Timed::new(world.builder().serve_stale_on_error(SECOND * 300));
    let caller = authorize(&timed.verifier, &world.token).await.unwrap();
    timed.advance(SECOND * 55);
    world.token.revoke();
    let now = Requirement::any_caller().fresh_within(Duration::ZERO);
    assert_eq!(status(&require(&timed.verifier, &world.token, &now).await), 401);
    timed.advance(SECOND * 2);
    assert_eq!(status(&caller.require(&now).await), 401, "the refusal is held");
    world.issuer.stop().await;
    timed.advance(SECOND * 13);
    assert_eq!(status(&caller.require(&any).await), 503, "known to be inactive, and not stale");
}

#[tokio::test]
async fn old_callers_of_one_token_share_what_is_held() {
    let world = World::new().await;
    let timed = Timed::new(world.builder());
    let callers =
        [authorize(&timed.verifier, &world.token).await, authorize(&timed.verifier, &world.token).await];
    timed.advance(SECOND * 40);
    let fresh = Requirement::any_caller().fresh_within(SECOND * 30);
    for caller in callers {
        let _ = caller.unwrap().require(&fresh).await.unwrap();
    }
    assert_eq!(world.issuer.introspections(), 2);
}

#[tokio::test]
async fn a_verdict_that_was_evicted_while_its_question_was_in_flight_is_not_served_stale() {
    for is_evicted in [false, true] {
        let (world, clock) = (World::new().await, TestClock::new());
        let builder = world.builder().clock(&clock).serve_stale_on_error(SECOND * 60).timeout(SECOND * 2);
        let verifier = builder.build().unwrap();
        let any = Requirement::any_caller();
        let _ = require(&verifier, &world.token, &any).await.unwrap();
        clock.advance(SECOND * 61);
        let asked = world.issuer.introspections();
        let held = world.issuer.hold(Endpoint::Introspection);
        let asking = tokio::spawn({
            let (verifier, token) = (verifier.clone(), world.token.to_string());
            async move { status(&require(&verifier, &token, &Requirement::any_caller()).await) }
        });
        world.issuer.asked(Endpoint::Introspection, asked + 1).await;
        if is_evicted {
            verifier.evict_user(&world.admin.id().into());
        }
        assert_eq!(asking.await.unwrap(), if is_evicted { 503 } else { 200 });
        drop(held);
    }
}

#[tokio::test]
async fn evictions_of_others_from_long_ago_do_not_forbid_to_serve_stale() {
    let (world, clock) = (World::new().await, TestClock::new());
    let verifier = world.builder().clock(&clock).serve_stale_on_error(SECOND * 300).build().unwrap();
    let any = Requirement::any_caller();
    let _ = require(&verifier, &world.token, &any).await.unwrap();
    for _ in 0..2 {
        verifier.evict_user(&"somebody else".into());
        clock.advance(SECOND * 80);
    }
    world.issuer.stop().await;
    assert_eq!(status(&require(&verifier, &world.token, &any).await), 200);
}
