//! The key of an API application: the text of its key.json.

use std::{path::Path, sync::Arc};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::der;
use crate::{crypto::install_crypto, error::config::ConfigError, random};

const DOWNLOAD: &str = "download the key of an API application: in ZITADEL's Console open the project, the API \
                        application, Keys, New, type JSON";
const DOWNLOAD_OF_USER: &str = "download the key of a service user: in ZITADEL's Console open the user, Keys, New, type \
                                JSON";
const LEAST_BITS: usize = 2048;

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// An API application, which introspects.
    Application,
    /// A service user, who reads events.
    ServiceUser,
}

impl Owner {
    /// How `type` names the owner, and which field has the owner's id.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Application => ("application", "clientId"),
            Self::ServiceUser => ("serviceaccount", "userId"),
        }
    }

    fn other(self) -> (&'static str, &'static str) {
        match self {
            Self::Application => ("serviceaccount", "field `type` says that it is the key of a service user"),
            Self::ServiceUser => {
                ("application", "field `type` says that it is the key of an API application")
            }
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Application => DOWNLOAD,
            Self::ServiceUser => DOWNLOAD_OF_USER,
        }
    }
}

/// A key that was proven to sign. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Key {
    /// The client id of the application, or the id of the service user.
    pub(crate) client_id: String,
    pub(crate) id: String,
    pub(crate) private: Arc<EncodingKey>,
}

/// How long an assertion is valid, in seconds.
const LIFETIME_SECONDS: u64 = 3600;

#[derive(Serialize)]
struct AssertionClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyJson {
    #[serde(rename = "type")]
    kind: Option<String>,
    key_id: Option<String>,
    key: Option<SecretString>,
    client_id: Option<String>,
    user_id: Option<String>,
}

impl Key {
    /// Reads a key.json, plain or in Base64. `path` is where it came from, for messages.
    pub(crate) fn parse(text: &str, owner: Owner, path: Option<&Path>) -> Result<Self, ConfigError> {
        let fail = |problem: &str| ConfigError::key(path, problem.to_owned(), owner.remedy());
        let ((kind, id_field), (other, is_other)) = (owner.names(), owner.other());
        let decoded = if text.trim_ascii_start().starts_with('{') { None } else { decode(text) };
        let text = decoded.as_ref().map_or(text, |decoded| decoded.as_str());
        // serde also reads a struct from a list. The parser's message may quote the input: only line and column are
        // shown.
        let is_object = text.trim_ascii_start().starts_with('{');
        let file: KeyJson = serde_json::from_str(if is_object { text } else { "" }).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            fail(&format!("it is not a JSON object with text fields (line {line}, column {column})"))
        })?;
        match file.kind.as_deref() {
            Some(found) if found == kind => {}
            Some(found) if found == other => return Err(fail(is_other)),
            Some(_) => return Err(fail(&format!("field `type` is not `{kind}`"))),
            None => return Err(fail("field `type` is missing")),
        }
        let missing = |field: &str| fail(&format!("field `{field}` is missing"));
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let id = filled(file.key_id).ok_or_else(|| missing("keyId"))?;
        let of_owner = if owner == Owner::Application { file.client_id } else { file.user_id };
        let client_id = filled(of_owner).ok_or_else(|| missing(id_field))?;
        let pem = file.key.ok_or_else(|| missing("key"))?;
        let unfit = |(problem, remedy): Unfit| ConfigError::key(path, problem.to_owned(), remedy);
        let private = private_key(pem.expose_secret()).map_err(unfit)?;
        let key = Self { client_id, id, private: Arc::new(private) };
        key.sign("", 0, false).ok_or_else(|| unfit(UNUSABLE))?;
        Ok(key)
    }

    /// Signs an assertion (RFC 7523 section 3); `None` if the key cannot.
    pub(crate) fn sign(&self, issuer: &str, issued_at: u64, is_single_use: bool) -> Option<SecretString> {
        install_crypto();
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::RS256) };
        let claims = AssertionClaims {
            iss: &self.client_id,
            sub: &self.client_id,
            aud: issuer,
            iat: issued_at,
            exp: issued_at + LIFETIME_SECONDS,
            jti: is_single_use.then(|| format!("{:016x}{:016x}", random::u64(), random::u64())),
        };
        jsonwebtoken::encode(&header, &claims, &self.private).ok().map(SecretString::from)
    }
}

/// A problem and its remedy.
type Unfit = (&'static str, &'static str);

const UNUSABLE: Unfit = ("field `key` holds no usable RSA private key in PEM (PKCS#1 or PKCS#8)", DOWNLOAD);
const NOT_RSA: Unfit = (
    "field `key` holds a private key that is not RSA",
    "give an RSA key, as ZITADEL makes them for API applications",
);
const ENCRYPTED: Unfit = (
    "field `key` holds an encrypted private key",
    "decrypt it (`openssl pkey` does), and write the decrypted PEM into the field",
);
const PUBLIC: Unfit = (
    "field `key` holds a public key or a certificate, and no private key",
    "write the private key that belongs to it into the field",
);
const SHORT: Unfit =
    ("field `key` holds an RSA key of less than 2048 bits", "give an RSA key of at least 2048 bits");

fn private_key(pem: &str) -> Result<EncodingKey, Unfit> {
    if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(ENCRYPTED);
    }
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        if pem.contains("BEGIN PUBLIC KEY") || pem.contains("BEGIN CERTIFICATE") { PUBLIC } else { UNUSABLE }
    })?;
    let rsa = match &der {
        PrivateKeyDer::Pkcs1(der) => der.secret_pkcs1_der(),
        PrivateKeyDer::Pkcs8(der) => der::rsa_of_pkcs8(der.secret_pkcs8_der()).ok_or(NOT_RSA)?,
        _ => return Err(NOT_RSA),
    };
    match der::modulus_bits(rsa) {
        None => Err(UNUSABLE),
        Some(..LEAST_BITS) => Err(SHORT),
        Some(_) => Ok(EncodingKey::from_rsa_der(rsa)),
    }
}

/// Base64 of a text, in either alphabet, with or without padding and line ends.
fn decode(text: &str) -> Option<Zeroizing<String>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let compact: Zeroizing<String> = Zeroizing::new(text.split_ascii_whitespace().collect());
    let decode = |alphabet| GeneralPurpose::new(alphabet, lenient).decode(compact.as_bytes()).ok();
    let bytes = decode(&alphabet::STANDARD).or_else(|| decode(&alphabet::URL_SAFE))?;
    String::from_utf8(bytes).ok().map(Zeroizing::new)
}
