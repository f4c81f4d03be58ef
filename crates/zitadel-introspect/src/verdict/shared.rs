//! What all instances share: evictions, and verdicts that one of them has asked for.
//!
//! A cache hit touches none of this. A miss may take a verdict from the store if the store answers at once.

pub(crate) mod heartbeat;
pub(crate) mod item;
pub(crate) mod log;
#[cfg(test)]
mod model;
pub(crate) mod outbox;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use tokio::sync::Notify;

use crate::{
    clock::Now,
    seal::{Name, Sealed, Seals},
    store::{Id, Place, SharedStore, StoreError},
    token::AccessToken,
    verdict::{
        Active,
        shared::{item::SharedVerdict, log::Log, outbox::Pending},
    },
};

/// A miss waits for the store for so long, and then asks the issuer.
const TAKE_TIMEOUT: Duration = Duration::from_millis(30);
/// After a take that was too slow, none is tried for so long: a miss must not wait for a slow store again and again.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// The longest time of any other operation.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_millis(300);
/// Two instances whose clocks agree with that of the store are at most so far apart.
const CLOCKS_APART: Duration = Duration::from_secs(2);
/// A leader with another secret is there for so long after its last heartbeat.
const FOREIGN_FOR: Duration = Duration::from_secs(10);
/// Our clock may be so far away from that of the store.
const MOST_APART: Duration = Duration::from_secs(1);
/// Larger answers are not shared, in bytes.
const MOST_ANSWER: usize = 16 * 1024;
/// A verdict that is taken in place of a renewal must be younger by so much.
pub(super) const YOUNGER: Duration = Duration::from_secs(1);

/// What an engine shares with those of other instances.
pub(crate) struct Peers {
    pub(crate) store: Arc<dyn SharedStore>,
    pub(crate) seals: Seals,
    pub(crate) shares_verdicts: bool,
    pub(crate) needs_claims: bool,
    /// Names this instance.
    pub(crate) who: Id,
    log: Mutex<Log>,
    /// Our clock does not agree with that of the store.
    clocks_differ: AtomicBool,
    /// Wakes who publishes, and who reads.
    pub(crate) to_publish: Notify,
    pub(crate) to_read: Notify,
    /// Wakes who waits until the log is read.
    pub(crate) has_read: Notify,
    failure: Mutex<Option<StoreError>>,
    /// Why the last entry was not appended.
    unpublished: Mutex<Option<StoreError>>,
    /// The newest heartbeat that did not open.
    foreign: Mutex<Option<(Vec<u8>, Instant)>>,
    /// No verdict is taken before that.
    slow_until: Mutex<Option<Instant>>,
}

/// How the shared store of a verifier fares, from [`Verifier::shared`](crate::Verifier::shared).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SharedStatus {
    /// The log of evictions is not known to its end: verdicts lapse as without a store, and none are shared.
    pub is_blind: bool,
    /// The newest entry of the log, or the newest heartbeat, does not open: it was changed, or sealed with a secret that is
    /// not ours.
    pub is_unopened: bool,
    /// Our clock is more than a second away from the store's: no verdicts are shared.
    pub clocks_differ: bool,
    /// Why the last operation failed; `None` if it did not.
    pub failure: Option<StoreError>,
    /// So many evictions have not reached the other instances yet.
    pub waiting: usize,
    /// How long the oldest of them has waited.
    pub waiting_for: Duration,
}

impl Peers {
    pub(crate) fn new(
        store: Arc<dyn SharedStore>,
        seals: Seals,
        shares_verdicts: bool,
        needs_claims: bool,
    ) -> Self {
        Self {
            store,
            seals,
            shares_verdicts,
            needs_claims,
            who: random_id(),
            log: Mutex::default(),
            clocks_differ: AtomicBool::default(),
            to_publish: Notify::new(),
            to_read: Notify::new(),
            has_read: Notify::new(),
            failure: Mutex::default(),
            unpublished: Mutex::default(),
            foreign: Mutex::default(),
            slow_until: Mutex::default(),
        }
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be told to the other instances. Called before the eviction is done here: a verdict that is taken in between would
    /// outlive it.
    pub(crate) fn publish(&self, items: impl IntoIterator<Item = Pending>) -> u64 {
        let number = self.log().outbox.publish(items);
        self.to_publish.notify_one();
        number
    }

    /// Remembers a heartbeat that does not open. True if it is another one than before.
    pub(crate) fn see_foreign(&self, sealed: &[u8], now: Instant) -> bool {
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = foreign.as_ref().is_none_or(|(known, _)| known != sealed);
        if is_new {
            *foreign = Some((sealed.to_vec(), now));
        }
        is_new
    }

    /// Whether another instance leads with a secret that is not ours.
    pub(crate) fn is_foreign(&self, now: Instant) -> bool {
        let foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        foreign.as_ref().is_some_and(|(_, at)| now.saturating_duration_since(*at) < FOREIGN_FOR)
    }

    pub(crate) fn set_clocks_differ(&self, differ: bool) -> bool {
        self.clocks_differ.swap(differ, Ordering::Relaxed)
    }

    /// An operation of the store, within its time.
    pub(crate) async fn within<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let outcome = tokio::time::timeout(STORE_TIMEOUT, operation).await;
        let outcome =
            outcome.unwrap_or_else(|_| Err(StoreError::new("the store did not answer within 300 ms")));
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = outcome.as_ref().err().cloned();
        outcome
    }

    /// Why the last operation failed.
    fn failure(&self) -> Option<StoreError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers why an entry was not appended.
    pub(crate) fn set_unpublished(&self, error: Option<StoreError>) {
        *self.unpublished.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Why the last entry was not appended.
    pub(crate) fn unpublished(&self) -> Option<StoreError> {
        self.unpublished.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn status(&self, now: Instant) -> SharedStatus {
        let log = self.log();
        SharedStatus {
            is_blind: log.is_blind(now),
            is_unopened: log.unopened().is_some() || self.is_foreign(now),
            clocks_differ: self.clocks_differ.load(Ordering::Relaxed),
            failure: self.unpublished().or(self.failure()),
            waiting: log.outbox.waiting(),
            waiting_for: log.outbox.waits_for(now),
        }
    }

    /// The name of a token.
    pub(crate) fn name(&self, token: &AccessToken) -> Name {
        self.seals.name(token.as_bytes())
    }

    /// Whether a token was evicted by its name: a JWT is then not verified locally.
    pub(crate) fn has_ended(&self, token: &AccessToken) -> bool {
        self.log().has_names() && {
            let name = self.name(token);
            self.log().has_ended(&name)
        }
    }

    /// Whether our clock and the store's are too far apart, by the clocks when a read was sent and answered.
    pub(crate) fn are_apart(sent: Duration, took: Duration, store: Duration) -> bool {
        // The store has read its clock some time in between.
        (sent + took / 2).abs_diff(store) > MOST_APART + took / 2
    }

    pub(super) fn may_share(&self, now: Instant) -> bool {
        self.shares_verdicts && !self.clocks_differ.load(Ordering::Relaxed) && !self.log().is_blind(now)
    }

    /// A place for the answer to a question that is sent after this; `None` if it cannot be shared.
    pub(super) fn place(&self, now: Now) -> Option<Asked> {
        let at = now.system_time().duration_since(UNIX_EPOCH).ok()?;
        self.may_share(now.instant).then(|| Asked { at, place: self.log().place() })
    }

    /// Puts a verdict of the issuer where the other instances find it.
    pub(super) async fn put(&self, asked: Asked, active: &Active, lifetime: Duration, now: Instant) {
        let Some(name) = active.name().filter(|_| self.may_share(now)) else { return };
        let answer = active.claims.document();
        if answer.len() > MOST_ANSWER {
            return;
        }
        let verdict = SharedVerdict {
            asked_at: asked.at,
            place: asked.place,
            is_told_by_events: active.is_told_by_events(),
            answer: answer.to_owned(),
        };
        let Some(sealed) = self.seals.seal(Sealed::Verdict(*name), &verdict.encode()) else { return };
        // A verdict that is not put is asked for again: nothing is lost.
        let _ = self.within(self.store.put(self.seals.log_id(), &name.0, &sealed, lifetime)).await;
    }

    pub(super) async fn find(&self, name: Name, now: Instant) -> Option<SharedVerdict> {
        if self.slow_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until) {
            return None;
        }
        let finding = self.store.take(self.seals.log_id(), &name.0);
        let Ok(found) = tokio::time::timeout(TAKE_TIMEOUT, finding).await else {
            let until = now.checked_add(SLOW_FOR);
            *self.slow_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
            return None;
        };
        let sealed = found.ok()??;
        match self.seals.open(Sealed::Verdict(name), &sealed) {
            Ok(text) => SharedVerdict::decode(&text),
            Err(problem) => {
                tracing::warn!(?problem, "a shared verdict does not open: the issuer is asked");
                None
            }
        }
    }
}

/// When a question was sent, for other instances.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    at: Duration,
    place: Place,
}

/// When a shared verdict was asked for, at the latest; `None` if that is in the future.
pub(super) fn asked_at(asked_at: Duration, now: Instant, wall: Duration) -> Option<Instant> {
    now.checked_sub((wall + CLOCKS_APART).checked_sub(asked_at)?)
}

pub(crate) fn random_id() -> Id {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).expect("the operating system has random bytes");
    id
}
