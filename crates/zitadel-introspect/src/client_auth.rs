//! How we prove ourselves to the issuer: key.json and assertion (RFC 7523 section 2.2), or id and secret
//! (RFC 6749 section 2.3.1).

mod assertion;
mod key_file;

use std::{fmt, path::Path, time::SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};

use self::assertion::Assertions;
pub(crate) use self::{assertion::install_crypto, key_file::Key};
use crate::{config::ConfigError, issuer::Issuer};

/// How the API proves itself to the issuer. Exactly one method; nothing of it is ever printed, and it is
/// wiped when dropped.
#[derive(Debug)]
pub struct ClientAuth(Method);

enum Method {
    Assertion(Key),
    Secret { client_id: String, secret: SecretString },
}

impl ClientAuth {
    /// The key.json that ZITADEL's Console offers for download when a key is made for an API application.
    ///
    /// Logs a warning if other users of the machine can read the file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`] if the file is missing, unreadable, not JSON, the key of a service user, lacks
    /// a field, or holds no usable RSA key; the message says what to download instead.
    pub fn key_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Key::from_file(path.as_ref()).map(|key| Self(Method::Assertion(key)))
    }

    /// The same key from memory: the text of the key.json.
    ///
    /// # Errors
    ///
    /// As [`ClientAuth::key_file`].
    pub fn key_json(text: &str) -> Result<Self, ConfigError> {
        Key::from_json(text, None).map(|key| Self(Method::Assertion(key)))
    }

    /// Client id and secret of an API application that authenticates with Basic.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if one of them is empty.
    pub fn secret(client_id: impl Into<String>, secret: impl Into<String>) -> Result<Self, ConfigError> {
        let (client_id, secret) = (client_id.into(), SecretString::from(secret.into()));
        let remedy = "copy both from the API application's page in the Console";
        for (field, value) in [("client_id", client_id.as_str()), ("client_secret", secret.expose_secret())] {
            if value.is_empty() {
                return Err(ConfigError::invalid(field, "is empty".to_owned(), remedy));
            }
        }
        Ok(Self(Method::Secret { client_id, secret }))
    }

    /// The client id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        match &self.0 {
            Method::Assertion(key) => &key.client_id,
            Method::Secret { client_id, .. } => client_id,
        }
    }

    /// Ready to authenticate requests to this issuer.
    pub(crate) fn for_issuer(self, issuer: &Issuer) -> Credentials {
        match self.0 {
            Method::Assertion(key) => Credentials::Assertion(Assertions::new(key, issuer.as_str())),
            Method::Secret { client_id, secret } => Credentials::Basic(basic(&client_id, &secret)),
        }
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Assertion(_) => "private_key_jwt([redacted])",
            Self::Secret { .. } => "client_secret_basic([redacted])",
        })
    }
}

/// What goes with each question.
pub(crate) enum Credentials {
    Assertion(Assertions),
    Basic(HeaderValue),
}

impl Credentials {
    /// The form of a question about a token, and the `Authorization` field, where the method uses one.
    pub(crate) fn form(&self, token: &[u8], now: SystemTime) -> (String, Option<HeaderValue>) {
        let token = form_urlencoded::byte_serialize(token);
        match self {
            Self::Assertion(assertions) => {
                let assertion = assertions.current(now);
                // An assertion is Base64 and dots: nothing to escape.
                let client = [assertion::FORM_PREFIX, assertion.expose_secret()];
                (["token="].into_iter().chain(token).chain(client).collect(), None)
            }
            Self::Basic(header) => (["token="].into_iter().chain(token).collect(), Some(header.clone())),
        }
    }
}

/// Id and secret are form-urlencoded before they are joined (RFC 6749 section 2.3.1).
fn basic(client_id: &str, secret: &SecretString) -> HeaderValue {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encode(client_id), encode(secret.expose_secret())));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut header = HeaderValue::try_from(value.as_str()).expect("base64 is a valid header value");
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_secret_are_form_urlencoded_before_base64() {
        let header = basic("id:1", &SecretString::from("a b+c%\u{e9}"));
        let decoded = STANDARD.decode(&header.as_bytes()[b"Basic ".len()..]).unwrap();
        assert_eq!(decoded, b"id%3A1:a+b%2Bc%25%C3%A9");
        assert!(!format!("{header:?}").contains("Basic"));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let auth = ClientAuth::secret("client", "s3cret").unwrap();
        assert!(!format!("{auth:?}").contains("s3cret"));
        assert!(ClientAuth::secret("client", "").is_err());
        assert!(ClientAuth::secret("", "s3cret").is_err());
    }
}
