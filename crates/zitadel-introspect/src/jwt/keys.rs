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
use serde_json::Value;
use tokio::runtime::Handle;

use crate::{
    client_auth::install_crypto, discovery::Discovery, http_client::HttpClient, issuer_error::IssuerError,
};

/// An unknown `kid` asks for the keys at most once in this time.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// Keys older than this are fetched anew while they still serve: ZITADEL's own `max-age`.
const REFRESH_AFTER: Duration = Duration::from_secs(300);

/// The media types of a key set (RFC 7517 section 8.5.2), and of JSON, which ZITADEL sends.
const MEDIA_TYPES: [&str; 2] = ["application/jwk-set+json", "application/json"];

/// A key for signatures.
pub(crate) enum Key {
    /// With the algorithms that it verifies.
    Readable(&'static [Algorithm], Box<DecodingKey>),
    /// Of a kind that cannot be read here.
    Unreadable,
}

/// Keys by id. An id may stand for several: for keys of different kinds, or for two that overlap.
type KnownKeys = HashMap<String, Arc<[Key]>>;

impl Key {
    pub(crate) fn verifies(&self, by: Algorithm) -> Option<&DecodingKey> {
        match self {
            Self::Readable(algorithms, key) if algorithms.contains(&by) => Some(key),
            _ => None,
        }
    }

    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable)
    }
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
    known: KnownKeys,
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

    /// The keys of that id; fetched if it is unknown, at most once in a cool-down, for all who ask. None if
    /// the issuer has none, an error if it could not be asked.
    pub(crate) async fn get(&self, id: &str, now: Instant) -> Result<Arc<[Key]>, IssuerError> {
        let fetching = {
            let mut state = self.0.lock();
            let is_old =
                |at: Option<Instant>, age| at.is_none_or(|at| now.saturating_duration_since(at) >= age);
            let may_try = is_old(state.tried_at, COOL_DOWN);
            if let Some(keys) = state.known.get(id).cloned() {
                if may_try && is_old(state.fetched_at, REFRESH_AFTER) {
                    drop(self.fetch(&mut state, now)); // a task of its own: nobody waits for it
                }
                return Ok(keys);
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

    /// The keys of that id, as far as they were fetched.
    pub(crate) fn known(&self, id: &str) -> Option<Arc<[Key]>> {
        self.0.lock().known.get(id).cloned()
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
    fn answer(&self, id: &str) -> Result<Arc<[Key]>, IssuerError> {
        match (self.known.get(id), &self.failure) {
            (Some(keys), _) => Ok(Arc::clone(keys)),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Ok(Arc::default()),
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
                state.known = keys;
                state.fetched_at = Some(now);
                state.failure = None;
            }
            Err(error) => {
                let cause = error.explain();
                tracing::warn!(error = cause, "the issuer's keys cannot be fetched: known ones stay");
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
    async fn fetch(&self) -> Result<KnownKeys, IssuerError> {
        let metadata = self.discovery.metadata().await?;
        let unusable = |problem| IssuerError::Unusable { problem };
        let address = metadata.jwks_uri.clone().ok_or(unusable("the discovery document has no jwks_uri"))?;
        let document = self.http.get_json(&address, &MEDIA_TYPES).await?;
        let set: KeySet = serde_json::from_str(&document).map_err(|_| unusable("it is not a set of keys"))?;
        let mut known: HashMap<String, Vec<Key>> = HashMap::new();
        for (id, key) in set.keys.iter().filter_map(read) {
            known.entry(id.to_owned()).or_default().push(key);
        }
        Ok(known.into_iter().map(|(id, keys)| (id, keys.into())).collect())
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// A key for signatures, by its id. One that is for something else is skipped (RFC 7517 sections 4.2 and 4.3).
fn read(jwk: &Value) -> Option<(&str, Key)> {
    let id = jwk.get("kid").and_then(Value::as_str)?;
    let is_for_signatures = |usage: &Value| usage.as_str() == Some("sig");
    let verifies = |operations: &Value| {
        operations.as_array().is_some_and(|operations| operations.iter().any(|name| name == "verify"))
    };
    let present = |name: &str| jwk.get(name).filter(|value| !value.is_null());
    if !present("use").is_none_or(is_for_signatures) || !present("key_ops").is_none_or(verifies) {
        return None;
    }
    let key = readable(jwk).unwrap_or_else(|| {
        tracing::info!(kid = ?id, "a key of the issuer cannot be read here: its kind or algorithm is not supported");
        Key::Unreadable
    });
    Some((id, key))
}

fn readable(jwk: &Value) -> Option<Key> {
    use Algorithm::{ES256, ES384, EdDSA, RS256, RS384, RS512};
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    // An RSA key verifies by any of these where it does not say by which (RFC 7517 section 4.4); a curve, by one.
    let (algorithms, decoding): (&'static [Algorithm], _) = match (text("kty")?, text("crv"), text("alg")) {
        ("RSA", _, algorithm) => {
            let algorithms: &'static [Algorithm] = match algorithm {
                None => &[RS256, RS384, RS512],
                Some("RS256") => &[RS256],
                Some("RS384") => &[RS384],
                Some("RS512") => &[RS512],
                Some(_) => return None,
            };
            (algorithms, DecodingKey::from_rsa_components(text("n")?, text("e")?))
        }
        ("EC", Some("P-256"), None | Some("ES256")) => {
            (&[ES256], DecodingKey::from_ec_components(text("x")?, text("y")?))
        }
        ("EC", Some("P-384"), None | Some("ES384")) => {
            (&[ES384], DecodingKey::from_ec_components(text("x")?, text("y")?))
        }
        ("OKP", Some("Ed25519"), None | Some("EdDSA")) => {
            (&[EdDSA], DecodingKey::from_ed_components(text("x")?))
        }
        _ => return None,
    };
    Some(Key::Readable(algorithms, Box::new(decoding.ok()?)))
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
