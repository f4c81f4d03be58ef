//! Which event types the issuer knows: a later ZITADEL may have new ones.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    events::{
        event::Event,
        table::{self, AGGREGATES, ANCHOR, OF_CLAIMS, OF_PROJECTS, OF_USERS},
    },
    feed::{follow::Follower, search::Filter, state::Stream},
    peers::apply::{evict, pending},
    verdict::{engine::Engine, evict::Evict, memory::Memory},
};

const INTERVAL: Duration = Duration::from_secs(3600);
/// So many new types are followed: ZITADEL takes 30 in one search, and one is the anchor.
const MOST: usize = 29;

impl Follower {
    /// At the start and each hour: follows new types of the aggregates that matter, and says which of ours are missing.
    pub(super) async fn learn_types(&mut self, engine: &Arc<Engine>, now: Instant) {
        let rests = |at: Instant| now.saturating_duration_since(at) < INTERVAL;
        if self.types.asked_at.is_some_and(rests) {
            return;
        }
        let is_first = self.types.asked_at.replace(now).is_none();
        // An issuer that does not say it is read as before.
        let Ok(known) = self.search.event_types().await else { return };
        let ours: BTreeSet<_> = [&OF_USERS[..], &OF_PROJECTS, &OF_CLAIMS].into_iter().flatten().collect();
        let missing: Vec<_> =
            ours.into_iter().filter(|kind| !known.iter().any(|known| known == *kind)).collect();
        if !missing.is_empty() && !std::mem::replace(&mut self.types.is_told, true) {
            tracing::info!(?missing, "the issuer does not know these event types: it never sends them");
        }
        let new: Vec<String> = known
            .into_iter()
            .filter(|kind| is_new(kind) && !self.types.followed.contains(kind))
            .take(MOST - self.types.followed.len().min(MOST))
            .collect();
        if new.is_empty() {
            return;
        }
        tracing::warn!(types = ?new, "the issuer has event types that are not known here: what they may concern is evicted");
        let filter = Filter::new(std::iter::once(ANCHOR).chain(new.iter().map(String::as_str)));
        self.types.followed.extend(new);
        self.streams.push(Stream::new(filter, false));
        // Events of these types were not read so far.
        self.break_off(engine);
        if let Some(feed) = &engine.feed {
            feed.with_memory(Memory::doubt);
        }
        if !is_first {
            let all = pending(&[Evict::All], false, None).collect();
            evict(engine, vec![Evict::All], Vec::new(), all).await;
        }
    }
}

/// A type of one of our aggregates that the table does not have.
fn is_new(kind: &str) -> bool {
    let aggregate = kind.split('.').next().unwrap_or_default();
    let event = Event { kind: kind.to_owned(), id: "1".to_owned(), ..Event::default() };
    AGGREGATES.contains(&aggregate) && table::effect(&event, None).is_unknown
}
