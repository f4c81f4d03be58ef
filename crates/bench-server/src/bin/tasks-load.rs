//! What keeping tasks costs: the tasks server on SQLite and PostgreSQL beside the same server with no database.
//!
//! `TASK_API_TEST_POSTGRES=postgres://<superuser>@<host>/<database> tasks-load [seconds]`; without the variable
//! PostgreSQL is left out. All kinds take turns, five times, in one run.

use std::{
    env,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use task_api::{
    limits::Limits,
    options::Options,
    routes::{self, AppState},
    serve::{self, Speaks},
    store::{self, Kept, NewTask, Store, StoreError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use zitadel_introspect::{TestCaller, TestTokens};

type Failure = Box<dyn std::error::Error>;

const ROUNDS: usize = 5;

/// The same server with no database.
#[derive(Debug, Default)]
struct Memory(Mutex<Vec<String>>);

impl Store for Memory {
    fn add(&self, tasks: Vec<NewTask>) -> BoxFuture<'_, Result<(), StoreError>> {
        let texts = tasks.into_iter().map(|new| new.task);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(texts);
        Box::pin(async { Ok(()) })
    }

    fn page(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = (1_i64..).zip(tasks.iter());
        let wanted = wanted.skip(usize::try_from(after).unwrap_or(usize::MAX)).take(limit as usize);
        let page = wanted.map(|(position, task)| Kept { position, task: task.clone() }).collect();
        Box::pin(async { Ok(page) })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A server on a thread of its own.
fn serve_on(url: Option<String>) -> Result<SocketAddr, Failure> {
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store: Arc<dyn Store> = match url {
                Some(url) => store::open(&url, None).await.expect("a database"),
                None => Arc::new(Memory::default()),
            };
            let verifier = TestTokens::new().caller("admin", TestCaller::new("1").role("admin")).verifier();
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            sender.send(listener.local_addr().expect("an address")).expect("somebody who waits");
            let limits = Limits::default();
            let router = routes::router(AppState::new(verifier, store), &limits, &Options::default());
            serve::serve(listener, router, Speaks::Http, limits, std::future::pending()).await;
        });
    });
    Ok(address.recv()?)
}

/// One request, and all of its answer.
async fn ask(stream: &mut TcpStream, buffer: &mut Vec<u8>, request: &[u8]) -> Result<(), Failure> {
    stream.write_all(request).await?;
    buffer.clear();
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err("the server closed".into());
        }
    };
    let head = std::str::from_utf8(&buffer[..end])?.to_owned();
    if !head.starts_with("HTTP/1.1 200") {
        return Err(head.into());
    }
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length: usize = length.ok_or("no length")?.parse()?;
    while buffer.len() < end + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the server closed".into());
        }
    }
    Ok(())
}

/// Answers in a second, with so many clients at once.
async fn rate(address: SocketAddr, clients: usize, request: &str, time: Duration) -> Result<f64, Failure> {
    let began = Instant::now();
    let clients = (0..clients).map(|_| async {
        let (mut stream, mut buffer, mut answers) = (TcpStream::connect(address).await?, Vec::new(), 0_u32);
        stream.set_nodelay(true)?;
        while began.elapsed() < time {
            ask(&mut stream, &mut buffer, request.as_bytes()).await?;
            answers += 1;
        }
        Ok::<_, Failure>(answers)
    });
    let answers = futures_util::future::try_join_all(clients).await?;
    Ok(f64::from(answers.iter().sum::<u32>()) / began.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
async fn main() -> Result<(), Failure> {
    let seconds = env::args().nth(1).map_or(Ok(2.0), |text| text.parse())?;
    let time = Duration::from_secs_f64(seconds);
    let folder = tempfile::tempdir()?;
    let mut kinds = vec![("no database", serve_on(None)?)];
    kinds.push(("SQLite", serve_on(Some(format!("sqlite://{}/tasks.db", folder.path().display())))?));
    if let Ok(url) = env::var("TASK_API_TEST_POSTGRES") {
        kinds.push(("PostgreSQL", serve_on(Some(url))?));
    }
    let head = "host: localhost\r\nauthorization: Bearer admin\r\n";
    let add = format!("POST /api/add-task?task=My%20new%20task HTTP/1.1\r\n{head}content-length: 0\r\n\r\n");
    let page = format!("GET /api/tasks?limit=100&after=1000 HTTP/1.1\r\n{head}\r\n");
    for (_, address) in &kinds {
        while rate(*address, 64, &add, Duration::from_millis(500)).await? < 1.0 {}
    }
    for (path, clients, request) in [
        ("add", 1, &add),
        ("add", 64, &add),
        ("add", 256, &add),
        ("a page of 100", 1, &page),
        ("a page of 100", 64, &page),
    ] {
        let mut rates = vec![Vec::new(); kinds.len()];
        for _ in 0..ROUNDS {
            for (kind, rates) in kinds.iter().zip(&mut rates) {
                rates.push(rate(kind.1, clients, request, time).await?);
            }
        }
        let rates: Vec<_> = rates.into_iter().map(median).collect();
        for ((name, _), rate) in kinds.iter().zip(&rates) {
            println!(
                "{path}, {clients} clients, {name}: {rate:.0} a second, {:.3} of no database",
                rate / rates[0]
            );
        }
    }
    Ok(())
}
