//! Authenticates the asking client, as strictly and as laxly as ZITADEL.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

use crate::{
    answer::Answer,
    form::{Form, unescape},
    keys::SigningKey,
    model::{Application, ApplicationKind, State},
};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far ahead an assertion's `iat` may lie, and how old it may be, in seconds.
const AHEAD: i64 = 1;
pub(crate) const ASSERTION_LIFE: i64 = 3600;

/// The credentials of a request, not yet verified.
pub(crate) enum Credentials {
    Assertion(String),
    Secret { client_id: String, secret: String },
}

/// Why a client is refused.
pub(crate) enum Refused {
    /// The assertion is not a JWT: ZITADEL then answers `{"active":false}`.
    Garbage,
    /// Any other reason; the answer does not say which.
    Unauthorized,
}

impl Credentials {
    /// Takes the credentials from the form or the `Authorization` field; the assertion wins.
    pub(crate) fn take(form: &Form, authorization: Option<&str>) -> Result<Self, Box<Answer>> {
        let basic = authorization.and_then(basic);
        if let Some(assertion) = form.filled("client_assertion") {
            return match form.get("client_assertion_type") {
                Some(ASSERTION_TYPE) => Ok(Self::Assertion(assertion.to_owned())),
                other => {
                    let other = other.unwrap_or_default();
                    let description = format!("invalid client_assertion_type {other}");
                    Err(Answer::oauth_error("invalid_request", Some(&description)).into())
                }
            };
        }
        if let Some((client_id, secret)) = basic {
            return Ok(Self::Secret { client_id, secret });
        }
        let Some(client_id) = form.filled("client_id") else {
            let description = "client_id or client_assertion must be provided";
            return Err(Answer::oauth_error("invalid_request", Some(description)).into());
        };
        match form.filled("client_secret") {
            Some(secret) => Ok(Self::Secret { client_id: client_id.to_owned(), secret: secret.to_owned() }),
            None => Err(Answer::oauth_error("invalid_client", Some("client must be authenticated")).into()),
        }
    }

    /// The API application that these credentials authenticate, if the application and its project are active.
    pub(crate) fn prove<'a>(&self, state: &'a State, issuer: &str) -> Result<&'a Application, Refused> {
        let application = match self {
            Self::Assertion(assertion) => prove_assertion(assertion, state, issuer)?,
            Self::Secret { client_id, secret } => prove_secret(client_id, secret, state)?,
        };
        let project = state.projects.iter().find(|project| project.id == application.project);
        if application.active && project.is_some_and(|project| project.active) {
            Ok(application)
        } else {
            Err(Refused::Unauthorized)
        }
    }
}

fn prove_secret<'a>(client_id: &str, secret: &str, state: &'a State) -> Result<&'a Application, Refused> {
    let is_it = |application: &&Application| {
        let right = matches!(&application.kind, ApplicationKind::SecretApi { secret: own } if own == secret);
        right && application.client_id == client_id
    };
    state.applications.iter().find(is_it).ok_or(Refused::Unauthorized)
}

fn prove_assertion<'a>(assertion: &str, state: &'a State, issuer: &str) -> Result<&'a Application, Refused> {
    let signed = Signed::read(assertion)?;
    let refused = Refused::Unauthorized;
    let Some((client_id, key_id)) = signed.subject_and_key() else { return Err(refused) };
    if !signed.is_timely(state.now(), ASSERTION_LIFE) || !signed.is_for(issuer) {
        return Err(refused);
    }
    let application = state.applications.iter().find(|application| application.client_id == client_id);
    let Some((application, ApplicationKind::KeyApi { keys })) = application.map(|found| (found, &found.kind))
    else {
        return Err(refused);
    };
    let key = keys.iter().find(|key| key.id == key_id && !state.has_ended(&key.id));
    if key.is_some_and(|key| signed.is_signed_by(key)) { Ok(application) } else { Err(refused) }
}

/// An assertion, not verified yet.
pub(crate) struct Signed<'a> {
    message: &'a str,
    signature: Vec<u8>,
    header: Value,
    claims: Value,
}

impl<'a> Signed<'a> {
    pub(crate) fn read(assertion: &'a str) -> Result<Self, Refused> {
        let parts: Vec<_> = assertion.split('.').collect();
        let &[header, claims, signature] = parts.as_slice() else { return Err(Refused::Garbage) };
        let (header, claims) = (json_part(header)?, json_part(claims)?);
        let message = assertion.rsplit_once('.').map_or("", |(message, _)| message);
        Ok(Self { message, signature: URL_SAFE_NO_PAD.decode(signature).unwrap_or_default(), header, claims })
    }

    /// `iss`, which must be `sub` as well, and the key's id.
    pub(crate) fn subject_and_key(&self) -> Option<(String, String)> {
        let subject = self.claims["iss"].as_str().filter(|subject| self.claims["sub"] == *subject)?;
        Some((subject.to_owned(), self.header["kid"].as_str()?.to_owned()))
    }

    pub(crate) fn is_timely(&self, now: i64, life: i64) -> bool {
        let (Some(issued_at), Some(end)) = (self.claims["iat"].as_i64(), self.claims["exp"].as_i64()) else {
            return false;
        };
        end > now && issued_at <= now + AHEAD && issued_at >= now - life
    }

    pub(crate) fn is_for(&self, issuer: &str) -> bool {
        match &self.claims["aud"] {
            Value::Array(list) => list.iter().any(|audience| audience == issuer),
            one => one == issuer,
        }
    }

    pub(crate) fn is_signed_by(&self, key: &SigningKey) -> bool {
        self.header["alg"] == "RS256" && key.verifies(self.message.as_bytes(), &self.signature)
    }
}

fn json_part(part: &str) -> Result<Value, Refused> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Garbage)?;
    serde_json::from_slice(&bytes).map_err(|_| Refused::Garbage)
}

/// Both halves of Basic are unescaped after Base64, as ZITADEL does (RFC 6749 section 2.3.1).
fn basic(authorization: &str) -> Option<(String, String)> {
    let encoded = authorization.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((unescape(id)?, unescape(secret)?))
}
