//! Why a call of ZITADEL's own APIs failed.

use std::fmt;

use serde_json::Value;

use crate::error::issuer::IssuerError;

/// The longest text of ZITADEL that is repeated, in characters.
const LONGEST_SHOWN: usize = 300;
/// ZITADEL's id for a caller without any role where the call is about; the status is then 404.
const NO_MEMBERSHIP: &str = "AUTHZ-cdgFk";

/// Why a call of ZITADEL's own APIs failed. For consoles and logs: its texts name addresses.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ManagementError {
    /// There is no usable answer. It is not known whether the call took effect.
    #[error("{}", .0.explain())]
    Issuer(#[from] IssuerError),
    /// ZITADEL has refused the call.
    #[error("{0}")]
    Refused(Refusal),
}

/// A refused call, by the Connect protocol (`code` is a word) or gRPC's JSON (`code` is a number).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The meaning.
    pub kind: RefusalKind,
    /// ZITADEL's message, without control characters; the first 300 characters.
    pub message: String,
}

/// The meaning of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The token is wrong, expired or revoked.
    Unauthenticated,
    /// The user of the token has no right to this call. ZITADEL answers 403 for a wrong role, and 404 for none at all.
    NoPermission,
    /// It is there already.
    AlreadyExists,
    /// It is not there.
    NotFound,
    /// This ZITADEL does not have this call: it is older than version 4.5.
    UnknownMethod,
    /// Something else: the message says what.
    Other,
}

impl ManagementError {
    /// The meaning of the refusal; `None` if there is no usable answer.
    #[must_use]
    pub fn refusal(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused(refusal) => Some(refusal.kind),
            Self::Issuer(_) => None,
        }
    }
}

impl Refusal {
    /// Reads the body of an error; `None` if it is not one of ZITADEL's.
    pub(crate) fn read(status: u16, body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let message = body.get("message")?.as_str()?;
        let code = match body.get("code")? {
            Value::String(code) => code.as_str(),
            Value::Number(code) => word_of(code.as_u64()?),
            _ => return None,
        };
        let kind = match code {
            _ if message.contains(NO_MEMBERSHIP) => RefusalKind::NoPermission,
            // ZITADEL's own texts are longer: this one is the gateway's, for a path that it does not know.
            "not_found" if message == "Not Found" => RefusalKind::UnknownMethod,
            "unauthenticated" => RefusalKind::Unauthenticated,
            "permission_denied" => RefusalKind::NoPermission,
            "already_exists" => RefusalKind::AlreadyExists,
            "not_found" => RefusalKind::NotFound,
            "unimplemented" => RefusalKind::UnknownMethod,
            _ if status == 401 => RefusalKind::Unauthenticated,
            _ => RefusalKind::Other,
        };
        let printable = message.chars().map(|c| if c.is_control() { ' ' } else { c });
        Some(Self { kind, message: printable.take(LONGEST_SHOWN).collect() })
    }

    pub(crate) fn unknown_method() -> Self {
        Self { kind: RefusalKind::UnknownMethod, message: "page not found".to_owned() }
    }
}

/// The word of a number of gRPC.
fn word_of(code: u64) -> &'static str {
    match code {
        5 => "not_found",
        6 => "already_exists",
        7 => "permission_denied",
        12 => "unimplemented",
        16 => "unauthenticated",
        _ => "unknown",
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, message } = self;
        match kind {
            RefusalKind::Unauthenticated => {
                write!(
                    formatter,
                    "ZITADEL does not accept the token ({message}): it is wrong, expired or revoked"
                )
            }
            RefusalKind::UnknownMethod => {
                write!(
                    formatter,
                    "this ZITADEL does not have this call ({message}): a newer version 4 is needed (4.5, or later)"
                )
            }
            _ => write!(formatter, "ZITADEL refuses: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_in_both_forms() {
        use RefusalKind::*;
        for (status, body, kind) in [
            (
                409,
                r#"{"code":"already_exists","message":"Project already exists (V3-DKcYh)"}"#,
                AlreadyExists,
            ),
            (409, r#"{"code":6,"message":"Errors.Instance.Member.AlreadyExists"}"#, AlreadyExists),
            (404, r#"{"code":"not_found","message":"membership not found (AUTHZ-cdgFk)"}"#, NoPermission),
            (404, r#"{"code":5,"message":"membership not found (AUTHZ-cdgFk)"}"#, NoPermission),
            (403, r#"{"code":7,"message":"No matching permissions found (AUTH-5mWD2)"}"#, NoPermission),
            (404, r#"{"code":"not_found","message":"Target not found (COMMAND-xj14f2cccn)"}"#, NotFound),
            (404, r#"{"code":5,"message":"Not Found"}"#, UnknownMethod),
            (401, r#"{"code":16,"message":"auth header missing"}"#, Unauthenticated),
            (401, r#"{"code":"odd","message":"x"}"#, Unauthenticated),
            (400, r#"{"code":"invalid_argument","message":"Limit exceeded"}"#, Other),
        ] {
            assert_eq!(Refusal::read(status, body.as_bytes()).unwrap().kind, kind, "{body}");
        }
        for body in ["", "404 page not found\n", "[]", r#"{"code":5}"#, r#"{"code":null,"message":"x"}"#] {
            assert_eq!(Refusal::read(404, body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn a_message_is_repeated_within_bounds() {
        let body = serde_json::json!({"code": 3, "message": format!("a\n{}", "é".repeat(400))});
        let refusal = Refusal::read(400, body.to_string().as_bytes()).unwrap();
        assert_eq!(refusal.message.chars().count(), 300);
        assert!(!refusal.message.contains('\n'));
    }
}
