//! Seals what goes into a shared store, and opens what comes out of it.
//!
//! A secret is 32 random bytes that all instances have. Keys are derived from it by HKDF-SHA256; AES-256-GCM seals. The
//! log belongs to the issuer; verdicts belong to one API, since audience and roles are its own. Each verdict has a key of
//! its own, so one that is moved to another name does not open.

use std::{fmt, path::Path};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    digest,
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    hmac,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    echo,
    error::config::ConfigError,
    issuer::{client_auth::read_small, name::Issuer},
    store::{Id, LogId, MOST_BYTES},
};

const SALT: &[u8] = b"zitadel-introspect 1";
const VERSION: u8 = 1;
const SECRET_BYTES: usize = 32;
const MOST_SECRETS: usize = 4;
const ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// What a seal adds to a text, in bytes.
pub(crate) const OVERHEAD: usize = 1 + ID_BYTES + NONCE_BYTES + TAG_BYTES;

/// The name of a verdict: a keyed hash of the token. Who reads the store cannot even confirm a token that they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Name(pub(crate) [u8; 32]);

/// The secrets that all instances have, from a file: [`Shared::new`](crate::Shared::new).
///
/// The file holds one secret in each line, 64 hexadecimal digits. The first secret seals, all of them open: see
/// `docs/security.md` for how to change them without a gap. Make a secret with `openssl rand -hex 32`.
#[derive(Clone)]
pub struct SharedSecrets(Vec<Zeroizing<[u8; SECRET_BYTES]>>);

impl SharedSecrets {
    /// Reads a file. Logs a warning if other users of the machine can read it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] if the file cannot be read, or its lines are not one to four secrets. The message never
    /// repeats what it holds.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let shown = echo::path(path).unwrap_or_else(|| "the file of the shared secret".to_owned());
        let (text, others_can_read) = read_small(path).map_err(|error| {
            let remedy = "give the path of the file of the shared secret";
            ConfigError::invalid("shared", format!("{shown} cannot be read ({error})"), remedy)
        })?;
        if others_can_read {
            tracing::warn!(path = shown, "others can read the shared secret; set its mode to 0600");
        }
        Self::from_text(&text)
    }

    /// As [`file`](Self::file), with the text itself.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] if the lines are not one to four secrets. The message never repeats the text.
    pub fn from_text(text: &str) -> Result<Self, ConfigError> {
        let invalid = |problem: &str| {
            let remedy = "make a secret with `openssl rand -hex 32`, one in each line";
            ConfigError::invalid("shared", format!("the shared secret {problem}"), remedy)
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let secrets: Option<Vec<_>> = lines.map(from_hex).collect();
        let secrets = secrets.ok_or_else(|| invalid("has a line that is not 64 hexadecimal digits"))?;
        if secrets.is_empty() || secrets.len() > MOST_SECRETS {
            return Err(invalid("needs one line, and has four at most"));
        }
        Ok(Self(secrets))
    }
}

impl fmt::Debug for SharedSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedSecrets").field("count", &self.0.len()).finish_non_exhaustive()
    }
}

fn from_hex(line: &str) -> Option<Zeroizing<[u8; SECRET_BYTES]>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    if line.len() != SECRET_BYTES * 2 {
        return None;
    }
    for (byte, pair) in secret.iter_mut().zip(line.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(secret)
}

/// What is sealed, so that one thing never opens as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// An entry of the log, with its id.
    Entry(Id),
    Heartbeat,
    Verdict(Name),
}

impl Sealed {
    /// The data that are authenticated as well.
    fn context(self) -> Vec<u8> {
        let (kind, name): (u8, &[u8]) = match &self {
            Self::Entry(id) => (1, id),
            Self::Heartbeat => (2, &[]),
            Self::Verdict(name) => (3, &name.0),
        };
        [&[VERSION, kind], name].concat()
    }
}

/// Why something does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// It was sealed with a secret that is not ours; the id of that secret.
    OtherSecret([u8; ID_BYTES]),
    /// It was changed, or is something else.
    Broken,
}

impl LogId {
    /// The log of an issuer.
    #[must_use]
    pub fn of(issuer: &Issuer) -> Self {
        let text = [b"zitadel-introspect 1 log ", issuer.as_str().as_bytes()].concat();
        let mut id = [0; 8];
        id.copy_from_slice(&digest::digest(&digest::SHA256, &text).as_ref()[..8]);
        Self(id)
    }
}

/// The keys of one verifier.
pub(crate) struct Seals {
    log_id: LogId,
    /// The first one seals.
    keys: Vec<Keys>,
}

struct Keys {
    id: [u8; ID_BYTES],
    log: RandomizedNonceKey,
    name: hmac::Key,
    verdicts: Prk,
}

impl Seals {
    pub(crate) fn new(secrets: &SharedSecrets, issuer: &Issuer, client_id: &str) -> Self {
        let log_id = LogId::of(issuer);
        let issuer = issuer.as_str();
        let keys =
            secrets.0.iter().map(|secret| Keys::derive(secret.as_slice(), issuer, client_id)).collect();
        Self { log_id, keys }
    }

    /// The log of the issuer. It does not depend on the secrets: instances that seal with different ones, while these are
    /// changed, read one log.
    pub(crate) fn log_id(&self) -> LogId {
        self.log_id
    }

    /// The name of the verdict on a token.
    pub(crate) fn name(&self, token: &[u8]) -> Name {
        self.keys[0].name(token)
    }

    /// The names by all secrets, for other instances, whose first secret may be another one.
    pub(crate) fn names(&self, token: &[u8]) -> impl Iterator<Item = Name> {
        self.keys.iter().map(|keys| keys.name(token))
    }

    /// `None` if it is too large.
    pub(crate) fn seal(&self, what: Sealed, text: &[u8]) -> Option<Vec<u8>> {
        if text.len() + OVERHEAD > MOST_BYTES {
            return None;
        }
        let keys = &self.keys[0];
        let mut body = text.to_vec();
        let own = keys.of(what);
        let key = own.as_ref().unwrap_or(&keys.log);
        let nonce = key.seal_in_place_append_tag(Aad::from(what.context()), &mut body).ok()?;
        Some([&[VERSION], &keys.id[..], nonce.as_ref(), &body].concat())
    }

    pub(crate) fn open(&self, what: Sealed, sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        let (version, rest) = sealed.split_first().ok_or(Unopened::Broken)?;
        if *version != VERSION || rest.len() < OVERHEAD - 1 || sealed.len() > MOST_BYTES {
            return Err(Unopened::Broken);
        }
        let (id, rest) = rest.split_first_chunk::<ID_BYTES>().ok_or(Unopened::Broken)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Unopened::Broken)?;
        let keys = self.keys.iter().find(|keys| keys.id == *id).ok_or(Unopened::OtherSecret(*id))?;
        let own = keys.of(what);
        let key = own.as_ref().unwrap_or(&keys.log);
        let mut body = body.to_vec();
        let text = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(what.context()), &mut body)
            .map_err(|_| Unopened::Broken)?;
        Ok(text.to_vec())
    }
}

impl Keys {
    fn derive(secret: &[u8], issuer: &str, client_id: &str) -> Self {
        let root = Salt::new(HKDF_SHA256, SALT).extract(secret);
        let of_api =
            |purpose: &str| derive::<32>(&root, &[purpose.as_bytes(), &framed(issuer), &framed(client_id)]);
        let log = derive::<32>(&root, &[b"log", &framed(issuer)]);
        Self {
            id: *derive(&root, &[b"id"]),
            log: RandomizedNonceKey::new(&AES_256_GCM, &*log).expect("the key has 32 bytes"),
            name: hmac::Key::new(hmac::HMAC_SHA256, &*of_api("name")),
            verdicts: Prk::new_less_safe(HKDF_SHA256, &*of_api("verdict")),
        }
    }

    fn name(&self, token: &[u8]) -> Name {
        let tag = hmac::sign(&self.name, token);
        let mut name = [0; 32];
        name.copy_from_slice(tag.as_ref());
        Name(name)
    }

    /// The key of one verdict; `None` for what the key of the log seals.
    fn of(&self, what: Sealed) -> Option<RandomizedNonceKey> {
        let Sealed::Verdict(name) = what else { return None };
        let key = derive::<32>(&self.verdicts, &[b"verdict", &name.0]);
        Some(RandomizedNonceKey::new(&AES_256_GCM, &*key).expect("the key has 32 bytes"))
    }
}

/// A text with its length before it, so that two texts cannot be read as two others.
fn framed(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_be_bytes()[..], text.as_bytes()].concat()
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive<const N: usize>(root: &Prk, info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    let mut key = Zeroizing::new([0; N]);
    let okm = root.expand(info, Length(N)).expect("HKDF gives up to 8,160 bytes");
    okm.fill(key.as_mut_slice()).expect("the length is the one that was asked for");
    key
}

/// The one line of a file that holds a secret. Logs a warning if other users of the machine can read it. For writers of
/// adapters and stores.
///
/// # Errors
///
/// What is wrong with the file; never what it holds.
pub fn secret_line(path: &Path) -> Result<String, String> {
    let shown = echo::path(path).unwrap_or_else(|| "the secret file".to_owned());
    let (text, others_can_read) =
        read_small(path).map_err(|error| format!("{shown} cannot be read ({error})"))?;
    if others_can_read {
        tracing::warn!(path = shown, "others can read this secret; set its mode to 0600");
    }
    let line = text.trim_end_matches(['\r', '\n']);
    let is_one_line = !line.is_empty() && !line.contains(['\r', '\n']);
    is_one_line.then(|| line.to_owned()).ok_or_else(|| format!("{shown} does not hold one line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(digits: &[char]) -> SharedSecrets {
        let lines: Vec<String> = digits.iter().map(|digit| digit.to_string().repeat(64)).collect();
        SharedSecrets::from_text(&lines.join("\n")).unwrap()
    }

    fn seals(digits: &[char]) -> Seals {
        Seals::new(&secrets(digits), &Issuer::parse("https://issuer.example").unwrap(), "api")
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let own = seals(&['a']);
        let (name, other) = (own.name(b"token"), own.name(b"tokem"));
        let kinds = [
            Sealed::Entry([1; 16]),
            Sealed::Entry([2; 16]),
            Sealed::Heartbeat,
            Sealed::Verdict(name),
            Sealed::Verdict(other),
        ];
        for kind in kinds {
            let sealed = own.seal(kind, b"text").unwrap();
            assert_eq!(sealed.len(), 4 + OVERHEAD);
            assert_eq!(own.open(kind, &sealed).unwrap(), b"text");
            for opened_as in kinds.into_iter().filter(|opened_as| *opened_as != kind) {
                assert!(own.open(opened_as, &sealed).is_err(), "{kind:?} as {opened_as:?}");
            }
            for position in 0..sealed.len() {
                for bit in 0..8 {
                    let mut changed = sealed.clone();
                    changed[position] ^= 1 << bit;
                    assert!(own.open(kind, &changed).is_err(), "byte {position}");
                }
                assert!(own.open(kind, &sealed[..position]).is_err());
            }
            assert!(own.open(kind, &[&sealed[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn what_is_too_large_is_neither_sealed_nor_opened() {
        let own = seals(&['a']);
        let most = MOST_BYTES - OVERHEAD;
        let sealed = own.seal(Sealed::Heartbeat, &vec![7; most]).unwrap();
        assert_eq!(own.open(Sealed::Heartbeat, &sealed).unwrap().len(), most);
        assert_eq!(own.seal(Sealed::Heartbeat, &vec![7; most + 1]), None);
    }

    #[test]
    fn the_first_secret_seals_and_all_open() {
        let (old, both, turned, new) = (seals(&['a']), seals(&['a', 'b']), seals(&['b', 'a']), seals(&['b']));
        let by_old = both.seal(Sealed::Heartbeat, b"text").unwrap();
        let by_new = turned.seal(Sealed::Heartbeat, b"text").unwrap();
        for (seals, opens_old, opens_new) in
            [(&old, true, false), (&both, true, true), (&turned, true, true), (&new, false, true)]
        {
            assert_eq!(seals.open(Sealed::Heartbeat, &by_old).is_ok(), opens_old);
            assert_eq!(seals.open(Sealed::Heartbeat, &by_new).is_ok(), opens_new);
            assert_eq!(seals.log_id(), old.log_id());
        }
        assert!(matches!(new.open(Sealed::Heartbeat, &by_old), Err(Unopened::OtherSecret(_))));
        assert_eq!(both.names(b"t").collect::<Vec<_>>(), [old.name(b"t"), new.name(b"t")]);
    }

    #[test]
    fn verdicts_belong_to_one_api_and_the_log_to_one_issuer() {
        let of = |issuer: &str, client: &str| {
            let issuer = Issuer::parse(&format!("https://{issuer}.example")).unwrap();
            Seals::new(&secrets(&['a']), &issuer, client)
        };
        let (own, api, issuer) = (of("i", "api"), of("i", "other"), of("j", "api"));
        assert!(own.name(b"t") != api.name(b"t") && own.name(b"t") != issuer.name(b"t"));
        let verdict = Sealed::Verdict(own.name(b"t"));
        let sealed = own.seal(verdict, b"text").unwrap();
        assert!(api.open(verdict, &sealed).is_err() && issuer.open(verdict, &sealed).is_err());
        let entry = own.seal(Sealed::Entry([1; 16]), b"text").unwrap();
        assert!(api.open(Sealed::Entry([1; 16]), &entry).is_ok());
        assert!(issuer.open(Sealed::Entry([1; 16]), &entry).is_err());
        assert_eq!(own.log_id(), api.log_id());
        assert_ne!(own.log_id(), issuer.log_id());
    }

    #[test]
    fn secrets_are_read_strictly_and_never_shown() {
        let secret = "0123456789abcdef".repeat(4);
        for good in [secret.clone(), format!(" {secret} \r\n\n{secret}\n"), secret.to_uppercase()] {
            let secrets = SharedSecrets::from_text(&good).unwrap();
            assert!(!format!("{secrets:?}").contains("89"));
        }
        for bad in [
            "",
            "\n",
            &secret[1..],
            &format!("{secret}0"),
            &secret.replace('f', "g"),
            &[secret.as_str(); 5].join("\n"),
        ] {
            let error = SharedSecrets::from_text(bad).unwrap_err().to_string();
            assert!(error.contains("shared") && error.contains("openssl rand -hex 32"), "{error}");
            assert!(!error.contains("0123"), "{error}");
        }
        assert!(SharedSecrets::from_text(&[secret.as_str(); 4].join("\n")).is_ok());
    }
}
