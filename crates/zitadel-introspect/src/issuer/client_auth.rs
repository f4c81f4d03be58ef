//! Our client authentication at the issuer: key.json and assertion (RFC 7523 section 2.2), or id and secret (RFC 6749
//! section 2.3.1).

mod assertion;
mod der;
mod key;
mod key_file;

use std::{fmt, path::Path, time::SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};

use self::assertion::Assertions;
pub(crate) use self::{
    key::{Key, Owner},
    key_file::{KeyFile, read_small},
};
use crate::error::config::ConfigError;

/// How the API authenticates to the issuer. Exactly one method; its secrets are never printed.
#[derive(Debug)]
pub struct ClientAuth(Method);

enum Method {
    Assertion { key: Key, file: Option<KeyFile> },
    Secret { client_id: String, secret: SecretString },
}

impl ClientAuth {
    /// The key.json that ZITADEL's Console offers for download when a key is made for an API application.
    ///
    /// The path may name a pipe (`/dev/stdin`, `<(…)` of a shell): at most 64 KiB are read, for at most 5 s. If the
    /// path names a file, a new key is loaded while the verifier runs: the file is checked every two seconds, the old
    /// key stays in use until the issuer has accepted the new key, and a bad new file is logged and has no effect. Call
    /// [`Verifier::reload_key`](crate::Verifier::reload_key) to load the file at once.
    ///
    /// Logs a warning if other users of the machine can read the file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`] if the file is missing, unreadable, larger than 64 KiB, not JSON, the key of a service
    /// user, lacks a field, or holds no usable RSA key; the message says what to do instead. The message does not
    /// repeat a path that looks like the key itself.
    pub fn key_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let (key, file) = KeyFile::open(path.as_ref(), Owner::Application)?;
        file.iter().for_each(KeyFile::warn_if_others_can_read);
        Ok(Self(Method::Assertion { key, file }))
    }

    /// The same key from memory: the text of the key.json, or Base64 of it (either alphabet, with or without padding).
    ///
    /// # Errors
    ///
    /// As [`ClientAuth::key_file`].
    pub fn key_json(text: &str) -> Result<Self, ConfigError> {
        Key::parse(text, Owner::Application, None).map(|key| Self(Method::Assertion { key, file: None }))
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
            Method::Assertion { key, .. } => &key.client_id,
            Method::Secret { client_id, .. } => client_id,
        }
    }

    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.0, Method::Secret { .. })
    }

    /// The file of the key; `None` for a pipe, a text or a secret.
    pub(crate) fn file(&self) -> Option<&KeyFile> {
        match &self.0 {
            Method::Assertion { file, .. } => file.as_ref(),
            Method::Secret { .. } => None,
        }
    }

    /// Ready to authenticate requests. `is_single_use`: a new assertion for each question.
    pub(crate) fn credentials(&self, is_single_use: bool) -> Credentials {
        match &self.0 {
            Method::Assertion { key, .. } => {
                Credentials::Assertion(Assertions::new(key.clone(), is_single_use))
            }
            Method::Secret { client_id, secret } => Credentials::Basic(basic(client_id, secret)),
        }
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Assertion { .. } => "private_key_jwt([redacted])",
            Self::Secret { .. } => "client_secret_basic([redacted])",
        })
    }
}

/// Authenticates us in each question.
pub(crate) enum Credentials {
    Assertion(Assertions),
    Basic(HeaderValue),
}

/// The proof that goes with one question.
pub(crate) struct Proof {
    /// The whole form.
    pub(crate) form: String,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Credentials {
    pub(crate) fn of_key(key: Key, is_single_use: bool) -> Self {
        Self::Assertion(Assertions::new(key, is_single_use))
    }

    /// For a question about a token. `issuer` is the name in the issuer's own metadata.
    pub(crate) async fn prove(&self, token: &[u8], issuer: &str, now: SystemTime) -> Proof {
        let token = form_urlencoded::byte_serialize(token);
        match self {
            Self::Assertion(assertions) => {
                let assertion = assertions.get(issuer, now).await;
                // An assertion is Base64 and dots: nothing to escape.
                let client = [assertion::FORM_PREFIX, assertion.expose_secret()];
                Proof {
                    form: ["token="].into_iter().chain(token).chain(client).collect(),
                    authorization: None,
                }
            }
            Self::Basic(header) => Proof {
                form: ["token="].into_iter().chain(token).collect(),
                authorization: Some(header.clone()),
            },
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
