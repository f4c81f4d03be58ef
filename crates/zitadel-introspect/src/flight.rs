//! One question under way for each token, whoever waits for it.
//!
//! A flight is a task of the library's own thread: the first caller hanging up, or the runtime of its worker
//! ending, costs nobody the answer. Who needs a fresher answer than the one under way shares the next.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::sync::oneshot;

use crate::{
    cache::{Held, Key, Refused},
    error::InvalidToken,
    issuer_error::IssuerError,
};

/// What a question found out.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Good(Arc<Held>),
    Bad(Refused),
}

impl Found {
    pub(crate) fn is_inactive(&self) -> bool {
        matches!(self, Self::Bad(Refused { reason: InvalidToken::Inactive, .. }))
    }
}

pub(crate) type Outcome = Result<Found, IssuerError>;
pub(crate) type Waiting = Shared<BoxFuture<'static, Outcome>>;

/// When a question was sent, once it was.
pub(crate) type SentAt = Arc<OnceLock<Instant>>;

/// The questions under way.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<Key, Pair>>);

struct Pair {
    current: Flight,
    next: Option<(Flight, Takeoff)>,
}

#[derive(Clone)]
struct Flight {
    sent_at: SentAt,
    outcome: Waiting,
}

/// What is needed to fly: where to say when it was sent, and what was found.
pub(crate) struct Takeoff {
    pub(crate) sent_at: SentAt,
    pub(crate) found: oneshot::Sender<Outcome>,
}

/// How a caller joins.
pub(crate) enum Joined {
    /// Somebody's question is under way.
    Waiting(Waiting),
    /// This caller is the first: the question is to be flown.
    First(Waiting, Takeoff),
    /// The one under way is too old; the next will do.
    Next(Waiting),
}

impl Flights {
    /// Joins a question that was not sent before `not_before`, or the next one.
    pub(crate) fn join(&self, key: Key, not_before: Option<Instant>) -> Joined {
        let mut flights = self.lock();
        let Some(pair) = flights.get_mut(&key) else {
            let (flight, takeoff) = new_flight();
            let waiting = flight.outcome.clone();
            flights.insert(key, Pair { current: flight, next: None });
            return Joined::First(waiting, takeoff);
        };
        if pair.current.is_fresh(not_before) {
            return Joined::Waiting(pair.current.outcome.clone());
        }
        let (next, _) = pair.next.get_or_insert_with(new_flight);
        Joined::Next(next.outcome.clone())
    }

    /// The question under way, if there is one that was not sent before `not_before`.
    pub(crate) fn under_way(&self, key: &Key, not_before: Option<Instant>) -> Option<Waiting> {
        let flights = self.lock();
        let pair = flights.get(key).filter(|pair| pair.current.is_fresh(not_before))?;
        Some(pair.current.outcome.clone())
    }

    /// The question is answered: the next takes off, if anybody waits for one.
    pub(crate) fn land(&self, key: &Key) -> Option<Takeoff> {
        let mut flights = self.lock();
        let pair = flights.get_mut(key)?;
        let Some((flight, takeoff)) = pair.next.take() else {
            flights.remove(key);
            return None;
        };
        pair.current = flight;
        Some(takeoff)
    }

    /// A flight that ended without landing; who waits is told that the question was lost.
    pub(crate) fn crash(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Pair>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    fn is_fresh(&self, not_before: Option<Instant>) -> bool {
        // One that was not sent yet will be sent later than now.
        let sent_at = self.sent_at.get();
        sent_at.is_none_or(|sent_at| not_before.is_none_or(|not_before| *sent_at > not_before))
    }
}

fn new_flight() -> (Flight, Takeoff) {
    let (found, answer) = oneshot::channel();
    let outcome = answer.map(|answer| answer.unwrap_or(Err(IssuerError::Lost))).boxed().shared();
    let sent_at = SentAt::default();
    (Flight { sent_at: Arc::clone(&sent_at), outcome }, Takeoff { sent_at, found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bearer::AccessToken, cache::Cache};

    #[tokio::test]
    async fn a_flight_that_crashed_is_told_and_flown_anew() {
        let flights = Flights::default();
        let key = Cache::key(&AccessToken::from_text("token").unwrap());
        let Joined::First(waiting, takeoff) = flights.join(key, None) else { panic!("there is none yet") };
        drop(takeoff);
        flights.crash(&key);
        assert!(matches!(waiting.await, Err(IssuerError::Lost)));
        assert!(matches!(flights.join(key, None), Joined::First(..)));
    }
}
