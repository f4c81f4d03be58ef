//! The downloaded key.json of an API application.

use std::{fs::File, io::Read, path::Path};

use jsonwebtoken::EncodingKey;
use rustls_pki_types::{PrivatePkcs1KeyDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::assertion;
use crate::config::ConfigError;

const DOWNLOAD: &str = "download the key of an API application: in ZITADEL's Console open the project, the API \
                        application, Keys, New, type JSON";
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// A key that was proven to sign.
pub(crate) struct Key {
    pub(crate) client_id: String,
    pub(crate) id: String,
    pub(crate) private: EncodingKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    key_id: Option<String>,
    key: Option<SecretString>,
    client_id: Option<String>,
}

impl Key {
    pub(crate) fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path).map_err(|error| ConfigError::Key {
            path: Some(path.to_owned()),
            problem: format!("the file cannot be read ({error})"),
            remedy: "give the path of the downloaded key.json and let this process read it",
        })?;
        warn_if_others_can_read(path);
        Self::from_json(&text, Some(path))
    }

    pub(crate) fn from_json(text: &str, path: Option<&Path>) -> Result<Self, ConfigError> {
        let fail =
            |problem: String| ConfigError::Key { path: path.map(Path::to_owned), problem, remedy: DOWNLOAD };
        // The parser's message may quote what it found: only the place is passed on.
        let is_object = text.trim_ascii_start().starts_with('{');
        let file: KeyFile = serde_json::from_str(if is_object { text } else { "" }).map_err(|error| {
            fail(format!(
                "it is not a JSON object with text fields (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        match file.kind.as_deref() {
            Some("application") => {}
            Some("serviceaccount") => {
                return Err(fail("field `type` says that it is the key of a service user".to_owned()));
            }
            Some(_) => return Err(fail("field `type` is not `application`".to_owned())),
            None => return Err(fail("field `type` is missing".to_owned())),
        }
        let missing = |field: &str| fail(format!("field `{field}` is missing"));
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let id = filled(file.key_id).ok_or_else(|| missing("keyId"))?;
        let client_id = filled(file.client_id).ok_or_else(|| missing("clientId"))?;
        let pem = file.key.ok_or_else(|| missing("key"))?;
        let broken = || fail("field `key` holds no usable RSA private key in PEM".to_owned());
        let private = encoding_key(&pem).ok_or_else(broken)?;
        let key = Self { client_id, id, private };
        assertion::sign(&key, "", 0).ok_or_else(broken)?;
        Ok(key)
    }
}

fn encoding_key(pem: &SecretString) -> Option<EncodingKey> {
    let mut der = PrivatePkcs1KeyDer::from_pem_slice(pem.expose_secret().as_bytes()).ok()?;
    let key = EncodingKey::from_rsa_der(der.secret_pkcs1_der());
    der.zeroize();
    Some(key)
}

fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    // Before opening: a named pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(unix)]
fn warn_if_others_can_read(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        tracing::warn!(path = ?path.display().to_string(), "others can read the key file; set its mode to 0600");
    }
}

#[cfg(not(unix))]
fn warn_if_others_can_read(_path: &Path) {}
