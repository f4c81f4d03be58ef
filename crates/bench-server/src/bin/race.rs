//! Races `/private` against `/public` on both adapters and prints the ratios as a table.
//!
//! `cargo build --release -p bench-server && target/release/race`
//!
//! The server is pinned to the first core, the generator to the second. Both routes get the same request head.
//! Pairs are interleaved; a ratio is that of a pair. Needs Linux (`taskset`, `/proc`).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measuring tool: it prints, and ends where it cannot measure"
)]

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use bench_server::{Lap, Server, median};
use zitadel_introspect_testkit::Issuer;

const CONNECTIONS: usize = 32;
const PAIRS: usize = 15;
const LAP: Duration = Duration::from_millis(700);

#[tokio::main]
async fn main() {
    let issuer = Issuer::start().await;
    let project = issuer.project("race");
    project.add_role("admin");
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.json");
    project.api("api").write_key_file(&key).unwrap();
    let user = issuer.service_user("racer");
    user.grant(&project, ["admin"]);
    let tokens: Vec<String> = (0..10_000).map(|_| user.pat().to_string()).collect();

    // This process, the issuer's thread included, stays off the server's core.
    bench_server::stay_off();

    println!(
        "| adapter | hot tokens | CPU public / private (median, min to max) | throughput private / public | generator |"
    );
    println!("|---|---|---|---|---|");
    let url = issuer.url();
    for adapter in ["axum", "actix"] {
        for hot in [1, tokens.len()] {
            let (url, key, tokens) = (url.clone(), key.clone(), tokens[..hot].to_vec());
            let row = tokio::task::spawn_blocking(move || race(adapter, &url, &key, &tokens)).await.unwrap();
            println!("{row}");
        }
    }
}

fn race(adapter: &str, issuer: &str, key: &Path, tokens: &[String]) -> String {
    let server = Runner(Server::start(adapter, issuer, key));
    let requests = |path: &str| -> Vec<Vec<u8>> {
        let head = |token: &String| {
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n")
                .into_bytes()
        };
        tokens.iter().map(head).collect()
    };
    let (public, private) = (requests("/public"), requests("/private"));
    // Each token is known before the race begins.
    server.each_once(&private);
    server.lap(&public, LAP);
    server.lap(&private, LAP);
    let (mut cpu, mut throughput, mut busy, mut public_cpu) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let (a, b) = if pair % 2 == 0 {
            (server.lap(&public, LAP), server.lap(&private, LAP))
        } else {
            let b = server.lap(&private, LAP);
            (server.lap(&public, LAP), b)
        };
        public_cpu.push(a.cpu_per_request * 1e6);
        cpu.push(a.cpu_per_request / b.cpu_per_request);
        throughput.push(b.requests_per_second / a.requests_per_second);
        busy.push(a.server_busy.min(b.server_busy));
    }
    let bottleneck = if median(&mut busy) < 0.9 { "was the bottleneck" } else { "kept up" };
    let (low, high) = (cpu.iter().copied().fold(f64::MAX, f64::min), cpu.iter().copied().fold(0.0, f64::max));
    format!(
        "| {adapter} | {} | {:.2} us | {:.3} ({low:.3} to {high:.3}) | {:.3} | {bottleneck} |",
        tokens.len(),
        median(&mut public_cpu),
        median(&mut cpu),
        median(&mut throughput),
    )
}

struct Runner(Server);

impl Runner {
    fn each_once(&self, requests: &[Vec<u8>]) {
        let mut stream = self.connect();
        for request in requests {
            exchange(&mut stream, request);
        }
    }

    /// Sends requests in turn, on all connections, for a time.
    fn lap(&self, requests: &[Vec<u8>], time: Duration) -> Lap {
        let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| self.connect()).collect();
        let (began, cpu) = (Instant::now(), self.0.cpu());
        let mut count = 0_usize;
        while began.elapsed() < time {
            // All requests go out before the first answer is read: the server always has work.
            for (index, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&requests[(count + index) % requests.len()]).unwrap();
            }
            for stream in &mut streams {
                read_answer(stream);
            }
            count += CONNECTIONS;
        }
        self.0.lap(began, cpu, count)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.0.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }
}

fn exchange(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).unwrap();
    read_answer(stream);
}

/// An answer of this race is one short packet: its head, and a JSON object.
fn read_answer(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    let mut length = 0;
    while !buffer[..length].ends_with(b"\"}") {
        let read = stream.read(&mut buffer[length..]).unwrap();
        assert!(read > 0, "the server hung up: {}", String::from_utf8_lossy(&buffer[..length]));
        length += read;
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..length]));
    }
}
