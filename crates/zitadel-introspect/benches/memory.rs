//! What a verifier takes in memory: before, at and after a peak. Prints lines for `docs/security.md`; ends where it cannot
//! measure.
//!
//! `cargo bench -p zitadel-introspect --bench memory`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::missing_docs_in_private_items,
    reason = "a program that measures"
)]

use std::{fs, time::Duration};

use zitadel_introspect::{ClientAuth, Issuer, Requirement, TestClock, Verifier};
use zitadel_introspect_testkit as testkit;

/// Good verdicts, each about 2 KiB.
const GOOD: usize = 20_000;
/// Tokens that nobody has issued.
const UNKNOWN: usize = 100_000;

/// The resident size of this process, in MiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn show(what: &str, verifier: &Verifier) {
    let stats = verifier.stats();
    println!(
        "{what:<44} {:>5} MiB, {} good and {} bad verdicts held",
        resident(),
        stats.held,
        stats.held_bad
    );
}

async fn ask(verifier: &Verifier, tokens: Vec<String>) {
    let mut asking = tokio::task::JoinSet::new();
    for chunk in tokens.chunks(tokens.len().div_ceil(16)) {
        let (verifier, chunk) = (verifier.clone(), chunk.to_vec());
        asking.spawn(async move {
            for token in chunk {
                let field = format!("Bearer {token}");
                let _ = verifier.authorize([field.as_bytes()], &Requirement::any_caller()).await;
            }
        });
    }
    asking.join_all().await;
}

#[tokio::main]
async fn main() {
    // The embedded issuer keeps each token it has issued, in this very process: one answer for all, and none kept.
    let issuer = testkit::Issuer::start().await;
    let project = issuer.project("tasks");
    let auth = ClientAuth::key_json(&project.api("api").key_json()).unwrap();
    let clock = TestClock::new();
    let verifier =
        Verifier::builder(Issuer::parse(&issuer.url()).unwrap(), auth).clock(&clock).build().unwrap();
    verifier.check().await.unwrap();
    show("before", &verifier);
    let claims = format!(
        r#"{{"active":true,"sub":"1","urn:zitadel:iam:org:project:roles":{{"admin":{{"1":"one.example"}}}},"own":"{}"}}"#,
        "x".repeat(800)
    );
    issuer.inject(testkit::Fault::answer(200, "application/json", claims));
    ask(&verifier, (0..GOOD).map(|number| format!("good-{number}")).collect()).await;
    issuer.heal();
    show(&format!("{GOOD} good tokens"), &verifier);
    ask(&verifier, (0..UNKNOWN).map(|number| format!("unknown-{number}")).collect()).await;
    show(&format!("and {UNKNOWN} unknown ones"), &verifier);
    clock.advance(Duration::from_secs(300));
    while verifier.stats().held + verifier.stats().held_bad > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    show("five minutes later, by the verifier's clock", &verifier);
    issuer.inject(testkit::Fault::answer(200, "application/json", r#"{"active":true,"sub":"1"}"#));
    ask(&verifier, (0..GOOD).map(|number| format!("again-{number}")).collect()).await;
    show(&format!("{GOOD} other good tokens"), &verifier);
}
