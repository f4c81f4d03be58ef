//! Takes ZITADEL's signed webhooks (Actions v2): for those who cannot give the right to read events.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::{
    error::config::ConfigError,
    events::{
        event::{Event, Payload, text},
        table,
    },
    peers::{
        apply::{ours, pending, published},
        publish::settled,
    },
    verdict::{
        engine::Engine,
        evict::{Evict, echoes},
    },
    verifier::Verifier,
};

/// The largest body, in bytes. ZITADEL's largest events are some kilobytes.
const MOST_BYTES: usize = 256 * 1024;
/// The longest signature header, in bytes.
const LONGEST_HEADER: usize = 1024;
/// ZITADEL signs with one key; while a key is changed, with two.
const MOST_SIGNATURES: usize = 5;
/// A call is signed when it is made, so its time is the present.
const TOLERANCE: i64 = 300;
/// Calls that are remembered, so that nobody sends one a second time.
const MOST_SEEN: usize = 10_000;
/// Types that are told once each.
const MOST_TOLD: usize = 100;
/// Evictions that wait to be repeated; beyond this they are not.
const MOST_ECHOES: usize = 1000;
/// The shortest signing key that is taken; ZITADEL's have 36 characters.
const LEAST_KEY: usize = 16;

/// Takes the events that ZITADEL sends to a target (Actions v2) and evicts what they end.
///
/// ZITADEL sends each event at most once and never again: a lost one ends no verdict. So a webhook only makes a revocation
/// quicker; verdicts lapse as without it. Who may read the event search has more from an
/// [`EventFeed`](crate::EventFeed).
///
/// A holder of the signing key can only remove verdicts.
///
/// ```
/// use zitadel_introspect::{EventTarget, TestTokens};
///
/// let verifier = TestTokens::new().verifier();
/// let target = EventTarget::new(&verifier, ["the signing key of the target"])?;
/// # Ok::<(), zitadel_introspect::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct EventTarget(Arc<Inner>);

struct Inner {
    verifier: Verifier,
    keys: Vec<SecretString>,
    seen: Mutex<Seen>,
    told: Mutex<HashSet<String>>,
    /// Evictions that wait to be repeated.
    echoes: Arc<Semaphore>,
}

/// The signatures of calls that were taken.
#[derive(Default)]
struct Seen {
    tags: HashSet<Vec<u8>>,
    order: VecDeque<Vec<u8>>,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventTargetError {
    /// There is no signature, more than one field, or one that cannot be read.
    #[error("the field `ZITADEL-Signature` is missing or malformed")]
    NoSignature,
    /// None of the keys has signed this body.
    #[error("the signature is not ZITADEL's: no signing key of this target fits")]
    BadSignature,
    /// The call was signed too long ago, or in the future.
    #[error("the signature is more than 5 minutes away from our clock")]
    NotNow,
    /// The same call was taken before.
    #[error("this call was taken before")]
    Replayed,
    /// The body is too large.
    #[error("the body has more than 262144 bytes")]
    TooLarge,
    /// The body is no event.
    #[error("the body is no event")]
    Malformed,
    /// Verdicts cannot be evicted in this process.
    #[error("verdicts cannot be evicted now")]
    Unavailable,
}

impl EventTargetError {
    /// The status of the answer. ZITADEL ignores it, and never tries again.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoSignature | Self::BadSignature | Self::NotNow => StatusCode::UNAUTHORIZED,
            Self::Replayed => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl EventTarget {
    /// The name of the header field that carries the signature.
    pub const SIGNATURE: &'static str = "zitadel-signature";
    /// The largest body that is read, in bytes.
    pub const MOST_BYTES: usize = MOST_BYTES;

    /// The types of the events that ZITADEL should post to a target: each gets an execution of its own, since ZITADEL calls
    /// the targets of the best matching condition alone.
    #[must_use]
    pub fn event_types() -> Vec<&'static str> {
        table::for_webhooks().collect()
    }

    /// For a verifier, with the signing keys that ZITADEL gave for the target: two while a key is changed.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] if there is no key, or one has fewer than 16 bytes. The message shows no key.
    pub fn new<K: Into<String>>(
        verifier: &Verifier,
        signing_keys: impl IntoIterator<Item = K>,
    ) -> Result<Self, ConfigError> {
        let keys: Vec<_> = signing_keys.into_iter().map(|key| SecretString::from(key.into())).collect();
        let invalid = |problem: &str| {
            let remedy = "give the signing key that ZITADEL showed when the target was made";
            ConfigError::invalid("event_target", problem.to_owned(), remedy)
        };
        if keys.is_empty() {
            return Err(invalid("there is no signing key"));
        }
        if keys.iter().any(|key| key.expose_secret().len() < LEAST_KEY) {
            return Err(invalid("a signing key has fewer than 16 bytes"));
        }
        let (verifier, seen, told) = (verifier.clone(), Mutex::default(), Mutex::default());
        let echoes = Arc::new(Semaphore::new(MOST_ECHOES));
        Ok(Self(Arc::new(Inner { verifier, keys, seen, told, echoes })))
    }

    /// Takes one call: the values of all `ZITADEL-Signature` fields, and the body as it came.
    ///
    /// # Errors
    ///
    /// [`EventTargetError`] if the call is not ZITADEL's, or no event. Nothing is evicted then.
    pub async fn receive<'h>(
        &self,
        signature_fields: impl IntoIterator<Item = &'h [u8]>,
        body: &[u8],
    ) -> Result<(), EventTargetError> {
        let outcome = self.take(signature_fields, body).await;
        if let Err(error) = &outcome {
            tracing::info!(reason = %error, "a webhook is refused");
        }
        outcome
    }

    async fn take<'h>(
        &self,
        signature_fields: impl IntoIterator<Item = &'h [u8]>,
        body: &[u8],
    ) -> Result<(), EventTargetError> {
        if body.len() > MOST_BYTES {
            return Err(EventTargetError::TooLarge);
        }
        let mut fields = signature_fields.into_iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return Err(EventTargetError::NoSignature);
        };
        let signature = Signature::read(field).ok_or(EventTargetError::NoSignature)?;
        let tag = self.verify(&signature, body).ok_or(EventTargetError::BadSignature)?;
        let engine = self.0.verifier.own_engine().ok_or(EventTargetError::Unavailable)?;
        if engine.clock.now().wall().abs_diff(signature.time) > TOLERANCE.unsigned_abs() {
            return Err(EventTargetError::NotNow);
        }
        if !self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(tag) {
            return Err(EventTargetError::Replayed);
        }
        let event = read(body).ok_or(EventTargetError::Malformed)?;
        self.apply(engine, &event, signature.time).await
    }

    fn verify(&self, signature: &Signature, body: &[u8]) -> Option<Vec<u8>> {
        let is_signed = |tag: &&Vec<u8>| {
            self.0.keys.iter().any(|key| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
                let mut message = signature.time_text.clone().into_bytes();
                message.push(b'.');
                message.extend_from_slice(body);
                // Compares in constant time.
                hmac::verify(&key, &message, tag).is_ok()
            })
        };
        signature.tags.iter().find(is_signed).cloned()
    }

    async fn apply(&self, engine: Arc<Engine>, event: &Event, at: i64) -> Result<(), EventTargetError> {
        let mut effect = table::effect(event, ours(&engine));
        if effect.is_unknown {
            self.tell(&event.kind);
        }
        let mut told: Vec<_> = published(event, at, &effect).into_iter().collect();
        // Nobody can be asked whose it is.
        let needed = effect.needs.map(|needed| needed.or);
        told.extend(pending(needed.as_slice(), false, (!effect.only_widens).then_some(at)));
        effect.ends.extend(needed);
        let (ends, changes, echoes) = (effect.ends, effect.changes, effect.echoes);
        let handle = engine.handle.clone();
        let evicting = handle.spawn_blocking(move || {
            let number = engine.apply(&ends, &changes, told);
            (engine, ends, number)
        });
        let (engine, ends, number) = evicting.await.map_err(|_| EventTargetError::Unavailable)?;
        if echoes
            && !ends.is_empty()
            && let Ok(place) = Arc::clone(&self.0.echoes).try_acquire_owned()
        {
            let engine = Arc::downgrade(&engine);
            handle.spawn(async move {
                echo(engine, ends).await;
                drop(place);
            });
        }
        if engine.peers.is_none() {
            return Ok(());
        }
        // On the library's own thread: the caller's runtime may have no timer.
        let telling = handle.spawn(async move {
            match &engine.peers {
                Some(peers) => settled(peers, number).await,
                None => Ok(()),
            }
        });
        // The entry is kept and tried again, but another instance may be quicker.
        telling.await.ok().and_then(Result::ok).ok_or(EventTargetError::Unavailable)
    }

    /// Each unknown type once.
    fn tell(&self, kind: &str) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MOST_TOLD && told.insert(kind.to_owned()) {
            tracing::warn!(event_type = ?kind, "a webhook of an unknown type: all that it may concern is evicted");
        }
    }
}

/// Evicts again, since what ZITADEL answers may lag behind its events.
async fn echo(engine: std::sync::Weak<Engine>, evictions: Vec<Evict>) {
    let mut waited = Duration::ZERO;
    for (at, due) in echoes(&evictions) {
        tokio::time::sleep(at.saturating_sub(waited)).await;
        waited = at;
        let Some(engine) = engine.upgrade() else { return };
        let evicting = tokio::task::spawn_blocking(move || engine.evict(&due));
        let _ = evicting.await;
    }
}

impl Seen {
    /// False if the tag was there before.
    fn insert(&mut self, tag: Vec<u8>) -> bool {
        if !self.tags.insert(tag.clone()) {
            return false;
        }
        self.order.push_back(tag);
        if self.order.len() > MOST_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.tags.remove(&oldest);
        }
        true
    }
}

impl fmt::Debug for EventTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EventTarget").finish_non_exhaustive()
    }
}

/// `t=<unix seconds>,v1=<hex>[,v1=<hex>]`
struct Signature {
    time: i64,
    time_text: String,
    tags: Vec<Vec<u8>>,
}

impl Signature {
    fn read(field: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(field).ok().filter(|text| text.len() <= LONGEST_HEADER)?;
        let (mut time_text, mut tags) = (None, Vec::new());
        for part in text.split(',') {
            match part.trim().split_once('=')? {
                ("t", time) if time_text.is_none() => time_text = Some(time),
                ("t", _) => return None,
                ("v1", hex) => tags.push(from_hex(hex)?),
                // A version that comes one day.
                _ => {}
            }
        }
        let time_text = time_text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.to_owned();
        let time = time_text.parse().ok()?;
        (1..=MOST_SIGNATURES).contains(&tags.len()).then_some(Self { time, time_text, tags })
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
    (digits.len() == 64).then(|| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// An event in the spelling of the webhooks. What cannot be read is missing, and widens what is evicted.
fn read(body: &[u8]) -> Option<Event> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let members = value.as_object()?;
    let member = |name: &str| text(members.get(name)).unwrap_or_default();
    Some(Event {
        kind: member("event_type"),
        aggregate: member("aggregateType"),
        id: member("aggregateID"),
        owner: member("resourceOwner"),
        sequence: String::new(),
        payload: payload(members.get("event_payload")),
    })
}

/// An object; older versions send it as text in Base64.
fn payload(value: Option<&Value>) -> Payload {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let Some(Value::String(encoded)) = value else { return Payload::read(value) };
    let decoded = STANDARD.decode(encoded).ok().and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    Payload::read(decoded.as_ref())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signatures_are_read_strictly() {
        let tag = "ab".repeat(32);
        let read = |text: &str| Signature::read(text.as_bytes());
        let one = read(&format!("t=1700000000,v1={tag}")).unwrap();
        assert_eq!((one.time, one.tags.len()), (1_700_000_000, 1));
        let several = |count: usize| format!("t=1,{}", vec![format!("v1={tag}"); count].join(","));
        assert_eq!(read(&several(MOST_SIGNATURES)).unwrap().tags.len(), MOST_SIGNATURES);
        for broken in [
            "",
            "t=1",
            &format!("v1={tag}"),
            &format!("t=1,t=2,v1={tag}"),
            &format!("t=-1,v1={tag}"),
            &format!("t=,v1={tag}"),
            &format!("t=99999999999999999999,v1={tag}"),
            &format!("t=1,v1={}", &tag[2..]),
            &format!("t=1,v1={}zz", &tag[2..]),
            &format!("t=1,v1={tag}00"),
            &several(MOST_SIGNATURES + 1),
            &format!("t=1,v1={tag},x={}", "y".repeat(LONGEST_HEADER)),
        ] {
            assert!(read(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn payloads_come_as_objects_as_text_or_not_at_all() {
        let token = |body: &str| read(body.as_bytes()).map(|event| event.payload.token);
        assert_eq!(token(r#"{"event_payload":{"tokenId":"7"}}"#), Some(Some("7".to_owned())));
        assert_eq!(token(r#"{"event_payload":"eyJ0b2tlbklkIjoiNyJ9"}"#), Some(Some("7".to_owned())));
        for empty in
            ["{}", r#"{"event_payload":null}"#, r#"{"event_payload":{}}"#, r#"{"event_payload":"?"}"#]
        {
            assert_eq!(token(empty), Some(None), "{empty}");
        }
        assert_eq!([token("[]"), token("7"), token("")], [None, None, None]);
    }

    #[test]
    fn calls_that_were_taken_are_remembered_within_bounds() {
        let mut seen = Seen::default();
        assert!(seen.insert(vec![1]) && !seen.insert(vec![1]));
        for number in 0..MOST_SEEN {
            seen.insert(number.to_be_bytes().to_vec());
        }
        assert_eq!((seen.tags.len(), seen.order.len()), (MOST_SEEN, MOST_SEEN));
        assert!(seen.insert(vec![1]), "the oldest is forgotten");
    }

    proptest! {
        #[test]
        fn no_header_and_no_body_makes_a_panic(field in proptest::collection::vec(any::<u8>(), 0..200), body in ".{0,200}") {
            let _ = Signature::read(&field);
            let _ = read(body.as_bytes());
        }
    }
}
