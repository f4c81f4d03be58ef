//! Stops asking an issuer that fails, and notices when it is back.
//!
//! Failures of questions about callers' tokens raise a suspicion and decide nothing: an issuer may fail on one token
//! alone. A probe with a token of our own confirms the suspicion, and only probes close the breaker again. So no caller
//! can open it or keep it open.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{clock::Clock, issuer_error::IssuerError};

/// So many failures in a row are suspicious.
const FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Together with discovery's own far enough below 10 s that the first good answer gets through within them.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// The most that an issuer's `Retry-After` is honoured.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);
/// A suspicion that a probe has cleared is not looked into again within this time.
const CLEARED_FOR: Duration = Duration::from_secs(1);
/// After a probe had a good answer, a demand for patience within this time is looked into first: it may concern one
/// token alone.
const DOUBTED_FOR: Duration = Duration::from_secs(60);

pub(crate) struct Breaker {
    state: Mutex<State>,
    clock: Clock,
    timeout: Duration,
}

/// What becomes of a question.
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
    /// `timeout` is that of a question.
    pub(crate) fn new(timeout: Duration, clock: Clock) -> Self {
        Self { state: Mutex::default(), clock, timeout }
    }

    /// Lets a question through, or says at once why not. After each pause one caller is told to probe first.
    pub(crate) fn admit(&self) -> Admission<'_> {
        let now = self.clock.now().instant;
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

    /// Whether a question would be refused now, without taking part.
    pub(crate) fn refuses(&self) -> Option<IssuerError> {
        let now = self.clock.now().instant;
        let state = self.lock();
        let is_probing = state.is_probing(now, self.timeout);
        state.open.as_ref().filter(|open| now < open.until || is_probing).map(|open| open.error.clone())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    /// What a probe has found out: `None` for an answer, whatever is wrong with it.
    pub(crate) fn settle(&self, _probe: Probe, failure: Option<&IssuerError>) {
        let now = self.clock.now().instant;
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
        // Questions sent before the breaker opened, and our own troubles, change nothing.
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
        let asks_for_patience = error.retry_after().is_some();
        let was_cleared =
            |within| state.cleared_at.is_some_and(|at| now.saturating_duration_since(at) < within);
        if asks_for_patience && matches!(error, IssuerError::Throttled { .. }) && !was_cleared(DOUBTED_FOR) {
            state.open(now, error);
            return None;
        }
        let is_suspicious = asks_for_patience || state.failures >= FAILURES;
        if !is_suspicious || was_cleared(CLEARED_FOR) || state.is_probing(now, self.timeout) {
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
    /// A probe ends by its time-out; one that was lost by a panic does not keep others from probing.
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
    /// Takes in how the question has ended. A suspicion is looked into by the probe that comes back.
    pub(crate) fn record(self, failure: Option<&IssuerError>) -> Option<Probe> {
        let now = self.breaker.clock.now().instant;
        let took = now.saturating_duration_since(self.at);
        // Time that was spent in our own queue says nothing of the issuer.
        let is_ours = matches!(failure, Some(IssuerError::TimedOut)) && took < self.breaker.timeout / 2;
        if is_ours { None } else { self.breaker.record(failure, now) }
    }
}
