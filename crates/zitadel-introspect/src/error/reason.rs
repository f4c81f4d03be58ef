//! Why a request is refused, and the one table: status, prefix of the text, challenge and gRPC code of each reason.

use http::StatusCode;

use crate::{
    error::issuer::IssuerError,
    names::{Role, Scope},
};

/// Why a request is refused.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// No `Authorization` field, or an empty one.
    #[error("authorization header is empty")]
    MissingToken,
    /// Credentials of another scheme than `Bearer`.
    #[error("missing bearer token")]
    UnsupportedScheme,
    /// Bearer credentials that break the syntax of RFC 6750 section 2.1.
    #[error("malformed token")]
    MalformedToken,
    /// A token of more than 16 KiB. The caller gets the same text as for a malformed token; only the log shows the
    /// difference.
    #[error("malformed token")]
    TokenTooLong,
    /// More than one `Authorization` field.
    #[error("more than one authorization header")]
    RepeatedHeader,
    /// The token is invalid, or not for this API.
    #[error("invalid token")]
    InvalidToken(#[source] InvalidToken),
    /// The caller lacks a role.
    #[error("missing required role: `{}`", printable(role.as_str()))]
    MissingRole {
        /// The role, as the requirement spells it.
        role: Role,
    },
    /// The token lacks a scope.
    #[error("missing required scope: `{}`", printable(scope.as_str()))]
    MissingScope {
        /// The scope, as the requirement spells it.
        scope: Scope,
    },
    /// The caller belongs to another organization. The text does not repeat the required id, which may come from the
    /// request.
    #[error("missing required organization")]
    MissingOrganization,
    /// None of several alternatives is met.
    #[error("{}", any_of(alternatives))]
    MissingAny {
        /// What each alternative lacks.
        alternatives: Vec<Reason>,
    },
    /// The method has no rule. Methods without a rule are denied.
    #[error("no requirement is set")]
    NothingRequired,
    /// No verdict could be obtained, so nothing is known about the token.
    #[error("no verdict from the issuer")]
    Unavailable(#[source] IssuerError),
    /// The adapter is set up wrongly. The text is for the log and says what to do.
    #[error("internal server error")]
    Miswired(&'static str),
}

/// What is wrong with a token. For the log: the caller only learns that it is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidToken {
    /// The issuer says `"active": false` (RFC 7662 section 2.2).
    #[error("the issuer says inactive")]
    Inactive,
    /// `exp` has passed.
    #[error("expired")]
    Expired,
    /// `nbf` lies more than 60 s ahead.
    #[error("not yet valid")]
    NotYetValid,
    /// `iss` is not our issuer.
    #[error("of another issuer")]
    OtherIssuer,
    /// `aud` lacks the configured audience.
    #[error("for another audience")]
    OtherAudience,
    /// Bound to a key (`cnf`, RFC 7800), or of a `token_type` other than `Bearer`: possession of the token alone proves
    /// nothing.
    #[error("not a bearer token")]
    NotABearerToken,
    /// The issuer does not introspect tokens of this kind (`unsupported_token_type`, RFC 7009 section 2.2.1).
    #[error("of a kind that the issuer does not introspect")]
    Unsupported,
    /// Locally verified: not a JWT, or a JWT whose parts are of the wrong shape.
    #[error("malformed")]
    Malformed,
    /// Locally verified: an ID token, a logout token, or another JWT that is no access token.
    #[error("not an access token")]
    NotAnAccessToken,
    /// Locally verified: the issuer publishes no such key.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// Locally verified: the signature is wrong, or made by an algorithm that is never accepted (`none`, HMAC).
    #[error("wrong signature")]
    BadSignature,
    /// Locally verified: signed by an algorithm that this library cannot verify, such as ES512, and the issuer cannot
    /// be asked.
    #[error("signed by an algorithm that cannot be verified here")]
    UnsupportedAlgorithm,
}

/// A row of the one table.
pub(super) struct Row {
    pub(super) status: StatusCode,
    /// Of the text.
    pub(super) prefix: &'static str,
    pub(super) challenge: Challenge,
    /// The status of gRPC.
    pub(super) grpc: i32,
}

pub(super) enum Challenge {
    None,
    Bare,
    Error(&'static str),
}

impl Reason {
    /// Status, prefix of the text and challenge: the one table.
    pub(super) fn row(&self) -> Row {
        let row = |status, prefix, challenge, grpc| Row { status, prefix, challenge, grpc };
        let unauthorized = |challenge| row(StatusCode::UNAUTHORIZED, "unauthorized", challenge, 16);
        match self {
            Self::MissingToken | Self::UnsupportedScheme => unauthorized(Challenge::Bare),
            Self::MalformedToken | Self::TokenTooLong | Self::InvalidToken(_) => {
                unauthorized(Challenge::Error("invalid_token"))
            }
            Self::RepeatedHeader => {
                row(StatusCode::BAD_REQUEST, "bad request", Challenge::Error("invalid_request"), 3)
            }
            Self::MissingRole { .. }
            | Self::MissingScope { .. }
            | Self::MissingOrganization
            | Self::MissingAny { .. } => {
                let challenge = Challenge::Error("insufficient_scope");
                row(StatusCode::FORBIDDEN, "permission denied", challenge, 7)
            }
            Self::NothingRequired => row(StatusCode::FORBIDDEN, "permission denied", Challenge::None, 7),
            Self::Unavailable(_) => row(StatusCode::SERVICE_UNAVAILABLE, "unavailable", Challenge::None, 14),
            Self::Miswired(_) => row(StatusCode::INTERNAL_SERVER_ERROR, "", Challenge::None, 13),
        }
    }
}

/// Replaces characters that are unsafe inside a quoted string or a log line (RFC 6750 section 3).
pub(super) fn printable(name: &str) -> String {
    let harmless = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    name.chars().map(|c| if harmless(c) { c } else { '?' }).collect()
}

/// ``missing required role: `a` or `b` ``, or the full texts joined, if the reasons are of several kinds.
fn any_of(alternatives: &[Reason]) -> String {
    if alternatives.is_empty() {
        return "the requirement cannot be met".to_owned();
    }
    let role = |reason: &Reason| match reason {
        Reason::MissingRole { role } => Some(role.as_str().to_owned()),
        _ => None,
    };
    let scope = |reason: &Reason| match reason {
        Reason::MissingScope { scope } => Some(scope.as_str().to_owned()),
        _ => None,
    };
    let list = |names: Vec<String>| {
        let quoted: Vec<_> = names.iter().map(|name| format!("`{}`", printable(name))).collect();
        quoted.join(" or ")
    };
    if let Some(roles) = alternatives.iter().map(role).collect() {
        return format!("missing required role: {}", list(roles));
    }
    if let Some(scopes) = alternatives.iter().map(scope).collect() {
        return format!("missing required scope: {}", list(scopes));
    }
    let texts: Vec<_> = alternatives.iter().map(ToString::to_string).collect();
    texts.join(" or ")
}
