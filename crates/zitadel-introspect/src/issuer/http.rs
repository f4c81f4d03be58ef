//! The way to the issuer: one pool of connections, a second attempt where one falls silent, and what an answer must be
//! to count.

use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER},
};
use reqwest::Response;
use tokio::{sync::watch, time};
use url::Url;

use crate::{
    clock::Clock,
    error::issuer::{IssuerError, is_broken_connection},
    issuer::connector::Connector,
    issuer::name::{Issuer, is_loopback},
    random,
};

/// Names the instance where the address does not (ZITADEL's `InstanceHostHeaders`).
pub(crate) const INSTANCE_HOST: HeaderName = HeaderName::from_static("x-zitadel-instance-host");
/// Names the public origin's host (ZITADEL's `PublicHostHeaders`).
pub(crate) const PUBLIC_HOST: HeaderName = HeaderName::from_static("x-zitadel-public-host");

pub(crate) const JSON: &[&str] = &["application/json"];

/// What is read of an answer that is an error.
pub(crate) const MAX_ERROR_BYTES: usize = 16 * 1024;

/// A pool is not replaced twice within this time: a slow issuer is not asked everything twice.
const POOL_REST: Duration = Duration::from_secs(5);

/// What leads to the issuer.
#[derive(Debug)]
pub(crate) struct Way {
    /// The issuer's own origin, or the one that the user said to connect to.
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

/// Connections that were made by one client. Replaced whole, since one that is dead is seldom alone.
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
    /// `timeout` is that of a whole question.
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

    /// Makes an exchange, and a second one on a new connection where the first falls silent, breaks, or ends in an error
    /// that `again` accepts. The caller's time-out bounds both.
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

    /// An attempt beside one that is silent. Of all that fell silent on one pool, the first tries a new pool; the others
    /// follow when that pool has carried an answer. So an issuer that is only slow is asked once more, not twice for
    /// each question.
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

    /// The body of an answer that counts: status 200, JSON by its media type, whole, bounded, UTF-8.
    pub(crate) async fn read_json(
        &self,
        response: Response,
        media_types: &[&str],
    ) -> Result<String, IssuerError> {
        let status = response.status();
        if status != StatusCode::OK {
            return Err(refused(&response, status));
        }
        check_media_type(&response, media_types)?;
        let body = read_bounded(response, self.max_answer_bytes).await?;
        let text =
            String::from_utf8(body).map_err(|_| IssuerError::Unusable { problem: "it is not UTF-8" })?;
        // serde reads a struct from a list of values as well.
        if text.trim_ascii_start().starts_with('{') {
            Ok(text)
        } else {
            Err(IssuerError::Unusable { problem: "it is not a JSON object" })
        }
    }

    /// Where an endpoint of the discovery document is asked: its path where the user said to connect
    /// elsewhere, else its address, which must be as safe as the issuer's.
    pub(crate) fn endpoint(&self, address: &str) -> Result<Url, IssuerError> {
        let unusable = |problem| Err(IssuerError::Unusable { problem });
        let Ok(mut url) = Url::parse(address) else {
            return unusable("an endpoint is not an absolute address");
        };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return unusable("an endpoint is neither https nor http");
        }
        if !url.username().is_empty() || url.password().is_some() {
            // The client would make a second authentication of it.
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

    /// Whether this call replaced the pool of that number.
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

pub(crate) async fn read_bounded(mut response: Response, limit: usize) -> Result<Vec<u8>, IssuerError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| broken())? {
        if body.len() + chunk.len() > limit {
            return Err(IssuerError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn broken() -> IssuerError {
    IssuerError::Unusable { problem: "it ends before its end" }
}

/// No answer at all: tells a connection that failed or broke from everything else.
pub(crate) fn send_error(error: reqwest::Error) -> IssuerError {
    if is_connection_error(&error) {
        // The address is the operator's to know, but it stands in other lines already.
        return IssuerError::Unreachable(Arc::new(error.without_url()));
    }
    if error.is_timeout() {
        return IssuerError::TimedOut;
    }
    IssuerError::Unusable { problem: "it is not HTTP" }
}

fn is_connection_error(error: &reqwest::Error) -> bool {
    use std::error::Error;
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let is_broken = |cause: &(dyn Error + 'static)| {
        cause.is::<io::Error>()
            || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
    };
    error.is_connect() || causes.any(is_broken)
}

/// What an answer without the status 200 means.
fn refused(response: &Response, status: StatusCode) -> IssuerError {
    let retry_after = retry_after(response);
    match status {
        StatusCode::TOO_MANY_REQUESTS => IssuerError::Throttled { retry_after },
        _ if status.is_redirection() => redirected(response, status),
        _ if status.is_client_error() && is_html(response) => IssuerError::Unusable { problem: HTML },
        _ => IssuerError::Status { status: status.as_u16(), retry_after },
    }
}

/// Where a redirect leads, as far as a log may say it: without a query, which may hold secrets.
fn redirected(response: &Response, status: StatusCode) -> IssuerError {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let location = location.split(['?', '#']).next().unwrap_or_default();
    let to = location.chars().take(200).collect();
    IssuerError::Redirected { status: status.as_u16(), to }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

const HTML: &str = "it is HTML: a web page, or the login page of a proxy, answers under this address";

/// A page for people: not the issuer's own answer.
pub(crate) fn is_html(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| essence(value).eq_ignore_ascii_case("text/html"))
}

fn essence(content_type: &HeaderValue) -> &str {
    content_type.to_str().ok().and_then(|value| value.split(';').next()).unwrap_or_default().trim()
}

fn check_media_type(response: &Response, media_types: &[&str]) -> Result<(), IssuerError> {
    let unusable = |problem| Err(IssuerError::Unusable { problem });
    let headers = response.headers();
    if headers.contains_key(CONTENT_ENCODING) {
        return unusable("it has a Content-Encoding, which was not asked for");
    }
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return unusable("it has no Content-Type, or more than one");
    };
    let essence = essence(value);
    if media_types.iter().any(|media_type| essence.eq_ignore_ascii_case(media_type)) {
        return Ok(());
    }
    if is_html(response) {
        return unusable(HTML);
    }
    unusable("its Content-Type is not JSON")
}
