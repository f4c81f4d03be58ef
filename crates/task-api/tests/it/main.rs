//! The tasks server from outside: the binary, over sockets.

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_server_keeps_its_contract() {
    conformance::tasks::run(env!("CARGO_BIN_EXE_task-api")).await;
}
