//! What an event, or an eviction of another instance, means here.

use std::sync::Arc;

use crate::{
    events::{
        event::Event,
        table::{self, Effect, Ours, REMOVED_KEY},
    },
    verdict::{
        engine::Engine,
        evict::Evict,
        followed::Followed,
        memory::Memory,
        shared::{item::Item, outbox::Pending},
    },
};

/// What is known to be ours.
pub(crate) fn ours(engine: &Engine) -> Ours<'_> {
    let feed = engine.feed.as_ref();
    Ours { project: engine.project(), organization: feed.and_then(Followed::organization) }
}

/// Evictions, and what JWTs must not be older than.
#[derive(Default)]
pub(crate) struct Evictions {
    pub(crate) ends: Vec<Evict>,
    pub(crate) changes: Vec<Evict>,
    /// With the time, in Unix seconds of the issuer's clock.
    remembered: Vec<(Evict, i64)>,
    removed_keys: Vec<String>,
    /// What has ended is not known.
    is_unknown: bool,
}

impl Evictions {
    pub(crate) fn of(items: &[Item], ours: Ours<'_>) -> Self {
        let mut evictions = Self::default();
        for item in items {
            evictions.add(item, ours);
        }
        evictions
    }

    pub(crate) fn everything() -> Self {
        Self { ends: vec![Evict::All], ..Self::default() }
    }

    fn add(&mut self, item: &Item, ours: Ours<'_>) {
        match item {
            Item::Nothing => {}
            Item::Unknown => {
                self.ends.push(Evict::All);
                self.is_unknown = true;
            }
            Item::Event { event, at } => {
                let effect = table::effect(event, ours);
                self.remembered.extend(effect.remembered(event).into_iter().map(|what| (what, *at)));
                if event.kind == REMOVED_KEY {
                    self.removed_keys.push(event.id.clone());
                }
                self.ends.extend(effect.ends);
                self.changes.extend(effect.changes);
                // The publisher of such an event looks the missing fact up first.
                self.ends.extend(effect.needs.map(|needed| needed.or));
            }
            Item::Evict { what, is_soft, at } => {
                self.remembered.extend(at.map(|at| (what.clone(), at)));
                if *is_soft { &mut self.changes } else { &mut self.ends }.push(what.clone());
            }
        }
    }

    /// All of them, soft ones included: no answer from before is held.
    pub(crate) fn all(self) -> Vec<Evict> {
        let mut all = self.ends;
        all.extend(self.changes);
        all
    }

    /// Evicts, on a thread of its own: it looks at each verdict.
    pub(crate) async fn apply(self, engine: &Arc<Engine>) {
        if let Some(feed) = &engine.feed {
            if self.is_unknown {
                feed.with_memory(Memory::doubt);
            }
            for (what, at) in &self.remembered {
                feed.remember(std::slice::from_ref(what), *at);
            }
        }
        if let Some(local) = &engine.local {
            self.removed_keys.iter().for_each(|key| local.keys.remove(key));
        }
        evict(engine, self.ends, self.changes, Vec::new()).await;
    }
}

/// Evicts, on a thread of its own: it looks at each verdict, and the library's thread asks the issuer. The items go to the
/// other instances.
pub(crate) async fn evict(engine: &Arc<Engine>, ends: Vec<Evict>, changes: Vec<Evict>, items: Vec<Pending>) {
    if ends.is_empty() && changes.is_empty() && items.is_empty() {
        return;
    }
    let engine = Arc::clone(engine);
    let evicting = tokio::task::spawn_blocking(move || engine.apply(&ends, &changes, items));
    evicting.await.expect("evicting does not panic, and the runtime outlives its tasks");
}

/// An event as the other instances are told of it; `None` if it means nothing to anybody, or something must be looked up
/// first.
pub(crate) fn published(event: &Event, at: i64, here: &Effect) -> Option<Pending> {
    let anywhere = table::effect(event, None);
    let is_nothing = anywhere.ends.is_empty() && anywhere.changes.is_empty();
    if is_nothing || anywhere.needs.is_some() {
        return None;
    }
    let evicts = here.ends.iter().chain(&here.changes).cloned().collect();
    Some(Pending { item: Item::Event { event: Box::new(event.clone()), at }, evicts })
}

/// Evictions as the other instances are told of them.
pub(crate) fn pending(evictions: &[Evict], is_soft: bool, at: Option<i64>) -> impl Iterator<Item = Pending> {
    evictions.iter().map(move |what| Pending {
        item: Item::Evict { what: what.clone(), is_soft, at },
        evicts: vec![what.clone()],
    })
}
