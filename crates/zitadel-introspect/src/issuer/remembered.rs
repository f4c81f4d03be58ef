//! A document of the issuer that is fetched when it is first needed: one fetch for all who wait, a pause after a failure,
//! and a fetch in the background while the old document still serves.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::runtime::Handle;

use crate::{clock::Clock, error::issuer::IssuerError};

/// The pause after a failure, doubled at each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Well below 10 s, so that a recovered issuer is used within 10 s.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// When a remembered document is fetched again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Renewal {
    Never,
    /// In the background from this age on. If a caller does not find an entry in the document, the document is fetched
    /// at once, but at most once in `at_most_every`.
    Every {
        age: Duration,
        at_most_every: Duration,
    },
}

/// Where and how a document is fetched.
pub(crate) struct Fetcher<T> {
    pub(crate) handle: Handle,
    pub(crate) clock: Clock,
    pub(crate) timeout: Duration,
    pub(crate) fetch: Box<dyn Fn() -> BoxFuture<'static, Result<T, IssuerError>> + Send + Sync>,
}

/// A document, remembered.
pub(crate) struct Remembered<T>(Arc<Inner<T>>);

struct Inner<T> {
    fetcher: Fetcher<T>,
    renewal: Renewal,
    state: Mutex<State<T>>,
}

struct State<T> {
    document: Option<Arc<T>>,
    fetched_at: Option<Instant>,
    /// Nobody fetches before this instant.
    paused_until: Option<Instant>,
    pause: Duration,
    failure: Option<IssuerError>,
    fetching: Option<Shared<BoxFuture<'static, ()>>>,
}

impl<T: Send + Sync + 'static> Remembered<T> {
    pub(crate) fn new(fetcher: Fetcher<T>, renewal: Renewal) -> Self {
        let state = State {
            document: None,
            fetched_at: None,
            paused_until: None,
            pause: Duration::ZERO,
            failure: None,
            fetching: None,
        };
        Self(Arc::new(Inner { fetcher, renewal, state: Mutex::new(state) }))
    }

    /// The document: remembered, or fetched once for all who wait.
    pub(crate) async fn get(&self) -> Result<Arc<T>, IssuerError> {
        match self.known() {
            Some(document) => Ok(document),
            None => self.fetched().await,
        }
    }

    /// The document, if it was fetched already. An old document is fetched anew in the background.
    pub(crate) fn known(&self) -> Option<Arc<T>> {
        let mut state = self.0.lock();
        let document = state.document.clone()?;
        if self.0.is_old(&state) && state.in_flight().is_none() && self.0.may_fetch(&state) {
            drop(self.begin(&mut state)); // a task of its own: nobody waits for it
        }
        Some(document)
    }

    /// The document after a fetch, if a fetch is allowed now. An error if the newest fetch has failed.
    pub(crate) async fn fetched(&self) -> Result<Arc<T>, IssuerError> {
        let fetching = {
            let mut state = self.0.lock();
            match state.in_flight() {
                Some(fetching) => Some(fetching),
                None if self.0.may_fetch(&state) => Some(self.begin(&mut state)),
                None => None,
            }
        };
        if let Some(fetching) = fetching {
            fetching.await;
        }
        let state = self.0.lock();
        match (&state.failure, &state.document) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(document)) => Ok(Arc::clone(document)),
            (None, None) => Err(IssuerError::Lost),
        }
    }

    fn begin(&self, state: &mut State<T>) -> Shared<BoxFuture<'static, ()>> {
        let inner = Arc::clone(&self.0);
        let fetch = self.0.fetcher.handle.spawn(async move { inner.fetch_and_remember().await });
        let fetching = fetch.map(|_| ()).boxed().shared();
        state.fetching = Some(fetching.clone());
        fetching
    }
}

impl<T> State<T> {
    /// The fetch in flight. A fetch that ended without saying so, by a panic, is over as well.
    fn in_flight(&self) -> Option<Shared<BoxFuture<'static, ()>>> {
        self.fetching.clone().filter(|fetching| fetching.peek().is_none())
    }
}

impl<T> Inner<T> {
    async fn fetch_and_remember(&self) {
        let fetching = (self.fetcher.fetch)();
        let fetched = tokio::time::timeout(self.fetcher.timeout, fetching).await;
        let fetched = fetched.unwrap_or(Err(IssuerError::TimedOut));
        let now = self.fetcher.clock.now().instant;
        let mut state = self.lock();
        state.fetching = None;
        match fetched {
            Ok(document) => {
                state.document = Some(Arc::new(document));
                state.fetched_at = Some(now);
                state.failure = None;
                state.pause = Duration::ZERO;
                state.paused_until = match self.renewal {
                    Renewal::Never => None,
                    Renewal::Every { at_most_every, .. } => now.checked_add(at_most_every),
                };
            }
            Err(error) => {
                if state.document.is_some() {
                    tracing::warn!(
                        error = error.explain(),
                        "a document of the issuer cannot be fetched: the old one stays"
                    );
                }
                state.pause = (state.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                state.paused_until = now.checked_add(state.pause);
                state.failure = Some(error);
            }
        }
    }

    fn is_old(&self, state: &State<T>) -> bool {
        let Renewal::Every { age, .. } = self.renewal else { return false };
        let now = self.fetcher.clock.now().instant;
        state.fetched_at.is_some_and(|at| now.saturating_duration_since(at) >= age)
    }

    fn may_fetch(&self, state: &State<T>) -> bool {
        let now = self.fetcher.clock.now().instant;
        state.paused_until.is_none_or(|until| now >= until)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
