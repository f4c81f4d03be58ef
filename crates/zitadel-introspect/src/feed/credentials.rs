//! The token with which events are read: from a file, or bought with the key of a service user (RFC 7523 section 2.1).

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use http::header::CONTENT_TYPE;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::{
    clock::Clock,
    error::{feed::FeedError, issuer::IssuerError},
    issuer::{
        answer::{JSON, MAX_ERROR_BYTES, read_json, send_error},
        client_auth::{Key, read_small},
        discovery::Discovery,
        http::HttpClient,
    },
    token::AccessToken,
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// With this scope the token is for ZITADEL's own APIs.
const SCOPE: &str = "openid urn:zitadel:iam:org:project:id:zitadel:aud";
/// ZITADEL refuses an `iat` that is ahead of its clock.
const BACKDATED: u64 = 10;
/// The assumed life of a token whose answer names none.
const LEAST_LIFE: Duration = Duration::from_secs(300);

/// Where the token comes from.
#[derive(Clone)]
pub(crate) enum Credentials {
    TokenFile(PathBuf),
    Key(Key),
}

/// A token that is used until it is refused, or until it is time to buy another.
struct Held {
    token: Arc<SecretString>,
    renew_at: Option<Instant>,
}

/// The tokens of the feed.
pub(crate) struct Tokens {
    credentials: Credentials,
    http: Arc<HttpClient>,
    /// For the token endpoint.
    discovery: Arc<Discovery>,
    clock: Clock,
    held: Option<Held>,
}

impl Credentials {
    /// The token in a text, without the white space around it.
    pub(crate) fn token(text: &str) -> Option<Arc<SecretString>> {
        let text = text.trim();
        let _: AccessToken = text.parse().ok()?;
        Some(Arc::new(SecretString::from(text.to_owned())))
    }
}

impl Tokens {
    pub(crate) fn new(
        credentials: Credentials,
        http: Arc<HttpClient>,
        discovery: Arc<Discovery>,
        clock: Clock,
    ) -> Self {
        Self { credentials, http, discovery, clock, held: None }
    }

    /// The token to use now.
    pub(crate) async fn get(&mut self) -> Result<Arc<SecretString>, FeedError> {
        let now = self.clock.now().instant;
        let is_good = |held: &&Held| held.renew_at.is_none_or(|at| now < at);
        if let Some(held) = self.held.as_ref().filter(is_good) {
            return Ok(Arc::clone(&held.token));
        }
        let held = match &self.credentials {
            Credentials::TokenFile(path) => read_token(path.clone()).await?,
            Credentials::Key(key) => self.buy(key, now).await?,
        };
        let token = Arc::clone(&held.token);
        self.held = Some(held);
        Ok(token)
    }

    /// The token was refused: the next one is read or bought anew.
    pub(crate) fn forget(&mut self) {
        self.held = None;
    }

    async fn buy(&self, key: &Key, now: Instant) -> Result<Held, FeedError> {
        #[derive(Deserialize)]
        struct Bought {
            access_token: SecretString,
            expires_in: Option<u64>,
        }

        let metadata = self.discovery.metadata().await.map_err(FeedError::Issuer)?;
        let missing = FeedError::Issuer(IssuerError::Unusable {
            problem: "the discovery document has no usable token_endpoint",
        });
        let endpoint = metadata.token_endpoint.as_ref().ok_or(missing)?;
        let issued_at = self.clock.now().wall().unsigned_abs().saturating_sub(BACKDATED);
        let (key, issuer) = (key.clone(), metadata.issuer.clone());
        let signing = tokio::task::spawn_blocking(move || key.sign(&issuer, issued_at, false));
        let assertion = signing.await.ok().flatten().ok_or(FeedError::NoToken)?;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT)
            .append_pair("scope", SCOPE)
            .append_pair("assertion", assertion.expose_secret())
            .finish();
        let attempt = |client: reqwest::Client| {
            let request = client.post(endpoint.clone());
            let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            let request = request.body(form.clone());
            async move {
                let response = request.send().await.map_err(send_error)?;
                read_json(response, JSON, MAX_ERROR_BYTES).await
            }
        };
        let answer = self.http.exchange(|_| false, attempt).await;
        let answer = answer.map_err(|error| match error {
            IssuerError::Status { status: 400 | 401, .. } => FeedError::KeyRefused,
            other => FeedError::Issuer(other),
        })?;
        let bought: Bought = serde_json::from_str(&answer).map_err(|_| FeedError::NoToken)?;
        let token = Credentials::token(bought.access_token.expose_secret()).ok_or(FeedError::NoToken)?;
        let life = bought.expires_in.map_or(LEAST_LIFE, Duration::from_secs);
        Ok(Held { token, renew_at: now.checked_add(life / 4 * 3) })
    }
}

async fn read_token(path: PathBuf) -> Result<Held, FeedError> {
    let reading = tokio::task::spawn_blocking(move || read_small(&path));
    let read = reading.await.map_err(|_| FeedError::NoToken)?;
    let (text, _) = read.map_err(|error| FeedError::TokenFile(Arc::new(error)))?;
    let token = Credentials::token(&text).ok_or(FeedError::NoToken)?;
    Ok(Held { token, renew_at: None })
}
