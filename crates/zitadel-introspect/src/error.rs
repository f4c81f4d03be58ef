//! Every refusal leaves by this door: status, challenge and body are decided here, for all adapters.

use std::{error::Error, fmt, sync::Arc};

use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
};

use crate::{
    issuer_error::IssuerError,
    names::{Role, Scope},
};

/// What a request can meet: why it is refused, and the answer that says so.
///
/// [`AuthError::reason`] tells errors apart; [`AuthError::to_response`] is the whole answer. Its texts
/// are fixed sentences: nothing of the issuer's, and never the token.
#[derive(Debug, Clone)]
pub struct AuthError {
    reason: Reason,
    presentation: Option<Arc<Presentation>>,
}

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
    /// Bearer credentials that break the syntax of RFC 6750 section 2.1 or exceed 16 KiB.
    #[error("malformed token")]
    MalformedToken,
    /// More than one `Authorization` field.
    #[error("more than one authorization header")]
    RepeatedHeader,
    /// The token is dead, or not for us.
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
    /// The caller belongs to another organization. Its id may have come with the request and is not repeated.
    #[error("missing required organization")]
    MissingOrganization,
    /// None of several alternatives is met.
    #[error("{}", any_of(alternatives))]
    MissingAny {
        /// What each alternative lacks.
        alternatives: Vec<Reason>,
    },
    /// No verdict could be had: nothing is said about the token.
    #[error("no verdict from the issuer")]
    Unavailable(#[source] IssuerError),
    /// The libraries are wired wrongly; the text is for the log and says what to do.
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
    /// Locally verified: not a JWT, or one whose parts are of the wrong shape.
    #[error("malformed")]
    Malformed,
    /// Locally verified: an ID token, a logout token, or another JWT that is no access token.
    #[error("not an access token")]
    NotAnAccessToken,
    /// Locally verified: the issuer publishes no such key.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// Locally verified: the signature is wrong, or made by an algorithm that is not taken.
    #[error("wrong signature")]
    BadSignature,
}

/// How a verifier's user wants errors to look.
#[derive(Default)]
pub(crate) struct Presentation {
    pub(crate) realm: Option<String>,
    /// Where the API describes itself (RFC 9728 section 5.1).
    pub(crate) resource_metadata: Option<String>,
    pub(crate) body: Option<ErrorBody>,
}

/// Renders an error's body, and the body's media type.
pub(crate) struct ErrorBody {
    pub(crate) content_type: HeaderValue,
    pub(crate) render: Box<dyn Fn(&AuthError) -> String + Send + Sync>,
}

impl AuthError {
    pub(crate) fn new(reason: Reason, presentation: &Arc<Presentation>) -> Self {
        Self { reason, presentation: Some(Arc::clone(presentation)) }
    }

    /// For adapters: an extractor or a layer that cannot find its verifier. `remedy` goes to the log.
    #[must_use]
    pub fn miswired(remedy: &'static str) -> Self {
        tracing::error!(remedy, "request refused: the libraries are wired wrongly");
        Self { reason: Reason::Miswired(remedy), presentation: None }
    }

    /// Why the request is refused.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Whether the request carried no bearer credentials at all: the only case in which an optional
    /// caller is absent rather than refused.
    #[must_use]
    pub fn is_without_credentials(&self) -> bool {
        matches!(self.reason, Reason::MissingToken | Reason::UnsupportedScheme)
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.reason.answer().0
    }

    /// The value of `WWW-Authenticate` ([RFC 6750 section 3]), where the answer has one.
    ///
    /// [RFC 6750 section 3]: https://www.rfc-editor.org/rfc/rfc6750#section-3
    #[must_use]
    pub fn challenge(&self) -> Option<String> {
        let (_, _, error) = self.reason.answer();
        let mut parameters: Vec<(&str, String)> = Vec::new();
        match error {
            Challenge::None => return None,
            Challenge::Bare => {}
            Challenge::Error(error) => parameters.push(("error", error.to_owned())),
        }
        if let Reason::MissingScope { scope } = &self.reason {
            parameters.push(("scope", printable(scope.as_str())));
        }
        if let Some(wish) = &self.presentation {
            parameters.extend(wish.realm.clone().map(|realm| ("realm", realm)));
            parameters.extend(wish.resource_metadata.clone().map(|place| ("resource_metadata", place)));
        }
        let list: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        Some(format!("Bearer {}", list.join(", ")).trim_end().to_owned())
    }

    /// One line that says why, after ZITADEL's guide for APIs: `unauthorized: <reason>`,
    /// `permission denied: <reason>`.
    #[must_use]
    pub fn text(&self) -> String {
        match self.reason.answer().1 {
            "" => self.reason.to_string(),
            prefix => format!("{prefix}: {}", self.reason),
        }
    }

    /// The whole answer: status, challenge and body. Adapters carry it, they decide nothing.
    #[must_use]
    pub fn to_response(&self) -> Response<String> {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        let (content_type, body) = match self.presentation.as_ref().and_then(|wish| wish.body.as_ref()) {
            Some(own) => (own.content_type.clone(), (own.render)(self)),
            None => (plain, self.text() + "\n"),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge().and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Reason::Unavailable(error) = &self.reason {
            headers.insert(RETRY_AFTER, HeaderValue::from(error.retry_after_seconds()));
        }
        response
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(formatter)
    }
}

impl Error for AuthError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

enum Challenge {
    None,
    Bare,
    Error(&'static str),
}

impl Reason {
    /// Status, prefix of the text and challenge: the one table.
    fn answer(&self) -> (StatusCode, &'static str, Challenge) {
        use Challenge::{Bare, Error, None};
        match self {
            Self::MissingToken | Self::UnsupportedScheme => (StatusCode::UNAUTHORIZED, "unauthorized", Bare),
            Self::MalformedToken | Self::InvalidToken(_) => {
                (StatusCode::UNAUTHORIZED, "unauthorized", Error("invalid_token"))
            }
            Self::RepeatedHeader => (StatusCode::BAD_REQUEST, "bad request", Error("invalid_request")),
            Self::MissingRole { .. }
            | Self::MissingScope { .. }
            | Self::MissingOrganization
            | Self::MissingAny { .. } => {
                (StatusCode::FORBIDDEN, "permission denied", Error("insufficient_scope"))
            }
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", None),
            Self::Miswired(_) => (StatusCode::INTERNAL_SERVER_ERROR, "", None),
        }
    }
}

impl fmt::Debug for Presentation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Presentation").field("realm", &self.realm).finish_non_exhaustive()
    }
}

/// Keeps a name out of trouble inside a quoted string and a log line (RFC 6750 section 3).
fn printable(name: &str) -> String {
    let harmless = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    name.chars().map(|c| if harmless(c) { c } else { '?' }).collect()
}

/// ``missing required role: `a` or `b` ``, or whole reasons joined where they are of several kinds.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(reason: Reason) -> AuthError {
        AuthError { reason, presentation: None }
    }

    #[test]
    fn every_row_of_the_table_has_its_status_challenge_and_text() {
        let inactive = Reason::InvalidToken(InvalidToken::Inactive);
        let admin = Reason::MissingRole { role: "admin".into() };
        let write = Reason::MissingScope { scope: "tasks:write".into() };
        let viewer = Reason::MissingRole { role: "viewer".into() };
        let either = Reason::MissingAny { alternatives: vec![admin.clone(), viewer] };
        let mixed = Reason::MissingAny { alternatives: vec![admin.clone(), write.clone()] };
        let insufficient = "Bearer error=\"insufficient_scope\"";
        for (reason, status, challenge, text) in [
            (Reason::MissingToken, 401, Some("Bearer"), "unauthorized: authorization header is empty"),
            (Reason::UnsupportedScheme, 401, Some("Bearer"), "unauthorized: missing bearer token"),
            (
                Reason::MalformedToken,
                401,
                Some("Bearer error=\"invalid_token\""),
                "unauthorized: malformed token",
            ),
            (inactive, 401, Some("Bearer error=\"invalid_token\""), "unauthorized: invalid token"),
            (
                Reason::RepeatedHeader,
                400,
                Some("Bearer error=\"invalid_request\""),
                "bad request: more than one authorization header",
            ),
            (admin, 403, Some(insufficient), "permission denied: missing required role: `admin`"),
            (
                write,
                403,
                Some("Bearer error=\"insufficient_scope\", scope=\"tasks:write\""),
                "permission denied: missing required scope: `tasks:write`",
            ),
            (
                Reason::MissingOrganization,
                403,
                Some(insufficient),
                "permission denied: missing required organization",
            ),
            (
                either,
                403,
                Some(insufficient),
                "permission denied: missing required role: `admin` or `viewer`",
            ),
            (
                mixed,
                403,
                Some(insufficient),
                "permission denied: missing required role: `admin` or missing required scope: `tasks:write`",
            ),
            (
                Reason::Unavailable(IssuerError::TimedOut),
                503,
                None,
                "unavailable: no verdict from the issuer",
            ),
            (Reason::Miswired("remedy"), 500, None, "internal server error"),
        ] {
            let error = bare(reason);
            assert_eq!(error.status().as_u16(), status, "{error}");
            assert_eq!(error.challenge().as_deref(), challenge, "{error}");
            let response = error.to_response();
            assert_eq!(response.body(), &format!("{text}\n"));
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503);
            assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_the_challenge() {
        let error = bare(Reason::MissingScope { scope: "a\" \\\r\n\u{e9}".to_owned().into() });
        assert_eq!(error.challenge().unwrap(), "Bearer error=\"insufficient_scope\", scope=\"a? ????\"");
    }
}
