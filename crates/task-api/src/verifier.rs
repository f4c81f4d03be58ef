//! Builds a verifier from the settings, and names this program's flags in the library's messages.

use std::{fs, path::Path};

use secrecy::{ExposeSecret, SecretString};
use zitadel_introspect::{
    ClientAuth, ConfigError, EventFeed, EventTarget, Issuer, IssuerError, Verifier, VerifierBuilder,
};

use crate::{
    settings::{KEY_JSON, Settings, Time},
    shown::shown,
};

/// The library's settings that appear in messages, and the flags that set them.
const FLAGS: [(&str, &str); 21] = [
    ("issuer", "--domain"),
    ("connect_to", "--connect-to"),
    ("dangerous_allow_http", "--dangerous-allow-http"),
    ("proxy", "--proxy"),
    ("root_certificates_pem", "--root-certificates"),
    ("header", "--header"),
    ("timeout", "--timeout"),
    ("connect_timeout", "--connect-timeout"),
    ("max_answer_bytes", "--max-answer-bytes"),
    ("fresh_assertions", "--fresh-assertions"),
    ("audience", "--audience"),
    ("cache_ttl", "--cache-ttl"),
    ("cache_capacity", "--cache-capacity"),
    ("cache_bytes", "--cache-bytes"),
    ("longest_hold", "--longest-hold"),
    ("event_feed", "--event-feed-token-file"),
    ("project", "--project"),
    ("negative_cache_ttl", "--negative-cache-ttl"),
    ("negative_cache_capacity", "--negative-cache-capacity"),
    ("verify_jwts_locally_without_revocation", "--verify-jwts-locally-without-revocation"),
    ("confirm_local_verdicts_within", "--confirm-local-verdicts-within"),
];

/// How the API authenticates to the issuer.
pub(crate) fn client_auth(settings: &Settings) -> Result<ClientAuth, String> {
    match (&settings.key, &settings.key_json) {
        (Some(_), Some(_)) => Err(format!("--key and {KEY_JSON} are both given; leave one of them out")),
        (Some(path), None) => {
            ClientAuth::key_file(path).map_err(|error| format!("--key: {}", key_error(&error)))
        }
        (None, Some(text)) => {
            let auth = ClientAuth::key_json(text.expose_secret());
            auth.map_err(|error| format!("{KEY_JSON}: {}", key_error(&error)))
        }
        (None, None) => Err(format!(
            "--key is missing: the key.json of your API application, by --key, TASK_API_KEY or `key` in the configuration \
            file, or its text in {KEY_JSON}"
        )),
    }
}

fn key_error(error: &ConfigError) -> String {
    in_our_words(&error.to_string()).replace(
        "hand the key in as text where text is asked for",
        &format!("put the text of the key into {KEY_JSON}"),
    )
}

/// The issuer by its domain.
pub(crate) fn issuer(settings: &Settings) -> Result<Issuer, String> {
    Issuer::parse(settings.domain()?).map_err(|error| with_flag(&error))
}

/// The verifier.
pub(crate) fn verifier(settings: &Settings, issuer: Issuer, auth: ClientAuth) -> Result<Verifier, String> {
    build(settings, Verifier::builder(issuer, auth))
}

/// The verifier of a builder and the settings.
pub(crate) fn build(settings: &Settings, builder: VerifierBuilder) -> Result<Verifier, String> {
    with_settings(settings, builder)?.build().map_err(|error| with_flag(&error))
}

/// Applies all settings except issuer and key.
pub(crate) fn with_settings(
    settings: &Settings,
    mut builder: VerifierBuilder,
) -> Result<VerifierBuilder, String> {
    macro_rules! set {
        ($($field:ident),+) => {
            $(if let Some(value) = settings.$field.clone() {
                builder = builder.$field(value);
            })+
        };
    }
    macro_rules! set_time {
        ($($field:ident),+) => {
            $(if let Some(Time(time)) = settings.$field {
                builder = builder.$field(time);
            })+
        };
    }
    set!(connect_to, max_answer_bytes, audience, cache_capacity, cache_bytes, negative_cache_capacity);
    set!(project, verify_jwts_locally_without_revocation);
    set_time!(timeout, connect_timeout, cache_ttl, negative_cache_ttl, confirm_local_verdicts_within);
    set_time!(longest_hold);
    if let Some(feed) = event_feed(settings)? {
        builder = builder.event_feed(feed);
    }
    if settings.dangerous_allow_http == Some(true) {
        builder = builder.dangerous_allow_http();
    }
    if settings.fresh_assertions == Some(true) {
        builder = builder.fresh_assertions();
    }
    if let Some(proxy) = &settings.proxy {
        builder = builder.proxy(proxy.expose_secret());
    }
    if let Some(path) = &settings.root_certificates {
        builder = builder.root_certificates_pem(certificates(path)?);
    }
    for header in settings.header.iter().flatten() {
        let (name, value) = header.expose_secret().split_once(':').ok_or("--header: write `Name: value`")?;
        builder = builder.header(name.trim(), value.trim());
    }
    Ok(builder)
}

/// The event feed, where one is asked for.
fn event_feed(settings: &Settings) -> Result<Option<EventFeed>, String> {
    let feed = match (&settings.event_feed_token_file, &settings.event_feed_key) {
        (Some(_), Some(_)) => {
            return Err("--event-feed-token-file and --event-feed-key are both given; leave one of them out"
                .to_owned());
        }
        (Some(path), None) => EventFeed::token_file(path).map_err(|error| with_flag(&error))?,
        (None, Some(path)) => EventFeed::key_file(path)
            .map_err(|error| format!("--event-feed-key: {}", in_our_words(&error.to_string())))?,
        (None, None) if settings.event_feed_interval.is_some() => {
            return Err("--event-feed-interval: has no effect without --event-feed-token-file or --event-feed-key; leave \
                        it out"
                .to_owned());
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(match settings.event_feed_interval {
        Some(Time(interval)) => feed.interval(interval),
        None => feed,
    }))
}

/// The target of ZITADEL's webhooks; `None` without signing keys.
pub(crate) fn event_target(settings: &Settings, verifier: &Verifier) -> Result<Option<EventTarget>, String> {
    let Some(path) = &settings.event_signing_keys else {
        return match settings.events_address {
            Some(_) => {
                Err("--events-address: has no effect without --event-signing-keys; leave it out".to_owned())
            }
            None => Ok(None),
        };
    };
    let flag = "--event-signing-keys";
    let text = fs::read_to_string(path).map(SecretString::from).map_err(|error| {
        format!("{flag}: {} cannot be read ({error}); check path and rights", shown(path))
    })?;
    let keys = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
    EventTarget::new(verifier, keys).map(Some).map_err(|error| match error {
        ConfigError::Invalid { problem, .. } => {
            format!(
                "{flag}: {problem}; write one key in a line, as ZITADEL showed it when the target was made"
            )
        }
        other => other.to_string(),
    })
}

fn certificates(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| {
        format!("--root-certificates: {} cannot be read ({error}); check path and rights", shown(path))
    })
}

/// An error in the library's settings, with the name of our flag.
fn with_flag(error: &ConfigError) -> String {
    match error {
        ConfigError::Invalid { field, problem, remedy, .. } => {
            format!("{}: {}; {}", flag(field), in_our_words(problem), in_our_words(remedy))
        }
        other => in_our_words(&other.to_string()),
    }
}

/// Why the issuer cannot be asked, with the causes and what to do.
pub(crate) fn explain(error: &IssuerError) -> String {
    in_our_words(&error.explain())
}

/// Replaces the library's method names, in backticks, with our flags.
pub(crate) fn in_our_words(text: &str) -> String {
    let mut ours = text.to_owned();
    for (method, flag) in FLAGS {
        ours = ours.replace(&format!("`{method}`"), &format!("`{flag}`"));
    }
    ours
}

fn flag(method: &str) -> &str {
    FLAGS.iter().find(|(name, _)| *name == method).map_or(method, |(_, flag)| flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_as_this_program_names_them() {
        assert_eq!(
            in_our_words("use https, or allow plain http by `dangerous_allow_http`"),
            "use https, or allow plain http by `--dangerous-allow-http`"
        );
        let other = "write `http://` before it; the issuer says `unauthorized_client`";
        assert_eq!(in_our_words(other), other);
    }
}
