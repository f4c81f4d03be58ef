//! Until when the leader knows the issuer's events: how that is told, and what a reader makes of it.

use std::time::{Duration, Instant};

use crate::{
    store::Id,
    verdict::shared::{
        item::{Hash, Heartbeat, hash},
        log::{Heard, Log},
    },
};

/// The version of the table of events: a reader takes no heartbeat of an older one.
const VERSION: u32 = 1;

/// A stretch of the log in which no event was missed, and its time in Unix seconds of the issuer's clock. Verdicts belong
/// to it that were asked for when `from` was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) epoch: Id,
    pub(crate) from: u64,
    pub(crate) since: i64,
}

/// A poll of the leader: when it began, since 1970 by its clock and by the store's, and its newest event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Poll {
    pub(crate) wall: Duration,
    pub(crate) store: Duration,
    pub(crate) cursor: i64,
    pub(crate) follows_claims: bool,
}

/// The content of a heartbeat.
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

/// A heartbeat that belongs to another history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OtherHistory;

impl Log {
    /// The content of this heartbeat for an instance with this table of events and these followed claims. `None` if it does
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
        if beat.number < self.low {
            // It tells nothing of what could not be read.
            return Ok(None);
        }
        match self.hash(beat.number) {
            Some(hash) if hash == beat.hash => {}
            Some(_) => {
                self.broken = Some(place.epoch);
                return Err(OtherHistory);
            }
            None if !self.adopt(beat) => return Ok(None),
            None => {}
        }
        self.counter = beat.counter;
        // Something newer than what could not be opened does open.
        self.unopened = None;
        let is_enough = beat.version >= VERSION && (beat.follows_claims || !needs_claims);
        if !is_enough {
            return Ok(None);
        }
        let since_poll = times.store.saturating_sub(Duration::from_millis(beat.time));
        let by_our_clock = times.wall.saturating_sub(Duration::from_millis(beat.wall));
        let Some(until) = times.sent.checked_sub(since_poll.max(by_our_clock)) else { return Ok(None) };
        // What lies before `low` is not known.
        let from = beat.from.max(self.low);
        let since = if from == beat.from { beat.since } else { beat.cursor / 1_000_000 };
        let is_new_stretch = self.heard.is_none_or(|heard| heard.from != from);
        self.heard = Some(Heard { from, since, cursor: beat.cursor });
        Ok(Some(Knowledge { until, is_new_stretch, since }))
    }

    /// The beginning of the log was not read: what is known begins with this heartbeat. False if it lies too far back.
    fn adopt(&mut self, beat: &Heartbeat) -> bool {
        let behind =
            self.place().number.checked_sub(beat.number).and_then(|behind| usize::try_from(behind).ok());
        let first = behind.and_then(|behind| self.unhashed.len().checked_sub(behind));
        let (Some(first), true) = (first, self.hashes.is_empty()) else { return false };
        let mut known = beat.hash;
        self.hashes.push_back(known);
        for id in self.unhashed.drain(..).skip(first) {
            known = hash(&[&known, &id]);
            self.hashes.push_back(known);
        }
        self.low = self.low.max(beat.number);
        true
    }

    /// Nobody can tell anything about this log: its beginning is lost, and no heartbeat is known to go on from.
    pub(crate) fn is_headless(&self) -> bool {
        self.hashes.is_empty() && self.place().number > 0
    }

    /// The hash of the epoch and all ids up to an entry; `None` if it is not known.
    pub(crate) fn hash(&self, until: u64) -> Option<Hash> {
        let behind = usize::try_from(self.place().number.checked_sub(until)?).ok()?;
        let last = self.hashes.len().checked_sub(1)?;
        self.hashes.get(last.checked_sub(behind)?).copied()
    }

    /// The next heartbeat of the leader, which knows all events up to a poll, and what they end is in the log. Without a
    /// stretch one begins here. `None` if the log has begun anew.
    pub(crate) fn compose(&self, stretch: Option<Stretch>, poll: Poll) -> Option<Heartbeat> {
        let place = self.place?;
        let here = Stretch { epoch: place.epoch, from: place.number, since: poll.cursor / 1_000_000 };
        let stretch = stretch.unwrap_or(here);
        let hash = self.hash(place.number).filter(|_| stretch.epoch == place.epoch)?;
        Some(Heartbeat {
            epoch: place.epoch,
            number: place.number,
            hash,
            counter: self.counter + 1,
            version: VERSION,
            follows_claims: poll.follows_claims,
            cursor: poll.cursor,
            from: stretch.from,
            since: stretch.since,
            wall: millis(poll.wall),
            time: millis(poll.store),
        })
    }

    /// The stretch that the newest heartbeat tells of.
    pub(crate) fn stretch(&self) -> Option<Stretch> {
        let epoch = self.place().epoch;
        self.heard.map(|heard| Stretch { epoch, from: heard.from, since: heard.since })
    }

    /// The newest event that a heartbeat tells of.
    pub(crate) fn cursor(&self) -> Option<i64> {
        self.heard.map(|heard| heard.cursor)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
