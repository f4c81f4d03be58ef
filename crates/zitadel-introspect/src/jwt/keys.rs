//! The issuer's published keys (RFC 7517): fetched when needed, refreshed behind, never taken from a token.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::runtime::Handle;

use crate::{
    client_auth::install_crypto,
    discovery::Discovery,
    http_client::{HttpClient, read_json, send_error},
    issuer_error::IssuerError,
};

/// An unknown `kid` asks for the keys at most once in this time.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// Keys older than this are fetched anew while they still serve: ZITADEL's own `max-age`.
const REFRESH_AFTER: Duration = Duration::from_secs(300);
const MAX_KEYS: usize = 100;

/// A key with the one algorithm that it verifies.
pub(crate) struct Key {
    pub(crate) algorithm: Algorithm,
    pub(crate) decoding: DecodingKey,
}

/// How to get the keys.
#[derive(Clone)]
pub(crate) struct KeySource {
    pub(crate) handle: Handle,
    pub(crate) http: Arc<HttpClient>,
    pub(crate) discovery: Arc<Discovery>,
    pub(crate) timeout: Duration,
}

pub(crate) struct Keys(Arc<Inner>);

struct Inner {
    source: KeySource,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Arc<HashMap<String, Arc<Key>>>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
    failure: Option<IssuerError>,
    fetching: Option<Shared<BoxFuture<'static, ()>>>,
}

impl Keys {
    pub(crate) fn new(source: KeySource) -> Self {
        install_crypto();
        Self(Arc::new(Inner { source, state: Mutex::default() }))
    }

    /// The key of that id; fetched if it is unknown, at most once in a cool-down, for all who ask. `None` if
    /// the issuer has none, an error if it could not be asked.
    pub(crate) async fn get(&self, id: &str, now: Instant) -> Result<Option<Arc<Key>>, IssuerError> {
        let fetching = {
            let mut state = self.0.lock();
            let is_old =
                |at: Option<Instant>, age| at.is_none_or(|at| now.saturating_duration_since(at) >= age);
            let may_try = is_old(state.tried_at, COOL_DOWN);
            if let Some(key) = state.known.get(id).cloned() {
                if may_try && is_old(state.fetched_at, REFRESH_AFTER) {
                    drop(self.fetch(&mut state, now)); // a task of its own: nobody waits for it
                }
                return Ok(Some(key));
            }
            match &state.fetching {
                // One that is over without having said so was lost: begin anew.
                Some(fetching) if fetching.peek().is_none() => fetching.clone(),
                _ if may_try => self.fetch(&mut state, now),
                _ => return state.answer(id),
            }
        };
        fetching.await;
        self.0.lock().answer(id)
    }

    fn fetch(&self, state: &mut State, now: Instant) -> Shared<BoxFuture<'static, ()>> {
        state.tried_at = Some(now);
        let inner = Arc::clone(&self.0);
        let fetch = self.0.source.handle.spawn(async move { inner.fetch_and_remember(now).await });
        let fetching = fetch.map(|_| ()).boxed().shared();
        state.fetching = Some(fetching.clone());
        fetching
    }
}

impl State {
    fn answer(&self, id: &str) -> Result<Option<Arc<Key>>, IssuerError> {
        match (self.known.get(id), &self.failure) {
            (Some(key), _) => Ok(Some(Arc::clone(key))),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Ok(None),
        }
    }
}

impl Inner {
    async fn fetch_and_remember(&self, now: Instant) {
        let fetched = tokio::time::timeout(self.source.timeout, self.source.fetch()).await;
        let fetched = fetched.unwrap_or(Err(IssuerError::TimedOut));
        let mut state = self.lock();
        state.fetching = None;
        match fetched {
            Ok(keys) => {
                state.known = Arc::new(keys);
                state.fetched_at = Some(now);
                state.failure = None;
            }
            Err(error) => {
                tracing::warn!(%error, "the issuer's keys cannot be fetched: known ones stay");
                state.failure = Some(error);
                // A failure is no reason to wait for the whole cool-down.
                state.tried_at = now.checked_sub(COOL_DOWN.saturating_sub(Duration::from_secs(1)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySource {
    async fn fetch(&self) -> Result<HashMap<String, Arc<Key>>, IssuerError> {
        let metadata = self.discovery.metadata().await?;
        let unusable = |problem| IssuerError::Unusable { problem };
        let address = metadata.jwks_uri.clone().ok_or(unusable("the discovery document has no jwks_uri"))?;
        let response = self.http.client().get(address).send().await.map_err(send_error)?;
        let document = read_json(response).await?;
        let set: KeySet = serde_json::from_str(&document).map_err(|_| unusable("it is not a set of keys"))?;
        Ok(set.keys.iter().take(MAX_KEYS).filter_map(usable).collect())
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// A key that verifies signatures by one algorithm that we know; any other is skipped.
fn usable(jwk: &serde_json::Value) -> Option<(String, Arc<Key>)> {
    let text = |name: &str| jwk.get(name).and_then(serde_json::Value::as_str);
    let id = text("kid")?;
    if text("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    let read = || {
        let (algorithm, decoding) = match (text("kty")?, text("crv"), text("alg")) {
            ("RSA", _, algorithm @ (None | Some("RS256" | "RS384" | "RS512"))) => (
                self::algorithm(algorithm.unwrap_or("RS256"))?,
                DecodingKey::from_rsa_components(text("n")?, text("e")?),
            ),
            ("EC", Some("P-256"), None | Some("ES256")) => {
                (Algorithm::ES256, DecodingKey::from_ec_components(text("x")?, text("y")?))
            }
            ("EC", Some("P-384"), None | Some("ES384")) => {
                (Algorithm::ES384, DecodingKey::from_ec_components(text("x")?, text("y")?))
            }
            ("OKP", Some("Ed25519"), None | Some("EdDSA")) => {
                (Algorithm::EdDSA, DecodingKey::from_ed_components(text("x")?))
            }
            _ => return None,
        };
        Some(Arc::new(Key { algorithm, decoding: decoding.ok()? }))
    };
    let key = read();
    if key.is_none() {
        tracing::info!(kid = ?id, "a key of the issuer is skipped: its kind or algorithm is not supported");
    }
    key.map(|key| (id.to_owned(), key))
}

/// The algorithms that are taken: asymmetric ones, by name. `none` and HMAC have no place here.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}
