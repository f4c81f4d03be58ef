//! Mixed load while the issuer comes and goes: no wrong verdict, no leak. `SOAK_SECONDS` says for how long.

use std::{
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use zitadel_introspect::{Requirement, Verifier};
use zitadel_introspect_testkit::Fault;

use crate::setup::{World, require, status};

/// Asks again and again; `allowed` are the statuses that are no wrong verdict.
async fn load(
    verifier: Verifier,
    (token, requirement, allowed): (String, Requirement, &'static [u16]),
    (over, asked): (Arc<AtomicBool>, Arc<AtomicUsize>),
) {
    let mut number = 0_u64;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let token = token.replace('#', &number.to_string());
        let status = status(&require(&verifier, &token, &requirement).await);
        assert!(allowed.contains(&status), "{status} for {token}");
        asked.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_comes_and_goes_makes_no_wrong_verdict_and_no_leak() {
    let time = env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let world = World::new().await;
    let ttl = Duration::from_millis(50);
    let verifier = world.builder().timeout(Duration::from_secs(1)).connect_timeout(Duration::from_secs(1));
    let verifier = verifier.cache_ttl(ttl).negative_cache_ttl(ttl).build().unwrap();
    let dead = world.admin.pat();
    dead.revoke();
    let any = Requirement::any_caller();
    let now = Requirement::role("admin").fresh_within(Duration::ZERO);
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let loads: [(String, Requirement, &'static [u16]); 6] = [
        (world.token.to_string(), Requirement::role("admin"), &[200, 503]),
        (world.token.to_string(), Requirement::role("viewer"), &[403, 503]),
        (world.token.to_string(), now, &[200, 503]),
        (dead.to_string(), any.clone(), &[401, 503]),
        ("never-was-#".to_owned(), any.clone(), &[401, 503]),
        ("not,a,token".to_owned(), any, &[401]),
    ];
    let loads: Vec<_> = loads
        .into_iter()
        .map(|kind| tokio::spawn(load(verifier.clone(), kind, (Arc::clone(&over), Arc::clone(&asked)))))
        .collect();
    let began = Instant::now();
    let mut before = None;
    while began.elapsed() < Duration::from_secs(time) {
        for fault in [
            Fault::status(500),
            Fault::reset(),
            Fault::truncated(),
            Fault::answer(200, "application/json", "{}"),
        ] {
            world.issuer.inject(fault.times(20));
            after(&asked, 200).await;
        }
        world.issuer.stop().await;
        after(&asked, 200).await;
        world.issuer.resume().await;
        world.issuer.heal();
        after(&asked, 200).await;
        before.get_or_insert_with(held_by_this_process);
    }
    over.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.unwrap();
    }
    if let (Some((memory_before, files_before)), Some((memory, files))) =
        (before.flatten(), held_by_this_process())
    {
        assert!(memory < memory_before + 64 * 1024, "memory grew from {memory_before} to {memory} KiB");
        assert!(files < files_before + 100, "open files grew from {files_before} to {files}");
    }
}

/// Waits until so many further questions were answered.
async fn after(asked: &AtomicUsize, further: usize) {
    let goal = asked.load(Ordering::Relaxed) + further;
    while asked.load(Ordering::Relaxed) < goal {
        tokio::task::yield_now().await;
    }
}

/// KiB of memory and open files, where the system tells.
fn held_by_this_process() -> Option<(usize, usize)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let memory = memory.split_whitespace().next()?.parse().ok()?;
    Some((memory, fs::read_dir("/proc/self/fd").ok()?.count()))
}
