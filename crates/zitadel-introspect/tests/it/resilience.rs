//! Calm when the issuer is not: a breaker, a bound for the queue, and tokens that are held already.

use std::time::{Duration, Instant};

use zitadel_introspect::{IssuerError, Reason, Requirement, TestClock};
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
    let clock = TestClock::new();
    let verifier = world.builder().clock(&clock).build().unwrap();
    world.issuer.inject(Fault::status(429).header("retry-after", "1").times(2));
    for _ in 0..50 {
        let error = authorize(&verifier, &world.token).await.unwrap_err();
        assert!(matches!(error.reason(), Reason::Unavailable(IssuerError::Throttled { .. })));
    }
    assert_eq!(world.issuer.introspections(), 2, "the question, and a probe that was told the same");
    clock.advance(Duration::from_secs(1));
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
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
    let _ = authorize(&verifier, &world.token).await.unwrap();
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
async fn tokens_for_which_the_issuer_fails_do_not_open_the_breaker() {
    for (status_code, patience) in [(500, None), (503, None), (503, Some("9")), (429, None), (429, Some("9"))]
    {
        let world = World::new().await;
        let verifier = world.verifier();
        for number in 0..50 {
            let mut fault = Fault::status(status_code).for_token(format!("odd-{number}"));
            if let Some(seconds) = patience {
                fault = fault.header("retry-after", seconds);
            }
            world.issuer.inject(fault);
        }
        for number in 0..50 {
            assert_eq!(status(&authorize(&verifier, &format!("odd-{number}")).await), 503);
            assert_eq!(
                status(&authorize(&verifier, &world.admin.pat()).await),
                200,
                "{status_code} {number}"
            );
        }
        assert!(!verifier.stats().breaker_open);
    }
}

#[tokio::test]
async fn callers_tokens_neither_close_the_breaker_nor_keep_it_open() {
    let world = World::new().await;
    let clock = TestClock::new();
    let verifier = world.builder().clock(&clock).build().unwrap();
    verifier.check().await.unwrap();
    world.issuer.inject(Fault::status(500).for_token("odd"));
    world.issuer.inject(Fault::status(500).times(6));
    for number in 0..5 {
        assert_eq!(status(&authorize(&verifier, &format!("token-{number}")).await), 503);
    }
    assert!(verifier.stats().breaker_open, "five failures, and the probe failed as well");
    assert_eq!(status(&authorize(&verifier, "odd").await), 503);
    clock.advance(Duration::from_secs(1));
    assert_eq!(status(&authorize(&verifier, "odd").await), 503, "its own trouble");
    assert!(!verifier.stats().breaker_open, "the probe asks with a token of our own");
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
}

#[tokio::test]
async fn a_silent_issuer_opens_the_breaker() {
    let world = World::new().await;
    let timeout = Duration::from_millis(200);
    let verifier = world.builder().timeout(timeout).connect_timeout(timeout).build().unwrap();
    verifier.check().await.unwrap();
    world.issuer.inject(Fault::hang_before_head());
    for number in 0..5 {
        assert_eq!(status(&authorize(&verifier, &format!("token-{number}")).await), 503);
    }
    let opened = async {
        while !verifier.stats().breaker_open {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), opened).await.unwrap();
    world.issuer.heal();
    let healed = async { while status(&authorize(&verifier, &world.token).await) != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), healed).await.unwrap();
}

#[tokio::test]
async fn patience_is_kept_for_ten_seconds_at_the_most() {
    for (asked_for, kept) in [("3", 3), ("10", 10), ("11", 10), ("3600", 10)] {
        let world = World::new().await;
        let clock = TestClock::new();
        let verifier = world.builder().clock(&clock).build().unwrap();
        world.issuer.inject(Fault::status(429).header("retry-after", asked_for).times(2));
        assert_eq!(status(&authorize(&verifier, &world.token).await), 503);
        clock.set_ahead_millis(kept * 1000 - 500);
        assert_eq!(status(&authorize(&verifier, &world.token).await), 503, "{asked_for}");
        assert_eq!(world.issuer.introspections(), 2);
        clock.set_ahead_millis(kept * 1000);
        assert_eq!(status(&authorize(&verifier, &world.token).await), 200, "{asked_for}");
    }
}

#[tokio::test]
async fn time_outs_in_our_own_queue_say_nothing_of_the_issuer() {
    let world = World::new().await;
    let verifier = world.builder().timeout(Duration::from_millis(300)).build().unwrap();
    verifier.check().await.unwrap();
    // Nobody is answered while they wait: 32 are asked about, the others wait for a turn that does not come.
    let held = world.issuer.hold(Endpoint::Introspection);
    let burst: Vec<_> = (0..400)
        .map(|number| {
            let verifier = verifier.clone();
            tokio::spawn(async move { status(&authorize(&verifier, &format!("token-{number}")).await) })
        })
        .collect();
    for answer in burst {
        assert_eq!(answer.await.unwrap(), 503);
    }
    drop(held);
    world.issuer.heal();
    // Whatever was concluded from the 32 is over when the next probe has an answer.
    let healed = async { while status(&authorize(&verifier, &world.token).await) != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), healed).await.unwrap();
}

#[tokio::test]
async fn several_questions_of_one_request_have_one_time_out() {
    let world = World::new().await;
    let timeout = Duration::from_secs(3);
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
