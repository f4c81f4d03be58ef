//! Asks the issuer about a token (RFC 7662 section 2).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{
    StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::Response;
use serde::Deserialize;
use tokio::{sync::Semaphore, time};
use url::Url;

use crate::{
    bearer::AccessToken,
    breaker::Breaker,
    claims::{Broken, Claims},
    client_auth::Credentials,
    discovery::Discovery,
    http_client::{HttpClient, read_bounded, read_json, send_error},
    issuer_error::IssuerError,
    names::ProjectId,
    random,
};

/// Questions to the issuer at once, and waiting for their turn.
const AT_ONCE: usize = 32;
const WAITING: usize = 1024;

/// What the issuer said of a token.
#[derive(Debug)]
pub(crate) enum Verdict {
    Active(Box<Claims>),
    Inactive,
}

/// The way to the issuer's introspection endpoint.
pub(crate) struct Introspection {
    pub(crate) http: Arc<HttpClient>,
    pub(crate) discovery: Arc<Discovery>,
    pub(crate) credentials: Credentials,
    pub(crate) project: Option<ProjectId>,
    pub(crate) turns: Turns,
}

impl Introspection {
    /// The issuer's clock.
    pub(crate) async fn date(&self) -> Result<Option<SystemTime>, IssuerError> {
        self.discovery.date().await
    }

    /// One question, when its turn has come and the breaker lets it through; `mark` is called when it is sent.
    pub(crate) async fn ask(
        &self,
        token: &AccessToken,
        breaker: &Breaker,
        mark: impl Fn(),
    ) -> Result<Verdict, IssuerError> {
        let _turn = self.turns.take().await?;
        let admitted = breaker.admit()?;
        let answer = self.ask_and_retry(token, mark).await;
        admitted.record(answer.as_ref().err());
        answer
    }

    /// Asks a second time where a connection or a gateway failed.
    async fn ask_and_retry(&self, token: &AccessToken, mark: impl Fn()) -> Result<Verdict, IssuerError> {
        let metadata = self.discovery.metadata().await?;
        let missing = "the discovery document has no introspection_endpoint";
        let endpoint =
            metadata.introspection_endpoint.as_ref().ok_or(IssuerError::Unusable { problem: missing })?;
        mark();
        match self.ask_once(endpoint, token).await {
            Err(error) if error.is_worth_a_retry() => {
                time::sleep(Duration::from_millis(20 + random::u64() % 80)).await;
                self.ask_once(endpoint, token).await
            }
            answer => answer,
        }
    }

    async fn ask_once(&self, endpoint: &Url, token: &AccessToken) -> Result<Verdict, IssuerError> {
        let (form, authorization) = self.credentials.form(token.as_bytes(), SystemTime::now());
        let mut request = self
            .http
            .client()
            .post(endpoint.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(send_error)?;
        if matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED) {
            return Err(refusal(response).await);
        }
        self.read(read_json(response).await?)
    }

    fn read(&self, answer: String) -> Result<Verdict, IssuerError> {
        match Claims::from_introspection(answer, self.project.as_ref()) {
            Ok(Some(claims)) => Ok(Verdict::Active(Box::new(claims))),
            Ok(None) => Ok(Verdict::Inactive),
            Err(Broken(member)) => {
                tracing::warn!(member, "the introspection answer is broken");
                Err(IssuerError::Unusable { problem: "it is not an introspection answer" })
            }
        }
    }
}

/// A place among the questions that are under way.
pub(crate) struct Turns {
    at_once: Semaphore,
    waiting: AtomicUsize,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { at_once: Semaphore::new(AT_ONCE), waiting: AtomicUsize::new(0) }
    }

    async fn take(&self) -> Result<tokio::sync::SemaphorePermit<'_>, IssuerError> {
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

/// Reads a 400 or 401: does the issuer refuse us, or something else? ZITADEL answers 400
/// `unauthorized_client` for a client that it does not accept; RFC 6749 says 401 `invalid_client`.
async fn refusal(response: Response) -> IssuerError {
    #[derive(Deserialize)]
    struct ErrorAnswer {
        error: String,
    }

    let status = response.status();
    let other = IssuerError::Status { status: status.as_u16(), retry_after: None };
    let Ok(body) = read_bounded(response, 16 * 1024).await else { return other };
    let read = serde_json::from_slice::<ErrorAnswer>(&body).map(|answer| answer.error);
    match read.as_deref() {
        Ok("unauthorized_client" | "invalid_client") => {
            IssuerError::Refused { error: read.unwrap_or_default() }
        }
        _ if status == StatusCode::UNAUTHORIZED => IssuerError::Refused { error: "401".to_owned() },
        _ => other,
    }
}
