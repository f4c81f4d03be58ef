//! Every refusal is created here: this module decides status, challenge and body for all adapters.

pub(crate) mod causes;
pub(crate) mod config;
pub(crate) mod feed;
pub(crate) mod issuer;
#[cfg(feature = "management")]
pub(crate) mod management;
mod reason;

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
};

use self::reason::{Challenge, printable};
pub use self::reason::{InvalidToken, Reason};

/// A refused request: the reason, and the whole answer.
///
/// [`AuthError::reason`] distinguishes errors; [`AuthError::to_response`] is the complete response. The texts are fixed
/// sentences: they contain no text of the issuer, and never the token.
#[derive(Debug, Clone)]
pub struct AuthError {
    reason: Reason,
    presentation: Option<Arc<Presentation>>,
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

    /// For adapters that deny by default: the route has no requirement and is not declared public. `remedy` is logged
    /// unchanged at error level, so it must not contain caller input that could forge a log line. Pass `remedy` only
    /// the first time.
    #[must_use]
    pub fn nothing_required(remedy: Option<&str>) -> Self {
        if let Some(remedy) = remedy {
            tracing::error!(%remedy, "request refused: NOBODY IS LET IN where no requirement is set");
        } else {
            tracing::info!("request refused: no requirement is set");
        }
        Self { reason: Reason::NothingRequired, presentation: None }
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

    /// The status of the answer. An answer needs more than that: challenge, `Retry-After` and `Cache-Control` stand in
    /// [`to_response`](Self::to_response) alone.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.reason.row().status
    }

    /// The value of `WWW-Authenticate` ([RFC 6750 section 3]), where the answer has one.
    ///
    /// [RFC 6750 section 3]: https://www.rfc-editor.org/rfc/rfc6750#section-3
    #[must_use]
    pub fn challenge(&self) -> Option<String> {
        let mut parameters: Vec<(&str, String)> = Vec::new();
        match self.reason.row().challenge {
            Challenge::None => return None,
            Challenge::Bare => {}
            Challenge::Error(error) => parameters.push(("error", error.to_owned())),
        }
        parameters.extend(self.missing_scope().map(|scope| ("scope", scope)));
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
        match self.reason.row().prefix {
            "" => self.reason.to_string(),
            prefix => format!("{prefix}: {}", self.reason),
        }
    }

    /// The complete response: status, challenge and body. Adapters only forward it.
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
        if let Some(delay) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_secs()));
        }
        response
    }

    /// When to try again, if there was no verdict: whole seconds, 1 to 10.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.reason {
            Reason::Unavailable(error) => Some(Duration::from_secs(error.retry_after_seconds())),
            _ => None,
        }
    }

    /// The number of the matching gRPC status: `UNAUTHENTICATED` (16), `PERMISSION_DENIED` (7), `INVALID_ARGUMENT` (3),
    /// `UNAVAILABLE` (14) or `INTERNAL` (13). The gRPC message is the text without prefix, which is also the `Display`
    /// text of the error.
    #[must_use]
    pub fn grpc_code(&self) -> i32 {
        self.reason.row().grpc
    }

    /// A stable name of the reason for programs, in the form of `google.rpc.ErrorInfo`, such as `INVALID_TOKEN`.
    #[must_use]
    pub fn reason_word(&self) -> &'static str {
        match &self.reason {
            Reason::MissingToken => "MISSING_TOKEN",
            Reason::UnsupportedScheme => "UNSUPPORTED_SCHEME",
            Reason::MalformedToken | Reason::TokenTooLong => "MALFORMED_TOKEN",
            Reason::RepeatedHeader => "REPEATED_HEADER",
            Reason::InvalidToken(_) => "INVALID_TOKEN",
            Reason::MissingRole { .. } => "MISSING_ROLE",
            Reason::MissingScope { .. } => "MISSING_SCOPE",
            Reason::MissingOrganization => "MISSING_ORGANIZATION",
            Reason::MissingAny { .. } => "MISSING_ANY",
            Reason::NothingRequired => "NOTHING_REQUIRED",
            Reason::Unavailable(_) => "UNAVAILABLE",
            Reason::Miswired(_) => "INTERNAL",
        }
    }

    /// The scope that the token lacks, as it may stand in a challenge.
    #[must_use]
    pub fn missing_scope(&self) -> Option<String> {
        match &self.reason {
            Reason::MissingScope { scope } => Some(printable(scope.as_str())),
            _ => None,
        }
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

impl fmt::Debug for Presentation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Presentation").field("realm", &self.realm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{issuer::IssuerError, *};

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
            (Reason::NothingRequired, 403, None, "permission denied: no requirement is set"),
            (Reason::Miswired("remedy"), 500, None, "internal server error"),
        ] {
            let error = bare(reason);
            assert_eq!(error.status().as_u16(), status, "{error}");
            assert_eq!(error.challenge().as_deref(), challenge, "{error}");
            let response = error.to_response();
            assert_eq!(response.body(), &format!("{text}\n"));
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503);
            assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
            let grpc = match status {
                400 => 3,
                401 => 16,
                403 => 7,
                503 => 14,
                _ => 13,
            };
            assert_eq!(error.grpc_code(), grpc, "{error}");
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_the_challenge() {
        let error = bare(Reason::MissingScope { scope: "a\" \\\r\n\u{e9}".to_owned().into() });
        assert_eq!(error.challenge().unwrap(), "Bearer error=\"insufficient_scope\", scope=\"a? ????\"");
    }
}
