//! An answer with the headers that ZITADEL gives it.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// Status, headers and body of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn plain(status: StatusCode, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let headers = [
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_TYPE, content_type),
            (header::PRAGMA, "no-cache"),
            (header::VARY, "Origin"),
        ];
        let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
        Self { status, headers: headers.into_iter().collect(), body: body.into() }
    }

    /// JSON with a newline at its end and the cookie that ZITADEL always sets.
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        Self::empty_json(status).with_body(format!("{body}\n"))
    }

    pub(crate) fn empty_json(status: StatusCode) -> Self {
        Self::plain(status, "application/json", "")
            .with_header(header::VARY, "Origin, Cookie")
            .with_header(header::SET_COOKIE, "zitadel.useragent=testkit; Path=/; HttpOnly; SameSite=Lax")
    }

    pub(crate) fn oauth_error(error: &str, description: Option<&str>) -> Self {
        let body = match description {
            Some(description) => json!({"error": error, "error_description": description}),
            None => json!({"error": error}),
        };
        Self::json(StatusCode::BAD_REQUEST, &body)
    }

    pub(crate) fn inactive() -> Self {
        Self::json(StatusCode::OK, &json!({"active": false}))
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).expect("a header value of the testkit's own"));
        self
    }

    fn with_body(mut self, body: String) -> Self {
        self.body = body.into_bytes();
        self
    }
}
