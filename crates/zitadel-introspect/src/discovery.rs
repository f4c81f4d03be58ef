//! The issuer's metadata (OpenID Connect Discovery 1.0, RFC 8414): asked once, on first use, and again
//! after a failure.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use http::{StatusCode, header::DATE};
use reqwest::Response;
use serde::Deserialize;
use url::Url;

use crate::{
    clock::Clock,
    http_client::{HttpClient, JSON, MAX_ERROR_BYTES, read_bounded, send_error},
    issuer::Issuer,
    issuer_error::IssuerError,
};

const PATH: &str = "/.well-known/openid-configuration";

/// After a failure nobody asks for this long, doubled at each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
/// Far enough below 10 s that the first good answer heals within them.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(3);

type Outcome = Result<Arc<Metadata>, IssuerError>;

/// What of the document is used.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// As the document spells it: what an assertion must be meant for.
    pub(crate) issuer: String,
    pub(crate) introspection_endpoint: Option<Url>,
    pub(crate) jwks_uri: Option<Url>,
}

/// The discovery document of one issuer, remembered once it was good.
pub(crate) struct Discovery {
    http: Arc<HttpClient>,
    issuer: Issuer,
    timeout: Duration,
    clock: Clock,
    state: Mutex<State>,
}

enum State {
    Unknown,
    Asking(Shared<BoxFuture<'static, Outcome>>),
    Known(Arc<Metadata>),
    Failed { error: IssuerError, until: Instant, back_off: Duration },
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    introspection_endpoint: Option<String>,
    jwks_uri: Option<String>,
}

impl Discovery {
    pub(crate) fn new(http: Arc<HttpClient>, issuer: Issuer, timeout: Duration, clock: Clock) -> Self {
        Self { http, issuer, timeout, clock, state: Mutex::new(State::Unknown) }
    }

    /// The metadata: remembered, or asked for once, whoever waits.
    pub(crate) async fn metadata(self: &Arc<Self>) -> Outcome {
        let asking = match self.begin() {
            Begin::Done(outcome) => return outcome,
            Begin::Join(asking) => asking,
        };
        asking.await
    }

    fn begin(self: &Arc<Self>) -> Begin {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let back_off = match &*state {
            State::Known(metadata) => return Begin::Done(Ok(Arc::clone(metadata))),
            // One that is over without having changed the state was lost: begin anew.
            State::Asking(asking) if asking.peek().is_none() => return Begin::Join(asking.clone()),
            State::Failed { error, until, .. } if self.clock.now().instant < *until => {
                return Begin::Done(Err(error.clone()));
            }
            State::Failed { back_off, .. } => (*back_off * 2).min(LONGEST_BACK_OFF),
            State::Unknown | State::Asking(_) => FIRST_BACK_OFF,
        };
        let this = Arc::clone(self);
        // A task of its own: it goes on when the caller who began it goes away.
        let task = tokio::spawn(async move { this.ask_and_remember(back_off).await });
        let asking = async { task.await.unwrap_or(Err(IssuerError::Lost)) }.boxed().shared();
        *state = State::Asking(asking.clone());
        Begin::Join(asking)
    }

    async fn ask_and_remember(&self, back_off: Duration) -> Outcome {
        let asked = tokio::time::timeout(self.timeout, self.ask()).await;
        let outcome = asked.unwrap_or(Err(IssuerError::TimedOut)).map(Arc::new);
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = match &outcome {
            Ok(metadata) => State::Known(Arc::clone(metadata)),
            Err(error) => {
                let until = self.clock.now().instant + back_off;
                State::Failed { error: error.clone(), until, back_off }
            }
        };
        outcome
    }

    /// The issuer's clock (RFC 9110 section 6.6.1), to the second; `None` where it does not say.
    pub(crate) async fn date(&self) -> Result<Option<SystemTime>, IssuerError> {
        let response = tokio::time::timeout(self.timeout, self.get()).await;
        let response = response.map_err(|_| IssuerError::TimedOut)??;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
    }

    async fn get(&self) -> Result<Response, IssuerError> {
        let url = &self.http.at(PATH);
        let attempt =
            |client: reqwest::Client| async move { client.get(url.clone()).send().await.map_err(send_error) };
        self.http.exchange(|_| false, attempt).await
    }

    async fn ask(&self) -> Result<Metadata, IssuerError> {
        let response = self.get().await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(self.not_found(response).await);
        }
        let document = self.http.read_json(response, JSON).await?;
        let document: Document = serde_json::from_str(&document)
            .map_err(|_| IssuerError::Unusable { problem: "it is not a discovery document" })?;
        if !self.issuer.is_named_by(&document.issuer) {
            let expected = self.issuer.as_str().to_owned();
            return Err(IssuerError::OtherIssuer { expected, found: document.issuer });
        }
        let endpoint =
            |address: Option<String>| address.map(|address| self.http.endpoint(&address)).transpose();
        Ok(Metadata {
            issuer: document.issuer,
            introspection_endpoint: endpoint(document.introspection_endpoint)?,
            jwks_uri: endpoint(document.jwks_uri)?,
        })
    }
}

impl Discovery {
    /// ZITADEL picks the instance by the host. It answers 404 for a host that it does not know, and with another text when
    /// it cannot reach its database.
    async fn not_found(&self, response: Response) -> IssuerError {
        let body = read_bounded(response, MAX_ERROR_BYTES).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        let is_said = text.contains("Instance not found");
        if !is_said && text.contains("unable to set instance") {
            return IssuerError::Status { status: StatusCode::NOT_FOUND.as_u16(), retry_after: None };
        }
        let host = self.issuer.authority().to_owned();
        IssuerError::NoInstance { host, is_elsewhere: self.http.is_elsewhere(), is_said }
    }
}

enum Begin {
    Done(Outcome),
    Join(Shared<BoxFuture<'static, Outcome>>),
}
