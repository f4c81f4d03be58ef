//! The way to the instance, the event feed, the shared store and the webhooks, from the settings of a program.

use std::{fs, path::Path, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use zitadel_introspect::{
    ConfigError, EventFeed, EventTarget, ManagementBuilder, RelayBuilder, Shared, SharedSecrets,
    VerifierBuilder,
};
use zitadel_introspect_valkey::Valkey;

use crate::{
    shown::shown,
    words::{in_our_words, with_flag},
};

/// The settings of the way to the instance.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::exhaustive_structs, reason = "programs of this workspace make it")]
pub struct OfNetwork<'s> {
    /// `--connect-to`.
    pub connect_to: Option<&'s str>,
    /// `--dangerous-allow-http`.
    pub allows_http: bool,
    /// `--proxy`.
    pub proxy: Option<&'s str>,
    /// `--root-certificates`.
    pub root_certificates: Option<&'s Path>,
    /// `--header`.
    pub headers: &'s [SecretString],
    /// `--connect-timeout`.
    pub connect_timeout: Option<Duration>,
}

/// A builder of something that asks the instance.
pub trait Asks: Sized {
    /// As [`VerifierBuilder::connect_to`].
    #[must_use]
    fn connect_to(self, origin: &str) -> Self;
    /// As [`VerifierBuilder::dangerous_allow_http`].
    #[must_use]
    fn dangerous_allow_http(self) -> Self;
    /// As [`VerifierBuilder::proxy`].
    #[must_use]
    fn proxy(self, address: &str) -> Self;
    /// As [`VerifierBuilder::root_certificates_pem`].
    #[must_use]
    fn root_certificates_pem(self, pem: Vec<u8>) -> Self;
    /// As [`VerifierBuilder::header`].
    #[must_use]
    fn header(self, name: &str, value: &str) -> Self;
    /// As [`VerifierBuilder::connect_timeout`].
    #[must_use]
    fn connect_timeout(self, timeout: Duration) -> Self;
}

macro_rules! asks {
    ($($builder:ty),+) => {$(
        impl Asks for $builder {
            fn connect_to(self, origin: &str) -> Self {
                <$builder>::connect_to(self, origin)
            }
            fn dangerous_allow_http(self) -> Self {
                <$builder>::dangerous_allow_http(self)
            }
            fn proxy(self, address: &str) -> Self {
                <$builder>::proxy(self, address)
            }
            fn root_certificates_pem(self, pem: Vec<u8>) -> Self {
                <$builder>::root_certificates_pem(self, pem)
            }
            fn header(self, name: &str, value: &str) -> Self {
                <$builder>::header(self, name, value)
            }
            fn connect_timeout(self, timeout: Duration) -> Self {
                <$builder>::connect_timeout(self, timeout)
            }
        }
    )+};
}
asks!(VerifierBuilder, RelayBuilder, ManagementBuilder);

/// Applies the settings of the way to the instance.
///
/// # Errors
///
/// What is wrong with the settings, in one line that shows no secret.
pub fn network<B: Asks>(mut builder: B, settings: &OfNetwork<'_>) -> Result<B, String> {
    if let Some(origin) = settings.connect_to {
        builder = builder.connect_to(origin);
    }
    if settings.allows_http {
        builder = builder.dangerous_allow_http();
    }
    if let Some(proxy) = settings.proxy {
        builder = builder.proxy(proxy);
    }
    if let Some(path) = settings.root_certificates {
        builder = builder.root_certificates_pem(certificates("--root-certificates", path)?);
    }
    for text in settings.headers {
        let (name, value) = header(text)?;
        builder = builder.header(name, value);
    }
    Ok(match settings.connect_timeout {
        Some(timeout) => builder.connect_timeout(timeout),
        None => builder,
    })
}

/// The settings of the event feed.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::exhaustive_structs, reason = "programs of this workspace make it")]
pub struct OfFeed<'s> {
    /// `--event-feed-token-file`.
    pub token_file: Option<&'s Path>,
    /// `--event-feed-key`.
    pub key: Option<&'s Path>,
    /// `--event-feed-interval`.
    pub interval: Option<Duration>,
}

/// The settings of the shared store.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::exhaustive_structs, reason = "programs of this workspace make it")]
pub struct OfShared<'s> {
    /// `--shared`.
    pub url: Option<&'s str>,
    /// `--shared-secret`.
    pub secret: Option<&'s Path>,
    /// `--shared-password-file`.
    pub password_file: Option<&'s Path>,
    /// `--shared-root-certificates`.
    pub root_certificates: Option<&'s Path>,
    /// `--shared-dangerous-allow-plaintext`.
    pub allows_plaintext: bool,
    /// `--shared-evictions-only`.
    pub evictions_only: bool,
}

/// The event feed, where one is asked for.
///
/// # Errors
///
/// What is wrong with the settings, in one line.
pub fn event_feed(settings: &OfFeed<'_>) -> Result<Option<EventFeed>, String> {
    let feed = match (settings.token_file, settings.key) {
        (Some(_), Some(_)) => {
            return Err("--event-feed-token-file and --event-feed-key are both given; leave one of them out"
                .to_owned());
        }
        (Some(path), None) => EventFeed::token_file(path).map_err(|error| with_flag(&error))?,
        (None, Some(path)) => EventFeed::key_file(path)
            .map_err(|error| format!("--event-feed-key: {}", in_our_words(&error.to_string())))?,
        (None, None) if settings.interval.is_some() => {
            return Err("--event-feed-interval: has no effect without --event-feed-token-file or --event-feed-key; leave \
                        it out"
                .to_owned());
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(match settings.interval {
        Some(interval) => feed.interval(interval),
        None => feed,
    }))
}

/// The shared store, where one is asked for.
///
/// # Errors
///
/// What is wrong with the settings, in one line that shows no secret.
pub fn shared(settings: &OfShared<'_>) -> Result<Option<Shared>, String> {
    let Some(url) = settings.url else {
        let others = [
            ("--shared-secret", settings.secret.is_some()),
            ("--shared-password-file", settings.password_file.is_some()),
            ("--shared-root-certificates", settings.root_certificates.is_some()),
            ("--shared-dangerous-allow-plaintext", settings.allows_plaintext),
            ("--shared-evictions-only", settings.evictions_only),
        ];
        return match others.into_iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => Err(format!("{flag}: has no effect without --shared; leave it out")),
            None => Ok(None),
        };
    };
    let secret = settings.secret.ok_or(
        "--shared-secret is missing: a file with the secret that all instances have; make it with `openssl rand -hex 32`",
    )?;
    let secrets = SharedSecrets::file(secret)
        .map_err(|error| with_flag(&error).replacen("--shared:", "--shared-secret:", 1))?;
    let mut store = Valkey::builder(url);
    if let Some(path) = settings.password_file {
        store = store.password_file(path);
    }
    if let Some(path) = settings.root_certificates {
        store = store.root_certificates_pem(certificates("--shared-root-certificates", path)?);
    }
    if settings.allows_plaintext {
        store = store.dangerous_allow_plaintext();
    }
    let shared = Shared::new(store.build().map_err(|error| with_flag(&error))?, secrets);
    Ok(Some(if settings.evictions_only { shared.evictions_only() } else { shared }))
}

/// The target of ZITADEL's webhooks, with the signing keys in a file.
///
/// # Errors
///
/// What is wrong with the file, in one line that shows no key.
pub fn event_target(
    path: &Path,
    make: impl FnOnce(Vec<String>) -> Result<EventTarget, ConfigError>,
) -> Result<EventTarget, String> {
    let flag = "--event-signing-keys";
    let text = fs::read_to_string(path).map(SecretString::from).map_err(|error| {
        format!("{flag}: {} cannot be read ({error}); check path and rights", shown(path))
    })?;
    let keys = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
    make(keys.map(str::to_owned).collect()).map_err(|error| match error {
        ConfigError::Invalid { problem, .. } => {
            format!(
                "{flag}: {problem}; write one key in a line, as ZITADEL showed it when the target was made"
            )
        }
        other => other.to_string(),
    })
}

/// The name and the value of a header.
fn header(header: &SecretString) -> Result<(&str, &str), String> {
    let (name, value) = header.expose_secret().split_once(':').ok_or("--header: write `Name: value`")?;
    Ok((name.trim(), value.trim()))
}

/// The text of a file with certificates.
fn certificates(flag: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path)
        .map_err(|error| format!("{flag}: {} cannot be read ({error}); check path and rights", shown(path)))
}
