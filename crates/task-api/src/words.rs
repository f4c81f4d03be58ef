//! Names this program's flags in the library's messages.

use zitadel_introspect::{ConfigError, IssuerError};

/// The library's settings that appear in messages, and the flags that set them.
const FLAGS: [(&str, &str); 35] = [
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
    ("shared", "--shared"),
    ("password_file", "--shared-password-file"),
    ("dangerous_allow_plaintext", "--shared-dangerous-allow-plaintext"),
    ("negative_cache_ttl", "--negative-cache-ttl"),
    ("negative_cache_capacity", "--negative-cache-capacity"),
    ("verify_jwts_locally_without_revocation", "--verify-jwts-locally-without-revocation"),
    ("application", "--application"),
    ("role", "--role"),
    ("robot", "--robot"),
    ("user", "--reader"),
    ("key_file", "--key-file"),
    ("key_lifetime", "--key-lifetime"),
    ("token_folder", "--token-folder"),
    ("token_lifetime", "--token-lifetime"),
    ("signing_keys", "--signing-keys"),
    ("url", "--url"),
    ("prove", "--prove"),
    ("confirm_local_verdicts_within", "--confirm-local-verdicts-within"),
];

/// An error in the library's settings, with the name of our flag.
#[must_use]
pub fn with_flag(error: &ConfigError) -> String {
    match error {
        ConfigError::Invalid { field, problem, remedy, .. } => {
            format!("{}: {}; {}", flag(field), in_our_words(problem), in_our_words(remedy))
        }
        other => in_our_words(&other.to_string()),
    }
}

/// Why the issuer cannot be asked, with the causes and what to do.
#[must_use]
pub fn explain(error: &IssuerError) -> String {
    in_our_words(&error.explain())
}

/// Replaces the library's method names, in backticks, with our flags.
#[must_use]
pub fn in_our_words(text: &str) -> String {
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
