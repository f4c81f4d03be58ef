//! Stops asking an issuer that fails, and notices when it is back.
//!
//! Failures of questions about callers' tokens, and answers that ask us to wait (429), only raise a suspicion, because
//! they may concern one token alone. A probe with a token of our own confirms the suspicion, and only probes close the
//! breaker again. So no caller can open the breaker or keep it open. Each function gets the current time as an
//! argument.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::error::issuer::IssuerError;

/// This many failures in a row raise a suspicion.
const FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// This pause and the pause of discovery together stay far enough below 10 s that the first good answer arrives within
/// 10 s.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// A longer `Retry-After` of the issuer is shortened to this time.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);
/// After a probe has cleared a suspicion, no new suspicion starts a probe within this time.
const CLEARED_FOR: Duration = Duration::from_secs(1);

pub(crate) struct Breaker {
    state: Mutex<State>,
    timeout: Duration,
}

/// The decision about a question.
pub(crate) enum Admission<'a> {
    Go(Admitted<'a>),
    /// The pause is over: a probe decides.
    Probe(Probe),
    Refused(IssuerError),
}

/// A question that was let through.
pub(crate) struct Admitted<'a> {
    breaker: &'a Breaker,
    at: Instant,
}

/// The right to ask with a token of our own.
pub(crate) struct Probe(());

#[derive(Default)]
struct State {
    failures: u32,
    pause: Duration,
    open: Option<Open>,
    probing_since: Option<Instant>,
    cleared_at: Option<Instant>,
}

struct Open {
    until: Instant,
    error: IssuerError,
}

impl Breaker {
    /// `timeout` is the time-out of a question.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { state: Mutex::default(), timeout }
    }

    /// Lets a question through, or says at once why not. After each pause one caller is told to probe first.
    pub(crate) fn admit(&self, now: Instant) -> Admission<'_> {
        let mut state = self.lock();
        let is_probing = state.is_probing(now, self.timeout);
        match &state.open {
            None => Admission::Go(Admitted { breaker: self, at: now }),
            Some(open) if now < open.until || is_probing => Admission::Refused(open.error.clone()),
            Some(_) => {
                state.probing_since = Some(now);
                Admission::Probe(Probe(()))
            }
        }
    }

    /// The error if a question would be refused now. Does not change the state.
    pub(crate) fn refuses(&self, now: Instant) -> Option<IssuerError> {
        let state = self.lock();
        let is_probing = state.is_probing(now, self.timeout);
        state.open.as_ref().filter(|open| now < open.until || is_probing).map(|open| open.error.clone())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    /// Takes in the outcome of a probe: `None` for an answer, whatever is wrong with it.
    pub(crate) fn settle(&self, _probe: Probe, failure: Option<&IssuerError>, now: Instant) {
        let mut state = self.lock();
        let Some(error) = failure.filter(|error| !error.is_an_answer()) else {
            *state = State { cleared_at: Some(now), ..State::default() };
            return;
        };
        state.probing_since = None;
        state.open(now, error);
    }

    fn record(&self, failure: Option<&IssuerError>, now: Instant) -> Option<Probe> {
        let mut state = self.lock();
        // Ignore results of questions that were sent before the breaker opened and, below, failures of our own (queue
        // full, lost).
        if state.open.is_some() {
            return None;
        }
        let Some(error) = failure.filter(|error| !error.is_an_answer()) else {
            state.failures = 0;
            return None;
        };
        if !error.speaks_of_the_issuer() {
            return None;
        }
        state.failures = state.failures.saturating_add(1);
        let is_suspicious = error.retry_after().is_some() || state.failures >= FAILURES;
        let was_cleared = state.cleared_at.is_some_and(|at| now.saturating_duration_since(at) < CLEARED_FOR);
        if !is_suspicious || was_cleared || state.is_probing(now, self.timeout) {
            return None;
        }
        state.probing_since = Some(now);
        Some(Probe(()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A probe ends by its time-out, so a probe that was lost by a panic does not block later probes.
    fn is_probing(&self, now: Instant, timeout: Duration) -> bool {
        self.probing_since.is_some_and(|since| now.saturating_duration_since(since) <= timeout)
    }

    /// Each opening in a row lasts twice as long.
    fn open(&mut self, now: Instant, error: &IssuerError) {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let asked_for = error.retry_after().map(|delay| delay.min(LONGEST_RETRY_AFTER));
        self.open = Some(Open { until: now + asked_for.unwrap_or(self.pause), error: error.clone() });
    }
}

impl Admitted<'_> {
    /// Records the result of the question. If the result is suspicious, the returned probe must check the issuer.
    pub(crate) fn record(self, failure: Option<&IssuerError>, now: Instant) -> Option<Probe> {
        let took = now.saturating_duration_since(self.at);
        // Time that was spent in our own queue says nothing about the issuer.
        let is_ours = matches!(failure, Some(IssuerError::TimedOut)) && took < self.breaker.timeout / 2;
        if is_ours { None } else { self.breaker.record(failure, now) }
    }
}

#[cfg(test)]
#[expect(clippy::unchecked_time_subtraction, reason = "a test may panic")]
mod tests {
    use std::cell::Cell;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);
    const MOMENT: Duration = Duration::from_nanos(1);

    struct World {
        now: Cell<Instant>,
        breaker: Breaker,
    }

    impl World {
        fn new() -> Self {
            Self { now: Cell::new(Instant::now()), breaker: Breaker::new(TIMEOUT) }
        }

        fn advance(&self, time: Duration) {
            self.now.set(self.now.get() + time);
        }

        fn admit(&self) -> Admission<'_> {
            self.breaker.admit(self.now.get())
        }

        fn refuses(&self) -> bool {
            self.breaker.refuses(self.now.get()).is_some()
        }

        fn settle(&self, probe: Probe, failure: Option<&IssuerError>) {
            self.breaker.settle(probe, failure, self.now.get());
        }

        fn failed(&self, error: &IssuerError) -> Option<Probe> {
            let Admission::Go(admitted) = self.admit() else { panic!("it is open") };
            admitted.record(Some(error), self.now.get())
        }

        /// Fails until a probe is asked for, and lets it fail as well.
        fn open(&self) {
            let probe = (0..5).find_map(|_| self.failed(&failure()));
            self.settle(probe.expect("the fifth is suspicious"), Some(&failure()));
        }

        fn is_refused(&self) -> bool {
            matches!(self.admit(), Admission::Refused(_))
        }
    }

    fn failure() -> IssuerError {
        IssuerError::Status { status: 500, retry_after: None }
    }

    fn patience(seconds: u64) -> IssuerError {
        IssuerError::Throttled { retry_after: Some(Duration::from_secs(seconds)) }
    }

    #[test]
    fn four_failures_are_nothing_and_the_fifth_is_looked_into() {
        let world = World::new();
        for _ in 0..4 {
            assert!(world.failed(&failure()).is_none());
        }
        let Admission::Go(answered) = world.admit() else { panic!("it is open") };
        assert!(answered.record(None, world.now.get()).is_none());
        for _ in 0..4 {
            assert!(world.failed(&failure()).is_none(), "an answer begins anew");
        }
        let probe = world.failed(&failure()).expect("the fifth in a row");
        assert!(world.failed(&failure()).is_none(), "one probe at a time");
        assert!(!world.breaker.is_open(), "failures of callers' tokens open nothing");
        world.settle(probe, None);
        assert!(!world.breaker.is_open());
        assert!((0..9).all(|_| world.failed(&failure()).is_none()), "cleared a moment ago");
        world.advance(CLEARED_FOR);
        assert!(world.failed(&failure()).is_some());
    }

    #[test]
    fn while_it_is_open_one_caller_probes_after_each_pause() {
        let world = World::new();
        world.open();
        let mut pause = FIRST_PAUSE;
        for _ in 0..5 {
            assert!(world.is_refused() && world.refuses());
            world.advance(pause - MOMENT);
            assert!(world.is_refused() && world.refuses(), "{pause:?}");
            world.advance(MOMENT);
            assert!(!world.refuses(), "the pause is over");
            let Admission::Probe(probe) = world.admit() else { panic!("nobody probes") };
            assert!(world.is_refused() && world.refuses(), "the others wait for the probe");
            world.settle(probe, Some(&failure()));
            assert!(world.breaker.is_open());
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        world.advance(LONGEST_PAUSE);
        let Admission::Probe(probe) = world.admit() else { panic!("nobody probes") };
        world.settle(probe, Some(&IssuerError::Unusable { problem: "odd" }));
        assert!(!world.breaker.is_open(), "an answer, whatever is wrong with it");
    }

    #[test]
    fn a_probe_that_was_lost_is_followed_by_another() {
        let world = World::new();
        world.open();
        world.advance(FIRST_PAUSE);
        let Admission::Probe(_lost) = world.admit() else { panic!("nobody probes") };
        world.advance(TIMEOUT - MOMENT);
        assert!(world.is_refused());
        world.advance(MOMENT * 2);
        assert!(matches!(world.admit(), Admission::Probe(_)));
    }

    #[test]
    fn a_demand_for_patience_is_looked_into_at_once_and_met_where_a_probe_is_told_the_same() {
        let asks =
            |seconds| IssuerError::Status { status: 503, retry_after: Some(Duration::from_secs(seconds)) };
        for demand in [&patience as &dyn Fn(u64) -> IssuerError, &asks] {
            let world = World::new();
            let probe = world.failed(&demand(7)).expect("it may concern one token alone");
            assert!(!world.breaker.is_open());
            world.settle(probe, None);
            assert!(world.failed(&demand(7)).is_none(), "cleared a moment ago");
            world.advance(CLEARED_FOR);
            for (asked_for, kept) in [(7, 7), (10, 10), (11, 10), (3600, 10)] {
                let probe = world.failed(&demand(9)).expect("long ago");
                world.settle(probe, Some(&demand(asked_for)));
                world.advance(Duration::from_secs(kept) - MOMENT);
                assert!(world.is_refused(), "our own token was told the same");
                world.advance(MOMENT);
                let Admission::Probe(probe) = world.admit() else { panic!("{kept} s are over") };
                world.settle(probe, None);
                world.advance(CLEARED_FOR);
            }
        }
    }

    #[test]
    fn our_own_troubles_count_for_nothing() {
        let world = World::new();
        for error in [IssuerError::Overloaded, IssuerError::Lost] {
            assert!((0..9).all(|_| world.failed(&error).is_none()));
        }
        // A time-out soon after the question was let through: its time went by in our own queue.
        assert!((0..9).all(|_| world.failed(&IssuerError::TimedOut).is_none()));
        let took = |time: Duration| {
            let Admission::Go(admitted) = world.admit() else { panic!("it is open") };
            world.advance(time);
            admitted.record(Some(&IssuerError::TimedOut), world.now.get()).is_some()
        };
        assert!(!(0..9).any(|_| took(TIMEOUT / 2 - MOMENT)));
        assert!((0..9).any(|_| took(TIMEOUT / 2)));
    }
}
