//! A server that forks: the child asks with a thread and connections of its own.

#![cfg(unix)]

use std::time::{Duration, Instant};

use fork::Fork;
use zitadel_introspect::Verifier;

use crate::setup::{World, authorize, status};

/// Runs in a child of `fork` and gives the status that it exits with.
fn in_a_child(work: impl FnOnce() -> i32) -> i32 {
    match fork::fork().unwrap() {
        Fork::Child => std::process::exit(work()),
        Fork::Parent(child) => fork::waitpid(child).map(exit_status).unwrap(),
    }
}

fn exit_status(status: i32) -> i32 {
    // Of the form that `wait` gives: the exit status in the second byte, a signal in the first.
    let [signal, code, ..] = status.to_le_bytes();
    if signal == 0 { i32::from(code) } else { -1 }
}

fn ask(verifier: &Verifier, token: &str) -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let began = Instant::now();
    let found = runtime.block_on(async { status(&authorize(verifier, token).await) });
    // An exit status has eight bits.
    if began.elapsed() > Duration::from_secs(5) { 99 } else { i32::from(found / 100) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_from_before_the_fork_starts_anew_in_the_child() {
    let world = World::new().await;
    let verifier = world.verifier();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
    let fresh = world.admin.pat();
    let in_child = tokio::task::spawn_blocking({
        let (verifier, held, fresh) = (verifier.clone(), world.token.to_string(), fresh.to_string());
        move || {
            in_a_child(|| {
                let found = [
                    ask(&verifier, &held),
                    ask(&verifier, &fresh),
                    ask(&verifier, "never-was"),
                    ask(&verifier, &fresh),
                ];
                i32::from(found != [2, 2, 4, 2])
            })
        }
    });
    assert_eq!(in_child.await.unwrap(), 0);
    assert_eq!(status(&authorize(&verifier, &world.admin.pat()).await), 200, "the parent goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_that_is_built_in_the_child_works() {
    let world = World::new().await;
    // The parent has used the library before.
    assert_eq!(status(&authorize(&world.verifier(), &world.token).await), 200);
    let builder = world.builder();
    let token = world.token.to_string();
    let in_child = tokio::task::spawn_blocking(move || {
        in_a_child(move || i32::from(ask(&builder.build().unwrap(), &token) != 2))
    });
    assert_eq!(in_child.await.unwrap(), 0);
}
