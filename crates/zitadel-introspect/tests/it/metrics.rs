//! The numbers reach the `metrics` facade.

use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use crate::setup::{World, authorize};

#[tokio::test]
async fn counters_gauges_and_the_latency_are_published() {
    let recorder = DebuggingRecorder::new();
    let seen = recorder.snapshotter();
    let world = World::new().await;
    let verifiers = [world.verifier(), world.verifier()];
    let _ = authorize(&verifiers[0], &world.token).await.unwrap();
    // The first publication comes before the recorder, which then knows nothing of it.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    recorder.install().unwrap();
    for (verifier, requests) in verifiers.iter().zip([3, 2]) {
        for _ in 0..requests {
            let _ = authorize(verifier, &world.token).await.unwrap();
        }
    }
    let (mut hits, mut held) = (0, 0.0_f64);
    let mut found = [false; 3];
    let published = async {
        while found != [true; 3] {
            tokio::time::sleep(Duration::from_millis(50)).await; // the facade is fed once a second
            for (key, _, _, value) in seen.snapshot().into_vec() {
                let has = |text: &str| key.key().labels().any(|label| label.value() == text);
                if !has(&world.issuer.url()) {
                    continue; // another test's
                }
                assert!(has(&world.api.client_id()), "{key:?}");
                match (key.key().name(), value) {
                    // The snapshot takes what it shows: the sum is what was counted.
                    ("zitadel_introspect_hits_total", DebugValue::Counter(more)) => hits += more,
                    ("zitadel_introspect_cache_entries", DebugValue::Gauge(more)) => held = held.max(more.0),
                    ("zitadel_introspect_upstream_seconds", DebugValue::Histogram(times)) => {
                        found[2] |= !times.is_empty();
                    }
                    _ => {}
                }
                // Two verifiers with the same labels add up.
                found[0] = hits == 4;
                found[1] = (held - 2.0).abs() < 0.1;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), published).await.unwrap();
}
