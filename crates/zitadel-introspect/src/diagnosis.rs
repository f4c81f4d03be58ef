//! Why an issuer may call a token inactive: read from the token's own text, for people, never for a decision.

use std::time::Duration;

use serde_json::Value;

use crate::{
    clock::Now,
    error::Reason,
    issuer::name::Issuer,
    jwt::Jwt,
    token::{AccessToken, MAX_TOKEN_BYTES},
};

/// A possible reason, from the **unverified** text of a token, why its issuer calls the token inactive.
///
/// For the person who runs a check; never for a decision. Each message begins with "it", which means the token. From
/// [`Verifier::suspect`](crate::Verifier::suspect).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Suspicion {
    /// Text that cannot be a bearer token.
    #[error(
        "it is no token: a token has no white space and no characters beyond those of RFC 6750 section 2.1"
    )]
    Malformed,
    /// More bytes than a token may have.
    #[error("it is longer than {MAX_TOKEN_BYTES} bytes, and longer tokens are refused")]
    TooLong,
    /// No JWT, so that nothing can be read.
    #[error(
        "it is opaque, so that it does not say more: its client did not ask for the scope \
        urn:zitadel:iam:org:project:id:{{projectId}}:aud with the id of this API's project (the commonest cause), or it \
        has expired, was revoked, belongs to another instance, or its user was deactivated"
    )]
    Opaque,
    /// `iss` is another issuer.
    #[error("it is a JWT of another issuer: {found:?}, not {expected:?}")]
    OtherIssuer {
        /// What the token says.
        found: String,
        /// Our issuer.
        expected: String,
    },
    /// `exp` has passed.
    #[error("it expired {} s ago", ago.as_secs())]
    Expired {
        /// How long ago.
        ago: Duration,
    },
    /// `nbf` lies ahead.
    #[error("it is not valid before {} s from now: is a clock wrong?", ahead.as_secs())]
    NotYetValid {
        /// How far.
        ahead: Duration,
    },
    /// It carries claims of an ID token, and no `jti`.
    #[error("it is an ID token, which is for the client alone: send the access token")]
    IdToken,
    /// `aud` does not name us.
    #[error(
        "its audience {audience:?} does not name our client {client_id:?}; if the id of our project is missing as well, \
        its client must ask for the scope urn:zitadel:iam:org:project:id:{{projectId}}:aud"
    )]
    OtherAudience {
        /// What the token says.
        audience: Vec<String>,
        /// The client id of the API.
        client_id: String,
    },
    /// The text shows no problem.
    #[error(
        "it looks right: it was revoked, its user was deactivated, or it is not what the issuer has signed"
    )]
    Unremarkable,
}

impl Suspicion {
    /// All suspicions about a token; at least one.
    pub(crate) fn of(token: &str, issuer: &Issuer, client_id: &str, now: Now) -> Vec<Self> {
        let token = match token.parse::<AccessToken>() {
            Ok(token) => token,
            Err(Reason::TokenTooLong) => return vec![Self::TooLong],
            Err(_) => return vec![Self::Malformed],
        };
        let claims = Jwt::of(&token).and_then(|jwt| serde_json::from_str(jwt.claims()).ok());
        let Some(claims) = claims else { return vec![Self::Opaque] };
        let found = Self::in_claims(&claims, issuer, client_id, now);
        if found.is_empty() { vec![Self::Unremarkable] } else { found }
    }

    fn in_claims(claims: &Value, issuer: &Issuer, client_id: &str, now: Now) -> Vec<Self> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let mut found = Vec::new();
        if !issuer.is_named_by(text("iss")) {
            let expected = issuer.as_str().to_owned();
            found.push(Self::OtherIssuer { found: text("iss").to_owned(), expected });
        }
        if claims.get("jti").is_none() {
            found.push(Self::IdToken);
        }
        let now = u64::try_from(now.wall()).unwrap_or_default();
        let time = |name: &str| claims.get(name).and_then(Value::as_u64);
        if let Some(ago) = time("exp").and_then(|end| now.checked_sub(end)) {
            found.push(Self::Expired { ago: Duration::from_secs(ago) });
        }
        if let Some(ahead) = time("nbf").and_then(|begin| begin.checked_sub(now)).filter(|ahead| *ahead > 60)
        {
            found.push(Self::NotYetValid { ahead: Duration::from_secs(ahead) });
        }
        let audience: Vec<String> = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        if !audience.iter().any(|name| name == client_id) {
            found.push(Self::OtherAudience { audience, client_id: client_id.to_owned() });
        }
        found
    }
}
