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

#[derive(Default)]
pub(crate) struct Breaker(Mutex<State>);

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
    /// Lets a question through, or says at once why not. After each pause one question probes.
    pub(crate) fn admit(&self) -> Result<(), IssuerError> {
        let mut state = self.lock();
        let now = Instant::now();
        match &mut state.open {
            None => Ok(()),
            Some(open) if now < open.until || open.is_probing(now) => Err(open.error.clone()),
            Some(open) => {
                open.probing_since = Some(now);
                Ok(())
            }
        }
    }

    pub(crate) fn record(&self, failure: Option<&IssuerError>) {
        let mut state = self.lock();
        // An answer that arrived says that the issuer is there, whatever is wrong with it.
        let Some(error) = failure.filter(|error| !error.is_an_answer()) else {
            *state = State::default();
            return;
        };
        let now = Instant::now();
        let was_probe = state.open.as_mut().map(|open| open.probing_since.take().is_some());
        // Questions that were under way when it opened, and troubles of our own, prolong nothing.
        if was_probe == Some(false) || !error.speaks_of_the_issuer() {
            return;
        }
        let asked_for = error.retry_after().map(|delay| delay.min(LONGEST_RETRY_AFTER));
        state.failures = state.failures.saturating_add(1);
        if asked_for.is_none() && was_probe.is_none() && state.failures < FAILURES {
            return;
        }
        let doubled = if was_probe.is_some() { state.pause * 2 } else { FIRST_PAUSE };
        state.pause = doubled.clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let until = now + asked_for.unwrap_or(state.pause);
        state.open = Some(Open { until, error: error.clone(), probing_since: None });
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
