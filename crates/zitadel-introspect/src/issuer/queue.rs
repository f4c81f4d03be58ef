//! How many questions are sent at once, and how many wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::issuer::IssuerError;

const AT_ONCE: usize = 32;
const WAITING: usize = 1024;

/// Limits how many questions are in flight, and how many wait.
pub(crate) struct Queue {
    at_once: Semaphore,
    waiting: AtomicUsize,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { at_once: Semaphore::new(AT_ONCE), waiting: AtomicUsize::new(0) }
    }

    pub(crate) async fn take(&self) -> Result<SemaphorePermit<'_>, IssuerError> {
        if let Ok(turn) = self.at_once.try_acquire() {
            return Ok(turn);
        }
        let _place = Place::take(&self.waiting)?;
        self.at_once.acquire().await.map_err(|_| IssuerError::Lost)
    }
}

/// A place in the queue, given back also when the wait is cut short.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, IssuerError> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(waiting);
        (before < WAITING).then_some(place).ok_or(IssuerError::Overloaded)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
