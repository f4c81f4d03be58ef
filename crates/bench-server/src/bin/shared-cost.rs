//! What the shared store costs: CPU of the server for each operation, and the time from a revocation to its effect on
//! another instance.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::{
    fs,
    time::{Duration, Instant},
};

use conformance::valkey::Server;
use zitadel_introspect::{
    ClientAuth, Issuer, Requirement, Shared, SharedSecrets, Verifier,
    store::{LogId, Place, SharedStore},
};
use zitadel_introspect_testkit as testkit;
use zitadel_introspect_valkey::Valkey;

const ROUNDS: u32 = 20_000;
/// The usual size of a sealed verdict, in bytes.
const VERDICT: usize = 1024;
const EVICTIONS: usize = 200;
const IDLE: u32 = 10;

#[tokio::main]
async fn main() {
    let server = Server::start(&["--save", ""]).await.expect("a server is installed");
    operations(&server).await;
    idle(&server).await;
    spread(&server).await;
}

/// CPU time of a process.
fn cpu(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = [11, 12].into_iter().map(|field: usize| fields[field].parse::<u64>().unwrap()).sum();
    // The kernel counts in hundredths of a second.
    Duration::from_millis(ticks * 10)
}

fn store(server: &Server) -> Valkey {
    Valkey::builder(format!("redis://{}", server.address())).build().unwrap()
}

async fn measure<F: Future<Output = ()>>(server: &Server, what: &str, operation: impl Fn(u32) -> F) {
    let (before, began) = (cpu(server.process()), Instant::now());
    for round in 0..ROUNDS {
        operation(round).await;
    }
    let (used, took) = (cpu(server.process()).saturating_sub(before), began.elapsed());
    println!(
        "{what}: {:?} of the server's CPU, {:?} with the way there and back",
        used / ROUNDS,
        took / ROUNDS
    );
}

async fn operations(server: &Server) {
    let store = store(server);
    let log = LogId::of(&Issuer::parse("https://issuer.example").unwrap());
    let (epoch, sealed) = ([7; 16], vec![5; VERDICT]);
    let name = |round: u32| {
        let mut name = [0; 32];
        name[..4].copy_from_slice(&round.to_be_bytes());
        name
    };
    measure(server, "append of 300 bytes", |round| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&round.to_be_bytes());
        let (store, sealed) = (&store, &sealed);
        async move {
            let _ = store.append(log, epoch, id, &sealed[..300]).await.unwrap();
        }
    })
    .await;
    let end = store.read(log, epoch, Place::default()).await.unwrap().end;
    measure(server, "read of an idle log", |_| async { drop(store.read(log, epoch, end).await.unwrap()) })
        .await;
    measure(server, "put of a verdict", |round| {
        let (store, sealed, name) = (&store, &sealed, name(round));
        async move { store.put(log, &name, sealed, Duration::from_mins(1)).await.unwrap() }
    })
    .await;
    measure(server, "take of a verdict", |round| {
        let (store, name) = (&store, name(round));
        async move { drop(store.take(log, &name).await.unwrap()) }
    })
    .await;
    let memory = server.say(&["INFO", "memory"]).await;
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    println!(
        "memory of the server with {ROUNDS} verdicts of {VERDICT} bytes and 10,000 entries: {} bytes",
        used.trim()
    );
}

/// Instances that nobody uses.
async fn idle(server: &Server) {
    // The server is at work for itself as well, until the verdicts above are gone.
    server.say(&["FLUSHALL"]).await;
    let ten_seconds = async || {
        let before = cpu(server.process());
        tokio::time::sleep(Duration::from_secs(10)).await;
        cpu(server.process()).saturating_sub(before)
    };
    let alone = ten_seconds().await;
    let issuer = testkit::Issuer::start().await;
    let api = issuer.project("tasks").api("api");
    let _instances: Vec<_> = (0..IDLE).map(|_| instance(server, &issuer, &api)).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = ten_seconds().await.saturating_sub(alone);
    println!("an idle instance: {:?} of the server's CPU a second", used / (IDLE * 10));
}

fn instance(server: &Server, issuer: &testkit::Issuer, api: &testkit::Api) -> Verifier {
    let shared = Shared::new(store(server), SharedSecrets::from_text(&"5".repeat(64)).unwrap());
    let auth = ClientAuth::key_json(&api.key_json()).unwrap();
    Verifier::builder(Issuer::parse(&issuer.url()).unwrap(), auth).shared(shared).build().unwrap()
}

/// From an eviction on one instance to its effect on the other one.
async fn spread(server: &Server) {
    let issuer = testkit::Issuer::start().await;
    let api = issuer.project("tasks").api("api");
    let (first, second) = (instance(server, &issuer, &api), instance(server, &issuer, &api));
    let user = issuer.service_user("user");
    let any = Requirement::any_caller();
    let mut times = Vec::new();
    while first.shared().unwrap().is_blind || second.shared().unwrap().is_blind {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..EVICTIONS {
        let field = format!("Bearer {}", user.pat());
        let _caller = second.authorize([field.as_bytes()], &any).await.unwrap();
        let began = Instant::now();
        first.evict_user(&user.id().as_str().into());
        while second.stats().held > 0 {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let (median, worst) = (times[EVICTIONS / 2], times[EVICTIONS - 1]);
    println!(
        "from an eviction to its effect on another instance: {median:?} (median), {worst:?} (worst of {EVICTIONS})"
    );
}
