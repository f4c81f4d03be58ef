//! What this instance publishes: until it is in the log, and for a while afterwards.
//!
//! A state machine without input and output.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    seal::OVERHEAD,
    store::{Id, MOST_BYTES},
    verdict::{
        evict::Evict,
        shared::item::{Item, encode},
    },
};

/// The most bytes of several items that come together.
const MOST_ENTRY_BYTES: usize = 16 * 1024;
/// Our own entries are published again for so long, if the log has lost them.
const OWN_FOR: Duration = Duration::from_secs(75);
/// An entry of ours that is not read after so long is lost.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// So many items wait to be published; beyond this, one that evicts all waits in their place.
const MOST_WAITING: usize = 10_000;

/// Our own entries, and what waits to become one.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Our own entries that may be read yet, or were read a while ago.
    own: VecDeque<Own>,
    waiting: VecDeque<Numbered>,
    /// How many items were ever to be published.
    published: u64,
}

/// An item that is to be published, and what it evicts here.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) item: Item,
    pub(crate) evicts: Vec<Evict>,
}

impl Pending {
    /// An eviction that is made here and told to the others.
    pub(crate) fn evicting(what: Evict) -> Self {
        Self { item: Item::evict(what.clone()), evicts: vec![what] }
    }
}

struct Own {
    id: Id,
    items: Vec<Numbered>,
    at: Instant,
    is_read: bool,
}

/// An item with its number, and since when it waits.
struct Numbered {
    number: u64,
    since: Option<Instant>,
    pending: Pending,
}

impl Outbox {
    /// To be published. Gives the number of the last one.
    pub(crate) fn publish(&mut self, items: impl IntoIterator<Item = Pending>) -> u64 {
        for pending in items {
            self.published += 1;
            self.waiting.push_back(Numbered { number: self.published, since: None, pending });
        }
        if self.waiting.len() > MOST_WAITING {
            let all = Numbered::all(self.waiting.drain(..));
            self.waiting.extend(all);
        }
        self.published
    }

    /// The text of the next entry to be published, if there is one. It counts as sent until [`failed`](Self::failed) is
    /// called.
    pub(crate) fn next_entry(&mut self, id: Id, now: Instant) -> Option<Vec<u8>> {
        let (mut text, mut items) = (Vec::new(), Vec::new());
        while let Some(Numbered { pending, .. }) = self.waiting.front() {
            let more = encode(&pending.item);
            if more.len() > MOST_BYTES - OVERHEAD - 2 {
                if let Some(all) = Numbered::all(self.waiting.pop_front()) {
                    self.waiting.push_front(all);
                }
                continue;
            }
            if !items.is_empty() && text.len() + more.len() > MOST_ENTRY_BYTES {
                break;
            }
            text.push(if items.is_empty() { b'[' } else { b',' });
            text.extend(more);
            items.extend(
                self.waiting.pop_front().map(|item| Numbered { since: item.since.or(Some(now)), ..item }),
            );
        }
        if items.is_empty() {
            return None;
        }
        text.push(b']');
        self.own.push_back(Own { id, items, at: now, is_read: false });
        let held = |own: &VecDeque<Own>| own.iter().map(|own| own.items.len()).sum::<usize>();
        while held(&self.own) > MOST_WAITING && self.own.front().is_some_and(|own| own.is_read) {
            self.own.pop_front();
        }
        Some(text)
    }

    /// The entry was not appended, or this is not known: it is published again.
    pub(crate) fn failed(&mut self, id: &Id) {
        let Some(index) = self.own.iter().position(|own| own.id == *id && !own.is_read) else { return };
        if let Some(own) = self.own.remove(index) {
            own.items.into_iter().rev().for_each(|pending| self.waiting.push_front(pending));
        }
    }

    /// Nothing waits to be published, and all that was published is read.
    pub(crate) fn has_published_all(&self) -> bool {
        self.pending().next().is_none()
    }

    /// Whether the items up to this number are in the log and were read.
    pub(crate) fn has_published(&self, number: u64) -> bool {
        self.numbered().all(|item| item.number > number)
    }

    /// How long the oldest item has waited since it was sent for the first time.
    pub(crate) fn waits_for(&self, now: Instant) -> Duration {
        let since = self.numbered().filter_map(|item| item.since).min();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// How much is not known to be in the log yet.
    pub(crate) fn waiting(&self) -> usize {
        self.pending().count()
    }

    /// Our own entries may be lost.
    pub(super) fn publish_again(&mut self) {
        let own: Vec<_> = self.own.drain(..).flat_map(|own| own.items).collect();
        own.into_iter().rev().for_each(|pending| self.waiting.push_front(pending));
        self.publish([]);
    }

    /// An entry was read. True if it is our own.
    pub(super) fn has_read(&mut self, id: &Id) -> bool {
        let own = self.own.iter_mut().find(|own| own.id == *id);
        own.map(|own| own.is_read = true).is_some()
    }

    /// All was read that was in the log then: publishes again what is lost, and forgets what is old.
    pub(super) fn look_after(&mut self, sent: Instant) {
        let age = |own: &Own| sent.saturating_duration_since(own.at);
        let is_lost = |own: &Own| !own.is_read && age(own) > LOST_AFTER;
        while let Some(id) = self.own.iter().find(|own| is_lost(own)).map(|own| own.id) {
            self.failed(&id);
        }
        while self.own.front().is_some_and(|own| own.is_read && age(own) > OWN_FOR) {
            self.own.pop_front();
        }
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.numbered().map(|item| &item.pending)
    }

    fn numbered(&self) -> impl Iterator<Item = &Numbered> {
        let unread = self.own.iter().filter(|own| !own.is_read);
        unread.flat_map(|own| &own.items).chain(&self.waiting)
    }
}

impl Numbered {
    /// One that evicts all takes the place of others: it ends no fewer JWTs, and none of them counts as published before.
    fn all(others: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut others = others.into_iter();
        let mut all = others.next()?;
        let mut at = all.pending.item.at();
        for other in others {
            at = at.max(other.pending.item.at());
            all.since = all.since.or(other.since);
        }
        let item = Item::Evict { what: Evict::All, is_soft: false, at };
        Some(Self { pending: Pending { item, evicts: vec![Evict::All] }, ..all })
    }
}
