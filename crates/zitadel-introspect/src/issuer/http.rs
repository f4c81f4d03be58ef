//! HTTP to the issuer: one pool of connections, and a second attempt if a connection does not answer.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};
use http::{HeaderName, header::ACCEPT};
use reqwest::Response;
use tokio::{sync::watch, time};
use url::Url;

use crate::{
    clock::Clock,
    error::issuer::{IssuerError, is_broken_connection},
    issuer::{
        answer::{self, send_error},
        connector::Connector,
        name::{Issuer, is_loopback},
    },
    random,
};

/// Names the instance where the address does not (ZITADEL's `InstanceHostHeaders`).
pub(crate) const INSTANCE_HOST: HeaderName = HeaderName::from_static("x-zitadel-instance-host");
/// Names the public origin's host (ZITADEL's `PublicHostHeaders`).
pub(crate) const PUBLIC_HOST: HeaderName = HeaderName::from_static("x-zitadel-public-host");

/// A pool is not replaced twice within this time: otherwise a slow issuer would get every question twice.
const POOL_REST: Duration = Duration::from_secs(5);

/// The way to the issuer.
#[derive(Debug)]
pub(crate) struct Way {
    /// The issuer's own origin, or the origin of `connect_to`.
    pub(crate) origin: Url,
    /// The origin is not the issuer's own.
    pub(crate) elsewhere: bool,
    pub(crate) needs_https: bool,
    pub(crate) allow_http: bool,
}

/// Asks the issuer over HTTP.
pub(crate) struct HttpClient {
    way: Way,
    connector: Connector,
    max_answer_bytes: usize,
    /// After this time without an answer a second attempt is made beside the first.
    patience: Duration,
    clock: Clock,
    pool: Mutex<Pool>,
}

/// The connections of one client. The whole pool is replaced, since a dead connection is seldom the only one.
#[derive(Clone)]
struct Pool {
    client: reqwest::Client,
    number: u64,
    replaced_at: Option<Instant>,
    has_carried: watch::Sender<bool>,
}

impl Way {
    pub(crate) fn new(issuer: &Issuer, base: Option<Url>, allow_http: bool) -> Self {
        let elsewhere = base.is_some();
        let origin = base.unwrap_or_else(|| issuer.url().clone());
        Self { origin, elsewhere, needs_https: issuer.url().scheme() == "https", allow_http }
    }
}

impl Pool {
    fn new(client: reqwest::Client, number: u64, replaced_at: Option<Instant>) -> Self {
        Self { client, number, replaced_at, has_carried: watch::Sender::new(false) }
    }

    async fn carry<T, F>(&self, attempt: &impl Fn(reqwest::Client) -> F) -> Result<T, IssuerError>
    where
        F: Future<Output = Result<T, IssuerError>>,
    {
        let outcome = attempt(self.client.clone()).await;
        if !matches!(outcome, Err(IssuerError::Unreachable(_) | IssuerError::TimedOut)) {
            self.has_carried.send_replace(true);
        }
        outcome
    }

    /// Waits for the first answer over this pool.
    async fn has_carried(&self) {
        let mut has_carried = self.has_carried.subscribe();
        // The sender is this pool's own, so the wait cannot fail.
        let _ = has_carried.wait_for(|has_carried| *has_carried).await;
    }
}

impl HttpClient {
    /// `timeout` is the time-out of a whole question.
    pub(crate) fn new(
        way: Way,
        connector: Connector,
        max_answer_bytes: usize,
        timeout: Duration,
        clock: Clock,
    ) -> reqwest::Result<Self> {
        let pool = Mutex::new(Pool::new(connector.client()?, 0, None));
        Ok(Self { way, connector, max_answer_bytes, patience: timeout / 2, clock, pool })
    }

    /// An address below the origin that is asked.
    pub(crate) fn at(&self, path: &str) -> Url {
        let mut url = self.way.origin.clone();
        url.set_path(path);
        url
    }

    /// Whether another address than the issuer's own is asked.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.way.elsewhere
    }

    /// Makes an exchange. Makes a second one on a new connection if the first gets no answer in time, breaks, or ends
    /// in an error that `again` accepts. The caller's time-out limits both together.
    pub(crate) async fn exchange<T, F>(
        &self,
        again: fn(&IssuerError) -> bool,
        attempt: impl Fn(reqwest::Client) -> F,
    ) -> Result<T, IssuerError>
    where
        F: Future<Output = Result<T, IssuerError>>,
    {
        let pool = self.pool().clone();
        let mut first = pin!(pool.carry(&attempt));
        match time::timeout(self.patience, &mut first).await {
            Ok(Err(error)) if again(&error) => {
                if is_broken_connection(&error) {
                    self.replace(pool.number);
                }
                time::sleep(Duration::from_millis(20 + random::u64() % 80)).await;
                let pool = self.pool().clone();
                pool.carry(&attempt).await
            }
            Ok(outcome) => outcome,
            Err(_) => {
                let second = self.second(pool.number, &attempt);
                // The first may be slow and not dead: its answer counts as well.
                match select(first, pin!(second)).await {
                    Either::Left((Err(_), second)) => second.await,
                    Either::Right((Err(_), first)) => first.await,
                    Either::Left((answer, _)) | Either::Right((answer, _)) => answer,
                }
            }
        }
    }

    /// A second attempt while the first has no answer yet. When several attempts on one pool get no answer, the first
    /// of them tries a new pool; the others follow when that pool has received an answer. So an issuer that is only
    /// slow gets one extra request, not one for each question.
    async fn second<T, F>(
        &self,
        silent: u64,
        attempt: &impl Fn(reqwest::Client) -> F,
    ) -> Result<T, IssuerError>
    where
        F: Future<Output = Result<T, IssuerError>>,
    {
        let is_first = self.replace(silent);
        let pool = self.pool().clone();
        if pool.number == silent {
            return std::future::pending().await;
        }
        if !is_first {
            pool.has_carried().await;
        }
        pool.carry(attempt).await
    }

    /// A JSON document of one of these media types.
    pub(crate) async fn get_json(&self, url: &Url, media_types: &[&str]) -> Result<String, IssuerError> {
        let attempt = |client: reqwest::Client| async move {
            let request = client.get(url.clone()).header(ACCEPT, media_types.join(", "));
            self.read_json(request.send().await.map_err(send_error)?, media_types).await
        };
        self.exchange(|_| false, attempt).await
    }

    /// The body of an accepted answer: status 200, JSON by its media type, whole, bounded, UTF-8.
    pub(crate) async fn read_json(
        &self,
        response: Response,
        media_types: &[&str],
    ) -> Result<String, IssuerError> {
        answer::read_json(response, media_types, self.max_answer_bytes).await
    }

    /// The address of an endpoint from the discovery document. With `connect_to` it is the endpoint's path on that
    /// origin; otherwise the endpoint's own address, which must be as safe as the issuer's.
    pub(crate) fn endpoint(&self, address: &str) -> Result<Url, IssuerError> {
        let unusable = |problem| Err(IssuerError::Unusable { problem });
        let Ok(mut url) = Url::parse(address) else {
            return unusable("an endpoint is not an absolute address");
        };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return unusable("an endpoint is neither https nor http");
        }
        if !url.username().is_empty() || url.password().is_some() {
            // The HTTP client would send the user information as a second authentication.
            return unusable("an endpoint has user information");
        }
        if self.way.elsewhere {
            let mut asked = self.way.origin.clone();
            asked.set_path(url.path());
            asked.set_query(url.query());
            return Ok(asked);
        }
        if url.scheme() == "http" && (self.way.needs_https || !(is_loopback(&url) || self.way.allow_http)) {
            return unusable("an endpoint is plain http");
        }
        url.set_fragment(None);
        Ok(url)
    }

    /// Replaces the pool with this number if a replacement is due. True if this call replaced the pool.
    fn replace(&self, number: u64) -> bool {
        let now = self.clock.now().instant;
        let rests = |at: Instant| now.saturating_duration_since(at) < POOL_REST;
        let is_due = |pool: &Pool| pool.number == number && !pool.replaced_at.is_some_and(rests);
        if !is_due(&self.pool()) {
            return false;
        }
        let Ok(client) = self.connector.client() else { return false };
        let mut pool = self.pool();
        let replaces = is_due(&pool);
        if replaces {
            *pool = Pool::new(client, number + 1, Some(now));
        }
        replaces
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
