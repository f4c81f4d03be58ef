//! Until when the issuer's events are known.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Written by the event feed, read by each request.
///
/// The feed knows all events that happened in an unbroken stretch of time, `from` to `until`. A verdict that was asked for
/// within that stretch, and that no event has ended, was still true at its end.
#[derive(Debug)]
pub(crate) struct FedClock {
    base: Instant,
    /// Nanoseconds since `base`; 0: no event is known.
    until: AtomicU64,
    /// Nanoseconds since `base`; `NOTHING`: no stretch has begun.
    from: AtomicU64,
    /// How many stretches have broken off.
    breaks: AtomicU64,
    /// When the last one did, in nanoseconds since `base`.
    broken_at: AtomicU64,
}

const NOTHING: u64 = u64::MAX;

/// A reading of the [`FedClock`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fed {
    base: Instant,
    until: u64,
    from: u64,
    breaks: u64,
}

impl FedClock {
    pub(crate) fn new(base: Instant) -> Self {
        Self {
            base,
            until: AtomicU64::new(0),
            from: AtomicU64::new(NOTHING),
            breaks: AtomicU64::new(0),
            broken_at: AtomicU64::new(0),
        }
    }

    /// Must be read before the verdict that it is used for is looked up: otherwise an eviction, and the poll that brought
    /// it, may come between the two, and the evicted verdict would count as new.
    ///
    /// `until` is read first: a stretch that breaks in between then has a later `from`, which prolongs nothing. The number
    /// of breaks is read last, and is counted before `from` changes: a verdict that was vouched for before the break then
    /// has an older one.
    #[inline]
    pub(crate) fn read(&self) -> Fed {
        let until = self.until.load(Ordering::Acquire);
        if until == 0 {
            return Fed { base: self.base, until, from: NOTHING, breaks: self.breaks() };
        }
        let from = self.from.load(Ordering::Acquire);
        Fed { base: self.base, until, from, breaks: self.breaks() }
    }

    /// All events up to `until` are known, and all evictions that they cause are done.
    ///
    /// The first call after a [`break_off`](Self::break_off) begins a stretch, which does not reach back before the break.
    pub(crate) fn advance(&self, until: Instant) {
        let until = self.nanos(until);
        // `from` last: as long as it says `NOTHING`, the new `until` prolongs nothing.
        self.until.fetch_max(until, Ordering::AcqRel);
        let from = until.max(self.broken_at.load(Ordering::Acquire));
        let _ = self.from.compare_exchange(NOTHING, from, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Events may have been missed: what was asked before the next stretch begins is never prolonged by it.
    pub(crate) fn break_off(&self, now: Instant) {
        self.broken_at.fetch_max(self.nanos(now), Ordering::AcqRel);
        self.breaks.fetch_add(1, Ordering::AcqRel);
        self.from.store(NOTHING, Ordering::Release);
    }

    /// The age of what is known; `None` if nothing was ever known.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        let until = self.until.load(Ordering::Acquire);
        (until > 0).then(|| now.saturating_duration_since(self.base + Duration::from_nanos(until)))
    }

    /// How many stretches have broken off. Who vouches for a verdict reads it before all else.
    pub(crate) fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.base).as_nanos();
        u64::try_from(since).map_or(NOTHING - 1, |nanos| nanos.clamp(1, NOTHING - 1))
    }
}

impl Fed {
    /// Until when events are known; `None` if none are.
    pub(crate) fn until(self) -> Option<Instant> {
        (self.from != NOTHING).then(|| self.base + Duration::from_nanos(self.until))
    }

    /// The age of what is known now; `None` if nothing is.
    pub(crate) fn age(self, now: Instant) -> Option<Duration> {
        self.until().map(|until| now.saturating_duration_since(until))
    }

    /// When a verdict that was asked for then, and that no event has ended, was last known to be true. `vouched_in`: events
    /// since the question are known although it was sent before the stretch began, as long as so many have broken off.
    #[inline]
    pub(super) fn as_of(self, asked_at: Instant, vouched_in: Option<u64>) -> Instant {
        let is_within = |from: u64| asked_at >= self.base + Duration::from_nanos(from);
        if self.from == NOTHING || !(is_within(self.from) || vouched_in == Some(self.breaks)) {
            return asked_at;
        }
        asked_at.max(self.base + Duration::from_nanos(self.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_what_was_asked_within_the_stretch_is_prolonged() {
        let base = Instant::now();
        let at = |seconds: u32| base + SECOND * seconds;
        let clock = FedClock::new(base);
        let as_of = |asked: u32| clock.read().as_of(at(asked), None);
        assert_eq!((as_of(0), clock.age(at(9))), (at(0), None));
        clock.advance(at(10));
        assert_eq!([as_of(9), as_of(10), as_of(11)], [at(9), at(10), at(11)]);
        clock.advance(at(20));
        assert_eq!([as_of(9), as_of(10), as_of(19), as_of(21)], [at(9), at(20), at(20), at(21)]);
        assert_eq!(clock.age(at(25)), Some(SECOND * 5));
        // An answer that comes late moves nothing back.
        clock.advance(at(15));
        assert_eq!(as_of(10), at(20));
        clock.break_off(at(20));
        assert_eq!([as_of(10), as_of(25)], [at(10), at(25)]);
        clock.advance(at(30));
        assert_eq!([as_of(10), as_of(29), as_of(30)], [at(10), at(29), at(30)]);
        clock.advance(at(40));
        assert_eq!([as_of(29), as_of(30)], [at(29), at(40)]);
        // A later poll may confirm a time before the break: the new stretch begins at the break all the same.
        clock.break_off(at(50));
        clock.advance(at(45));
        assert_eq!([as_of(46), as_of(49)], [at(46), at(49)]);
        clock.advance(at(60));
        assert_eq!([as_of(49), as_of(50)], [at(49), at(60)]);
    }

    #[test]
    fn what_is_vouched_for_is_prolonged_until_the_stretch_breaks() {
        let base = Instant::now();
        let at = |seconds: u32| base + SECOND * seconds;
        let clock = FedClock::new(base);
        let vouched = Some(clock.breaks());
        let as_of = || clock.read().as_of(at(1), vouched);
        assert_eq!(as_of(), at(1), "no event is known");
        clock.advance(at(10));
        assert_eq!((as_of(), clock.read().as_of(at(1), None)), (at(10), at(1)));
        clock.advance(at(20));
        assert_eq!(as_of(), at(20));
        clock.break_off(at(20));
        clock.advance(at(30));
        assert_eq!(as_of(), at(1));
    }

    #[test]
    fn a_reading_across_a_break_prolongs_nothing() {
        let base = Instant::now();
        let at = |seconds: u32| base + SECOND * seconds;
        let clock = FedClock::new(base);
        clock.advance(at(10));
        // As a thread reads `until` before the break and `from` after it.
        let until = clock.read().until;
        clock.break_off(at(10));
        clock.advance(at(30));
        let torn = Fed { until, ..clock.read() };
        assert_eq!([torn.as_of(at(10), None), torn.as_of(at(30), None)], [at(10), at(30)]);
        assert_eq!(torn.as_of(at(10), Some(0)), at(10));
    }
}
