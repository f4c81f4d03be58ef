//! The work without a request, as long as there is a verifier.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{stats::Stats, verdict::engine::Engine};

const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// How often the memory of lapsed verdicts is freed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

impl Engine {
    /// Publishes numbers to the `metrics` facade, removes lapsed verdicts, and loads a new key file.
    pub(crate) fn start_upkeep(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        self.handle.spawn(async move {
            let mut swept_at = None;
            loop {
                tokio::time::sleep(PUBLISH_INTERVAL).await;
                let Some(this) = this.upgrade() else { return };
                this.publish();
                this.sweep_if_due(&mut swept_at);
            }
        });
        if let (Some(watch), Some(issuer)) = (&self.key_watch, self.source.issuer()) {
            self.handle.spawn(watch.clone().run(Arc::downgrade(issuer)));
        }
    }

    fn publish(&self) {
        self.counters.publish(self.stats(), &self.labels);
        let now = self.clock.now().instant;
        if let Some(peers) = &self.peers {
            self.labels.publish_blindness(peers.log().is_blind(now));
        }
        let age = self.fed.age(now);
        if let (Some(_), Some(age)) = (&self.feed, age) {
            self.labels.publish_feed_age(age);
        }
    }

    fn sweep_if_due(self: &Arc<Self>, swept_at: &mut Option<Instant>) {
        let now = self.clock.now();
        let is_due = |at: Instant| now.instant.saturating_duration_since(at) >= SWEEP_INTERVAL;
        if !swept_at.is_none_or(is_due) {
            return;
        }
        *swept_at = Some(now.instant);
        let this = Arc::clone(self);
        // The sweep looks at each verdict: it must not block the thread that asks the issuer.
        self.handle.spawn_blocking(move || this.cache.sweep(&this.settings.lifetimes, this.fed.read(), now));
    }
}

/// Publishes the counts since the last publication.
impl Drop for Engine {
    fn drop(&mut self) {
        let nothing_is_held = Stats { held: 0, held_bad: 0, breaker_open: false, ..self.stats() };
        self.counters.publish(nothing_is_held, &self.labels);
    }
}
