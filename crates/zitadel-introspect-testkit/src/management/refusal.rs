//! Refused calls, in the two forms in which ZITADEL tells them.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use http::{StatusCode, header};
use serde_json::json;

use crate::answer::Answer;

/// How an error is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The code is a word.
    Connect,
    /// The code is a number.
    Grpc,
}

/// A refused call.
pub(crate) struct Refusal {
    kind: Kind,
    message: String,
    id: Option<&'static str>,
}

#[derive(Clone, Copy)]
enum Kind {
    Invalid,
    Precondition,
    NotFound,
    Exists,
    Denied,
    Unauthenticated,
}

impl Kind {
    fn told(self) -> (StatusCode, &'static str, u8) {
        match self {
            Self::Invalid => (StatusCode::BAD_REQUEST, "invalid_argument", 3),
            Self::Precondition => (StatusCode::BAD_REQUEST, "failed_precondition", 9),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", 5),
            Self::Exists => (StatusCode::CONFLICT, "already_exists", 6),
            Self::Denied => (StatusCode::FORBIDDEN, "permission_denied", 7),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", 16),
        }
    }
}

impl Refusal {
    fn new(kind: Kind, message: impl Into<String>, id: impl Into<Option<&'static str>>) -> Self {
        Self { kind, message: message.into(), id: id.into() }
    }

    /// By a rule of the message itself.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message, None)
    }

    /// By a rule of the thing.
    pub(crate) fn wrong(message: &str, id: &'static str) -> Self {
        Self::new(Kind::Invalid, message, id)
    }

    /// What the call refers to is not there.
    pub(crate) fn precondition(message: &str, id: &'static str) -> Self {
        Self::new(Kind::Precondition, message, id)
    }

    pub(crate) fn not_found(message: &str, id: &'static str) -> Self {
        Self::new(Kind::NotFound, message, id)
    }

    pub(crate) fn exists(message: &str, id: &'static str) -> Self {
        Self::new(Kind::Exists, message, id)
    }

    pub(crate) fn denied(message: &str, id: &'static str) -> Self {
        Self::new(Kind::Denied, message, id)
    }

    pub(crate) fn unauthenticated(message: &str, id: Option<&'static str>) -> Self {
        Self::new(Kind::Unauthenticated, message, id)
    }

    pub(crate) fn answer(&self, form: Form) -> Answer {
        let (status, word, number) = self.kind.told();
        let told = self.id.map_or_else(|| self.message.clone(), |id| format!("{} ({id})", self.message));
        let code = if form == Form::Connect { json!(word) } else { json!(number) };
        let mut body = json!({"code": code, "message": told});
        if let Some(id) = self.id {
            body["details"] = json!([self.detail(form, id)]);
        }
        let answer = Answer::json(status, &body);
        if form == Form::Grpc && status == StatusCode::UNAUTHORIZED {
            return answer.with_header(header::WWW_AUTHENTICATE, &told);
        }
        answer
    }

    fn detail(&self, form: Form, id: &str) -> serde_json::Value {
        let message = &self.message;
        match form {
            Form::Connect => json!({
                "type": "zitadel.v1.ErrorDetail",
                "value": STANDARD_NO_PAD.encode(error_detail(id, message)),
                "debug": {"id": id, "message": message},
            }),
            Form::Grpc => {
                json!({"@type": "type.googleapis.com/zitadel.v1.ErrorDetail", "id": id, "message": message})
            }
        }
    }
}

/// The protocol buffer of an error's detail: two texts, none longer than 127 bytes.
fn error_detail(id: &str, message: &str) -> Vec<u8> {
    let field = |tag: u8, text: &str| {
        let length = u8::try_from(text.len()).unwrap_or(127);
        [&[tag, length], text.as_bytes()].concat()
    };
    [field(0x0a, id), field(0x12, message)].concat()
}
