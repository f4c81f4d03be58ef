//! The client assertion: signed once, used for most of an hour (RFC 7523 section 3).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, Header, crypto};
use secrecy::SecretString;
use serde::Serialize;

use super::key_file::Key;

/// The assertion's type and name, as they stand in a form behind another field (RFC 7523 section 2.2).
pub(crate) const FORM_PREFIX: &str = "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=";

/// ZITADEL refuses an `iat` more than a second ahead of its clock, and one more than an hour old.
const BACKDATED_SECONDS: u64 = 10;
const LIFETIME_SECONDS: u64 = 3600;
/// From this age on a new one is signed beside the old one.
const RENEWED_AT_SECONDS: u64 = 45 * 60;
/// From this age on the old one is not used any more.
const DEAD_AT_SECONDS: u64 = 55 * 60;

/// The assertion of one client for one issuer.
pub(crate) struct Assertions(Arc<Shared>);

struct Shared {
    key: Key,
    issuer: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Assertion>,
    renewing: bool,
}

struct Assertion {
    text: Arc<SecretString>,
    issued_at: u64,
}

impl Assertions {
    pub(crate) fn new(key: Key, issuer: &str) -> Self {
        let state = Mutex::new(State::default());
        Self(Arc::new(Shared { key, issuer: issuer.to_owned(), state }))
    }

    /// The assertion to use now. Signs only where there is none to use; an ageing one is replaced in the
    /// background.
    pub(crate) fn current(&self, now: SystemTime) -> Arc<SecretString> {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut state = self.0.lock();
        match state.current.as_ref().and_then(|current| Some((current, current.age(now)?))) {
            Some((current, age)) if age < DEAD_AT_SECONDS => {
                let text = Arc::clone(&current.text);
                if age >= RENEWED_AT_SECONDS && !state.renewing {
                    state.renewing = true;
                    self.renew(now);
                }
                text
            }
            _ => {
                let signed = self.0.sign(now);
                let text = Arc::clone(&signed.text);
                state.current = Some(signed);
                text
            }
        }
    }

    fn renew(&self, now: u64) {
        let shared = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            let signed = shared.sign(now);
            let mut state = shared.lock();
            state.current = Some(signed);
            state.renewing = false;
        });
    }
}

impl Shared {
    fn sign(&self, now: u64) -> Assertion {
        let issued_at = now.saturating_sub(BACKDATED_SECONDS);
        let text = sign(&self.key, &self.issuer, issued_at).expect("the key has signed when it was loaded");
        Assertion { text: Arc::new(text), issued_at }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Assertion {
    /// `None` where the clock was set back behind the signing: the issuer would refuse it.
    fn age(&self, now: u64) -> Option<u64> {
        now.checked_sub(self.issued_at)
    }
}

#[derive(Serialize)]
struct AssertionClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

/// Signs an assertion; `None` if the key cannot.
pub(crate) fn sign(key: &Key, issuer: &str, issued_at: u64) -> Option<SecretString> {
    install_crypto();
    let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::RS256) };
    let claims = AssertionClaims {
        iss: &key.client_id,
        sub: &key.client_id,
        aud: issuer,
        iat: issued_at,
        exp: issued_at + LIFETIME_SECONDS,
    };
    jsonwebtoken::encode(&header, &claims, &key.private).ok().map(SecretString::from)
}

/// `jsonwebtoken` panics at first use when a build has both of its providers; one is named here. If the
/// user has installed another already, that one stays.
pub(crate) fn install_crypto() {
    let _ = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use secrecy::ExposeSecret;
    use serde_json::Value;
    use zitadel_introspect_testkit::Issuer;

    use super::*;

    async fn assertions() -> Assertions {
        let issuer = Issuer::start().await;
        let api = issuer.project("tasks").api("api");
        let key = Key::from_json(&api.key_json(), None).unwrap();
        Assertions::new(key, "https://issuer.example")
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn part(assertion: &str, index: usize) -> Value {
        let part = assertion.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn an_assertion_is_back_dated_and_lives_an_hour_at_most() {
        let assertions = assertions().await;
        let text = assertions.current(at(1_000_000));
        let (header, claims) = (part(text.expose_secret(), 0), part(text.expose_secret(), 1));
        assert_eq!((&header["alg"], header["kid"].is_string()), (&"RS256".into(), true));
        assert_eq!(
            (claims["iss"].clone(), &claims["aud"]),
            (claims["sub"].clone(), &"https://issuer.example".into())
        );
        assert_eq!((claims["iat"].as_u64(), claims["exp"].as_u64()), (Some(999_990), Some(1_003_590)));
    }

    #[tokio::test]
    async fn it_is_reused_then_renewed_beside_the_old_one_and_never_used_dead() {
        let assertions = assertions().await;
        let first = assertions.current(at(1_000_000));
        assert!(Arc::ptr_eq(&first, &assertions.current(at(1_000_000 + 40 * 60))));
        let ageing = assertions.current(at(1_000_000 + 46 * 60));
        assert!(Arc::ptr_eq(&first, &ageing), "the old one serves while a new one is signed");
        while assertions.0.lock().renewing {
            tokio::task::yield_now().await;
        }
        let second = assertions.current(at(1_000_000 + 46 * 60));
        assert!(!Arc::ptr_eq(&first, &second));
        let third = assertions.current(at(1_000_000 + 110 * 60));
        assert!(!Arc::ptr_eq(&second, &third), "a dead one is replaced at once");
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_signs_anew() {
        let assertions = assertions().await;
        let first = assertions.current(at(1_000_000));
        assert!(!Arc::ptr_eq(&first, &assertions.current(at(990_000))));
    }
}
