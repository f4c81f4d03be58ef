//! Calm when the issuer is not: a breaker, a bound for the queue, and tokens that are held already.

use std::time::{Duration, Instant};

use zitadel_introspect::{IssuerError, Reason, Requirement};
use zitadel_introspect_testkit::{Endpoint, Fault};

use crate::setup::{World, authorize, require, status};

#[tokio::test]
async fn a_failing_issuer_is_left_alone_and_heals_within_ten_seconds() {
    let world = World::new().await;
    let verifier = world.verifier();
    verifier.check().await.unwrap();
    world.issuer.inject(Fault::status(500));
    let asked = world.issuer.introspections();
    for number in 0..300 {
        assert_eq!(status(&authorize(&verifier, &format!("token-{number}")).await), 503);
    }
    let storm = world.issuer.introspections() - asked;
    assert!((5..=8).contains(&storm), "{storm} questions");
    assert!(verifier.stats().breaker_open);
    world.issuer.heal();
    let healed = async { while status(&authorize(&verifier, &world.token).await) != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), healed).await.unwrap();
    assert!(!verifier.stats().breaker_open);
}

#[tokio::test]
async fn an_issuer_that_asks_for_patience_gets_it() {
    let world = World::new().await;
    let verifier = world.verifier();
    world.issuer.inject(Fault::status(429).header("retry-after", "1").times(1));
    let began = Instant::now();
    for _ in 0..50 {
        let error = authorize(&verifier, &world.token).await.unwrap_err();
        assert!(matches!(error.reason(), Reason::Unavailable(IssuerError::Throttled { .. })));
    }
    assert_eq!(world.issuer.introspections(), 1);
    while status(&authorize(&verifier, &world.token).await) != 200 {}
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_token_with_a_broken_answer_locks_out_nobody_else() {
    let world = World::new().await;
    let verifier = world.verifier();
    world.issuer.inject(Fault::answer(200, "application/json", "{}").for_token("odd"));
    for _ in 0..20 {
        assert_eq!(status(&authorize(&verifier, "odd").await), 503);
    }
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
}

#[tokio::test]
async fn a_hundred_stuck_questions_do_not_slow_a_held_token() {
    let world = World::new().await;
    let verifier = world.verifier();
    authorize(&verifier, &world.token).await.unwrap();
    let held = world.issuer.hold(Endpoint::Introspection);
    let stuck: Vec<_> = (0..100)
        .map(|number| {
            let verifier = verifier.clone();
            tokio::spawn(async move { status(&authorize(&verifier, &format!("token-{number}")).await) })
        })
        .collect();
    world.issuer.asked(Endpoint::Introspection, 33).await;
    let answer = tokio::time::timeout(Duration::from_secs(2), authorize(&verifier, &world.token)).await;
    assert_eq!(status(&answer.unwrap()), 200);
    drop(held);
    for question in stuck {
        assert_eq!(question.await.unwrap(), 401);
    }
}

#[tokio::test]
async fn more_than_can_wait_are_told_at_once() {
    let world = World::new().await;
    let verifier = world.verifier();
    verifier.check().await.unwrap();
    let held = world.issuer.hold(Endpoint::Introspection);
    let asking: Vec<_> = (0..32 + 1024 + 50)
        .map(|number| {
            let verifier = verifier.clone();
            tokio::spawn(async move { authorize(&verifier, &format!("token-{number}")).await })
        })
        .collect();
    while verifier.stats().failed < 50 {
        tokio::task::yield_now().await;
    }
    drop(held);
    let mut overloaded = 0;
    for answer in asking {
        let error = answer.await.unwrap().unwrap_err();
        overloaded += usize::from(matches!(error.reason(), Reason::Unavailable(IssuerError::Overloaded)));
    }
    assert_eq!(overloaded, 50);
}

#[tokio::test]
async fn a_probe_with_a_broken_answer_shows_that_the_issuer_is_back() {
    let world = World::new().await;
    let verifier = world.verifier();
    verifier.check().await.unwrap();
    world.issuer.inject(Fault::answer(200, "application/json", "{}").for_token("odd"));
    world.issuer.inject(Fault::status(500).times(5));
    for number in 0..5 {
        assert_eq!(status(&authorize(&verifier, &format!("token-{number}")).await), 503);
    }
    assert!(verifier.stats().breaker_open);
    // Whoever takes all the probes with such a token keeps nobody out.
    let hammered = async {
        while verifier.stats().breaker_open {
            assert_eq!(status(&authorize(&verifier, "odd").await), 503);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), hammered).await.unwrap();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
}

#[tokio::test]
async fn time_outs_in_our_own_queue_say_nothing_of_the_issuer() {
    let world = World::new().await;
    let verifier = world.builder().timeout(Duration::from_millis(300)).build().unwrap();
    verifier.check().await.unwrap();
    world.issuer.inject(Fault::latency(Duration::from_millis(250)).times(32));
    let burst: Vec<_> = (0..400)
        .map(|number| {
            let verifier = verifier.clone();
            tokio::spawn(async move { status(&authorize(&verifier, &format!("token-{number}")).await) })
        })
        .collect();
    for answer in burst {
        assert!([401, 503].contains(&answer.await.unwrap()));
    }
    world.issuer.heal();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
}

#[tokio::test]
async fn several_questions_of_one_request_have_one_time_out() {
    let world = World::new().await;
    let timeout = Duration::from_millis(600);
    let verifier = world.builder().timeout(timeout).build().unwrap();
    verifier.check().await.unwrap();
    // The first question is under way already, and late; what it finds lacks the role, and is asked about again.
    world.issuer.inject(Fault::latency(timeout / 2 + timeout / 4));
    let first = tokio::spawn({
        let (verifier, token) = (verifier.clone(), world.token.to_string());
        async move { status(&authorize(&verifier, &token).await) }
    });
    world.issuer.asked(Endpoint::Introspection, 2).await;
    let began = Instant::now();
    let late = require(&verifier, &world.token, &Requirement::role("viewer")).await;
    assert!(began.elapsed() < timeout + timeout / 4, "{:?}", began.elapsed());
    assert_eq!((first.await.unwrap(), status(&late)), (200, 503));
}
