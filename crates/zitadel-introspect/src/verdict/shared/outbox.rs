//! What this instance publishes: until it is in the log, and for a while afterwards.
//!
//! A state machine without input and output.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    store::Id,
    verdict::{
        evict::Evict,
        shared::item::{Item, encode},
    },
};

/// The most bytes of an entry before it is sealed.
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
    waiting: VecDeque<Pending>,
    /// How many items were ever to be published.
    published: u64,
}

/// An item that is to be published, and what it evicts here.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) item: Item,
    pub(crate) evicts: Vec<Evict>,
}

struct Own {
    id: Id,
    items: Vec<Pending>,
    at: Instant,
    is_read: bool,
}

impl Outbox {
    /// To be published. Gives the number of the last one.
    pub(crate) fn publish(&mut self, items: impl IntoIterator<Item = Pending>) -> u64 {
        let before = self.waiting.len();
        self.waiting.extend(items);
        self.published += (self.waiting.len() - before) as u64;
        if self.waiting.len() > MOST_WAITING {
            let all = Pending::all(self.waiting.drain(..));
            self.waiting.push_back(all);
        }
        self.published
    }

    /// The text of the next entry to be published, if there is one. It counts as sent until [`failed`](Self::failed) is
    /// called.
    pub(crate) fn next_entry(&mut self, id: Id, now: Instant) -> Option<Vec<u8>> {
        let (mut text, mut items) = (Vec::new(), Vec::new());
        while let Some(pending) = self.waiting.front() {
            let more = encode(&pending.item);
            if more.len() > MOST_ENTRY_BYTES {
                // Longer than any event that names less than half a thousand users.
                let all = Pending::all(self.waiting.pop_front());
                self.waiting.push_front(all);
                continue;
            }
            if text.len() + more.len() > MOST_ENTRY_BYTES {
                break;
            }
            text.push(if items.is_empty() { b'[' } else { b',' });
            text.extend(more);
            items.extend(self.waiting.pop_front());
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
        self.published.saturating_sub(self.waiting() as u64) >= number
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
        let unread = self.own.iter().filter(|own| !own.is_read);
        unread.flat_map(|own| &own.items).chain(&self.waiting)
    }
}

impl Pending {
    /// One that evicts all takes the place of others, and ends no fewer JWTs.
    fn all(others: impl IntoIterator<Item = Self>) -> Self {
        let at = others.into_iter().filter_map(|pending| pending.item.at()).max();
        let item = Item::Evict { what: Evict::All, is_soft: false, at };
        Self { item, evicts: vec![Evict::All] }
    }
}
