//! The numbers reach the `metrics` facade.

use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use crate::setup::{World, authorize};

#[tokio::test]
async fn counters_gauges_and_the_latency_are_published() {
    let recorder = DebuggingRecorder::new();
    let seen = recorder.snapshotter();
    recorder.install().unwrap();
    let world = World::new().await;
    let verifier = world.verifier();
    for _ in 0..3 {
        authorize(&verifier, &world.token).await.unwrap();
    }
    let mut found = [false; 3];
    let published = async {
        while found != [true; 3] {
            tokio::time::sleep(Duration::from_millis(50)).await; // the facade is fed once a second
            for (key, _, _, value) in seen.snapshot().into_vec() {
                let ours = key.key().labels().any(|label| label.value() == world.issuer.url());
                match (key.key().name(), value) {
                    ("zitadel_introspect_hits_total", DebugValue::Counter(2)) if ours => found[0] = true,
                    ("zitadel_introspect_cache_entries", DebugValue::Gauge(held)) if ours => {
                        found[1] |= held.0 > 0.5;
                    }
                    ("zitadel_introspect_upstream_seconds", DebugValue::Histogram(times)) => {
                        found[2] |= !times.is_empty();
                    }
                    _ => {}
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), published).await.unwrap();
}
