//! Heads and framing that are out of bounds, byte by byte. The examples on other frameworks keep the limits of
//! theirs.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use conformance::http::{Connection, bearer};
use futures_util::future::BoxFuture;
use task_api::{
    limits::Limits,
    options::Options,
    routes::{self, AppState},
    serve::{self, Speaks},
    store::{self, Kept, NewTask, Store, StoreError},
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use zitadel_introspect::{TestCaller, TestTokens};

/// A server, and the folder of its database.
async fn server() -> (SocketAddr, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = store::open(&format!("sqlite://{}/tasks.db", folder.path().display()), None).await.unwrap();
    (serve(store).await, folder)
}

async fn serve(store: Arc<dyn Store>) -> SocketAddr {
    let verifier = TestTokens::new().caller("admin", TestCaller::new("1").role("admin")).verifier();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits::default();
    let router = routes::router(AppState::new(verifier, store), &limits, &Options::default());
    tokio::spawn(serve::serve(listener, router, Speaks::Http, limits, std::future::pending()));
    address
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

/// Sends the beginning of a request, and waits for what the server makes of it.
async fn unfinished(address: SocketAddr, beginning: &str) -> Option<u16> {
    let mut connection = Connection::open(address).await;
    connection.send(beginning).await;
    let answer = connection.answer(false).await;
    assert!(connection.is_closed().await, "the connection ends");
    answer.map(|answer| answer.status)
}

/// A store with a bug: it panics where a task is added, and works elsewhere.
#[derive(Debug)]
struct Buggy;

impl Store for Buggy {
    fn add(&self, _: Vec<NewTask>) -> BoxFuture<'_, Result<(), StoreError>> {
        panic!("a bug")
    }

    fn page(&self, _: i64, _: u32) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_in_a_handler_is_answered_logged_once_and_touches_nobody_else() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _logging = tracing::subscriber::set_default(lines);
    let usual = std::panic::take_hook();
    task_api::program::log_panics();
    let address = serve(Arc::new(Buggy)).await;
    let mut other = Connection::open(address).await;
    let list = format!("GET /api/tasks HTTP/1.1\r\nhost: localhost\r\n{}\r\n\r\n", bearer("admin"));
    other.send(&list).await;
    assert_eq!(other.answer(false).await.unwrap().status, 200);
    let mut connection = Connection::open(address).await;
    let add = format!("POST /api/add-task?task=a HTTP/1.1\r\nhost: localhost\r\n{}\r\n\r\n", bearer("admin"));
    connection.send(&add).await;
    let answer = connection.answer(false).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (500, "internal server error\n"));
    std::panic::set_hook(usual);
    for connection in [&mut connection, &mut other] {
        connection.send(&list).await;
        assert_eq!(connection.answer(false).await.unwrap().status, 200, "the connections go on");
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("ERROR")).count(), 1, "{log}");
    assert!(log.contains("A PANIC") && log.contains("a bug"), "{log}");
}

#[tokio::test]
async fn who_is_slow_is_not_waited_for() {
    let (address, _folder) = server().await;
    let began = Instant::now();
    let head = format!("POST /api/add-task HTTP/1.1\r\nhost: localhost\r\n{}", bearer("admin"));
    let form = "content-type: application/x-www-form-urlencoded";
    let (slow_head, slow_body, slow_chunk) = (
        "GET /api/healthz HTTP/1.1\r\nhost:".to_owned(),
        format!("{head}\r\n{form}\r\ncontent-length: 10\r\n\r\ntask="),
        format!("{head}\r\n{form}\r\ntransfer-encoding: chunked\r\n\r\n5\r\ntask=\r\n"),
    );
    let (head, body, chunk) = tokio::join!(
        unfinished(address, &slow_head),
        unfinished(address, &slow_body),
        unfinished(address, &slow_chunk)
    );
    assert_eq!((head, body, chunk), (None, Some(408), Some(408)));
    let took = began.elapsed();
    assert!(Duration::from_secs(15) <= took && took < Duration::from_secs(25), "{took:?}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_has_come() {
    let (address, _folder) = server().await;
    let head = format!("POST /api/add-task HTTP/1.1\r\nhost: localhost\r\n{}", bearer("admin"));
    let form = "content-type: application/x-www-form-urlencoded";
    let chunk =
        format!("{head}\r\n{form}\r\ntransfer-encoding: chunked\r\n\r\n10001\r\n{}", "a".repeat(0x10001));
    assert_eq!(unfinished(address, &chunk).await, Some(413));
    let unauthorized = "POST /api/add-task HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n";
    assert_eq!(unfinished(address, unauthorized).await, Some(401), "nobody's upload is awaited");
}
