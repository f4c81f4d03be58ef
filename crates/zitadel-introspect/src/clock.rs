//! What the time is: the system's, or a test's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Both kinds of time: ends of tokens are told by the wall clock, ages of verdicts by one that is never set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    ahead_millis: Option<Arc<AtomicI64>>,
}

/// One reading of both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Unix seconds.
    pub(crate) wall: i64,
    pub(crate) instant: Instant,
}

impl Clock {
    /// A clock that a test moves.
    pub(crate) fn ahead(millis: Arc<AtomicI64>) -> Self {
        Self { ahead_millis: Some(millis) }
    }

    pub(crate) fn now(&self) -> Now {
        match &self.ahead_millis {
            None => Now { wall: unix_seconds(SystemTime::now()), instant: Instant::now() },
            Some(millis) => moved(millis.load(Ordering::SeqCst)),
        }
    }
}

fn moved(millis: i64) -> Now {
    let distance = Duration::from_millis(millis.unsigned_abs());
    let (wall, instant) = (SystemTime::now(), Instant::now());
    if millis < 0 {
        let instant = instant.checked_sub(distance).unwrap_or(instant);
        Now { wall: unix_seconds(wall - distance), instant }
    } else {
        Now { wall: unix_seconds(wall + distance), instant: instant + distance }
    }
}

fn unix_seconds(time: SystemTime) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => seconds(since),
        Err(before) => -seconds(before.duration()),
    }
}
