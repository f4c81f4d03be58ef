//! Stops asking an issuer that fails, and notices when it is back.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::issuer_error::IssuerError;

/// So many failures in a row open the breaker.
const FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Together with discovery's own far enough below 10 s that the first good answer gets through within them.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// The most that an issuer's `Retry-After` is honoured.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);

pub(crate) struct Breaker {
    state: Mutex<State>,
    timeout: Duration,
}

/// A question that was let through. Dropped without an answer, it was cut off by its time-out.
pub(crate) struct Admitted<'a> {
    breaker: &'a Breaker,
    at: Instant,
    is_probe: bool,
    is_answered: bool,
}

#[derive(Default)]
struct State {
    failures: u32,
    pause: Duration,
    open: Option<Open>,
}

struct Open {
    until: Instant,
    error: IssuerError,
    probing_since: Option<Instant>,
}

impl Open {
    /// A probe that was lost does not keep others from probing.
    fn is_probing(&self, now: Instant) -> bool {
        self.probing_since.is_some_and(|since| now < since + LONGEST_PAUSE)
    }
}

impl Breaker {
    /// `timeout` is that of a question.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { state: Mutex::default(), timeout }
    }

    /// Lets a question through, or says at once why not. After each pause one question probes.
    pub(crate) fn admit(&self) -> Result<Admitted<'_>, IssuerError> {
        let mut state = self.lock();
        let at = Instant::now();
        let is_probe = match &mut state.open {
            None => false,
            Some(open) if at < open.until || open.is_probing(at) => return Err(open.error.clone()),
            Some(open) => {
                open.probing_since = Some(at);
                true
            }
        };
        Ok(Admitted { breaker: self, at, is_probe, is_answered: false })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    fn record(&self, is_probe: bool, failure: Option<&IssuerError>) {
        let mut state = self.lock();
        // An answer that arrived says that the issuer is there, whatever is wrong with it.
        let Some(error) = failure.filter(|error| !error.is_an_answer()) else {
            *state = State::default();
            return;
        };
        if let Some(open) = state.open.as_mut().filter(|_| is_probe) {
            open.probing_since = None;
        }
        // Questions that were under way when it opened, and troubles of our own, prolong nothing.
        if (state.open.is_some() && !is_probe) || !error.speaks_of_the_issuer() {
            return;
        }
        let asked_for = error.retry_after().map(|delay| delay.min(LONGEST_RETRY_AFTER));
        state.failures = state.failures.saturating_add(1);
        if asked_for.is_none() && !is_probe && state.failures < FAILURES {
            return;
        }
        let doubled = if is_probe { state.pause * 2 } else { FIRST_PAUSE };
        state.pause = doubled.clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let until = Instant::now() + asked_for.unwrap_or(state.pause);
        state.open = Some(Open { until, error: error.clone(), probing_since: None });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted<'_> {
    pub(crate) fn record(mut self, failure: Option<&IssuerError>) {
        self.is_answered = true;
        self.breaker.record(self.is_probe, failure);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        // Time that was spent in our own queue says nothing of the issuer.
        let is_its_fault = self.at.elapsed() >= self.breaker.timeout / 2;
        let error = if is_its_fault { IssuerError::TimedOut } else { IssuerError::Lost };
        self.breaker.record(self.is_probe, Some(&error));
    }
}
