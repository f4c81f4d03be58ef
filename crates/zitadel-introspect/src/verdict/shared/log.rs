//! What an instance knows of the log that all instances share.
//!
//! A state machine without input and output: what the time is, and what a read has brought, the caller says.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use aws_lc_rs::digest;

use crate::{
    seal::{Name, Sealed, Seals, Unopened},
    store::{Id, Page, Place},
    verdict::{
        Active,
        cache::bounded::Key,
        ends::Ends,
        evict::Evict,
        shared::item::{Heartbeat, Item, MOST_ITEMS, decode, encode},
    },
};

/// Who has not read the log to its end for so long does not know enough: it is blind.
const BLIND_AFTER: Duration = Duration::from_millis(700);
/// The hash of a heartbeat goes back so many entries.
const HASHED: usize = 1024;
/// So many ids are remembered: a heartbeat may be some entries older than what was read.
const MOST_IDS: usize = 4 * HASHED;
/// Our own entries are published again for so long, if the log has lost them.
const OWN_FOR: Duration = Duration::from_secs(75);
/// An entry of ours that is not read after so long is lost.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// So many items wait to be published; beyond this, one that evicts all waits in their place.
const MOST_WAITING: usize = 10_000;
/// The version of the table of events: a reader takes no heartbeat of an older one.
pub(crate) const VERSION: u32 = 1;

#[derive(Default)]
pub(crate) struct Log {
    /// Until where the log is read; `None` before the first read.
    place: Option<Place>,
    /// The id of the entry there; `None` where it is not known.
    tail: Option<Id>,
    /// The ids of the newest entries that were read; the last one is that of `place`.
    ids: VecDeque<Id>,
    /// What lies before that entry is not known.
    low: u64,
    /// What was evicted, by the number of the entry.
    ends: Ends,
    /// When the last read was sent that came to the end, and whose evictions are done.
    caught_up_at: Option<Instant>,
    /// Why the newest entry could not be opened.
    unopened: Option<Unopened>,
    /// The newest heartbeat that counted.
    heard: Option<Heard>,
    /// The counter of the newest heartbeat of this epoch, whether it counted or not.
    counter: u64,
    /// Our own entries that may be read yet, or were read a while ago.
    own: VecDeque<Own>,
    waiting: VecDeque<Pending>,
}

/// A heartbeat that counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    /// No event was missed for verdicts that were asked for at this entry or later.
    pub(crate) from: u64,
    /// As in [`Heartbeat`].
    pub(crate) since: i64,
    pub(crate) cursor: i64,
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

/// What a read has brought.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    /// What other instances have published, to be applied now.
    pub(crate) items: Vec<Item>,
    /// The end of the log is reached.
    pub(crate) is_end: bool,
    /// What was known of the log does not count any more: every verdict must go.
    pub(crate) starts_anew: bool,
    /// Nobody may rely on this history: a new epoch must begin.
    pub(crate) is_broken: bool,
    /// Something could not be opened.
    pub(crate) unopened: Option<Unopened>,
}

/// What a heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Knowledge {
    /// All events up to then are known.
    pub(crate) until: Instant,
    /// Events may have been missed before: what was asked before is not prolonged.
    pub(crate) is_new_stretch: bool,
    /// No event since then was missed, in Unix seconds of the issuer's clock.
    pub(crate) since: i64,
}

/// When a read was sent, by our clocks, and the store's clock in its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) sent: Instant,
    pub(crate) wall: Duration,
    pub(crate) store: Duration,
}

impl Log {
    /// Until where the log is read. A question notes it before it is sent.
    pub(crate) fn place(&self) -> Place {
        self.place.unwrap_or_default()
    }

    /// The id of the entry there.
    pub(crate) fn tail(&self) -> Option<Id> {
        self.tail
    }

    /// Takes what a read has brought. `evicts` says what an item evicts here.
    pub(crate) fn read(
        &mut self,
        page: &Page,
        seals: &Seals,
        evicts: impl Fn(&Item) -> Vec<Evict>,
    ) -> Brought {
        let Some(place) = self.place.filter(|place| place.epoch == page.end.epoch) else {
            let starts_anew = self.place.is_some();
            self.begin(page.end.epoch);
            // The entries come with the next read: this one asked for another epoch.
            return Brought { starts_anew, ..Brought::default() };
        };
        let is_other_tail =
            page.end.number == place.number && self.tail.is_some_and(|tail| tail != page.tail);
        if page.end.number < place.number || is_other_tail {
            return self.broken();
        }
        let mut brought = Brought::default();
        for (index, entry) in page.entries.iter().enumerate() {
            let place = self.place();
            if entry.number > place.number + 1 && index == 0 {
                // The log keeps its newest entries only.
                self.skip_to(Place { number: entry.number - 1, ..place }, None);
                brought.starts_anew = true;
            } else if entry.number != place.number + 1 || self.tail.is_some_and(|tail| tail != entry.before) {
                return self.broken();
            }
            self.advance(entry.number, entry.id);
            match seals.open(Sealed::Entry(entry.id), &entry.sealed) {
                Ok(text) => {
                    self.unopened = None;
                    let items = decode(&text);
                    for what in items.iter().flat_map(&evicts) {
                        self.ends.record(&what, number(entry.number));
                    }
                    if !self.is_own(&entry.id) {
                        brought.items.extend(items);
                    }
                }
                Err(problem) => {
                    // Anything may have been evicted.
                    self.low = entry.number;
                    self.unopened = Some(problem);
                    brought.unopened = Some(problem);
                }
            }
        }
        if page.entries.is_empty() && page.end.number > self.place().number {
            // The store has dropped the entries themselves.
            self.skip_to(page.end, Some(page.tail));
            brought.starts_anew = true;
        }
        brought.is_end = self.place().number >= page.end.number;
        brought
    }

    /// The end of the log was reached by a read that was sent then, and all that it has brought is done.
    pub(crate) fn caught_up(&mut self, sent: Instant) {
        self.caught_up_at = self.caught_up_at.max(Some(sent));
        // An entry of ours that is not there was lost.
        let is_lost = |own: &Own| !own.is_read && sent.saturating_duration_since(own.at) > LOST_AFTER;
        while let Some(id) = self.own.iter().find(|own| is_lost(own)).map(|own| own.id) {
            self.failed(&id);
        }
        let is_over = |own: &Own| own.is_read && sent.saturating_duration_since(own.at) > OWN_FOR;
        while self.own.front().is_some_and(is_over) {
            self.own.pop_front();
        }
    }

    /// Whether the log is not known well enough to rely on it.
    pub(crate) fn is_blind(&self, now: Instant) -> bool {
        self.unopened.is_some() || self.is_behind(now)
    }

    /// Whether the newest entry could not be opened.
    pub(crate) fn is_unopened(&self) -> bool {
        self.unopened.is_some()
    }

    /// Whether the end of the log was not reached for a while.
    pub(crate) fn is_behind(&self, now: Instant) -> bool {
        let is_old = |at: Instant| now.saturating_duration_since(at) > BLIND_AFTER;
        self.caught_up_at.is_none_or(is_old)
    }

    /// What a heartbeat says to whom the table of events, and the claims that are followed, are enough. `None` if it does
    /// not count, and `Err` if it belongs to another history.
    pub(crate) fn hear(
        &mut self,
        beat: &Heartbeat,
        times: Times,
        needs_claims: bool,
    ) -> Result<Option<Knowledge>, OtherHistory> {
        let place = self.place();
        if beat.epoch != place.epoch || beat.number > place.number || beat.counter <= self.counter {
            return Ok(None);
        }
        let Some(hash) = self.hash(beat.number) else { return Ok(None) };
        if hash != beat.hash {
            return Err(OtherHistory);
        }
        self.counter = beat.counter;
        if beat.number >= self.low {
            // Something newer than what could not be opened does open.
            self.unopened = None;
        }
        let is_enough = beat.version >= VERSION && (beat.follows_claims || !needs_claims);
        if !is_enough {
            return Ok(None);
        }
        let since_poll = times.store.saturating_sub(Duration::from_millis(beat.time));
        let by_our_clock = times.wall.saturating_sub(Duration::from_millis(beat.wall));
        let Some(until) = times.sent.checked_sub(since_poll.max(by_our_clock)) else { return Ok(None) };
        let is_new_stretch = self.heard.is_none_or(|heard| heard.from != beat.from);
        self.heard = Some(Heard { from: beat.from, since: beat.since, cursor: beat.cursor });
        // The memory of JWTs is complete from there only if the log still shows all that was published since.
        let since = if self.low <= beat.from { beat.since } else { beat.cursor / 1_000_000 };
        Ok(Some(Knowledge { until, is_new_stretch, since }))
    }

    /// Whether a verdict that was asked for there is still true, as far as the log tells.
    pub(crate) fn vouches(&self, place: Place, key: &Key, active: &Active, now: Instant) -> bool {
        let forgotten = self.ends.lost_until().is_some_and(|lost| number(place.number) < lost);
        let is_known = self.place.is_some_and(|own| own.epoch == place.epoch) && place.number >= self.low;
        if !is_known || forgotten || self.is_blind(now) {
            return false;
        }
        let is_match = |what: &Evict| what.may_concern(key, active);
        !self.ends.any_behind(number(place.number), &active.claims, active.name(), is_match)
            && !self.pending().any(|pending| pending.evicts.iter().any(is_match))
    }

    /// Whether events prolong a verdict that was asked for there.
    pub(crate) fn prolongs(&self, place: Place) -> bool {
        self.place().epoch == place.epoch && self.heard.is_some_and(|heard| place.number >= heard.from)
    }

    /// Whether a token of that name was evicted by name.
    pub(crate) fn has_ended(&self, name: &Name) -> bool {
        self.ends.has_name(name)
    }

    pub(crate) fn has_names(&self) -> bool {
        self.ends.has_names()
    }

    /// To be published.
    pub(crate) fn publish(&mut self, items: impl IntoIterator<Item = Pending>) {
        self.waiting.extend(items);
        if self.waiting.len() > MOST_WAITING {
            self.waiting.clear();
            self.waiting.push_back(Pending { item: Item::evict(Evict::All), evicts: vec![Evict::All] });
        }
    }

    /// The text of the next entry to be published, if there is one. It counts as sent until [`failed`](Self::failed) is
    /// called.
    pub(crate) fn next_entry(&mut self, id: Id, now: Instant) -> Option<Vec<u8>> {
        let count = self.waiting.len().min(MOST_ITEMS);
        let items: Vec<_> = self.waiting.drain(..count).collect();
        if items.is_empty() {
            return None;
        }
        let text = encode(&items.iter().map(|pending| pending.item.clone()).collect::<Vec<_>>());
        self.own.push_back(Own { id, items, at: now, is_read: false });
        Some(text)
    }

    /// The entry was not appended, or this is not known: it is published again.
    pub(crate) fn failed(&mut self, id: &Id) {
        let Some(index) = self.own.iter().position(|own| own.id == *id && !own.is_read) else { return };
        if let Some(own) = self.own.remove(index) {
            own.items.into_iter().rev().for_each(|pending| self.waiting.push_front(pending));
        }
    }

    /// The entry is too large: one that evicts all takes its place.
    pub(crate) fn replace_by_all(&mut self, id: &Id) {
        self.own.retain(|own| own.id != *id);
        self.publish([Pending { item: Item::evict(Evict::All), evicts: vec![Evict::All] }]);
    }

    /// Nothing waits to be published, and all that was published is read.
    pub(crate) fn has_published_all(&self) -> bool {
        self.pending().next().is_none()
    }

    /// How much is not known to be in the log yet.
    pub(crate) fn waiting(&self) -> usize {
        self.pending().count()
    }

    /// The hash of the ids of the newest entries up to one; `None` if they are not known.
    pub(crate) fn hash(&self, until: u64) -> Option<[u8; 32]> {
        let behind = usize::try_from(self.place().number.checked_sub(until)?).ok()?;
        let known = self.ids.len().checked_sub(behind)?;
        let wanted = usize::try_from(until).unwrap_or(usize::MAX).min(HASHED);
        let first = known.checked_sub(wanted)?;
        let mut context = digest::Context::new(&digest::SHA256);
        self.ids.range(first..known).for_each(|id| context.update(id));
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Some(hash)
    }

    /// The newest heartbeat that counted.
    pub(crate) fn heard(&self) -> Option<Heard> {
        self.heard
    }

    /// The counter of the next heartbeat.
    pub(crate) fn next_counter(&self) -> u64 {
        self.counter + 1
    }

    fn pending(&self) -> impl Iterator<Item = &Pending> {
        let unread = self.own.iter().filter(|own| !own.is_read);
        unread.flat_map(|own| &own.items).chain(&self.waiting)
    }

    fn is_own(&mut self, id: &Id) -> bool {
        let own = self.own.iter_mut().find(|own| own.id == *id);
        own.map(|own| own.is_read = true).is_some()
    }

    fn advance(&mut self, number: u64, id: Id) {
        if let Some(place) = &mut self.place {
            place.number = number;
        }
        self.tail = Some(id);
        self.ids.push_back(id);
        if self.ids.len() > MOST_IDS {
            self.ids.pop_front();
        }
    }

    /// Another epoch: nothing is known of it.
    fn begin(&mut self, epoch: Id) {
        let place = Place { epoch, number: 0 };
        self.skip_to(place, Some(epoch));
        self.low = 0;
        self.publish_again();
    }

    fn skip_to(&mut self, place: Place, tail: Option<Id>) {
        (self.place, self.tail, self.low) = (Some(place), tail, place.number);
        self.ids.clear();
        self.ends = Ends::default();
        (self.caught_up_at, self.heard, self.unopened, self.counter) = (None, None, None, 0);
    }

    /// The history was changed behind our back.
    fn broken(&mut self) -> Brought {
        self.caught_up_at = None;
        Brought { is_broken: true, starts_anew: true, ..Brought::default() }
    }

    /// Our own entries may be lost.
    fn publish_again(&mut self) {
        let own: Vec<_> = self.own.drain(..).flat_map(|own| own.items).collect();
        own.into_iter().rev().for_each(|pending| self.waiting.push_front(pending));
        self.publish([]);
    }
}

/// A heartbeat that belongs to another history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OtherHistory;

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
