//! Where the endpoints are: asked once, checked, and again after a failure.

use std::time::Duration;

use zitadel_introspect::{IssuerError, Reason};
use zitadel_introspect_testkit::{Endpoint, Fault};

use crate::setup::{World, authorize, status};

#[tokio::test]
async fn building_a_verifier_asks_nothing_and_the_document_is_asked_once() {
    let world = World::new().await;
    let verifier = world.verifier();
    assert_eq!(world.issuer.request_count(Endpoint::Discovery), 0);
    let first: Vec<_> = (0..20)
        .map(|_| {
            // A token each: one token would be one question, whatever discovery does.
            let (verifier, token) = (verifier.clone(), world.admin.pat().to_string());
            tokio::spawn(async move { status(&authorize(&verifier, &token).await) })
        })
        .collect();
    for asked in first {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
    assert_eq!(world.issuer.request_count(Endpoint::Discovery), 1);
}

#[tokio::test]
async fn a_service_that_starts_before_its_issuer_heals_by_itself() {
    let world = World::new().await;
    world.issuer.stop().await;
    let verifier = world.verifier();
    assert!(matches!(verifier.check().await, Err(IssuerError::Unreachable(_))));
    assert_eq!(status(&authorize(&verifier, &world.token).await), 503);
    world.issuer.resume().await;
    let healed = async {
        while status(&authorize(&verifier, &world.token).await) != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), healed).await.unwrap();
}

#[tokio::test]
async fn failures_are_not_asked_about_in_a_storm() {
    let world = World::new().await;
    // A fault that the breaker does not count: only discovery's own back-off is left.
    world.issuer.inject(Fault::answer(200, "application/json", "[]").on(Endpoint::Discovery));
    let verifier = world.verifier();
    for _ in 0..200 {
        assert_eq!(status(&authorize(&verifier, &world.token).await), 503);
    }
    let asked = world.issuer.request_count(Endpoint::Discovery);
    assert!((1..=6).contains(&asked), "{asked} requests");
}

#[tokio::test]
async fn a_document_of_another_issuer_is_refused_and_both_are_shown() {
    let world = World::new().await;
    let slash = format!("{}/", world.issuer.url());
    for other in ["https://evil.example", &slash, "https://evil.example\nERROR \u{1b}[31m"] {
        world.issuer.heal();
        world.issuer.inject(Fault::other_issuer(other));
        let error = world.verifier().check().await.unwrap_err();
        assert!(matches!(error, IssuerError::OtherIssuer { .. }));
        let message = error.to_string();
        let printable = other.lines().next().unwrap();
        assert!(message.contains(printable) && message.contains(&world.issuer.url()), "{message}");
        assert!(!message.contains('\n') && !message.contains('\u{1b}'), "it cannot forge a line: {message}");
        assert_eq!(world.issuer.introspections(), 0);
    }
}

#[tokio::test]
async fn endpoints_that_are_less_safe_than_the_issuer_are_refused() {
    let world = World::new().await;
    for endpoint in [
        "http://auth.example/introspect",
        "/oauth/v2/introspect",
        "ftp://127.0.0.1/x",
        "",
        "http://id:secret@127.0.0.1/x",
    ] {
        world.issuer.heal();
        let document =
            serde_json::json!({"issuer": world.issuer.url(), "introspection_endpoint": endpoint}).to_string();
        world.issuer.inject(Fault::answer(200, "application/json", document).on(Endpoint::Discovery));
        let error = world.verifier().check().await.unwrap_err();
        assert!(matches!(error, IssuerError::Unusable { .. }), "{endpoint}: {error}");
    }
}

#[tokio::test]
async fn a_document_that_is_none_is_unavailable() {
    let world = World::new().await;
    let issuer = world.issuer.url();
    for body in ["", "[]", "{}", &format!("{{\"issuer\":{issuer:?}}}"), "{\"issuer\":1}"] {
        world.issuer.heal();
        world.issuer.inject(Fault::answer(200, "application/json", body).on(Endpoint::Discovery));
        let verifier = world.verifier();
        let error = authorize(&verifier, &world.token).await.unwrap_err();
        assert!(matches!(error.reason(), Reason::Unavailable(IssuerError::Unusable { .. })), "{body}");
    }
}

#[tokio::test]
async fn a_long_name_of_another_issuer_is_cut() {
    let world = World::new().await;
    let document = format!(r#"{{"issuer":"https://{}"}}"#, "a".repeat(500_000));
    world.issuer.inject(Fault::answer(200, "application/json", document).on(Endpoint::Discovery));
    let error = world.verifier().check().await.unwrap_err();
    assert!(error.to_string().contains("names the issuer") && error.to_string().len() < 1000);
}
