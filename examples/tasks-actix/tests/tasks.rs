//! The tasks server on actix-web keeps the contract of the one on axum, byte for byte.

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_server_keeps_its_contract() {
    conformance::tasks::run(env!("CARGO_BIN_EXE_tasks-actix")).await;
}
