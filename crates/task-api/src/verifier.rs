//! Builds a verifier from the settings.

use secrecy::ExposeSecret;
use zitadel_introspect::{ClientAuth, ConfigError, EventTarget, Issuer, Verifier, VerifierBuilder};

use crate::{
    settings::{KEY_JSON, Settings, Time},
    wiring,
    words::{in_our_words, with_flag},
};

/// The target of ZITADEL's webhooks; `None` without signing keys.
pub(crate) fn event_target(settings: &Settings, verifier: &Verifier) -> Result<Option<EventTarget>, String> {
    match &settings.event_signing_keys {
        Some(path) => wiring::event_target(path, |keys| EventTarget::new(verifier, keys)).map(Some),
        None if settings.events_address.is_some() => {
            Err("--events-address: has no effect without --event-signing-keys; leave it out".to_owned())
        }
        None => Ok(None),
    }
}

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
    set!(max_answer_bytes, audience, cache_capacity, cache_bytes, negative_cache_capacity);
    set!(project, verify_jwts_locally_without_revocation);
    set_time!(timeout, cache_ttl, negative_cache_ttl, confirm_local_verdicts_within);
    set_time!(longest_hold);
    if let Some(feed) = wiring::event_feed(&settings.of_feed())? {
        builder = builder.event_feed(feed);
    }
    if let Some(shared) = wiring::shared(&settings.of_shared())? {
        builder = builder.shared(shared);
    }
    if settings.fresh_assertions == Some(true) {
        builder = builder.fresh_assertions();
    }
    wiring::network(builder, &settings.of_network())
}
