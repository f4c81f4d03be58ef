//! Whatever the issuer does wrong: 503 within the time limit, nothing said about the token, and service
//! again as soon as the issuer is well.

use std::time::{Duration, Instant};

use zitadel_introspect::{IssuerError, Reason, Verifier};
use zitadel_introspect_testkit::{Endpoint, Fault};

use crate::setup::{World, authorize, chain, status};

const TIMEOUT: Duration = Duration::from_millis(700);

fn impatient(world: &World) -> Verifier {
    world.builder().connect_timeout(TIMEOUT).timeout(TIMEOUT).cache_off().build().unwrap()
}

/// Injects a fault, expects no verdict in time, heals, and expects service. Gives the questions asked.
async fn no_verdict(fault: Fault) -> (IssuerError, usize) {
    let world = World::new().await;
    let verifier = impatient(&world);
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
    world.issuer.inject(fault);
    let before = world.issuer.introspections();
    let began = Instant::now();
    let error = authorize(&verifier, &world.token).await.unwrap_err();
    assert!(began.elapsed() < TIMEOUT * 3, "answered after {:?}", began.elapsed());
    assert_eq!((error.status().as_u16(), error.challenge()), (503, None));
    let answer = error.to_response();
    assert_eq!(answer.body(), "unavailable: no verdict from the issuer\n");
    let retry_after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&retry_after));
    assert!(!chain(&error).contains(&*world.token));
    let asked = world.issuer.introspections() - before;
    world.issuer.heal();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200, "heals by itself");
    match error.reason() {
        Reason::Unavailable(cause) => (cause.clone(), asked),
        other => panic!("{other}"),
    }
}

fn answer(body: &str) -> Fault {
    Fault::answer(200, "application/json", body)
}

#[tokio::test]
async fn statuses_other_than_200_are_no_verdict_and_only_gateway_troubles_are_asked_again() {
    for (status, questions) in
        [(201, 1), (204, 1), (400, 1), (403, 1), (404, 1), (500, 1), (501, 1), (502, 2), (503, 2), (504, 2)]
    {
        let (error, asked) = no_verdict(Fault::status(status)).await;
        assert_eq!(asked, questions, "{status}");
        assert!(matches!(error, IssuerError::Status { status: found, .. } if found == status), "{error}");
    }
}

#[tokio::test]
async fn a_gateway_trouble_that_passes_goes_unseen() {
    let world = World::new().await;
    world.issuer.inject(Fault::status(502).times(1));
    assert_eq!(status(&authorize(&world.verifier(), &world.token).await), 200);
    assert_eq!(world.issuer.introspections(), 2);
}

#[tokio::test]
async fn throttling_is_not_asked_again_and_its_patience_is_passed_on() {
    for (asked_for, given) in [("7", 7), ("0", 1), ("3600", 10), ("soon", 1)] {
        let world = World::new().await;
        world.issuer.inject(Fault::status(429).header("retry-after", asked_for));
        let error = authorize(&world.verifier(), &world.token).await.unwrap_err();
        assert_eq!(error.to_response().headers()["retry-after"], given.to_string());
        assert_eq!(world.issuer.introspections(), 1);
    }
}

#[tokio::test]
async fn answers_that_are_no_introspection_answer_are_no_verdict() {
    for body in [
        "",
        " ",
        "true",
        "[]",
        "{}",
        "{\"active\":\"true\"}",
        "{\"active\":1}",
        "{\"active\":null}",
        "{\"active\":true} x",
        "{\"active\":true}{\"active\":true}",
        "{\"active\":true,\"active\":true}",
        "{\"active\":true,\"exp\":\"never\"}",
        "{\"active\":true,\"sub\":7}",
        "<html>",
        "{\"active\":tr",
    ] {
        let (error, asked) = no_verdict(answer(body)).await;
        assert!(matches!(error, IssuerError::Unusable { .. }), "{body}: {error}");
        assert_eq!(asked, 1, "{body}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_no_verdict() {
    no_verdict(Fault::answer(200, "application/json", b"{\"active\":true,\"x\":\"\xff\"}".to_vec())).await;
}

#[tokio::test]
async fn another_media_type_is_no_verdict() {
    for media_type in ["text/html", "application/jwt", "application/jsonx", "text/plain; application/json"] {
        no_verdict(Fault::content_type(media_type)).await;
    }
}

#[tokio::test]
async fn a_media_type_with_parameters_is_the_same_media_type() {
    let world = World::new().await;
    world.issuer.inject(Fault::content_type("Application/JSON; charset=utf-8"));
    assert_eq!(status(&authorize(&world.verifier(), &world.token).await), 200);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = World::new().await;
    let location = format!("{}/oauth/v2/introspect", elsewhere.issuer.url());
    no_verdict(Fault::redirect(&location)).await;
    assert_eq!(elsewhere.issuer.introspections(), 0);
}

#[tokio::test]
async fn silence_of_every_kind_ends_at_the_time_out() {
    for fault in [
        Fault::hang_before_head(),
        Fault::hang_within_head(),
        Fault::hang_within_body(),
        Fault::latency(TIMEOUT * 4),
    ] {
        let (error, asked) = no_verdict(fault).await;
        assert!(matches!(error, IssuerError::TimedOut), "{error}");
        assert_eq!(asked, 1);
    }
}

#[tokio::test]
async fn a_broken_connection_is_asked_again_once() {
    let (error, asked) = no_verdict(Fault::reset()).await;
    assert!(matches!(error, IssuerError::Unreachable(_)), "{error}");
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn a_truncated_answer_is_no_verdict() {
    let (error, asked) = no_verdict(Fault::truncated()).await;
    assert!(matches!(error, IssuerError::Unusable { .. }), "{error}");
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let (error, _) = no_verdict(Fault::endless_body()).await;
    assert!(matches!(error, IssuerError::Unusable { .. }), "{error}");
}

#[tokio::test]
async fn an_issuer_that_refuses_us_is_unavailable_and_not_the_tokens_fault() {
    let unauthorized = r#"{"error":"unauthorized_client"}"#;
    let invalid = r#"{"error":"invalid_client"}"#;
    for (status, body) in [(400, unauthorized), (401, invalid), (401, "")] {
        let (error, asked) = no_verdict(Fault::answer(status, "application/json", body)).await;
        assert!(matches!(error, IssuerError::Refused { .. }), "{error}");
        assert_eq!(asked, 1);
    }
}

#[tokio::test]
async fn a_dead_issuer_is_noticed_at_once_and_its_return_as_well() {
    let world = World::new().await;
    let verifier = world.builder().cache_off().build().unwrap();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
    world.issuer.stop().await;
    let began = Instant::now();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 503);
    assert!(began.elapsed() < Duration::from_secs(1));
    world.issuer.resume().await;
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
}

#[tokio::test]
async fn a_caller_who_hangs_up_disturbs_nobody() {
    let world = World::new().await;
    let verifier = world.builder().cache_off().build().unwrap();
    let held = world.issuer.hold(Endpoint::Introspection);
    let asking = tokio::spawn({
        let (verifier, token) = (verifier.clone(), world.token.to_string());
        async move { status(&authorize(&verifier, &token).await) }
    });
    world.issuer.asked(Endpoint::Introspection, 1).await;
    asking.abort();
    drop(held);
    world.issuer.heal();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
}

#[tokio::test]
async fn the_thirty_third_question_waits_for_its_turn() {
    let world = World::new().await;
    let verifier = world.builder().cache_off().build().unwrap();
    assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
    let held = world.issuer.hold(Endpoint::Introspection);
    let asking: Vec<_> = (0..40)
        .map(|number| {
            let verifier = verifier.clone();
            tokio::spawn(async move { status(&authorize(&verifier, &format!("dead-{number}")).await) })
        })
        .collect();
    world.issuer.asked(Endpoint::Introspection, 33).await;
    // Round trips on other connections: what was sent before them has arrived by then.
    for _ in 0..100 {
        reqwest::get(format!("{}/debug/healthz", world.issuer.url())).await.unwrap();
    }
    assert_eq!(world.issuer.introspections(), 33, "one before, thirty-two at once");
    drop(held);
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 401);
    }
    assert_eq!(world.issuer.introspections(), 41);
}
