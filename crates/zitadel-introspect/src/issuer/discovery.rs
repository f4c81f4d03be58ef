//! The issuer's metadata (OpenID Connect Discovery 1.0, RFC 8414): asked once, on first use, and again
//! after a failure.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use http::{StatusCode, header::DATE};
use reqwest::Response;
use serde::Deserialize;
use tokio::runtime::Handle;
use url::Url;

use crate::{
    clock::Clock,
    error::issuer::IssuerError,
    issuer::{
        answer::{JSON, MAX_ERROR_BYTES, read_bounded, send_error},
        http::HttpClient,
        name::Issuer,
        remembered::{Fetcher, Remembered, Renewal},
    },
};

/// So many characters of another issuer's name are shown.
const LONGEST_SHOWN: usize = 200;

const PATH: &str = "/.well-known/openid-configuration";

/// The members of the document that are used.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// As the document spells it: the audience of an assertion.
    pub(crate) issuer: String,
    pub(crate) introspection_endpoint: Option<Url>,
    pub(crate) jwks_uri: Option<Url>,
    pub(crate) token_endpoint: Option<Url>,
}

/// The discovery document of one issuer, remembered once it was good.
pub(crate) struct Discovery {
    metadata: Remembered<Metadata>,
    request: Arc<Request>,
    timeout: Duration,
}

/// How the document is asked for.
struct Request {
    http: Arc<HttpClient>,
    issuer: Issuer,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    introspection_endpoint: Option<String>,
    jwks_uri: Option<String>,
    token_endpoint: Option<String>,
}

impl Discovery {
    pub(crate) fn new(
        http: Arc<HttpClient>,
        issuer: Issuer,
        handle: Handle,
        clock: Clock,
        timeout: Duration,
    ) -> Self {
        let request = Arc::new(Request { http, issuer });
        let asking = Arc::clone(&request);
        let fetch = move || {
            let request = Arc::clone(&asking);
            async move { request.metadata().await }.boxed()
        };
        let fetcher = Fetcher { handle, clock, timeout, fetch: Box::new(fetch) };
        Self { metadata: Remembered::new(fetcher, Renewal::Never), request, timeout }
    }

    /// The metadata: remembered, or fetched once for all callers who wait.
    pub(crate) async fn metadata(&self) -> Result<Arc<Metadata>, IssuerError> {
        self.metadata.get().await
    }

    /// The issuer's clock (RFC 9110 section 6.6.1), to the second; `None` if the answer has no `Date`.
    pub(crate) async fn date(&self) -> Result<Option<SystemTime>, IssuerError> {
        let response = tokio::time::timeout(self.timeout, self.request.get()).await;
        let response = response.map_err(|_| IssuerError::TimedOut)??;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
    }
}

impl Request {
    async fn get(&self) -> Result<Response, IssuerError> {
        let url = &self.http.at(PATH);
        let attempt =
            |client: reqwest::Client| async move { client.get(url.clone()).send().await.map_err(send_error) };
        self.http.exchange(|_| false, attempt).await
    }

    async fn metadata(&self) -> Result<Metadata, IssuerError> {
        let response = self.get().await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(self.not_found(response).await);
        }
        let document = self.http.read_json(response, JSON).await?;
        let document: Document = serde_json::from_str(&document)
            .map_err(|_| IssuerError::Unusable { problem: "it is not a discovery document" })?;
        if !self.issuer.is_named_by(&document.issuer) {
            let expected = self.issuer.as_str().to_owned();
            let found = document.issuer.chars().take(LONGEST_SHOWN).collect();
            return Err(IssuerError::OtherIssuer { expected, found });
        }
        let endpoint =
            |address: Option<String>| address.map(|address| self.http.endpoint(&address)).transpose();
        Ok(Metadata {
            issuer: document.issuer,
            introspection_endpoint: endpoint(document.introspection_endpoint)?,
            jwks_uri: endpoint(document.jwks_uri)?,
            // Only the event feed asks there: a verifier without one must not fail for it.
            token_endpoint: endpoint(document.token_endpoint).unwrap_or_default(),
        })
    }

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
