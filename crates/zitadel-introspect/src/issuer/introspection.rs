//! Asks the issuer about a token (RFC 7662 section 2).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::{
    StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::{Client, Response};
use serde::Deserialize;
use tokio::time::{self, Instant};
use url::Url;

use crate::{
    claims::{Broken, Claims},
    clock::Clock,
    error::InvalidToken,
    error::issuer::IssuerError,
    issuer::breaker::{Admission, Breaker, Probe},
    issuer::client_auth::{Credentials, Proof},
    issuer::discovery::{Discovery, Metadata},
    issuer::queue::Queue,
    issuer::{
        answer::{JSON, MAX_ERROR_BYTES, is_html, read_bounded, send_error},
        http::HttpClient,
    },
    names::ProjectId,
    token::AccessToken,
};

/// The issuer's answer about a token: its claims, or the reason of a refusal.
pub(crate) type Answer = Result<Box<Claims>, InvalidToken>;

/// The way to the issuer's introspection endpoint.
pub(crate) struct Introspection {
    pub(crate) http: Arc<HttpClient>,
    pub(crate) discovery: Arc<Discovery>,
    pub(crate) credentials: Mutex<Arc<Credentials>>,
    pub(crate) project: Option<ProjectId>,
    pub(crate) queue: Queue,
    pub(crate) breaker: Breaker,
    pub(crate) clock: Clock,
    pub(crate) timeout: Duration,
}

impl Introspection {
    /// The issuer's clock.
    pub(crate) async fn date(&self) -> Result<Option<SystemTime>, IssuerError> {
        self.discovery.date().await
    }

    /// One question, when its turn has come and the breaker lets it through; `mark` is called when it is sent.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        token: &AccessToken,
        deadline: Instant,
        mark: impl Fn(),
    ) -> Result<Answer, IssuerError> {
        // Check before the queue: a question that the breaker would refuse after the wait need not wait.
        if let Some(error) = self.breaker.refuses(self.now()) {
            return Err(error);
        }
        let _place = in_time(deadline, self.queue.take()).await?;
        let admitted = loop {
            match self.breaker.admit(self.now()) {
                Admission::Go(admitted) => break admitted,
                Admission::Refused(error) => return Err(error),
                Admission::Probe(probe) => in_time(deadline, self.probe(probe)).await?,
            }
        };
        let credentials = self.credentials();
        let answer = in_time(deadline, self.exchange(&credentials, token, mark)).await;
        if let Some(probe) = admitted.record(answer.as_ref().err(), self.now()) {
            let _ = in_time(deadline, self.probe(probe)).await;
        }
        answer
    }

    /// Checks that the issuer accepts new credentials.
    pub(crate) async fn try_credentials(&self, credentials: &Credentials) -> Result<(), IssuerError> {
        let deadline = Instant::now() + self.timeout;
        let token = AccessToken::never_issued();
        in_time(deadline, self.exchange(credentials, &token, || ())).await.map(|_| ())
    }

    /// Uses these credentials for all questions from now on.
    pub(crate) fn set_credentials(&self, credentials: Credentials) {
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
    }

    fn now(&self) -> std::time::Instant {
        self.clock.now().instant
    }

    fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks about a token of our own. Runs in its own task: the probe goes on if the caller who started it goes away.
    async fn probe(self: &Arc<Self>, probe: Probe) -> Result<(), IssuerError> {
        let this = Arc::clone(self);
        let probing = tokio::spawn(async move {
            let asked = this.try_credentials(&this.credentials()).await;
            let failure = asked.err().filter(|error| !error.is_an_answer());
            this.breaker.settle(probe, failure.as_ref(), this.now());
            failure.map_or(Ok(()), Err)
        });
        probing.await.unwrap_or(Err(IssuerError::Lost))
    }

    /// Asks, and asks once more if a connection or a gateway failed.
    async fn exchange(
        &self,
        credentials: &Credentials,
        token: &AccessToken,
        mark: impl Fn(),
    ) -> Result<Answer, IssuerError> {
        let metadata = self.discovery.metadata().await?;
        let missing = "the discovery document has no introspection_endpoint";
        let endpoint =
            metadata.introspection_endpoint.as_ref().ok_or(IssuerError::Unusable { problem: missing })?;
        mark();
        let attempt = |client| self.ask_once(client, endpoint, &metadata, credentials, token);
        self.http.exchange(IssuerError::is_worth_a_retry, attempt).await
    }

    async fn ask_once(
        &self,
        client: Client,
        endpoint: &Url,
        metadata: &Metadata,
        credentials: &Credentials,
        token: &AccessToken,
    ) -> Result<Answer, IssuerError> {
        let now = self.clock.now().system_time();
        let Proof { form, authorization } = credentials.prove(token.as_bytes(), &metadata.issuer, now).await;
        let mut request = client
            .post(endpoint.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(send_error)?;
        let status = response.status();
        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS && !is_html(&response) {
            return refusal(response).await.map(Err);
        }
        self.read(self.http.read_json(response, JSON).await?)
    }

    /// Reads an answer.
    pub(crate) fn read(&self, answer: String) -> Result<Answer, IssuerError> {
        match Claims::from_introspection(answer, self.project.as_ref()) {
            Ok(Some(claims)) => Ok(Ok(Box::new(claims))),
            Ok(None) => Ok(Err(InvalidToken::Inactive)),
            Err(Broken(member)) => {
                tracing::warn!(member, "the introspection answer is broken");
                Err(IssuerError::Unusable { problem: "it is not an introspection answer" })
            }
        }
    }
}

async fn in_time<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, IssuerError>>,
) -> Result<T, IssuerError> {
    time::timeout_at(deadline, work).await.unwrap_or(Err(IssuerError::TimedOut))
}

/// Reads an error of the class 4xx: does the issuer refuse the token, or us, or something else? ZITADEL answers 400
/// `unauthorized_client` for a client that it does not accept; RFC 6749 says 401 `invalid_client`.
async fn refusal(response: Response) -> Result<InvalidToken, IssuerError> {
    #[derive(Deserialize)]
    struct ErrorAnswer {
        error: String,
    }

    let status = response.status();
    let other = IssuerError::Status { status: status.as_u16(), retry_after: None };
    let Ok(body) = read_bounded(response, MAX_ERROR_BYTES).await else { return Err(other) };
    let read = serde_json::from_slice::<ErrorAnswer>(&body).map(|answer| answer.error);
    match read.as_deref() {
        // About the token (RFC 7009 section 2.2.1), whatever the status.
        Ok("unsupported_token_type") => Ok(InvalidToken::Unsupported),
        // With status 401, the error may be about our own credentials.
        Ok("invalid_token") if status != StatusCode::UNAUTHORIZED => Ok(InvalidToken::Inactive),
        Ok("unauthorized_client" | "invalid_client") => {
            Err(IssuerError::Refused { error: read.unwrap_or_default() })
        }
        _ if status == StatusCode::UNAUTHORIZED => Err(IssuerError::Refused { error: "401".to_owned() }),
        _ => Err(other),
    }
}
