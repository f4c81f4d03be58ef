//! Readiness for orchestrators: whether this instance can serve requests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{sync::Mutex, time::timeout};
use utoipa::ToSchema;
use zitadel_introspect::Verifier;

use crate::store::Store;

/// How long an answer is cached, so that many requests do not load issuer and database.
const FRESH: Duration = Duration::from_secs(2);
/// Evictions that wait for longer do not reach the other instances.
const STUCK: Duration = Duration::from_secs(1);
const DATABASE_TIMEOUT: Duration = Duration::from_secs(3);

/// What is ready and what is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are those of the answer")]
pub(crate) struct Ready {
    /// Whether nothing is missing.
    pub(crate) ready: bool,
    /// What is missing.
    pub(crate) missing: Vec<Missing>,
    /// Whether ZITADEL's events are read; absent without an event feed. An instance is ready either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event_feed: Option<Feed>,
    /// What does not work as it should; absent if there is nothing. An instance is ready either way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) degraded: Vec<Degraded>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Degraded {
    /// The store of all instances: revocation counts after the time of the cache at the latest.
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Feed {
    /// A revoked token is refused within a second.
    Current,
    /// A revoked token works for as long as without an event feed.
    Interrupted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Missing {
    /// The database gives no answer: tasks answer 503.
    Database,
    /// The issuer has given no usable answer lately: tokens that are not known yet answer 503.
    Issuer,
    /// The breaker is open: after repeated failures no introspection requests are sent for a moment.
    Breaker,
}

/// Asks database and issuer, at most once in two seconds.
#[derive(Debug)]
pub struct Readiness {
    verifier: Verifier,
    store: Arc<dyn Store>,
    last: Mutex<Option<Last>>,
}

#[derive(Debug, Clone)]
struct Last {
    at: Instant,
    answers: u64,
    ready: Ready,
}

impl Readiness {
    /// For a verifier and a store.
    #[must_use]
    pub fn new(verifier: Verifier, store: Arc<dyn Store>) -> Self {
        Self { verifier, store, last: Mutex::new(None) }
    }

    pub(crate) async fn look(&self) -> Ready {
        let mut last = self.last.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.at.elapsed() < FRESH) {
            return last.ready.clone();
        }
        let answers_before = last.as_ref().map(|last| last.answers);
        let (database, issuer) = tokio::join!(self.database(), self.issuer(answers_before));
        let breaker = self.verifier.stats().breaker_open.then_some(Missing::Breaker);
        let missing: Vec<_> = [database, issuer, breaker].into_iter().flatten().collect();
        let feed = self.verifier.event_feed();
        let event_feed = feed.map(|feed| if feed.is_current { Feed::Current } else { Feed::Interrupted });
        let is_degraded = self
            .verifier
            .shared()
            .is_some_and(|shared| shared.is_blind || shared.clocks_differ || shared.waiting_for > STUCK);
        let degraded = is_degraded.then_some(Degraded::Shared).into_iter().collect();
        let ready = Ready { ready: missing.is_empty(), missing, event_feed, degraded };
        *last = Some(Last { at: Instant::now(), answers: self.answers(), ready: ready.clone() });
        ready
    }

    async fn database(&self) -> Option<Missing> {
        let check = timeout(DATABASE_TIMEOUT, self.store.check()).await;
        (!matches!(check, Ok(Ok(())))).then_some(Missing::Database)
    }

    /// An issuer that has answered a caller since the last look need not be asked.
    async fn issuer(&self, answers_before: Option<u64>) -> Option<Missing> {
        if answers_before.is_some_and(|before| self.answers() > before) {
            return None;
        }
        self.verifier.check().await.is_err().then_some(Missing::Issuer)
    }

    fn answers(&self) -> u64 {
        let stats = self.verifier.stats();
        stats.active + stats.inactive
    }
}
