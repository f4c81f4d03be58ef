//! Authenticates the asking client, as strictly and as laxly as ZITADEL.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

use crate::{
    answer::Answer,
    form::{Form, unescape},
    model::{Application, ApplicationKind, State},
};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far ahead an assertion's `iat` may lie, and how old it may be, in seconds.
const AHEAD: i64 = 1;
const OLDEST: i64 = 3600;

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
    let parts: Vec<_> = assertion.split('.').collect();
    let &[header, claims, signature] = parts.as_slice() else { return Err(Refused::Garbage) };
    let (header, claims) = (json_part(header)?, json_part(claims)?);
    let refused = Refused::Unauthorized;

    let text = |part: &Value, name: &str| part[name].as_str().map(str::to_owned);
    let (Some(client_id), Some(key_id)) = (text(&claims, "iss"), text(&header, "kid")) else {
        return Err(refused);
    };
    let (Some(issued_at), Some(end)) = (claims["iat"].as_i64(), claims["exp"].as_i64()) else {
        return Err(refused);
    };
    let audience_is_issuer = match &claims["aud"] {
        Value::Array(list) => list.iter().any(|audience| audience == issuer),
        one => one == issuer,
    };
    let now = state.now();
    let times_are_right = end > now && issued_at <= now + AHEAD && issued_at >= now - OLDEST;
    if claims["sub"] != client_id || !audience_is_issuer || !times_are_right || header["alg"] != "RS256" {
        return Err(refused);
    }
    let application = state.applications.iter().find(|application| application.client_id == client_id);
    let Some((application, ApplicationKind::KeyApi { keys })) = application.map(|found| (found, &found.kind))
    else {
        return Err(refused);
    };
    let message = assertion.rsplit_once('.').map_or("", |(message, _)| message);
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    let key = keys.iter().find(|key| key.id == key_id);
    if key.is_some_and(|key| key.verifies(message.as_bytes(), &signature)) {
        Ok(application)
    } else {
        Err(refused)
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
