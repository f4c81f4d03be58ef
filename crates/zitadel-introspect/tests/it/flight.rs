//! One question in flight for each token, whoever waits for it.

use std::{sync::Arc, time::Duration};

use zitadel_introspect::{Requirement, Verifier};
use zitadel_introspect_testkit::Endpoint;

use crate::setup::{World, authorize, require, status};

/// Patient: a question that is held back is not asked a second time on a busy machine.
fn patient(world: &World) -> Verifier {
    world.builder().timeout(Duration::from_secs(10)).build().unwrap()
}

fn ask(verifier: &Verifier, token: &str) -> tokio::task::JoinHandle<u16> {
    let (verifier, token) = (verifier.clone(), token.to_owned());
    tokio::spawn(async move { status(&authorize(&verifier, &token).await) })
}

#[tokio::test]
async fn a_herd_of_ten_thousand_makes_one_question() {
    let world = World::new().await;
    let verifier = patient(&world);
    let held = world.issuer.hold(Endpoint::Introspection);
    let callers: Vec<_> = (0..10_000).map(|_| ask(&verifier, &world.token)).collect();
    world.issuer.asked(Endpoint::Introspection, 1).await;
    while verifier.stats().coalesced < 9_999 {
        tokio::task::yield_now().await;
    }
    drop(held);
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 200);
    }
    assert_eq!(world.issuer.introspections(), 1);
}

#[tokio::test]
async fn the_first_caller_hanging_up_costs_the_others_nothing() {
    let world = World::new().await;
    let verifier = patient(&world);
    let held = world.issuer.hold(Endpoint::Introspection);
    let first = ask(&verifier, &world.token);
    world.issuer.asked(Endpoint::Introspection, 1).await;
    let others: Vec<_> = (0..10).map(|_| ask(&verifier, &world.token)).collect();
    while verifier.stats().coalesced < 10 {
        tokio::task::yield_now().await;
    }
    first.abort();
    drop(held);
    for other in others {
        assert_eq!(other.await.unwrap(), 200);
    }
    assert_eq!(world.issuer.introspections(), 1);
}

#[tokio::test]
async fn the_runtime_of_the_first_caller_ending_costs_the_others_nothing() {
    let world = World::new().await;
    let verifier = patient(&world);
    let held = world.issuer.hold(Endpoint::Introspection);
    let (asking, token) = (verifier.clone(), world.token.to_string());
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.spawn(async move { authorize(&asking, &token).await });
        runtime.block_on(tokio::task::yield_now());
        runtime.shutdown_background();
    });
    worker.join().unwrap();
    world.issuer.asked(Endpoint::Introspection, 1).await;
    let other = ask(&verifier, &world.token);
    while verifier.stats().coalesced < 1 {
        tokio::task::yield_now().await;
    }
    drop(held);
    assert_eq!(other.await.unwrap(), 200);
    assert_eq!(world.issuer.introspections(), 1);
}

#[tokio::test]
async fn two_runtimes_share_a_question() {
    let world = World::new().await;
    let verifier = patient(&world);
    let held = world.issuer.hold(Endpoint::Introspection);
    let here = ask(&verifier, &world.token);
    world.issuer.asked(Endpoint::Introspection, 1).await;
    let (there, token) = (verifier.clone(), world.token.to_string());
    let there = std::thread::spawn(move || {
        // Without a timer: the library needs none of its callers' runtimes.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { status(&authorize(&there, &token).await) })
    });
    while verifier.stats().coalesced < 1 {
        tokio::task::yield_now().await;
    }
    drop(held);
    assert_eq!((here.await.unwrap(), there.join().unwrap()), (200, 200));
    assert_eq!(world.issuer.introspections(), 1);
}

#[tokio::test]
async fn a_failure_reaches_all_who_wait_and_is_forgotten() {
    let world = World::new().await;
    let verifier = patient(&world);
    let held = world.issuer.hold(Endpoint::Introspection);
    let waiting: Vec<_> = (0..20).map(|_| ask(&verifier, &world.token)).collect();
    while verifier.stats().coalesced < 19 {
        tokio::task::yield_now().await;
    }
    world.issuer.asked(Endpoint::Introspection, 1).await;
    world.issuer.stop().await; // breaks the question under way; the second try is refused
    drop(held);
    for waiter in waiting {
        assert_eq!(waiter.await.unwrap(), 503);
    }
    world.issuer.heal();
    world.issuer.resume().await;
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
}

#[tokio::test]
async fn who_needs_a_fresher_answer_shares_the_next_question() {
    let world = World::new().await;
    let verifier = patient(&world);
    let held = world.issuer.hold(Endpoint::Introspection);
    let first = ask(&verifier, &world.token);
    world.issuer.asked(Endpoint::Introspection, 1).await;
    let strict = Arc::new(Requirement::role("viewer").fresh_within(Duration::ZERO));
    let fresher: Vec<_> = (0..20)
        .map(|_| {
            let (verifier, token, strict) = (verifier.clone(), world.token.to_string(), Arc::clone(&strict));
            tokio::spawn(async move { status(&require(&verifier, &token, &strict).await) })
        })
        .collect();
    while verifier.stats().coalesced < 20 {
        tokio::task::yield_now().await;
    }
    // The answer under way has left the issuer's hands already; the next one sees the grant.
    world.admin.grant(&world.project, ["viewer"]);
    drop(held);
    assert_eq!(first.await.unwrap(), 200);
    for caller in fresher {
        assert_eq!(caller.await.unwrap(), 200);
    }
    assert_eq!(world.issuer.introspections(), 2);
}
