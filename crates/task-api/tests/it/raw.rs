//! Heads and framing that are out of bounds, byte by byte. The examples on other frameworks keep the limits of
//! theirs.

use std::net::SocketAddr;

use conformance::http::{Connection, bearer};
use task_api::{
    limits::Limits,
    routes::{self, AppState},
    serve, store,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use zitadel_introspect::{TestCaller, TestTokens};

/// A server, and the folder of its database.
async fn server() -> (SocketAddr, TempDir) {
    let verifier = TestTokens::new().caller("admin", TestCaller::new("1").role("admin")).verifier();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = store::open(&format!("sqlite://{}/tasks.db", folder.path().display()), None).await.unwrap();
    let router = routes::router(AppState::new(verifier, store), Limits::default());
    tokio::spawn(serve::serve(listener, router, std::future::pending()));
    (address, folder)
}

/// The status of the answer, and whether the connection ends after it.
async fn answer(address: SocketAddr, head: &str, body: &str) -> (u16, bool) {
    let mut connection = Connection::open(address).await;
    connection.send(format!("{head}\r\nhost: localhost\r\n{}\r\n\r\n{body}", bearer("admin"))).await;
    let answer = connection.answer(false).await.expect("an answer");
    connection.send("GET /api/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    (answer.status, connection.answer(false).await.is_none())
}

#[tokio::test]
async fn a_head_within_the_limits_passes_and_a_larger_one_does_not() {
    let (address, _folder) = server().await;
    let padded = |length| format!("GET /api/tasks HTTP/1.1\r\nx: {}", "a".repeat(length));
    assert_eq!(answer(address, &padded(31 * 1024), "").await, (200, false));
    assert_eq!(answer(address, &padded(33 * 1024), "").await, (431, true));
    let fields = |count: usize| {
        let fields: Vec<_> = (0..count).map(|number| format!("x-{number}: a")).collect();
        format!("GET /api/tasks HTTP/1.1\r\n{}", fields.join("\r\n"))
    };
    // Host and the token make two more.
    assert_eq!(answer(address, &fields(98), "").await, (200, false));
    assert_eq!(answer(address, &fields(99), "").await, (431, true));
}

#[tokio::test]
async fn framing_that_is_not_plain_ends_the_connection() {
    let (address, _folder) = server().await;
    let post = "POST /api/add-task?task=a HTTP/1.1";
    let chunks = "1\r\na\r\n0\r\n\r\n";
    for (framing, body) in [
        ("content-length: 1\r\ncontent-length: 2", "ab"),
        ("content-length: x", ""),
        ("transfer-encoding: gzip", chunks),
        ("transfer-encoding: gzip, chunked", chunks),
        ("transfer-encoding: gzip\r\ntransfer-encoding: chunked", chunks),
    ] {
        assert_eq!(answer(address, &format!("{post}\r\n{framing}"), body).await, (400, true), "{framing}");
    }
    for both in
        ["content-length: 1\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 1"]
    {
        assert!(answer(address, &format!("{post}\r\n{both}"), chunks).await.1, "{both}");
    }
    let plain = format!("{post}\r\ntransfer-encoding: Chunked");
    assert_eq!(answer(address, &plain, "0\r\n\r\n").await, (200, false));
}
