//! Calls of ZITADEL, and the members of their answers.

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;
use zitadel_introspect::{ConfigError, Management, ManagementError, RefusalKind};

use crate::error::SetupError;

/// ZITADEL's largest page.
const PAGE: usize = 1000;
/// More pages are not read: no set-up has a million things of a kind.
const MOST_PAGES: usize = 100;

/// Says what was being done when a call failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: impl Into<String>) -> Result<T, SetupError>;
}

impl<T> Doing<T> for Result<T, ManagementError> {
    fn doing(self, doing: impl Into<String>) -> Result<T, SetupError> {
        self.map_err(|error| SetupError::Call { doing: doing.into(), error })
    }
}

/// Takes it for success that a thing to be removed is gone already.
pub(crate) trait Gone {
    fn gone(self) -> Result<(), SetupError>;
}

impl<T> Gone for Result<T, SetupError> {
    fn gone(self) -> Result<(), SetupError> {
        match self {
            Err(error) if error.is(RefusalKind::NotFound) => Ok(()),
            removed => removed.map(drop),
        }
    }
}

/// A text of an answer that cannot do without it.
pub(crate) fn text(answer: &Value, member: &'static str, doing: &str) -> Result<String, SetupError> {
    let found = answer.get(member).and_then(Value::as_str).filter(|text| !text.is_empty());
    let missing = || SetupError::Answer { doing: doing.to_owned(), member };
    found.map(str::to_owned).ok_or_else(missing)
}

/// A text within an answer, by a path such as `/user/details/resourceOwner`; empty if it is not there.
pub(crate) fn at<'a>(answer: &'a Value, path: &str) -> &'a str {
    answer.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The members of a list; ZITADEL leaves an empty one out.
pub(crate) fn list<'a>(answer: &'a Value, member: &str) -> &'a [Value] {
    answer.get(member).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Reads a list of the v2 API, page by page.
pub(crate) async fn all(
    zitadel: &Management,
    method: &str,
    mut request: Value,
    member: &str,
    doing: &str,
) -> Result<Vec<Value>, SetupError> {
    let mut found = Vec::new();
    for page in 0..MOST_PAGES {
        request["pagination"] = json!({"limit": PAGE, "offset": page * PAGE, "asc": true});
        let answer = zitadel.call(method, &request).await.doing(doing)?;
        let items = list(&answer, member);
        found.extend_from_slice(items);
        if items.len() < PAGE {
            break;
        }
    }
    Ok(found)
}

/// A key.json, which ZITADEL sends in Base64.
pub(crate) fn decoded(answer: &Value, member: &'static str, doing: &str) -> Result<SecretString, SetupError> {
    let bytes = STANDARD.decode(text(answer, member, doing)?).ok();
    let json = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let unusable = || SetupError::Answer { doing: doing.to_owned(), member };
    json.map(SecretString::from).ok_or_else(unusable)
}

/// An address of http or https in a setting. User information in it would be a secret that is shown.
pub(crate) fn address(field: &'static str, text: &str, remedy: &'static str) -> Result<Url, ConfigError> {
    let is_plain = |url: &Url| {
        let has_secret = !url.username().is_empty() || url.password().is_some();
        matches!(url.scheme(), "http" | "https") && url.has_host() && !has_secret
    };
    let problem = "is no address of http or https without user information";
    let invalid = || ConfigError::invalid(field, problem.to_owned(), remedy);
    Url::parse(text).ok().filter(is_plain).ok_or_else(invalid)
}
