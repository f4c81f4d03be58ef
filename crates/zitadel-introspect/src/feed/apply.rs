//! What the events of a page do.

use std::sync::Arc;

use crate::{
    events::{
        event::{Event, Micros},
        table::{self, Effect, OF_CLAIMS, OF_PROJECTS, OF_USERS, REMOVED_KEY},
    },
    feed::{follow::Follower, reader::Brought},
    peers::apply::{evict, ours, pending, published},
    stats::{FEED_EVENTS, FEED_LATE_EVENTS},
    verdict::{engine::Engine, evict::Evict},
};

impl Follower {
    /// Evicts what the events end, with one look at the cache, and another one for what must be looked up.
    pub(super) async fn apply(&mut self, engine: &Arc<Engine>, brought: Brought, look_ups: &mut usize) {
        if brought.has_forgotten {
            self.break_off(engine);
        }
        let (mut ends, mut changes, mut echoes, mut needs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut told = Vec::new();
        if let Some(lost_at) = brought.lost_at {
            tracing::warn!("more events at once than can be read: all verdicts are evicted");
            ends.push(Evict::All);
            remember(engine, &[Evict::All], lost_at);
            told.extend(pending(&[Evict::All], false, Some(lost_at.seconds())));
        }
        if brought.late > 0 {
            tracing::warn!(events = brought.late, "events became visible late: they ended verdicts late");
            engine.labels.of_feed(FEED_LATE_EVENTS, None).increment(brought.late as u64);
        }
        for (created, event) in &brought.events {
            count_event(engine, event);
            let effect = self.effect(engine, event);
            if event.kind == REMOVED_KEY
                && let Some(local) = &engine.local
            {
                local.keys.remove(&event.id);
            }
            if effect.is_unknown {
                tracing::warn!(event_type = ?event.kind, "an event of an unknown type: all that it may concern is evicted");
            }
            if engine.peers.is_some() {
                // The other instances may be those of other projects.
                let anywhere = table::effect(event, None);
                echoes.extend(anywhere.ends.into_iter().filter(|_| anywhere.echoes));
            } else if effect.echoes {
                echoes.extend(effect.ends.iter().cloned());
            }
            remember(engine, &effect.remembered(event), *created);
            told.extend(published(event, created.seconds(), &effect));
            ends.extend(effect.ends);
            changes.extend(effect.changes);
            needs.extend(effect.needs.map(|needed| (*created, needed, effect.echoes, effect.only_widens)));
        }
        let now = engine.clock.now().instant;
        self.soft_echoes.add(changes.clone(), now);
        let changes = self.soft.take(changes, now);
        evict(engine, ends, changes, told).await;
        // Known evictions come first; look-ups take time.
        let (mut found, mut told) = (Vec::new(), Vec::new());
        for (created, needed, is_echoed, only_widens) in needs {
            let ended = self.users.look_up(&mut self.search, needed, look_ups).await;
            if !only_widens {
                remember(engine, ended.as_slice(), created);
            }
            told.extend(pending(ended.as_slice(), false, (!only_widens).then_some(created.seconds())));
            echoes.extend(ended.iter().filter(|_| is_echoed).cloned());
            found.extend(ended);
        }
        evict(engine, found, Vec::new(), told).await;
        self.echoes.add(echoes, engine.clock.now().instant);
    }

    pub(super) fn effect(&mut self, engine: &Engine, event: &Event) -> Effect {
        self.users.learn(event);
        table::effect(event, ours(engine))
    }
}

/// For JWTs that are verified locally.
fn remember(engine: &Engine, evictions: &[Evict], created: Micros) {
    if let Some(feed) = &engine.feed {
        feed.remember(evictions, created.seconds());
    }
}

fn count_event(engine: &Engine, event: &Event) {
    // A fixed set of labels: whoever sends the events must not choose them.
    let known =
        [&OF_USERS[..], &OF_PROJECTS, &OF_CLAIMS].into_iter().flatten().find(|kind| **kind == event.kind);
    let kind = known.copied().unwrap_or("other");
    engine.labels.of_feed(FEED_EVENTS, Some(("event_type", kind))).increment(1);
}
