//! What is logged, and what is not.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::{Level, subscriber::DefaultGuard};
use zitadel_introspect::{Issuer, Requirement, TestCaller, TestTokens, Verifier};
use zitadel_introspect_testkit::Algorithm;

use crate::setup::{World, authorize, status};

/// Keeps what this thread logs.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn start(level: Level) -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
        let lines = lines.with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(lines))
    }

    pub(crate) fn lines(&self, part: &str) -> usize {
        let log = self.0.lock().unwrap();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(part)).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_anonymous_caller_of_a_public_route_is_no_refusal() {
    let verifier = TestTokens::new().caller("token", TestCaller::new("ada")).verifier();
    let any = Requirement::any_caller();
    let (log, _logging) = Log::start(Level::INFO);
    let none: [&[u8]; 0] = [];
    assert!(verifier.authorize_optional(none, &any).await.unwrap().is_none());
    assert!(verifier.authorize_optional([&b"Basic YTpi"[..]], &any).await.unwrap().is_none());
    assert!(verifier.authorize_optional([&b"Bearer token"[..]], &any).await.unwrap().is_some());
    assert_eq!(log.lines(""), 0, "nobody was refused");
    assert!(verifier.authorize_optional([&b"Bearer dead"[..]], &any).await.is_err());
    assert!(verifier.authorize(none, &any).await.is_err());
    assert_eq!(log.lines("request refused"), 2);
}

#[tokio::test]
async fn a_token_that_is_too_long_is_called_so() {
    let verifier = TestTokens::new().verifier();
    let (log, _logging) = Log::start(Level::INFO);
    assert_eq!(status(&authorize(&verifier, &"a".repeat(16 * 1024 + 1)).await), 401);
    assert_eq!(log.lines("the token is too long limit=16384"), 1);
}

#[tokio::test]
async fn jwts_that_nobody_can_read_are_told_loudly_and_once() {
    let world = World::new().await;
    let issuer = Issuer::parse(&world.issuer.url()).unwrap();
    let verifier = Verifier::jwt_builder_without_revocation(issuer, world.project.id()).build().unwrap();
    world.issuer.rotate_key(Algorithm::Es512);
    let (log, _logging) = Log::start(Level::INFO);
    for _ in 0..5 {
        let token = world.admin.access_token().for_project(&world.project).jwt().issue();
        assert_eq!(status(&authorize(&verifier, &token).await), 401);
    }
    assert_eq!(log.lines("ERROR"), 1);
    assert_eq!(log.lines("JWTs ARE REFUSED"), 1);
}

#[tokio::test]
async fn a_made_up_algorithm_is_not_told_as_one_of_the_issuers() {
    let world = World::new().await;
    let issuer = Issuer::parse(&world.issuer.url()).unwrap();
    let verifier = Verifier::jwt_builder_without_revocation(issuer, world.project.id()).build().unwrap();
    let good = world.admin.access_token().for_project(&world.project).jwt().issue();
    assert_eq!(status(&authorize(&verifier, &good).await), 200);
    let (log, _logging) = Log::start(Level::INFO);
    for key_id in [world.issuer.signing_key_id(), "unknown".to_owned()] {
        let header = serde_json::json!({"alg": "XX999", "typ": "JWT", "kid": key_id});
        let made_up = world.issuer.forge(&header, &serde_json::json!({"jti": "1"}));
        assert_eq!(status(&authorize(&verifier, &made_up).await), 401);
    }
    assert_eq!(log.lines("ERROR"), 0);
}

#[tokio::test]
async fn handler_tests_see_the_bodies_and_challenges_of_production() {
    let verifier = TestTokens::new()
        .caller("token", TestCaller::new("ada").role("editor").organization("acme"))
        .error_body("application/problem+json", |error| format!("{{\"status\":{}}}", error.status().as_u16()))
        .realm("tasks")
        .resource("https://api.example.com", ["openid"])
        .verifier();
    let refused = authorize(&verifier, "dead").await.unwrap_err();
    let answer = refused.to_response();
    assert_eq!(answer.body(), "{\"status\":401}");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let challenge = refused.challenge().unwrap();
    assert!(challenge.contains("realm=\"tasks\"") && challenge.contains("resource_metadata="), "{challenge}");
    // The role is in the caller's own organization, whichever of the two was said first.
    let caller = authorize(&verifier, "token").await.unwrap();
    assert!(caller.claims().roles().contains_in("editor", &"acme".into()));
}
