//! What a held verdict may cost in allocations: the copy of the token, and nothing else.

use futures_util::FutureExt;
use zitadel_introspect::Requirement;

use crate::setup::{World, authorize};

#[tokio::test]
async fn a_held_verdict_costs_one_allocation() {
    let world = World::new().await;
    let verifier = world.verifier();
    authorize(&verifier, &world.token).await.unwrap();
    let header = format!("Bearer {}", world.token);
    let admin = Requirement::role("admin");
    let counted = allocation_counter::measure(|| {
        let caller = verifier.authorize([header.as_bytes()], &admin).now_or_never();
        assert!(caller.expect("held").is_ok());
    });
    assert_eq!(counted.count_total, 1);
}
