//! Appends our own evictions to the log.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use crate::{
    seal::Sealed,
    store::StoreError,
    verdict::{
        engine::Engine,
        shared::{Peers, item::Item, outbox::Pending, random_id},
    },
};

/// Evictions of so long a time come with one entry.
const TOGETHER: Duration = Duration::from_millis(20);
/// All that was published must be in the log within this time.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(1);
/// The pauses after failures.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Runs until the engine is gone.
pub(crate) async fn run(engine: Weak<Engine>) {
    let mut pause = PAUSES.0;
    loop {
        {
            let Some(engine) = engine.upgrade() else { return };
            let Some(peers) = &engine.peers else { return };
            // Wakes up by itself as well: the engine may be gone.
            let _ = tokio::time::timeout(Duration::from_secs(1), peers.to_publish.notified()).await;
        }
        tokio::time::sleep(TOGETHER).await;
        while let Some(outcome) = publish_one(&engine).await {
            if outcome {
                pause = PAUSES.0;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Appends one entry. `None` if there is none, otherwise whether it was appended.
async fn publish_one(engine: &Weak<Engine>) -> Option<bool> {
    let engine = engine.upgrade()?;
    let peers = engine.peers.as_ref()?;
    let id = random_id();
    let text = peers.log().outbox.next_entry(id, Instant::now())?;
    let sealed =
        peers.seals.seal(Sealed::Entry(id), &text).expect("an entry is smaller than what a store takes");
    let log = peers.seals.log_id();
    let outcome = peers.within(peers.store.append(log, random_id(), id, &sealed)).await;
    peers.set_unpublished(outcome.as_ref().err().cloned());
    if let Err(error) = &outcome {
        tracing::debug!(problem = %error, "an eviction is not published yet");
        peers.log().outbox.failed(&id);
    } else {
        peers.to_read.notify_one();
    }
    Some(outcome.is_ok())
}

impl Peers {
    /// Whether the store can be written and read, and what should be changed about it.
    pub(crate) async fn check(&self) -> Result<Vec<String>, StoreError> {
        let advice = self.within(self.store.advise()).await?;
        let reading = async {
            loop {
                let has_read = self.has_read.notified();
                if !self.log().is_behind(Instant::now()) {
                    return;
                }
                has_read.await;
            }
        };
        let _ = tokio::time::timeout(PUBLISHED_WITHIN, reading).await;
        if self.log().unopened().is_some() || self.is_foreign(Instant::now()) {
            // With another secret, what is written here would open for nobody, and trouble all.
            return Ok(advice);
        }
        let number = self.publish([Pending { item: Item::Nothing, evicts: Vec::new() }]);
        match settled(self, number).await {
            Ok(()) => Ok(advice),
            Err(error) => Err(self.unpublished().unwrap_or(error)),
        }
    }
}

/// Waits until the items up to this number are in the log and were read again. On the library's own thread.
pub(crate) async fn settled(peers: &Peers, number: u64) -> Result<(), StoreError> {
    let waiting = async {
        loop {
            let has_read = peers.has_read.notified();
            if peers.log().outbox.has_published(number) {
                return;
            }
            has_read.await;
        }
    };
    let outcome = tokio::time::timeout(PUBLISHED_WITHIN, waiting).await;
    outcome.map_err(|_| StoreError::new("evictions could not be published within a second"))
}
