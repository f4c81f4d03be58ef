//! Bad configuration stops at the start and names field, problem and remedy.

use std::time::Duration;

use zitadel_introspect::{ClientAuth, Issuer, Verifier, VerifierBuilder};

fn builder(issuer: &str) -> VerifierBuilder {
    Verifier::builder(Issuer::parse(issuer).unwrap(), ClientAuth::secret("id", "secret").unwrap())
}

fn message(builder: VerifierBuilder) -> String {
    builder.build().unwrap_err().to_string()
}

#[test]
fn plain_http_needs_a_loopback_host_or_an_explicit_word() {
    for issuer in
        ["http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080", "https://host.example"]
    {
        assert!(builder(issuer).build().is_ok(), "{issuer}");
    }
    for issuer in [
        "http://host.example",
        "http://10.0.0.1:8080",
        "http://localhost.example",
        "http://a.localhost",
        "http://0.0.0.0",
    ] {
        let text = message(builder(issuer));
        assert!(text.starts_with("issuer: ") && text.contains("dangerous_allow_http"), "{text}");
        assert!(builder(issuer).dangerous_allow_http().build().is_ok());
    }
    let text = message(builder("https://host.example").connect_to("http://zitadel:8080"));
    assert!(text.starts_with("connect_to: ") && text.contains("dangerous_allow_http"), "{text}");
    let inside = builder("https://host.example").connect_to("http://zitadel:8080").dangerous_allow_http();
    assert!(inside.build().is_ok());
}

#[test]
fn values_out_of_bounds_are_refused() {
    let good = || builder("https://host.example");
    for (builder, field) in vec![
        (good().timeout(Duration::ZERO), "timeout: "),
        (good().timeout(Duration::from_secs(11)), "timeout: "),
        (good().connect_timeout(Duration::ZERO), "connect_timeout: "),
        (good().connect_timeout(Duration::from_secs(6)), "connect_timeout: "),
        (good().denial_refresh_interval(Duration::ZERO), "denial_refresh_interval: "),
        (good().cache_ttl(Duration::from_secs(3601)), "cache_ttl: "),
        (good().negative_cache_ttl(Duration::from_secs(11)), "negative_cache_ttl: "),
        (good().cache_capacity(0), "cache_capacity: "),
        (good().cache_bytes(16 * 1024 * 1024 - 1), "cache_bytes: "),
        (good().max_answer_bytes(2048).cache_bytes(32 * 1024 - 1), "cache_bytes: "),
        (good().max_answer_bytes(1023), "max_answer_bytes: "),
        (good().max_answer_bytes(64 * 1024 * 1024 + 1), "max_answer_bytes: "),
        (good().refresh_ahead(Duration::from_secs(61)), "refresh_ahead: "),
        (good().serve_stale_on_error(Duration::from_secs(3601)), "serve_stale_on_error: "),
        (good().connect_to("nonsense/"), "connect_to: "),
        (good().proxy("http://user:secret@"), "proxy: "),
        (good().root_certificates_pem("no certificate"), "root_certificates_pem: "),
        (good().header("bad name", "x"), "header: "),
        (good().header("x-own", "line\nbreak"), "header: "),
        (good().header("Authorization", "x"), "header: "),
        (good().header("host", "x"), "header: "),
        (good().header("X-Zitadel-Instance-Host", "x"), "header: "),
        (good().realm("a\"b"), "realm: "),
        (good().error_body("line\nbreak", |_| String::new()), "error_body: "),
    ] {
        let text = message(builder);
        assert!(text.starts_with(field) && text.contains("; ") && !text.contains('\n'), "{text}");
        assert!(!text.contains("user:secret"), "{text}");
    }
    for builder in [
        good().cache_bytes(16 * 1024 * 1024),
        good().max_answer_bytes(2048).cache_bytes(32 * 1024),
        good().max_answer_bytes(1024),
        good().max_answer_bytes(64 * 1024 * 1024),
        good().timeout(Duration::from_secs(10)),
        good().cache_ttl(Duration::from_secs(3600)),
    ] {
        assert!(builder.build().is_ok());
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn settings_that_contradict_each_other_or_have_no_effect_are_refused_and_both_named() {
    let good = || builder("https://host.example");
    let loopback = || builder("http://127.0.0.1:8080");
    let off = "`cache_off`";
    let local = "`verify_jwts_locally_without_revocation`";
    for (builder, field, other) in vec![
        (good().project("1").verify_jwts_locally_without_revocation("2"), "project: ", local),
        (good().cache_off().cache_ttl(SECOND), "cache_ttl: ", off),
        (good().cache_capacity(9).cache_off(), "cache_capacity: ", off),
        (good().cache_off().cache_bytes(16 * 1024 * 1024), "cache_bytes: ", off),
        (good().cache_off().negative_cache_ttl(SECOND), "negative_cache_ttl: ", off),
        (good().cache_off().negative_cache_capacity(9), "negative_cache_capacity: ", off),
        (good().cache_off().denial_refresh_interval(SECOND), "denial_refresh_interval: ", off),
        (good().cache_off().refresh_ahead(SECOND), "refresh_ahead: ", off),
        (good().cache_off().serve_stale_on_error(SECOND), "serve_stale_on_error: ", off),
        (good().confirm_local_verdicts_within(SECOND), "confirm_local_verdicts_within: ", local),
        (
            good()
                .verify_jwts_locally_without_revocation("1")
                .confirm_local_verdicts_within(SECOND)
                .cache_off(),
            "confirm_local_verdicts_within: ",
            off,
        ),
        (good().fresh_assertions(), "fresh_assertions: ", "no key"),
        (good().header("x-a", "1").header("X-A", "2"), "header: ", "\"x-a\" is set twice"),
        (good().header("user-agent", "mine"), "header: ", "user-agent"),
        (loopback().proxy("http://proxy.example"), "proxy: ", "a loopback issuer"),
        (loopback().root_certificates_pem("x"), "root_certificates_pem: ", "plain http"),
    ] {
        let text = message(builder);
        assert!(text.starts_with(field) && text.contains(other) && !text.contains('\n'), "{text}");
    }
    for builder in [
        good().project("1").verify_jwts_locally_without_revocation("1"),
        good().cache_off().serve_stale_on_error(Duration::ZERO),
    ] {
        assert!(builder.build().is_ok());
    }
}

#[test]
fn a_value_that_may_be_a_secret_is_not_repeated() {
    let pem = "-----BEGIN RSA PRIVATE KEY-----MIIEs3cr3t";
    for text in [
        r#"{"type":"application","key":"s3cr3t"}"#,
        pem,
        "https://user:s3cr3t@host.example",
        "s3cr3t\nline",
        &format!("{}s3cr3t//", "a".repeat(300)),
    ] {
        let key = ClientAuth::key_json(text).unwrap_err().to_string();
        let issuer = Issuer::parse(text).unwrap_err().to_string();
        let good = || builder("https://host.example");
        for message in [
            key,
            issuer,
            message(good().connect_to(text)),
            message(good().realm(format!("{text}\"\n"))),
            message(good().resource(text, [""; 0])),
            message(good().error_body(format!("{text}\n"), |_| String::new())),
            message(good().header(format!("{text} {{"), "x")),
        ] {
            assert!(!message.contains("s3cr3t"), "{message}");
        }
    }
}
