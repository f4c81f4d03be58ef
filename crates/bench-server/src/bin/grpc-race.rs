//! Races a protected unary call against a public one on tonic, with one hot token.
//!
//! `cargo build --release -p bench-server && target/release/grpc-race`
//!
//! As `race`: the server on the first core, the generator on the second, interleaved pairs, the same metadata for
//! both. Needs Linux.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measuring tool: it prints, and ends where it cannot measure"
)]

use std::time::{Duration, Instant};

use bench_server::{Lap, Server, median};
use futures_util::future::join_all;
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use zitadel_introspect_testkit::Issuer;

const CALLS_AT_ONCE: usize = 32;
const PAIRS: usize = 15;
const LAP: Duration = Duration::from_millis(700);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let issuer = Issuer::start().await;
    let project = issuer.project("race");
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.json");
    project.api("api").write_key_file(&key).unwrap();
    let token = issuer.service_user("racer").pat().to_string();
    bench_server::stay_off();
    let server = Server::start("tonic", &issuer.url(), &key);
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let lap = async |method| lap(&server, &channel, method, &token).await;
    lap("Public").await;
    lap("Private").await;
    let (mut cpu, mut throughput, mut public_cpu, mut busy) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let (a, b) = if pair % 2 == 0 {
            (lap("Public").await, lap("Private").await)
        } else {
            let b = lap("Private").await;
            (lap("Public").await, b)
        };
        public_cpu.push(a.cpu_per_request * 1e6);
        cpu.push(a.cpu_per_request / b.cpu_per_request);
        throughput.push(b.requests_per_second / a.requests_per_second);
        busy.push(a.server_busy.min(b.server_busy));
    }
    let (low, high) = (cpu.iter().copied().fold(f64::MAX, f64::min), cpu.iter().copied().fold(0.0, f64::max));
    println!(
        "| tonic | 1 | {:.2} us | {:.3} ({low:.3} to {high:.3}) | {:.3} | server busy {:.2} |",
        median(&mut public_cpu),
        median(&mut cpu),
        median(&mut throughput),
        median(&mut busy),
    );
}

async fn lap(server: &Server, channel: &Channel, method: &str, token: &str) -> Lap {
    let path: PathAndQuery = format!("/race.Race/{method}").parse().unwrap();
    let (began, cpu) = (Instant::now(), server.cpu());
    let calls = (0..CALLS_AT_ONCE).map(|_| async {
        let (mut client, mut count) = (Grpc::new(channel.clone()), 0_usize);
        while began.elapsed() < LAP {
            client.ready().await.unwrap();
            let mut request = Request::new(String::new());
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            let codec = ProstCodec::<String, String>::default();
            let answer = client.unary(request, path.clone(), codec).await.unwrap().into_inner();
            assert_ne!(answer, "");
            count += 1;
        }
        count
    });
    let count = join_all(calls).await.into_iter().sum();
    server.lap(began, cpu, count)
}
