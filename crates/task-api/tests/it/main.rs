//! The tasks server from outside: the binary, over sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod check;
mod connections;
mod durable;
mod grpc;
mod openapi;
mod operations;
mod raw;
mod settings;
mod setup;
mod store;
mod tls;

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_server_keeps_its_contract() {
    conformance::tasks::run(env!("CARGO_BIN_EXE_task-api")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_server_keeps_its_contract_on_postgres() {
    conformance::tasks::run_on_postgres(env!("CARGO_BIN_EXE_task-api")).await;
}
