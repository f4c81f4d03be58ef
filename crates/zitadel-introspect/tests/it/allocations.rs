//! What a held verdict may cost in allocations: the copy of the token, and nothing else.

use std::time::Duration;

use futures_util::FutureExt;
use zitadel_introspect::Requirement;

use crate::setup::{World, authorize};

#[tokio::test]
async fn a_held_verdict_costs_one_allocation() {
    let world = World::new().await;
    let verifier = world.verifier();
    let _ = authorize(&verifier, &world.token).await.unwrap();
    let header = format!("Bearer {}", world.token);
    let admin = Requirement::role("admin");
    let counted = allocation_counter::measure(|| {
        let caller = verifier.authorize([header.as_bytes()], &admin).now_or_never();
        assert!(caller.expect("held").is_ok());
    });
    assert_eq!(counted.count_total, 1);
}

#[tokio::test]
async fn a_further_requirement_that_is_met_costs_none() {
    let world = World::new().await;
    let caller = authorize(&world.verifier(), &world.token).await.unwrap();
    let admin = Requirement::role("admin").fresh_within(Duration::from_secs(10));
    let counted = allocation_counter::measure(|| {
        assert!(caller.require(&admin).now_or_never().expect("at once").is_ok());
    });
    assert_eq!(counted.count_total, 0);
}
