//! The event feed: what ends ends within a second, and everything else is asked about once an hour.

use std::{path::Path, time::Duration};

use futures_util::future::join_all;
use tempfile::TempDir;
use zitadel_introspect::{EventFeed, Issuer, Requirement, TestClock, Verifier, VerifierBuilder};
use zitadel_introspect_testkit::{Endpoint, Fault, Profile, RoleGrant, Token, User};

use crate::setup::{World, require, status};

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(100);

/// A file that only this user can read.
pub(crate) fn secret_file(path: &Path, text: &str) {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A world with a service user who may read events.
pub(crate) struct Fed {
    pub(crate) world: World,
    pub(crate) reader: User,
    folder: TempDir,
}

impl Fed {
    pub(crate) async fn new() -> Self {
        let world = World::new().await;
        let reader = world.issuer.service_user("reader");
        reader.set_instance_role("IAM_OWNER_VIEWER");
        let folder = tempfile::tempdir().unwrap();
        reader.pat().write_file(folder.path().join("token")).unwrap();
        Self { world, reader, folder }
    }

    pub(crate) fn feed(&self) -> EventFeed {
        EventFeed::token_file(self.folder.path().join("token")).unwrap().interval(INTERVAL)
    }

    pub(crate) fn builder(&self) -> VerifierBuilder {
        self.world.builder().project(self.world.project.id()).event_feed(self.feed())
    }

    /// Waits until a poll that begins after this call has ended.
    pub(crate) async fn polled(&self) {
        // At most three searches belong to a poll, the rest of one is under way, and the next one has begun at the end.
        let searches = self.world.issuer.request_count(Endpoint::EventSearch);
        within(self.world.issuer.asked(Endpoint::EventSearch, searches + 7)).await;
    }

    /// A verifier whose feed is current.
    pub(crate) async fn start(&self, builder: VerifierBuilder) -> Verifier {
        let verifier = builder.build().unwrap();
        let current = async {
            while !verifier.event_feed().unwrap().is_current {
                self.polled().await;
            }
        };
        within(current).await;
        verifier
    }

    /// Waits for one of the states of the feed.
    async fn until(&self, verifier: &Verifier, is_current: bool) {
        let changed = async {
            while verifier.event_feed().unwrap().failure.is_none() != is_current {
                tokio::time::sleep(INTERVAL / 10).await;
            }
        };
        within(changed).await;
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SECOND * 30, future).await.expect("within 30 s")
}

/// What a round ends.
pub(crate) struct Subject {
    user: User,
    grant: RoleGrant,
    pub(crate) token: Token,
    login: Option<zitadel_introspect_testkit::Login>,
}

impl Subject {
    pub(crate) fn new(fed: &Fed, kind: &Kind, round: usize) -> Self {
        let world = &fed.world;
        let is_of_a_login =
            ["an access", "a refresh", "a token is", "a session"].iter().any(|it| kind.name.starts_with(it));
        let user = if is_of_a_login {
            world.issuer.person(&format!("person-{round}"), Profile::default())
        } else {
            world.issuer.service_user(&format!("user-{round}"))
        };
        let grant = user.grant(&world.project, ["admin"]);
        let scopes = format!(
            "openid offline_access urn:zitadel:iam:org:projects:roles {}",
            world.project.audience_scope()
        );
        let login = is_of_a_login.then(|| user.log_in(&world.project.web_app("web"), &scopes));
        let token = login.as_ref().map_or_else(|| user.pat(), |login| login.access_token.clone());
        Self { user, grant, token, login }
    }
}

/// A way in which a token or its role ends, what becomes of its caller, and whether only they are concerned.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) ends: fn(&Fed, Subject),
    pub(crate) status: u16,
    pub(crate) is_precise: bool,
}

const fn kind(name: &'static str, status: u16, ends: fn(&Fed, Subject)) -> Kind {
    Kind { name, ends, status, is_precise: true }
}

pub(crate) const KINDS: [Kind; 17] = [
    kind("a personal access token is removed", 401, |_, subject| subject.token.revoke()),
    kind("an access token is revoked", 401, |_, subject| subject.login.unwrap().access_token.revoke()),
    kind("a refresh token is revoked", 401, |_, subject| {
        subject.login.unwrap().refresh_token.unwrap().revoke();
    }),
    kind("a token is refreshed", 401, |_, subject| {
        let _ = subject.login.unwrap().refresh();
    }),
    kind("a session ends", 401, |_, subject| subject.login.unwrap().end_session()),
    kind("a user is locked", 401, |_, subject| subject.user.lock()),
    kind("a user is deactivated", 401, |_, subject| subject.user.deactivate()),
    kind("a user is removed", 401, |_, subject| subject.user.remove()),
    kind("a grant is changed by the v2 API", 403, |_, subject| subject.grant.change(["viewer"])),
    kind("a grant is changed by the v1 API", 403, |_, subject| subject.grant.change_v1(["viewer"])),
    kind("a grant is deactivated", 403, |_, subject| subject.grant.deactivate()),
    kind("a grant is removed", 403, |_, subject| subject.grant.remove()),
    kind("a role is removed", 403, |fed, _| {
        fed.world.project.remove_role("admin");
        fed.world.project.add_role("admin");
    }),
    Kind {
        is_precise: false,
        ..kind("a key is removed", 503, |fed, _| {
            let key = fed.world.api.key();
            fed.world.api.remove_key(&key);
        })
    },
    Kind {
        is_precise: false,
        ..kind("an application is deactivated", 503, |fed, _| fed.world.api.deactivate())
    },
    Kind {
        is_precise: false,
        ..kind("a project is deactivated", 503, |fed, _| fed.world.project.deactivate())
    },
    Kind {
        is_precise: false,
        ..kind("a project is removed", 503, |fed, _| fed.world.project.clone().remove())
    },
];

/// Rounds for each kind; what ends the API itself has one for each world.
const ROUNDS: usize = 50;

async fn run(kind: &Kind) {
    let rounds = if kind.is_precise { ROUNDS } else { 1 };
    let fed = Fed::new().await;
    let world = &fed.world;
    let verifier = fed.start(fed.builder()).await;
    let admin = Requirement::role("admin");
    let bystander = world.issuer.service_user("bystander");
    let (bystander, any) = (bystander.pat(), Requirement::any_caller());
    let subject = |round: usize| Subject::new(&fed, kind, round);
    // The end of a role is that of everybody who has it.
    let at_once = if kind.name == "a role is removed" { 1 } else { rounds };
    for round in (0..rounds).step_by(at_once) {
        let subjects: Vec<_> = (round..round + at_once).map(subject).collect();
        // The events of making them are read: they evict as well.
        fed.polled().await;
        for subject in subjects {
            assert_eq!(status(&require(&verifier, &bystander, &any).await), 200, "{}", kind.name);
            assert_eq!(status(&require(&verifier, &subject.token, &admin).await), 200, "{}", kind.name);
            let (asked, text) = (world.issuer.introspections(), subject.token.to_string());
            (kind.ends)(&fed, subject);
            fed.polled().await;
            let refused = status(&require(&verifier, &text, &admin).await);
            assert_eq!(refused, kind.status, "{}: one poll later", kind.name);
            if kind.is_precise {
                let after = world.issuer.introspections();
                assert!(after > asked, "{}", kind.name);
                assert_eq!(status(&require(&verifier, &bystander, &any).await), 200);
                assert_eq!(world.issuer.introspections(), after, "{}: nobody else is concerned", kind.name);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_is_refused_one_poll_later() {
    join_all(KINDS.iter().map(run)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_token_is_asked_about_once_in_an_hour() {
    const TOKENS: usize = 10_000;
    let fed = Fed::new().await;
    let clock = TestClock::new();
    let verifier = fed.start(fed.builder().clock(&clock)).await;
    let user = fed.world.issuer.service_user("user");
    let tokens: Vec<Token> = (0..TOKENS).map(|_| user.pat()).collect();
    fed.polled().await;
    let any = Requirement::any_caller();
    let before = fed.world.issuer.introspections();
    // Five minutes, each token each ten seconds.
    for _ in 0..30 {
        for some in tokens.chunks(64) {
            let all = join_all(some.iter().map(|token| require(&verifier, token, &any))).await;
            assert!(all.iter().all(Result::is_ok));
        }
        clock.advance(SECOND * 10);
        fed.polled().await;
    }
    let asked = fed.world.issuer.introspections() - before;
    assert!(asked <= TOKENS, "{asked} questions about {TOKENS} tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_feed_verdicts_lapse_one_after_the_other_and_are_held_again_with_it() {
    const TOKENS: usize = 200;
    let fed = Fed::new().await;
    let clock = TestClock::new();
    let verifier = fed.start(fed.builder().clock(&clock)).await;
    let user = fed.world.issuer.service_user("user");
    let tokens: Vec<Token> = (0..TOKENS).map(|_| user.pat()).collect();
    fed.polled().await;
    let any = Requirement::any_caller();
    let use_all = async || {
        let all = join_all(tokens.iter().map(|token| require(&verifier, token, &any))).await;
        all.iter().filter(|outcome| outcome.is_ok()).count()
    };
    assert_eq!(use_all().await, TOKENS);
    for _ in 0..4 {
        clock.advance(SECOND * 30);
        fed.polled().await;
    }
    let held = fed.world.issuer.introspections();
    assert_eq!(use_all().await, TOKENS);
    assert_eq!(fed.world.issuer.introspections(), held, "two minutes later all are held");
    // The feed is lost for good, and the issuer answers nobody: what is held can be counted.
    fed.world.issuer.inject(Fault::status(500).on(Endpoint::EventSearch));
    fed.world.issuer.inject(Fault::status(500));
    fed.until(&verifier, false).await;
    let mut left = vec![use_all().await];
    assert!(left[0] == TOKENS, "{left:?}");
    for _ in 0..12 {
        clock.advance(SECOND * 5);
        left.push(use_all().await);
    }
    assert_eq!(left[12], 0, "after a minute: {left:?}");
    assert_eq!(left[8], TOKENS, "nothing lapses early: {left:?}");
    let lapsed: Vec<usize> = left.windows(2).map(|pair| pair[0] - pair[1]).collect();
    assert!(lapsed.iter().all(|some| *some <= TOKENS / 2), "not all at once: {lapsed:?}");
    // Back again.
    fed.world.issuer.heal();
    fed.until(&verifier, true).await;
    clock.advance(SECOND * 10);
    assert_eq!(use_all().await, TOKENS);
    let held = fed.world.issuer.introspections();
    for _ in 0..4 {
        clock.advance(SECOND * 30);
        fed.polled().await;
    }
    assert_eq!(use_all().await, TOKENS);
    assert_eq!(fed.world.issuer.introspections(), held);
}

type Breaks = fn(&Fed);

#[tokio::test(flavor = "multi_thread")]
async fn what_the_feed_lacks_is_told_and_stops_nothing() {
    let cases: [(Breaks, &str); 5] = [
        (|fed| fed.reader.remove_instance_role(), "events.read"),
        (|fed| fed.reader.set_instance_role("ORG_OWNER"), "events.read"),
        (|fed| fed.reader.lock(), "401"),
        (|fed| fed.world.issuer.inject(Fault::status(404).on(Endpoint::EventSearch)), "no event search"),
        (
            |fed| {
                let cached = Fault::answer(200, "application/json", "{}").header("age", "7");
                fed.world.issuer.inject(cached.on(Endpoint::EventSearch));
            },
            "cache",
        ),
    ];
    for (breaks, told) in cases {
        let fed = Fed::new().await;
        let verifier = fed.start(fed.builder()).await;
        breaks(&fed);
        fed.until(&verifier, false).await;
        let failure = verifier.event_feed().unwrap().failure.unwrap();
        assert!(failure.to_string().contains(told), "{failure}");
        assert_eq!(status(&require(&verifier, &fed.world.token, &Requirement::any_caller()).await), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_service_user_buys_tokens() {
    let fed = Fed::new().await;
    let path = fed.folder.path().join("service-user.json");
    fed.reader.add_key().write_file(&path).unwrap();
    let by_key = EventFeed::key_file(&path).unwrap().interval(INTERVAL);
    let verifier = fed.start(fed.world.builder().event_feed(by_key)).await;
    assert_eq!(fed.world.issuer.request_count(Endpoint::Token), 1);
    let any = Requirement::any_caller();
    assert_eq!(status(&require(&verifier, &fed.world.token, &any).await), 200);
    fed.world.token.revoke();
    fed.polled().await;
    assert_eq!(status(&require(&verifier, &fed.world.token, &any).await), 401);
    let other = fed.folder.path().join("key.json");
    secret_file(&other, &fed.world.api.key_json());
    let refused = EventFeed::key_file(&other).unwrap_err().to_string();
    assert!(refused.contains("API application") && refused.contains("service user"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_become_visible_late_are_read_and_a_lost_one_ends_with_the_hold() {
    let fed = Fed::new().await;
    let clock = TestClock::new();
    let verifier = fed.start(fed.builder().clock(&clock)).await;
    let any = Requirement::any_caller();
    let authorized = async |token: &Token| status(&require(&verifier, token, &any).await);
    let user = fed.world.issuer.service_user("user");
    let (late, lost) = (user.pat(), user.pat());
    fed.polled().await;
    assert_eq!([authorized(&late).await, authorized(&lost).await], [200, 200]);
    fed.world.issuer.delay_events(Duration::from_millis(1500));
    late.revoke();
    fed.world.issuer.lose_events();
    lost.revoke();
    fed.world.issuer.delay_events(Duration::ZERO);
    // Another event is visible before the late one.
    fed.world.issuer.service_user("other").lock();
    let refused = async {
        while authorized(&late).await == 200 {
            fed.polled().await;
        }
    };
    within(refused).await;
    assert_eq!(authorized(&lost).await, 200, "nobody has told of it");
    for _ in 0..62 {
        clock.advance(SECOND * 58);
        fed.world.issuer.advance(SECOND * 58);
        fed.polled().await;
    }
    assert_eq!(authorized(&lost).await, 401, "an hour is the longest");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_ends_all_verdicts() {
    let fed = Fed::new().await;
    let clock = TestClock::new();
    let verifier = fed.start(fed.builder().clock(&clock)).await;
    let any = Requirement::any_caller();
    assert_eq!(status(&require(&verifier, &fed.world.token, &any).await), 200);
    fed.world.issuer.forget_events();
    fed.until(&verifier, false).await;
    let held = verifier.stats().held;
    clock.advance(SECOND * 6);
    fed.until(&verifier, true).await;
    assert_eq!((held, verifier.stats().held), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_verdict_costs_no_question_where_the_feed_knows() {
    let fed = Fed::new().await;
    let verifier = fed.start(fed.builder()).await;
    let fresh = Requirement::any_caller().fresh_within(SECOND * 2);
    let token = fed.world.issuer.service_user("user").pat();
    let caller = require(&verifier, &token, &fresh).await.unwrap();
    let asked = fed.world.issuer.introspections();
    let later = async {
        while caller.verdict_age() < SECOND / 20 || fed.world.issuer.request_count(Endpoint::EventSearch) < 40
        {
            fed.polled().await;
        }
    };
    within(later).await;
    assert_eq!(status(&require(&verifier, &token, &fresh).await), 200);
    assert_eq!(fed.world.issuer.introspections(), asked);
    let word = Requirement::any_caller().asked_within(Duration::ZERO);
    assert_eq!(status(&require(&verifier, &token, &word).await), 200);
    assert_eq!(fed.world.issuer.introspections(), asked + 1, "the issuer's own word");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_an_action_made_are_not_held_longer() {
    let fed = Fed::new().await;
    for (holds, questions) in [(false, 2), (true, 1)] {
        let clock = TestClock::new();
        let wanted = if holds { fed.feed().hold_action_claims() } else { fed.feed() };
        let builder = fed.world.builder().project(fed.world.project.id()).event_feed(wanted).clock(&clock);
        let verifier = fed.start(builder).await;
        let exp = 4_000_000_000_u64;
        let body = serde_json::json!({"active": true, "sub": "1", "exp": exp, "department": "sales"});
        fed.world.issuer.inject(Fault::answer(200, "application/json", body.to_string()));
        let asked = fed.world.issuer.introspections();
        for _ in 0..2 {
            assert_eq!(status(&require(&verifier, "token", &Requirement::any_caller()).await), 200);
            clock.advance(SECOND * 40);
            fed.polled().await;
            clock.advance(SECOND * 40);
            fed.polled().await;
        }
        assert_eq!(fed.world.issuer.introspections() - asked, questions);
        fed.world.issuer.heal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_token_does() {
    let fed = Fed::new().await;
    let verifier = fed.start(fed.builder()).await;
    let any = Requirement::any_caller();
    let caller = require(&verifier, &fed.world.token, &any).await.unwrap();
    let other = fed.world.issuer.service_user("other").pat();
    let stays = require(&verifier, &other, &any).await.unwrap();
    let ends = caller.until_unauthorized(&any, SECOND * 3600);
    fed.polled().await;
    let asked = fed.world.issuer.introspections();
    fed.world.token.revoke();
    let error = within(ends).await;
    assert_eq!(error.status(), 401);
    // Active, and once more, since it was active.
    assert!(fed.world.issuer.introspections() - asked <= 2);
    let none = tokio::time::timeout(INTERVAL * 3, stays.until_unauthorized(&any, SECOND * 3600)).await;
    assert!(none.is_err(), "an eviction of somebody else ends no stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_introspection_still_shows_is_asked_about_again() {
    let fed = Fed::new().await;
    let verifier = fed.start(fed.builder()).await;
    let (admin, user) = (Requirement::role("admin"), fed.world.issuer.service_user("user"));
    let (grant, token) = (user.grant(&fed.world.project, ["admin"]), user.pat());
    fed.polled().await;
    assert_eq!(status(&require(&verifier, &token, &admin).await), 200);
    // Longer than a poll: the first question after the event gets the old answer.
    fed.world.issuer.set_grant_lag(Duration::from_millis(400));
    grant.remove();
    let refused = async {
        while status(&require(&verifier, &token, &admin).await) == 200 {
            fed.polled().await;
        }
    };
    tokio::time::timeout(SECOND * 3, refused).await.expect("one second after the event it is evicted again");
}

#[tokio::test]
async fn settings_of_the_feed_that_cannot_be_are_refused() {
    let fed = Fed::new().await;
    let refusal = |builder: VerifierBuilder| builder.build().unwrap_err().to_string();
    let too_often = fed.world.builder().event_feed(fed.feed().interval(Duration::from_millis(99)));
    assert!(refusal(too_often).starts_with("event_feed: the interval 99ms"));
    let too_seldom = fed.world.builder().event_feed(fed.feed().interval(Duration::from_millis(10_001)));
    assert!(refusal(too_seldom).starts_with("event_feed: the interval"));
    assert!(refusal(fed.world.builder().longest_hold(SECOND * 600)).contains("without `event_feed`"));
    assert!(refusal(fed.builder().longest_hold(SECOND * 59)).contains("`cache_ttl`"));
    assert!(refusal(fed.builder().longest_hold(SECOND * 86_401)).starts_with("longest_hold: "));
    assert!(refusal(fed.builder().cache_off()).contains("beside `cache_off`"));
    let ahead = |seconds: u32| fed.builder().longest_hold(SECOND * 100).refresh_ahead(SECOND * seconds);
    assert!(refusal(ahead(51)).starts_with("refresh_ahead: is more than half of `longest_hold`"));
    assert!(ahead(50).build().is_ok());
    assert!(fed.builder().longest_hold(SECOND * 60).build().is_ok());
    assert!(fed.builder().longest_hold(SECOND * 86_400).build().is_ok());
    let token = fed.reader.pat().to_string();
    let refused = EventFeed::token_file(&token).unwrap_err().to_string();
    assert!(refused.starts_with("event_feed: ") && !refused.contains(&token), "{refused}");
    assert!(EventFeed::token_file("/dev/null").unwrap_err().to_string().contains("no regular file"));
    let empty = fed.folder.path().join("empty");
    secret_file(&empty, " \n");
    assert!(EventFeed::token_file(&empty).unwrap_err().to_string().contains("holds no token"));
}

/// A JWT of a user, for our project.
fn jwt(fed: &Fed, user: &User) -> Token {
    user.access_token().for_project(&fed.world.project).jwt().issue()
}

#[tokio::test(flavor = "multi_thread")]
async fn jwts_are_verified_locally_and_what_ended_is_known() {
    let fed = Fed::new().await;
    let project = fed.world.project.id();
    let any = Requirement::any_caller();
    for with_issuer in [true, false] {
        let users: Vec<User> = (0..6)
            .map(|number| fed.world.issuer.service_user(&format!("user-{number}-{with_issuer}")))
            .collect();
        let early = jwt(&fed, &users[0]);
        let locked_before = jwt(&fed, &users[1]);
        users[1].lock();
        let issuer = Issuer::parse(&fed.world.issuer.url()).unwrap();
        let verifier = if with_issuer {
            fed.start(fed.builder().verify_jwts_locally(&*project)).await
        } else {
            let verifier = Verifier::jwt_builder(issuer, &*project, fed.feed()).build().unwrap();
            within(async {
                while !verifier.event_feed().unwrap().is_current {
                    fed.polled().await;
                }
            })
            .await;
            verifier
        };
        fed.polled().await;
        // What the feed knows costs no question; that ends are remembered, and by whom it can be asked, decides.
        let asked = fed.world.issuer.introspections();
        assert_eq!(status(&require(&verifier, &early, &any).await), 200);
        assert_eq!(fed.world.issuer.introspections(), asked, "the past was read");
        assert_eq!(
            status(&require(&verifier, &locked_before, &any).await),
            401,
            "with an issuer: {with_issuer}"
        );
        let (revoked, locked) = (jwt(&fed, &users[2]), jwt(&fed, &users[3]));
        for token in [&revoked, &locked] {
            assert_eq!(status(&require(&verifier, token, &any).await), 200);
        }
        let never_seen = jwt(&fed, &users[4]);
        revoked.revoke();
        users[3].deactivate();
        never_seen.revoke();
        fed.polled().await;
        for token in [&revoked, &locked, &never_seen] {
            assert_eq!(status(&require(&verifier, token, &any).await), 401);
        }
        let fresh = Requirement::any_caller().fresh_within(SECOND * 30);
        let asked = fed.world.issuer.introspections();
        assert_eq!(status(&require(&verifier, &early, &fresh).await), 200);
        assert_eq!(fed.world.issuer.introspections(), asked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_current_feed_jwts_are_asked_about_or_answered_with_503() {
    let fed = Fed::new().await;
    let (project, any) = (fed.world.project.id(), Requirement::any_caller());
    fed.world.issuer.inject(Fault::status(500).on(Endpoint::EventSearch));
    let auto = fed.builder().verify_jwts_locally(&*project).build().unwrap();
    let issuer = Issuer::parse(&fed.world.issuer.url()).unwrap();
    let clock = TestClock::new();
    let alone = Verifier::jwt_builder(issuer, &*project, fed.feed()).clock(&clock).build().unwrap();
    let token = jwt(&fed, &fed.world.issuer.service_user("user"));
    assert_eq!(status(&require(&auto, &token, &any).await), 200);
    assert_eq!(fed.world.issuer.introspections(), 1, "it was asked about");
    assert_eq!(status(&require(&alone, &token, &any).await), 503, "nobody can be asked");
    fed.world.issuer.heal();
    let read = async {
        while status(&require(&alone, &token, &any).await) != 200 {
            fed.polled().await;
        }
    };
    within(read).await;
    fed.world.issuer.inject(Fault::status(500).on(Endpoint::EventSearch));
    fed.until(&alone, false).await;
    clock.advance(SECOND * 61);
    fed.world.issuer.advance(SECOND * 61);
    let other = jwt(&fed, &fed.world.issuer.service_user("other"));
    for token in [&token, &other] {
        assert_eq!(status(&require(&alone, token, &any).await), 503, "a minute after the feed was lost");
    }
}

#[tokio::test]
async fn local_verification_is_called_by_what_it_sees() {
    let fed = Fed::new().await;
    let project = fed.world.project.id();
    let refusal = |builder: VerifierBuilder| builder.build().unwrap_err().to_string();
    let without = refusal(fed.world.builder().verify_jwts_locally(&*project));
    assert!(without.starts_with("verify_jwts_locally: needs `event_feed`"), "{without}");
    let beside = refusal(fed.builder().verify_jwts_locally_without_revocation(&*project));
    assert!(beside.contains("call `verify_jwts_locally`"), "{beside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_type_of_a_later_zitadel_ends_what_its_aggregate_says() {
    let fed = Fed::new().await;
    fed.world.issuer.add_event_type("user.of.tomorrow");
    let verifier = fed.start(fed.builder()).await;
    within(fed.world.issuer.asked(Endpoint::EventTypes, 1)).await;
    fed.polled().await;
    let (user, other) = (fed.world.issuer.service_user("user"), fed.world.issuer.service_user("other"));
    let any = Requirement::any_caller();
    for token in [user.pat(), other.pat()] {
        assert_eq!(status(&require(&verifier, &token, &any).await), 200);
    }
    assert_eq!(verifier.stats().held, 2);
    fed.world.issuer.emit("user.of.tomorrow", &user);
    // A fourth search belongs to a poll.
    fed.polled().await;
    fed.polled().await;
    assert_eq!(verifier.stats().held, 1);
    assert_eq!(fed.world.issuer.request_count(Endpoint::EventTypes), 1, "once in an hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_is_gone_reads_no_more_events() {
    let fed = Fed::new().await;
    let verifier = fed.start(fed.builder()).await;
    drop(verifier);
    let searches = || fed.world.issuer.request_count(Endpoint::EventSearch);
    let ended = async {
        loop {
            let before = searches();
            tokio::time::sleep(INTERVAL * 5).await;
            if searches() == before {
                break;
            }
        }
    };
    within(ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_that_is_first_seen_without_the_feed_is_as_old_as_the_newest_events() {
    let fed = Fed::new().await;
    let (project, any) = (fed.world.project.id(), Requirement::any_caller());
    let issuer = Issuer::parse(&fed.world.issuer.url()).unwrap();
    let clock = TestClock::new();
    let verifier = Verifier::jwt_builder(issuer, &*project, fed.feed()).clock(&clock).build().unwrap();
    let user = fed.world.issuer.service_user("user");
    let (seen, first_seen_late) = (jwt(&fed, &user), jwt(&fed, &user));
    let read = async {
        while status(&require(&verifier, &seen, &any).await) != 200 {
            fed.polled().await;
        }
    };
    within(read).await;
    fed.world.issuer.inject(Fault::status(500).on(Endpoint::EventSearch));
    fed.until(&verifier, false).await;
    user.lock();
    clock.advance(SECOND * 40);
    assert_eq!(status(&require(&verifier, &first_seen_late, &any).await), 200, "nobody has told of its end");
    clock.advance(SECOND * 21);
    assert_eq!(
        status(&require(&verifier, &first_seen_late, &any).await),
        503,
        "a minute after the newest event"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_larger_than_a_page_ends_all_and_the_feed_goes_on() {
    let fed = Fed::new().await;
    let crowd: Vec<User> =
        (0..1100).map(|number| fed.world.issuer.service_user(&format!("user-{number}"))).collect();
    let grants: Vec<RoleGrant> =
        crowd.iter().map(|user| user.grant(&fed.world.project, ["viewer"])).collect();
    let verifier = fed.start(fed.builder()).await;
    let (token, any) = (fed.world.issuer.service_user("bystander").pat(), Requirement::any_caller());
    fed.polled().await;
    assert_eq!(status(&require(&verifier, &token, &any).await), 200);
    assert_eq!(verifier.stats().held, 1);
    fed.world.project.remove_role("viewer");
    let ended = async {
        while verifier.stats().held > 0 {
            fed.polled().await;
        }
    };
    within(ended).await;
    fed.polled().await;
    let now_known = verifier.event_feed().unwrap();
    assert!(now_known.is_current && now_known.failure.is_none(), "{now_known:?}");
    drop(grants);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_of_somebody_else_that_is_deactivated_ends_nothing() {
    let fed = Fed::new().await;
    let verifier = fed.start(fed.builder()).await;
    let any = Requirement::any_caller();
    let other = fed.world.issuer.organization("other");
    // Without a grant, whose event would evict them once more.
    let token = fed.world.issuer.service_user("user").pat();
    fed.polled().await;
    assert_eq!(status(&require(&verifier, &token, &any).await), 200);
    other.deactivate();
    fed.polled().await;
    assert_eq!(verifier.stats().held, 1);
}
