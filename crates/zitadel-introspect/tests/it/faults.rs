//! Whatever the issuer does wrong: 503 within the time limit, nothing said about the token, and service
//! again as soon as the issuer is well.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use zitadel_introspect::{InvalidToken, IssuerError, Reason, Verifier};
use zitadel_introspect_testkit::{Endpoint, Fault};

use crate::setup::{World, authorize, chain, status};

const TIMEOUT: Duration = Duration::from_secs(2);

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
        let probes = usize::from(asked_for != "soon");
        assert_eq!(world.issuer.introspections(), 1 + probes, "a probe looks into a demand for patience");
    }
}

#[tokio::test]
async fn a_page_for_people_says_nothing_about_our_key() {
    for status_code in [200, 401, 403, 404] {
        let world = World::new().await;
        world.issuer.inject(Fault::answer(status_code, "text/html; charset=utf-8", "<html>Log in</html>"));
        let error = authorize(&world.verifier(), &world.token).await.unwrap_err();
        let Reason::Unavailable(error) = error.reason() else { panic!("{error}") };
        assert!(error.to_string().contains("it is HTML"), "{status_code}: {error}");
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
    let faults = [
        Fault::hang_before_head(),
        Fault::hang_within_head(),
        Fault::hang_within_body(),
        Fault::latency(TIMEOUT * 4),
    ];
    for (error, asked) in join_all(faults.map(no_verdict)).await {
        assert!(matches!(error, IssuerError::TimedOut), "{error}");
        assert_eq!(asked, 2, "a second attempt is made beside the first");
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
    assert!(matches!(error, IssuerError::TooLarge { .. }), "{error}");
}

/// An active answer of exactly so many bytes.
fn answer_of(bytes: usize) -> Fault {
    let empty = r#"{"active":true,"x":""}"#.len();
    answer(&format!(r#"{{"active":true,"x":"{}"}}"#, "x".repeat(bytes - empty)))
}

#[tokio::test]
async fn an_answer_of_the_limit_passes_and_one_byte_more_does_not() {
    let world = World::new().await;
    let small = 64 * 1024;
    for (verifier, limit) in [
        (world.builder().cache_off().build().unwrap(), 1024 * 1024),
        (world.builder().cache_off().max_answer_bytes(small).build().unwrap(), small),
    ] {
        world.issuer.inject(answer_of(limit).times(1));
        assert_eq!(status(&authorize(&verifier, "large").await), 200);
        world.issuer.inject(answer_of(limit + 1).times(1));
        let error = authorize(&verifier, "large").await.unwrap_err();
        let Reason::Unavailable(error) = error.reason() else { panic!("{error}") };
        assert!(error.to_string().contains(&limit.to_string()), "{error}");
        assert!(error.to_string().contains("`max_answer_bytes`"), "{error}");
    }
}

#[tokio::test]
async fn an_encoded_answer_is_no_verdict() {
    for encoding in ["gzip", "identity", "br"] {
        let fault = answer(r#"{"active":true}"#).header("content-encoding", encoding);
        let (error, _) = no_verdict(fault).await;
        assert!(matches!(error, IssuerError::Unusable { .. }), "{error}");
    }
}

#[tokio::test]
async fn numbers_out_of_range_are_no_verdict() {
    for name in ["exp", "iat", "nbf", "auth_time", "updated_at"] {
        for number in ["1e999", "-1e999", "18446744073709551616"] {
            let (error, _) = no_verdict(answer(&format!(r#"{{"active":true,"{name}":{number}}}"#))).await;
            assert!(matches!(error, IssuerError::Unusable { .. }), "{name}: {number}: {error}");
        }
    }
}

#[tokio::test]
async fn members_that_are_null_are_absent() {
    let world = World::new().await;
    let document = r#"{"active":true,"aud":null,"scope":null,"exp":null,"iat":null,"nbf":null,"iss":null,"sub":null,
        "username":null,"cnf":null,"token_type":null}"#;
    world.issuer.inject(answer(document));
    assert_eq!(status(&authorize(&world.verifier(), "bare").await), 200);
    let narrow = world.builder().audience("7").build().unwrap();
    assert_eq!(status(&authorize(&narrow, "bare").await), 401, "a configured audience is not met");
}

#[tokio::test]
async fn a_token_bound_to_a_key_is_refused_and_the_refusal_is_held() {
    for bound in [r#""cnf":{"jkt":"x"}"#, r#""token_type":"DPoP""#, r#""token_type":"N_A""#] {
        let world = World::new().await;
        let verifier = world.verifier();
        world.issuer.inject(answer(&format!(r#"{{"active":true,{bound}}}"#)));
        for _ in 0..3 {
            let refused = crate::setup::reason(authorize(&verifier, "bound").await);
            assert!(matches!(refused, Reason::InvalidToken(InvalidToken::NotABearerToken)), "{bound}");
        }
        assert_eq!(world.issuer.introspections(), 1);
    }
}

#[tokio::test]
async fn an_error_about_the_token_is_a_refusal_of_that_token_and_held() {
    for (status_code, error) in [
        (400, "unsupported_token_type"),
        (401, "unsupported_token_type"),
        (422, "unsupported_token_type"),
        (400, "invalid_token"),
    ] {
        let world = World::new().await;
        let verifier = world.verifier();
        let body = format!(r#"{{"error":"{error}"}}"#);
        world.issuer.inject(Fault::answer(status_code, "application/json", body).for_token("odd"));
        for _ in 0..10 {
            assert_eq!(status(&authorize(&verifier, "odd").await), 401, "{error}");
        }
        assert_eq!(world.issuer.introspections(), 1, "{error}");
    }
    for (status_code, error) in
        [(401, "invalid_token"), (400, "invalid_request"), (400, "access_denied"), (400, "server_error")]
    {
        let body = format!(r#"{{"error":"{error}"}}"#);
        no_verdict(Fault::answer(status_code, "application/json", body)).await;
    }
}

#[tokio::test]
async fn a_redirect_says_where_it_leads_and_html_that_it_is_html() {
    let (error, _) = no_verdict(Fault::redirect("https://login.example/ui?session=s3cr3t")).await;
    assert!(error.to_string().contains("https://login.example/ui"), "{error}");
    assert!(!error.to_string().contains("s3cr3t"), "{error}");
    let (error, _) = no_verdict(Fault::answer(200, "text/html; charset=utf-8", "<html>")).await;
    assert!(error.to_string().contains("HTML"), "{error}");
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
    // Patient: a question that is held back is not asked a second time on a busy machine.
    let verifier = world.builder().cache_off().timeout(Duration::from_secs(10)).build().unwrap();
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
    for _ in 0..20 {
        reqwest::get(format!("{}/debug/healthz", world.issuer.url())).await.unwrap();
    }
    assert_eq!(world.issuer.introspections(), 33, "one before, thirty-two at once");
    drop(held);
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 401);
    }
    assert_eq!(world.issuer.introspections(), 41);
}
