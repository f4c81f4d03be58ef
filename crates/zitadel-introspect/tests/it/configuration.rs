//! Bad configuration stops at the start and names field, problem and remedy.

use std::time::Duration;

use zitadel_introspect::{Builder, ClientAuth, Issuer, Verifier};

fn builder(issuer: &str) -> Builder {
    Verifier::builder(Issuer::parse(issuer).unwrap(), ClientAuth::secret("id", "secret").unwrap())
}

fn message(builder: Builder) -> String {
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
    for (builder, field) in [
        (good().timeout(Duration::ZERO), "timeout: "),
        (good().timeout(Duration::from_secs(11)), "timeout: "),
        (good().connect_timeout(Duration::ZERO), "connect_timeout: "),
        (good().connect_timeout(Duration::from_secs(6)), "connect_timeout: "),
        (good().denial_refresh_interval(Duration::ZERO), "denial_refresh_interval: "),
        (good().cache_ttl(Duration::from_secs(3601)), "cache_ttl: "),
        (good().negative_cache_ttl(Duration::from_secs(11)), "negative_cache_ttl: "),
        (good().cache_capacity(0), "cache_capacity: "),
        (good().confirm_local_verdicts_within(Duration::from_secs(1)), "confirm_local_verdicts_within: "),
        (
            good()
                .verify_jwts_locally_without_revocation("1")
                .confirm_local_verdicts_within(Duration::from_secs(1))
                .cache_off(),
            "confirm_local_verdicts_within: ",
        ),
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
        assert!(!text.contains("secret"), "{text}");
    }
}
