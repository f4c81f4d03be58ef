use std::time::Duration;

use zitadel_introspect_testkit::Endpoint;

use super::{Subject, Tasks, within};
use crate::http::{Connection, bearer};

/// Sends a signal to a process of ours.
async fn signal(tasks: &Tasks, name: &str) {
    let pid = tasks.server.child.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill").args(["-s", name, &pid]).status().await;
    assert!(sent.unwrap().success());
}

pub(super) async fn a_signal_ends_the_server_with_status_0(subject: Subject) {
    for name in ["INT", "TERM"] {
        let mut tasks = Tasks::start(&subject).await;
        // An idle connection must not keep it.
        let mut idle = Connection::open(tasks.server.address).await;
        idle.send("GET /api/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(idle.answer(false).await.unwrap().status, 200);
        signal(&tasks, name).await;
        let status = within(tasks.server.child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0), "{name}");
    }
}

pub(super) async fn requests_under_way_are_finished(subject: Subject) {
    let mut tasks = Tasks::start(&subject).await;
    let token = tasks.token(&[]);
    let asked = tasks.issuer.introspections();
    let held = tasks.issuer.hold(Endpoint::Introspection);
    let mut connection = Connection::open(tasks.server.address).await;
    connection
        .send(format!("GET /api/tasks HTTP/1.1\r\nhost: localhost\r\n{}\r\n\r\n", bearer(&token)))
        .await;
    tasks.issuer.asked(Endpoint::Introspection, asked + 1).await;
    signal(&tasks, "TERM").await;
    // No further connection is taken once the server has heard.
    let closed = async { while tokio::net::TcpStream::connect(tasks.server.address).await.is_ok() {} };
    within(closed).await;
    drop(held);
    assert_eq!(within(connection.answer(false)).await.unwrap().status, 200);
    assert_eq!(within(tasks.server.child.wait()).await.unwrap().code(), Some(0));
}

pub(super) async fn a_client_that_never_ends_does_not_keep_the_server(subject: Subject) {
    let mut tasks = Tasks::start(&subject).await;
    let token = tasks.token(&["admin"]);
    let mut connection = Connection::open(tasks.server.address).await;
    let head = format!("POST /api/add-task HTTP/1.1\r\nhost: localhost\r\n{}", bearer(&token));
    connection
        .send(format!("{head}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"))
        .await;
    let asked = tasks.issuer.introspections();
    tasks.get("/api/tasks", &tasks.token(&[])).await;
    assert!(tasks.issuer.introspections() > asked, "the first request is under way by now");
    signal(&tasks, "TERM").await;
    let ended = tokio::time::timeout(Duration::from_secs(30), tasks.server.child.wait()).await;
    assert_eq!(ended.expect("within 30 s").unwrap().code(), Some(0));
}
