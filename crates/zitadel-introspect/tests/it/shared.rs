//! Several instances: what one of them learns counts on all, and what one has asked serves the others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use zitadel_introspect::{
    Relay, Requirement, Shared, SharedSecrets, TestClock, Verifier, VerifierBuilder, store::MemoryStore,
};
use zitadel_introspect_testkit::{Endpoint, Fault, Token};

use crate::{
    feed::{Fed, KINDS, Kind, Subject, within},
    setup::{require, status},
};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn secrets(digits: &[char]) -> SharedSecrets {
    let lines: Vec<String> = digits.iter().map(|digit| digit.to_string().repeat(64)).collect();
    SharedSecrets::from_text(&lines.join("\n")).unwrap()
}

/// An issuer, and a store that several instances share.
struct Cluster {
    fed: Fed,
    store: Arc<MemoryStore>,
}

impl Cluster {
    async fn new() -> Self {
        Self { fed: Fed::new().await, store: Arc::new(MemoryStore::new()) }
    }

    fn shared(&self) -> Shared {
        Shared::with(Arc::clone(&self.store) as Arc<_>, secrets(&['a']))
    }

    fn builder(&self) -> VerifierBuilder {
        self.fed.world.builder().project(self.fed.world.project.id()).shared(self.shared())
    }

    /// An instance that reads the events for all, where no other one does.
    async fn leader(&self) -> Verifier {
        self.start(self.builder().event_feed(self.fed.feed())).await
    }

    async fn follower(&self) -> Verifier {
        self.start(self.builder()).await
    }

    /// An instance that knows the events.
    async fn start(&self, builder: VerifierBuilder) -> Verifier {
        let verifier = builder.build().unwrap();
        knows(&verifier).await;
        verifier
    }

    fn relay(&self, clock: &TestClock) -> Relay {
        let issuer = zitadel_introspect::Issuer::parse(&self.fed.world.issuer.url()).unwrap();
        Relay::builder(issuer, self.fed.feed(), self.shared()).clock(clock).build().unwrap()
    }

    fn asked(&self) -> usize {
        self.fed.world.issuer.introspections()
    }
}

async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Waits until an instance knows all events up to the call.
async fn knows(verifier: &Verifier) {
    let since = Instant::now();
    let knows = async {
        while verifier.event_feed().and_then(|feed| feed.age).is_none_or(|age| age >= since.elapsed()) {
            a_moment().await;
        }
    };
    within(knows).await;
}

async fn is_blind(verifier: &Verifier, expected: bool) {
    let changed = async {
        while verifier.shared().unwrap().is_blind != expected {
            a_moment().await;
        }
    };
    within(changed).await;
}

/// Waits until all evictions of an instance are in the log.
async fn published(verifier: &Verifier) {
    let published = async {
        while verifier.shared().unwrap().waiting > 0 {
            a_moment().await;
        }
    };
    within(published).await;
}

async fn code(verifier: &Verifier, token: &str) -> u16 {
    status(&require(verifier, token, &Requirement::any_caller()).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_one_has_asked_for_serves_the_others_and_dies_on_all() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.leader().await, cluster.follower().await);
    let token = cluster.fed.world.issuer.service_user("user").pat();
    for verifier in [&first, &second] {
        knows(verifier).await;
    }
    assert_eq!(code(&first, &token).await, 200);
    let put = async {
        while cluster.store.verdicts() == 0 {
            a_moment().await;
        }
    };
    within(put).await;
    let asked = cluster.asked();
    assert_eq!(code(&second, &token).await, 200);
    assert_eq!((cluster.asked(), second.stats().shared), (asked, 1), "nobody was asked");
    let caller = require(&second, &token, &Requirement::any_caller()).await.unwrap();
    assert!(caller.verdict_age() < SECOND * 2, "events prolong it as well");
    // What the issuer's own word must be is asked for.
    let word = Requirement::any_caller().asked_within(Duration::ZERO);
    assert_eq!(status(&require(&second, &token, &word).await), 200);
    assert_eq!(cluster.asked(), asked + 1);
    token.revoke();
    for verifier in [&first, &second] {
        knows(verifier).await;
        assert_eq!(code(verifier, &token).await, 401);
    }
    // A third one, which never knew the token.
    let third = cluster.follower().await;
    assert_eq!(code(&third, &token).await, 401);
    assert_eq!(third.stats().shared, 0);
}

async fn run(kind: &Kind) {
    const ROUNDS: usize = 3;
    let cluster = Cluster::new().await;
    let world = &cluster.fed.world;
    let relay = cluster.relay(&TestClock::new());
    let verifiers = [cluster.follower().await, cluster.follower().await];
    let admin = Requirement::role("admin");
    for round in 0..if kind.is_precise { ROUNDS } else { 1 } {
        let subject = Subject::new(&cluster.fed, kind, round);
        let text = subject.token.to_string();
        for verifier in &verifiers {
            knows(verifier).await;
            assert_eq!(status(&require(verifier, &text, &admin).await), 200, "{}", kind.name);
        }
        let held = world.issuer.introspections();
        (kind.ends)(&cluster.fed, subject);
        for verifier in &verifiers {
            knows(verifier).await;
            let refused = status(&require(verifier, &text, &admin).await);
            assert_eq!(refused, kind.status, "{}", kind.name);
        }
        assert!(world.issuer.introspections() > held, "{}", kind.name);
    }
    assert!(relay.event_feed().unwrap().failure.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_is_refused_by_all_instances_of_a_relay() {
    join_all(KINDS.iter().map(run)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_instance_evicts_or_learns_counts_on_the_others() {
    let cluster = Cluster::new().await;
    // Nobody reads events.
    let (first, second) = (cluster.builder().build().unwrap(), cluster.builder().build().unwrap());
    for verifier in [&first, &second] {
        is_blind(verifier, false).await;
    }
    let user = cluster.fed.world.issuer.service_user("user");
    let evictions: [fn(&Verifier, &Token, &str); 3] = [
        |verifier, token, _| verifier.evict_token(token),
        |verifier, _, user| verifier.evict_user(&user.into()),
        |verifier, _, _| verifier.evict_all(),
    ];
    for evict in evictions {
        let token = user.pat();
        for verifier in [&first, &second] {
            assert_eq!(code(verifier, &token).await, 200);
        }
        let (held, asked) = (second.stats().held, cluster.asked());
        assert!(held >= 1);
        evict(&first, &token, &user.id());
        let gone = async {
            while second.stats().held == held {
                a_moment().await;
            }
        };
        within(gone).await;
        assert_eq!(code(&second, &token).await, 200);
        assert_eq!(cluster.asked(), asked + 1, "no verdict from before is taken");
    }
    // A revocation that nobody tells of, and that one instance finds out.
    let token = user.pat();
    for verifier in [&first, &second] {
        assert_eq!(code(verifier, &token).await, 200);
    }
    token.revoke();
    assert_eq!(code(&second, &token).await, 200, "nothing has told of it");
    let word = Requirement::any_caller().fresh_within(Duration::ZERO);
    assert_eq!(status(&require(&first, &token, &word).await), 401);
    let refused = async {
        while code(&second, &token).await == 200 {
            a_moment().await;
        }
    };
    within(refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_reads_the_events_when_the_leader_is_gone() {
    let cluster = Cluster::new().await;
    let first = cluster.leader().await;
    let second = cluster.start(cluster.builder().event_feed(cluster.fed.feed())).await;
    let token = cluster.fed.world.issuer.service_user("user").pat();
    knows(&second).await;
    assert_eq!(code(&second, &token).await, 200);
    // The leader is gone, and the token is revoked before there is another one.
    drop(first);
    token.revoke();
    knows(&second).await;
    assert_eq!(code(&second, &token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_reach_the_issuer_lets_another_one_try() {
    let cluster = Cluster::new().await;
    let bad = cluster.fed.world.issuer.service_user("no reader");
    let folder = tempfile::tempdir().unwrap();
    bad.pat().write_file(folder.path().join("token")).unwrap();
    let feed = zitadel_introspect::EventFeed::token_file(folder.path().join("token")).unwrap();
    let first = cluster.builder().event_feed(feed.interval(SECOND / 10)).build().unwrap();
    let fails = async {
        while first.event_feed().unwrap().failure.is_none() {
            a_moment().await;
        }
    };
    within(fails).await;
    let second = cluster.leader().await;
    knows(&second).await;
    knows(&first).await;
    assert!(first.event_feed().unwrap().failure.is_some(), "it could not take over");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_requests_are_answered_and_verdicts_lapse() {
    let cluster = Cluster::new().await;
    let clock = TestClock::new();
    let feed = cluster.fed.feed();
    let verifier = cluster.start(cluster.builder().event_feed(feed).clock(&clock)).await;
    let token = cluster.fed.world.issuer.service_user("user").pat();
    knows(&verifier).await;
    assert_eq!(code(&verifier, &token).await, 200);
    cluster.store.go_away();
    is_blind(&verifier, true).await;
    let asked = cluster.asked();
    assert_eq!(code(&verifier, &token).await, 200);
    assert_eq!(cluster.asked(), asked, "still held");
    let new = cluster.fed.world.issuer.service_user("other").pat();
    assert_eq!(code(&verifier, &new).await, 200, "a miss is asked about");
    token.revoke();
    clock.advance(SECOND * 61);
    assert_eq!(code(&verifier, &token).await, 401, "after a minute nothing is held that was not asked about");
    cluster.store.set_ahead(SECOND * 61);
    cluster.store.come_back();
    is_blind(&verifier, false).await;
    knows(&verifier).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_lost_something_ends_all_verdicts_and_is_taken_up_again() {
    let losses: [fn(&MemoryStore, zitadel_introspect::store::Snapshot); 2] =
        [|store, _| store.wipe(), |store, before| store.restore(before)];
    for lose in losses {
        let cluster = Cluster::new().await;
        let (first, second) = (cluster.leader().await, cluster.follower().await);
        let tokens: Vec<Token> =
            (0..3).map(|number| cluster.fed.world.issuer.service_user(&format!("u{number}")).pat()).collect();
        for verifier in [&first, &second] {
            knows(verifier).await;
        }
        let before = cluster.store.snapshot();
        first.evict_user(&"nobody".into());
        published(&first).await;
        for token in &tokens {
            assert_eq!(code(&second, token).await, 200);
        }
        assert_eq!(second.stats().held, 3);
        lose(&cluster.store, before);
        let flushed = async {
            while second.stats().held > 0 {
                a_moment().await;
            }
        };
        within(flushed).await;
        for verifier in [&first, &second] {
            is_blind(verifier, false).await;
            knows(verifier).await;
            for token in &tokens {
                assert_eq!(code(verifier, token).await, 200);
            }
        }
        tokens[0].revoke();
        for verifier in [&first, &second] {
            knows(verifier).await;
            assert_eq!([code(verifier, &tokens[0]).await, code(verifier, &tokens[1]).await], [401, 200]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_in_the_store_does_not_open() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.leader().await, cluster.follower().await);
    let token = cluster.fed.world.issuer.service_user("user").pat();
    knows(&first).await;
    assert_eq!(code(&first, &token).await, 200);
    let put = async {
        while cluster.store.verdicts() == 0 {
            a_moment().await;
        }
    };
    within(put).await;
    cluster.store.change_verdicts(|sealed| *sealed.last_mut().unwrap() ^= 1);
    knows(&second).await;
    let asked = cluster.asked();
    assert_eq!(code(&second, &token).await, 200);
    assert_eq!((cluster.asked(), second.stats().shared), (asked + 1, 0));
    // An entry that was changed: what it says is not known.
    first.evict_user(&"nobody".into());
    published(&first).await;
    cluster.store.change_newest_entries(|entry| entry.sealed[20] ^= 1);
    let third = cluster.follower().await;
    assert_eq!(code(&third, &token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_another_secret_is_blind_and_hurts_nobody() {
    let cluster = Cluster::new().await;
    let first = cluster.leader().await;
    let other = Shared::with(Arc::clone(&cluster.store) as Arc<_>, secrets(&['b']));
    let stranger = cluster.fed.world.builder().shared(other).build().unwrap();
    let token = cluster.fed.world.issuer.service_user("user").pat();
    knows(&first).await;
    for verifier in [&first, &stranger] {
        assert_eq!(code(verifier, &token).await, 200);
    }
    first.evict_user(&"nobody".into());
    is_blind(&stranger, true).await;
    assert_eq!(stranger.stats().shared, 0);
    // What it publishes opens for nobody, and they go on.
    stranger.evict_all();
    published(&stranger).await;
    knows(&first).await;
    is_blind(&first, false).await;
    token.revoke();
    knows(&first).await;
    assert_eq!(code(&first, &token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_changed_without_a_gap() {
    let cluster = Cluster::new().await;
    let of = |digits: &[char]| {
        let shared = Shared::with(Arc::clone(&cluster.store) as Arc<_>, secrets(digits));
        cluster.fed.world.builder().project(cluster.fed.world.project.id()).shared(shared)
    };
    // Those that run during the change seal with different secrets and open both.
    let old = cluster.start(of(&['a', 'b']).event_feed(cluster.fed.feed())).await;
    let new = cluster.start(of(&['b', 'a'])).await;
    let user = cluster.fed.world.issuer.service_user("user");
    for (evicts, holds) in [(&old, &new), (&new, &old)] {
        let token = user.pat();
        knows(holds).await;
        assert_eq!(code(holds, &token).await, 200);
        let asked = cluster.asked();
        evicts.evict_token(&token);
        published(evicts).await;
        let asked_again = async {
            while cluster.asked() == asked {
                assert_eq!(code(holds, &token).await, 200);
                a_moment().await;
            }
        };
        within(asked_again).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_clock_is_wrong_shares_no_verdicts() {
    let cluster = Cluster::new().await;
    let first = cluster.leader().await;
    let clock = TestClock::new();
    clock.set_ahead_millis(10_000);
    let wrong = cluster.builder().clock(&clock).build().unwrap();
    is_blind(&wrong, false).await;
    let token = cluster.fed.world.issuer.service_user("user").pat();
    knows(&first).await;
    assert_eq!(code(&first, &token).await, 200);
    let asked = cluster.asked();
    assert_eq!(code(&wrong, &token).await, 200);
    assert_eq!((cluster.asked(), wrong.stats().shared), (asked + 1, 0));
    assert!(wrong.shared().unwrap().clocks_differ);
    // Evictions do not depend on clocks.
    token.revoke();
    let refused = async {
        while code(&wrong, &token).await == 200 {
            a_moment().await;
        }
    };
    within(refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_questions_do_not_grow_with_the_instances() {
    const TOKENS: usize = 1000;
    for count in [1, 2, 10] {
        let cluster = Cluster::new().await;
        let clock = TestClock::new();
        let builder = || cluster.builder().clock(&clock);
        let mut verifiers = vec![cluster.start(builder().event_feed(cluster.fed.feed())).await];
        for _ in 1..count {
            verifiers.push(cluster.start(builder()).await);
        }
        let user = cluster.fed.world.issuer.service_user("user");
        let tokens: Vec<Token> = (0..TOKENS).map(|_| user.pat()).collect();
        for verifier in &verifiers {
            knows(verifier).await;
        }
        let before = cluster.asked();
        for minute in 0..5 {
            for verifier in &verifiers {
                for some in tokens.chunks(32) {
                    let all = join_all(some.iter().map(|token| code(verifier, token))).await;
                    assert!(all.iter().all(|code| *code == 200), "{all:?}");
                }
                let put = async {
                    while cluster.store.verdicts() < TOKENS {
                        a_moment().await;
                    }
                };
                within(put).await;
            }
            clock.advance(SECOND * 60);
            cluster.store.set_ahead(SECOND * 60 * (minute + 1));
            for verifier in &verifiers {
                is_blind(verifier, false).await;
                knows_now(verifier).await;
            }
        }
        let asked = cluster.asked() - before;
        assert!(asked <= TOKENS * 11 / 10, "{asked} questions of {count} instances about {TOKENS} tokens");
    }
}

/// As `knows`, for a clock that has moved.
async fn knows_now(verifier: &Verifier) {
    let knows = async {
        while verifier.event_feed().unwrap().age.unwrap() > SECOND {
            a_moment().await;
        }
    };
    within(knows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jwts_are_read_locally_by_who_reads_no_events_itself() {
    let cluster = Cluster::new().await;
    let clock = TestClock::new();
    let relay = cluster.relay(&clock);
    let world = &cluster.fed.world;
    let builder =
        cluster.fed.world.builder().shared(cluster.shared()).verify_jwts_locally(world.project.id());
    let verifier = cluster.start(builder.clock(&clock)).await;
    let issue = || world.admin.access_token().for_project(&world.project).jwt().issue();
    // Issued before the instance has begun to read: a minute later they are known.
    world.issuer.advance(SECOND * 120);
    clock.advance(SECOND * 120);
    cluster.store.set_ahead(SECOND * 120);
    let (token, other) = (issue(), issue());
    is_blind(&verifier, false).await;
    knows_now(&verifier).await;
    let asked = cluster.asked();
    assert_eq!(code(&verifier, &token).await, 200);
    assert_eq!(cluster.asked(), asked, "read locally");
    verifier.evict_token(&other);
    assert_eq!(code(&verifier, &other).await, 200);
    assert_eq!(cluster.asked(), asked + 1, "one that was evicted by name is asked about");
    world.admin.lock();
    let refused = async {
        while code(&verifier, &token).await == 200 {
            a_moment().await;
        }
    };
    within(refused).await;
    assert_eq!(code(&verifier, &token).await, 401);
    drop(relay);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_evictions_only_puts_no_verdict() {
    let cluster = Cluster::new().await;
    let builder = || {
        let shared = cluster.shared().evictions_only();
        cluster.fed.world.builder().project(cluster.fed.world.project.id()).shared(shared)
    };
    let first = cluster.start(builder().event_feed(cluster.fed.feed())).await;
    let second = cluster.start(builder()).await;
    let token = cluster.fed.world.issuer.service_user("user").pat();
    for verifier in [&first, &second] {
        knows(verifier).await;
        assert_eq!(code(verifier, &token).await, 200);
    }
    assert_eq!(cluster.store.verdicts(), 0);
    token.revoke();
    for verifier in [&first, &second] {
        knows(verifier).await;
        assert_eq!(code(verifier, &token).await, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_not_current_while_the_issuer_shows_no_events() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.leader().await, cluster.follower().await);
    cluster.fed.world.issuer.inject(Fault::status(500).on(Endpoint::EventSearch));
    let fails = async {
        while first.event_feed().unwrap().failure.is_none() {
            a_moment().await;
        }
    };
    within(fails).await;
    let old = second.event_feed().unwrap().age.unwrap();
    a_moment().await;
    assert!(second.event_feed().unwrap().age.unwrap() > old);
    cluster.fed.world.issuer.heal();
    knows(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_of_the_issuer_ends_all_verdicts_on_all_instances() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.leader().await, cluster.follower().await);
    let token = cluster.fed.world.issuer.service_user("user").pat();
    for verifier in [&first, &second] {
        knows(verifier).await;
        assert_eq!(code(verifier, &token).await, 200);
        assert_eq!(verifier.stats().held, 1);
    }
    cluster.fed.world.issuer.forget_events();
    let ended = async {
        while first.stats().held + second.stats().held > 0 {
            a_moment().await;
        }
    };
    within(ended).await;
    for verifier in [&first, &second] {
        knows(verifier).await;
        assert_eq!(code(verifier, &token).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_finds_out_that_the_issuer_has_another_history() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.leader().await, cluster.follower().await);
    let token = cluster.fed.world.issuer.service_user("user").pat();
    knows(&second).await;
    assert_eq!(code(&second, &token).await, 200);
    drop(first);
    cluster.fed.world.issuer.forget_events();
    let _third = cluster.builder().event_feed(cluster.fed.feed()).build().unwrap();
    let ended = async {
        while second.stats().held > 0 {
            a_moment().await;
        }
    };
    within(ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_nobody_read_is_not_taken_for_known() {
    let cluster = Cluster::new().await;
    let world = &cluster.fed.world;
    let builder = world.builder().shared(cluster.shared()).verify_jwts_locally(world.project.id());
    let verifier = cluster.start(builder.event_feed(cluster.fed.feed())).await;
    let issue = |name: &str| {
        let user = world.issuer.service_user(name);
        (user.access_token().for_project(&world.project).jwt().issue(), user)
    };
    // The past is read: the instance knows of what was issued before its start.
    let (known, _) = issue("known");
    let read = async {
        loop {
            let asked = cluster.asked();
            verifier.evict_all();
            published(&verifier).await;
            assert_eq!(code(&verifier, &known).await, 200);
            if cluster.asked() == asked {
                break;
            }
        }
    };
    within(read).await;
    let (token, user) = issue("user");
    cluster.store.go_away();
    is_blind(&verifier, true).await;
    user.lock();
    world.issuer.advance(SECOND * 10);
    world.issuer.service_user("other").lock();
    cluster.store.wipe();
    cluster.store.come_back();
    knows(&verifier).await;
    assert_eq!(code(&verifier, &token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_lost_its_beginning_is_gone_on_with() {
    // With an entry behind the last heartbeat, and without any heartbeat that could be gone on from.
    for is_emptied in [false, true] {
        let cluster = Cluster::new().await;
        let (first, second) = (cluster.leader().await, cluster.follower().await);
        first.evict_user(&"nobody".into());
        published(&first).await;
        knows(&second).await;
        drop(first);
        second.evict_user(&"nobody".into());
        published(&second).await;
        cluster.store.trim(usize::from(!is_emptied));
        let third = cluster.leader().await;
        knows(&third).await;
        knows(&second).await;
        let token = cluster.fed.world.issuer.service_user("user").pat();
        for verifier in [&second, &third] {
            knows(verifier).await;
            assert_eq!(code(verifier, &token).await, 200);
        }
        token.revoke();
        for verifier in [&second, &third] {
            knows(verifier).await;
            assert_eq!(code(verifier, &token).await, 401);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_is_told() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.leader().await, cluster.follower().await);
    assert!(first.check_shared().await.unwrap().is_some());
    cluster.store.set_read_only(true);
    let is_told = async {
        while first.event_feed().unwrap().failure.is_none() {
            a_moment().await;
        }
    };
    within(is_told).await;
    let failure = first.event_feed().unwrap().failure.unwrap().to_string();
    assert!(failure.contains("cannot be written"), "{failure}");
    second.evict_user(&"nobody".into());
    let waits = async {
        while second.shared().unwrap().waiting_for < SECOND {
            a_moment().await;
        }
    };
    within(waits).await;
    let problem = second.check_shared().await.unwrap_err().to_string();
    assert!(problem.contains("cannot be written"), "{problem}");
    cluster.store.set_read_only(false);
    published(&second).await;
    for verifier in [&first, &second] {
        knows(verifier).await;
    }
    let is_well = async {
        while first.event_feed().unwrap().failure.is_some() {
            a_moment().await;
        }
    };
    within(is_well).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_ends_nothing_when_the_newest_event_is_of_a_new_type() {
    let cluster = Cluster::new().await;
    let issuer = &cluster.fed.world.issuer;
    issuer.add_event_type("user.of.tomorrow");
    let (first, second) = (cluster.leader().await, cluster.follower().await);
    within(issuer.asked(Endpoint::EventTypes, 1)).await;
    knows(&second).await;
    issuer.emit("user.of.tomorrow", &issuer.service_user("other"));
    let token = issuer.service_user("user").pat();
    knows(&second).await;
    assert_eq!(code(&second, &token).await, 200);
    let asked = cluster.asked();
    drop(first);
    let _third = cluster.leader().await;
    knows(&second).await;
    assert_eq!(code(&second, &token).await, 200);
    assert_eq!(cluster.asked(), asked, "still held");
}
