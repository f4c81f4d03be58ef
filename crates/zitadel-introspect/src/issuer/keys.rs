//! The issuer's published keys (RFC 7517): fetched when needed, refreshed in the background, never taken from a token.

use std::{
    collections::{HashMap, VecDeque},
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::{
    clock::Clock,
    crypto::install_crypto,
    error::issuer::IssuerError,
    issuer::{
        discovery::Discovery,
        http::HttpClient,
        remembered::{Fetcher, Remembered, Renewal},
    },
};

/// An unknown `kid` causes a fetch of the keys at most once in this time.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// Keys older than this are fetched anew while they still serve: ZITADEL's own `max-age`.
const REFRESH_AFTER: Duration = Duration::from_secs(300);

/// The media types of a key set (RFC 7517 section 8.5.2), and of JSON, which ZITADEL sends.
const MEDIA_TYPES: [&str; 2] = ["application/jwk-set+json", "application/json"];

/// A key for signatures.
pub(crate) enum Key {
    /// With the algorithms by which it can be verified here.
    Readable(&'static [Algorithm], Box<DecodingKey>),
    /// Of a kind that cannot be read here.
    Unreadable,
}

/// Keys by id. Several keys may have the same id: keys of different kinds, or an old and a new key.
type KnownKeys = HashMap<String, Arc<[Key]>>;

impl Key {
    pub(crate) fn verifies(&self, by: Algorithm) -> Option<&DecodingKey> {
        match self {
            Self::Readable(algorithms, key) if algorithms.contains(&by) => Some(key),
            _ => None,
        }
    }

    /// Whether the issuer may sign with this key by an algorithm that cannot be verified here.
    pub(crate) fn may_sign_unreadably(&self, algorithm: &str) -> bool {
        match self {
            Self::Unreadable => true,
            Self::Readable(algorithms, _) => {
                *algorithms == ANY_RSA && ["PS256", "PS384", "PS512"].contains(&algorithm)
            }
        }
    }
}

/// How to get the keys.
#[derive(Clone)]
pub(crate) struct KeySource {
    pub(crate) http: Arc<HttpClient>,
    pub(crate) discovery: Arc<Discovery>,
}

/// The issuer's keys.
pub(crate) struct Keys {
    known: Remembered<KnownKeys>,
    /// The ids of keys that were removed: they do not count, whatever the set says that is known.
    removed: Mutex<VecDeque<String>>,
}

/// So many removed keys are remembered: longer than any set that names them.
const MOST_REMOVED: usize = 100;

impl Keys {
    pub(crate) fn new(source: KeySource, handle: Handle, clock: Clock, timeout: Duration) -> Self {
        install_crypto();
        let fetch = move || {
            let source = source.clone();
            async move { source.fetch().await }.boxed()
        };
        let renewal = Renewal::Every { age: REFRESH_AFTER, at_most_every: COOL_DOWN };
        let known = Remembered::new(Fetcher { handle, clock, timeout, fetch: Box::new(fetch) }, renewal);
        Self { known, removed: Mutex::default() }
    }

    /// The issuer has removed a key.
    pub(crate) fn remove(&self, id: &str) {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        removed.push_back(id.to_owned());
        if removed.len() > MOST_REMOVED {
            removed.pop_front();
        }
    }

    fn is_removed(&self, id: &str) -> bool {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|removed| removed == id)
    }

    /// The keys with that id. If the id is unknown, the keys are fetched, at most once in a cool-down for all callers
    /// together. Empty if the issuer has no such key, an error if the issuer could not be asked.
    pub(crate) async fn get(&self, id: &str) -> Result<Arc<[Key]>, IssuerError> {
        if let Some(keys) = self.known(id) {
            return Ok(keys);
        }
        Ok(self.known.fetched().await?.get(id).cloned().unwrap_or_default())
    }

    /// The keys of this id, if they were fetched already.
    pub(crate) fn known(&self, id: &str) -> Option<Arc<[Key]>> {
        if self.is_removed(id) {
            return Some(Arc::default());
        }
        self.known.known()?.get(id).cloned()
    }

    /// Fetches the keys, to see whether they can be had.
    pub(crate) async fn fetch(&self) -> Result<(), IssuerError> {
        self.known.fetched().await.map(|_| ())
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

/// An RSA key without `alg` works with these algorithms, and by PSS (RFC 7517 section 4.4); a curve key, with one.
const ANY_RSA: &[Algorithm] = &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];

/// A key for signatures, by its id. A key for another purpose is skipped (RFC 7517 sections 4.2 and 4.3).
fn read(jwk: &Value) -> Option<(&str, Key)> {
    let is_for_signatures = |usage: &Value| usage.as_str() == Some("sig");
    let verifies = |operations: &Value| {
        operations.as_array().is_some_and(|operations| operations.iter().any(|name| name == "verify"))
    };
    let present = |name: &str| jwk.get(name).filter(|value| !value.is_null());
    if !present("use").is_none_or(is_for_signatures) || !present("key_ops").is_none_or(verifies) {
        return None;
    }
    let Some(id) = jwk.get("kid").and_then(Value::as_str) else {
        tracing::warn!(
            "a key of the issuer has no `kid`: JWTs that are signed with it cannot be verified here"
        );
        return None;
    };
    let key = readable(jwk).unwrap_or_else(|| {
        tracing::info!(kid = ?id, "a key of the issuer cannot be read here: its kind or algorithm is not supported");
        Key::Unreadable
    });
    Some((id, key))
}

fn readable(jwk: &Value) -> Option<Key> {
    use Algorithm::{ES256, ES384, EdDSA, RS256, RS384, RS512};
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let coordinate = |name: &str, bytes: usize| text(name).filter(|text| has_bytes(text, bytes..=bytes));
    let (algorithms, decoding): (&'static [Algorithm], _) = match (text("kty")?, text("crv"), text("alg")) {
        ("RSA", _, algorithm) => {
            let algorithms: &'static [Algorithm] = match algorithm {
                None => ANY_RSA,
                Some("RS256") => &[RS256],
                Some("RS384") => &[RS384],
                Some("RS512") => &[RS512],
                Some(_) => return None,
            };
            // Shorter and longer ones are never verified by the crate below.
            let modulus = text("n").filter(|n| has_bytes(n, 256..=1024))?;
            (algorithms, DecodingKey::from_rsa_components(modulus, text("e")?))
        }
        ("EC", Some("P-256"), None | Some("ES256")) => {
            (&[ES256], DecodingKey::from_ec_components(coordinate("x", 32)?, coordinate("y", 32)?))
        }
        ("EC", Some("P-384"), None | Some("ES384")) => {
            (&[ES384], DecodingKey::from_ec_components(coordinate("x", 48)?, coordinate("y", 48)?))
        }
        ("OKP", Some("Ed25519"), None | Some("EdDSA" | "Ed25519")) => {
            (&[EdDSA], DecodingKey::from_ed_components(text("x")?))
        }
        _ => return None,
    };
    Some(Key::Readable(algorithms, Box::new(decoding.ok()?)))
}

fn has_bytes(text: &str, bytes: RangeInclusive<usize>) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|decoded| bytes.contains(&decoded.len()))
}

/// The algorithms that are accepted, by name: only asymmetric algorithms, never `none` or HMAC.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        // Two names for one algorithm with a key of this kind (RFC 9864 section 2.2).
        "EdDSA" | "Ed25519" => Algorithm::EdDSA,
        _ => return None,
    })
}
