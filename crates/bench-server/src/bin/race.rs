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
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

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
    let own = std::process::id().to_string();
    assert!(Command::new("taskset").args(["-a", "-p", "-c", "1", &own]).output().unwrap().status.success());

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
    let server = Server::start(adapter, issuer, key);
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

struct Server {
    child: Child,
    address: SocketAddr,
}

struct Lap {
    cpu_per_request: f64,
    requests_per_second: f64,
    server_busy: f64,
}

impl Server {
    fn start(adapter: &str, issuer: &str, key: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let binary = std::env::current_exe().unwrap().with_file_name("bench-server");
        let child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(binary)
            .args(["--adapter", adapter, "--domain", issuer, "--port", &address.port().to_string(), "--key"])
            .arg(key)
            .spawn()
            .unwrap();
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "the server did not start");
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, address }
    }

    fn each_once(&self, requests: &[Vec<u8>]) {
        let mut stream = self.connect();
        for request in requests {
            exchange(&mut stream, request);
        }
    }

    /// Sends requests in turn, on all connections, for a time.
    fn lap(&self, requests: &[Vec<u8>], time: Duration) -> Lap {
        let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| self.connect()).collect();
        let (began, cpu) = (Instant::now(), self.cpu());
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
        let (wall, cpu) = (began.elapsed().as_secs_f64(), self.cpu() - cpu);
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let count = count as f64;
        Lap { cpu_per_request: cpu / count, requests_per_second: count / wall, server_busy: cpu / wall }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Seconds of CPU that all threads of the server have used.
    fn cpu(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanoseconds = |task: fs::DirEntry| -> Option<f64> {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        tasks.flatten().filter_map(nanoseconds).sum::<f64>() / 1e9
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exchange(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).unwrap();
    read_answer(stream);
}

/// An answer of this race is one short packet: its head, and a body of five bytes.
fn read_answer(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    let mut length = 0;
    while !buffer[..length].ends_with(b"\r\n\r\nhello") {
        let read = stream.read(&mut buffer[length..]).unwrap();
        assert!(read > 0, "the server hung up: {}", String::from_utf8_lossy(&buffer[..length]));
        length += read;
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..length]));
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
