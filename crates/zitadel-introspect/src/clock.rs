//! The time: the system's, or a test's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Two kinds of time: the expiry of tokens uses the wall clock, the age of verdicts uses the monotonic clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    ahead_millis: Option<Arc<AtomicI64>>,
}

/// One reading of the monotonic clock. The wall clock is read only when it is needed, since that costs as much again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    ahead_millis: i64,
}

impl Now {
    /// The same reading, as if it were taken at that instant.
    #[cfg(test)]
    pub(crate) fn at(self, instant: Instant) -> Self {
        Self { instant, ..self }
    }

    /// Unix seconds.
    pub(crate) fn wall(self) -> i64 {
        unix_seconds(self.system_time())
    }

    pub(crate) fn system_time(self) -> SystemTime {
        let distance = Duration::from_millis(self.ahead_millis.unsigned_abs());
        let machine = SystemTime::now();
        if self.ahead_millis < 0 { machine - distance } else { machine + distance }
    }
}

impl Clock {
    /// A clock that a test moves.
    #[cfg(feature = "test-util")]
    pub(crate) fn ahead(millis: Arc<AtomicI64>) -> Self {
        Self { ahead_millis: Some(millis) }
    }

    pub(crate) fn now(&self) -> Now {
        let instant = Instant::now();
        let Some(millis) = &self.ahead_millis else { return Now { instant, ahead_millis: 0 } };
        let ahead_millis = millis.load(Ordering::SeqCst);
        let distance = Duration::from_millis(ahead_millis.unsigned_abs());
        let moved =
            if ahead_millis < 0 { instant.checked_sub(distance) } else { instant.checked_add(distance) };
        Now { instant: moved.unwrap_or(instant), ahead_millis }
    }
}

fn unix_seconds(time: SystemTime) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => seconds(since),
        Err(before) => -seconds(before.duration()),
    }
}

/// A clock that a test moves; [`VerifierBuilder::clock`](crate::VerifierBuilder::clock) gives it to a verifier. The
/// clock also runs by itself. Clones share one clock.
///
/// ```
/// use std::time::Duration;
/// use zitadel_introspect::TestClock;
///
/// let clock = TestClock::new();
/// clock.advance(Duration::from_secs(60));
/// ```
#[cfg(feature = "test-util")]
#[derive(Debug, Clone, Default)]
pub struct TestClock(Arc<AtomicI64>);

#[cfg(feature = "test-util")]
impl TestClock {
    /// A clock that shows the machine's time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the clock `millis` milliseconds ahead of the machine's clock; behind it if `millis` is negative.
    pub fn set_ahead_millis(&self, millis: i64) {
        self.0.store(millis, Ordering::SeqCst);
    }

    pub(crate) fn as_clock(&self) -> Clock {
        Clock::ahead(Arc::clone(&self.0))
    }
}
