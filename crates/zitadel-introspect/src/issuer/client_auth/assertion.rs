//! The client assertion: signed once and used for most of an hour, or signed for each question (RFC 7523 section 3).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use secrecy::SecretString;

use crate::issuer::client_auth::key::Key;

/// The assertion's type and name, as they stand in a form behind another field (RFC 7523 section 2.2).
pub(crate) const FORM_PREFIX: &str = "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=";

/// ZITADEL refuses an `iat` more than a second ahead of its clock, or more than an hour old.
const BACKDATED_SECONDS: u64 = 10;
/// From this age on, a new assertion is signed in the background.
const RENEWED_AT_SECONDS: u64 = 45 * 60;
/// From this age on, the old assertion is no longer used.
const DEAD_AT_SECONDS: u64 = 55 * 60;

/// The assertions of one client.
pub(crate) struct Assertions(Arc<Shared>);

struct Shared {
    key: Key,
    /// Some issuers refuse an assertion that they have seen before; ZITADEL does not.
    is_single_use: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Assertion>,
    renewing: bool,
}

struct Assertion {
    text: Arc<SecretString>,
    issuer: String,
    issued_at: u64,
}

impl Assertions {
    pub(crate) fn new(key: Key, is_single_use: bool) -> Self {
        Self(Arc::new(Shared { key, is_single_use, state: Mutex::default() }))
    }

    /// The assertion to use now. `issuer` is the name in the issuer's own metadata. Signs a new assertion if none can
    /// be used; an old assertion is replaced in the background.
    pub(crate) async fn get(&self, issuer: &str, now: SystemTime) -> Arc<SecretString> {
        if !self.0.is_single_use {
            return self.current(issuer, now);
        }
        let (shared, issuer) = (Arc::clone(&self.0), issuer.to_owned());
        let signed = tokio::task::spawn_blocking(move || shared.sign(&issuer, unix_seconds(now)));
        signed.await.expect("signing does not panic, and the runtime outlives its tasks").text
    }

    fn current(&self, issuer: &str, now: SystemTime) -> Arc<SecretString> {
        let now = unix_seconds(now);
        let mut state = self.0.lock();
        let known = state.current.as_ref().filter(|current| current.issuer == issuer);
        match known.and_then(|current| Some((current, current.age(now)?))) {
            Some((current, age)) if age < DEAD_AT_SECONDS => {
                let text = Arc::clone(&current.text);
                if age >= RENEWED_AT_SECONDS && !state.renewing {
                    state.renewing = true;
                    self.renew(issuer, now);
                }
                text
            }
            _ => {
                let signed = self.0.sign(issuer, now);
                let text = Arc::clone(&signed.text);
                state.current = Some(signed);
                text
            }
        }
    }

    fn renew(&self, issuer: &str, now: u64) {
        let (shared, issuer) = (Arc::clone(&self.0), issuer.to_owned());
        tokio::task::spawn_blocking(move || {
            let signed = shared.sign(&issuer, now);
            let mut state = shared.lock();
            state.current = Some(signed);
            state.renewing = false;
        });
    }
}

impl Shared {
    fn sign(&self, issuer: &str, now: u64) -> Assertion {
        let issued_at = now.saturating_sub(BACKDATED_SECONDS);
        let text = self.key.sign(issuer, issued_at, self.is_single_use);
        let text = Arc::new(text.expect("the key has signed when it was loaded"));
        Assertion { text, issuer: issuer.to_owned(), issued_at }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Assertion {
    /// `None` if the clock was set back to before the signing: the issuer would refuse the assertion.
    fn age(&self, now: u64) -> Option<u64> {
        now.checked_sub(self.issued_at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use secrecy::ExposeSecret;
    use serde_json::Value;
    use zitadel_introspect_testkit::Issuer;

    use super::*;
    use crate::issuer::client_auth::Owner;

    async fn assertions() -> Assertions {
        let issuer = Issuer::start().await;
        let api = issuer.project("tasks").api("api");
        Assertions::new(Key::parse(&api.key_json(), Owner::Application, None).unwrap(), false)
    }

    const ISSUER: &str = "https://issuer.example";

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
        let text = assertions.current(ISSUER, at(1_000_000));
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
        let first = assertions.current(ISSUER, at(1_000_000));
        assert!(Arc::ptr_eq(&first, &assertions.current(ISSUER, at(1_000_000 + 40 * 60))));
        let ageing = assertions.current(ISSUER, at(1_000_000 + 46 * 60));
        assert!(Arc::ptr_eq(&first, &ageing), "the old one serves while a new one is signed");
        while assertions.0.lock().renewing {
            tokio::task::yield_now().await;
        }
        let second = assertions.current(ISSUER, at(1_000_000 + 46 * 60));
        assert!(!Arc::ptr_eq(&first, &second));
        let third = assertions.current(ISSUER, at(1_000_000 + 110 * 60));
        assert!(!Arc::ptr_eq(&second, &third), "a dead one is replaced at once");
    }

    #[tokio::test]
    async fn an_issuer_that_spells_itself_otherwise_gets_its_own() {
        let assertions = assertions().await;
        let first = assertions.current(ISSUER, at(1_000_000));
        let other = assertions.current("https://issuer.example:443", at(1_000_000));
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(part(other.expose_secret(), 1)["aud"], "https://issuer.example:443");
    }

    #[tokio::test]
    async fn one_for_each_question_has_an_id_and_is_not_used_again() {
        let shared = Arc::clone(&assertions().await.0);
        let single = Assertions::new(shared.key.clone(), true);
        let (first, second) =
            (single.get(ISSUER, at(1_000_000)).await, single.get(ISSUER, at(1_000_000)).await);
        let id = |text: &SecretString| part(text.expose_secret(), 1)["jti"].as_str().unwrap().to_owned();
        assert_ne!(id(&first), id(&second));
        assert_eq!(id(&first).len(), 32);
        assert!(part(shared.sign(ISSUER, 1).text.expose_secret(), 1).get("jti").is_none());
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_signs_anew() {
        let assertions = assertions().await;
        let first = assertions.current(ISSUER, at(1_000_000));
        assert!(!Arc::ptr_eq(&first, &assertions.current(ISSUER, at(990_000))));
    }
}
