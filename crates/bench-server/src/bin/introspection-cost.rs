//! What an introspection costs beside a bare POST of the same body with the same HTTP client: CPU of this process,
//! in interleaved blocks. `cargo build --release -p bench-server && target/release/introspection-cost`
//!
//! The issuer runs in a process of its own (this binary again). Needs Linux (`/proc`).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measuring tool: it prints, and ends where it cannot measure"
)]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use futures_util::future::join_all;
use zitadel_introspect::{ClientAuth, Issuer, Requirement, Verifier};
use zitadel_introspect_testkit as testkit;

const BLOCKS: usize = 21;
const QUESTIONS: usize = 1_600;
const AT_ONCE: usize = 16;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if env::args().nth(1).as_deref() == Some("issuer") {
        return serve_issuer().await;
    }
    let mut child = Command::new(env::current_exe().unwrap())
        .arg("issuer")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut line = || lines.next().unwrap();
    let (url, key, id, secret) = (line(), line(), line(), line());
    let tokens: Vec<_> = (0..AT_ONCE).map(|_| line()).collect();
    let (token, headers) =
        (&tokens[0], tokens.iter().map(|token| format!("Bearer {token}")).collect::<Vec<_>>());

    let auth = ClientAuth::key_json(&key).unwrap();
    let verifier = Verifier::builder(Issuer::parse(&url).unwrap(), auth).cache_off().build().unwrap();
    let any = Requirement::any_caller();
    let _ = verifier.authorize([headers[0].as_bytes()], &any).await.unwrap();

    // As long as the library's own body, and about the same token.
    let padding = "x".repeat(750);
    let body = format!("token={token}&client_id={id}&client_secret={secret}&padding={padding}");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let endpoint = format!("{url}/oauth/v2/introspect");
    let post = async || {
        let request = client.post(&endpoint).header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(body.clone()).send().await.unwrap();
        assert!(answer.bytes().await.unwrap().starts_with(b"{\"active\":true"));
    };
    post().await;

    let mut ratios = Vec::new();
    let mut costs = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        let before = cpu();
        // Tokens of their own, or one question would serve all who wait.
        join_all(headers.iter().map(async |header| {
            for _ in 0..QUESTIONS / AT_ONCE {
                let _ = verifier.authorize([header.as_bytes()], &any).await.unwrap();
            }
        }))
        .await;
        let between = cpu();
        join_all((0..AT_ONCE).map(async |_| {
            for _ in 0..QUESTIONS / AT_ONCE {
                post().await;
            }
        }))
        .await;
        let after = cpu();
        ratios.push((between - before) / (after - between));
        costs.0.push((between - before) / 1000.0 / QUESTIONS as f64);
        costs.1.push((after - between) / 1000.0 / QUESTIONS as f64);
    }
    for values in [&mut ratios, &mut costs.0, &mut costs.1] {
        values.sort_by(f64::total_cmp);
    }
    println!(
        "CPU of an introspection {:.1} us, of a bare POST {:.1} us, ratio {:.3} ({:.3} to {:.3})",
        costs.0[BLOCKS / 2],
        costs.1[BLOCKS / 2],
        ratios[BLOCKS / 2],
        ratios[0],
        ratios[BLOCKS - 1],
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

async fn serve_issuer() {
    let issuer = testkit::Issuer::start().await;
    let project = issuer.project("cost");
    project.add_role("admin");
    let user = issuer.service_user("robot");
    user.grant(&project, ["admin"]);
    let secret_api = project.secret_api("bare");
    let secret =
        secret_api.secret().replace('%', "%25").replace('+', "%2B").replace('/', "%2F").replace(' ', "+");
    println!("{}\n{}\n{}\n{secret}", issuer.url(), project.api("api").key_json(), secret_api.client_id());
    for _ in 0..AT_ONCE {
        println!("{}", user.pat());
    }
    std::future::pending::<()>().await;
}

/// Nanoseconds of CPU that all threads of this process have used.
fn cpu() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds = |task: fs::DirEntry| -> Option<f64> {
        fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    tasks.flatten().filter_map(nanoseconds).sum()
}
