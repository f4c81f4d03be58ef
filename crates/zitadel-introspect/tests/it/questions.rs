//! What is sent to the issuer, and what is not.

use zitadel_introspect::{ClientAuth, Issuer, Verifier};
use zitadel_introspect_testkit::{self as testkit, Endpoint, Fault};

use crate::setup::{World, authorize, chain, status};

/// All headers that a question may carry.
const HEADERS: [&str; 5] = ["accept", "content-length", "content-type", "host", "user-agent"];

#[tokio::test]
async fn a_question_carries_the_token_our_proof_and_nothing_else() {
    let world = World::new().await;
    let _ = authorize(&world.verifier(), &world.token).await.unwrap();
    for request in world.issuer.requests() {
        let own = concat!("zitadel-introspect/", env!("CARGO_PKG_VERSION"));
        assert_eq!(request.header("user-agent"), Some(own), "{request:?}");
        for (name, _) in request.headers() {
            assert!(HEADERS.contains(&name), "{request:?}: {name}");
        }
        assert!(!request.target().contains('?'), "{request:?}");
        if request.endpoint() == Endpoint::Introspection {
            let form: Vec<_> =
                form_urlencoded::parse(request.body()).map(|(name, _)| name.into_owned()).collect();
            assert_eq!(form, ["token", "client_assertion_type", "client_assertion"]);
            assert_eq!(request.form("token").as_deref(), Some(&*world.token));
        } else {
            assert!(request.body().is_empty());
        }
    }
}

#[tokio::test]
async fn cookies_of_the_issuer_are_not_kept() {
    let world = World::new().await;
    let verifier = world.builder().cache_off().build().unwrap();
    let fault = Fault::answer(200, "application/json", r#"{"active":false}"#);
    world.issuer.inject(fault.header("set-cookie", "zitadel.useragent=x; Path=/").times(1));
    authorize(&verifier, "first").await.unwrap_err();
    let _ = authorize(&verifier, &world.token).await.unwrap();
    assert!(world.issuer.requests().iter().all(|request| request.header("cookie").is_none()));
}

#[tokio::test]
async fn an_assertion_of_its_own_goes_with_each_question_where_it_is_asked_for() {
    let world = World::new().await;
    for (builder, own) in [(world.builder(), false), (world.builder().fresh_assertions(), true)] {
        let verifier = builder.cache_off().build().unwrap();
        let before = world.issuer.requests().len();
        for _ in 0..3 {
            assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
        }
        let requests = world.issuer.requests();
        let mut assertions: Vec<_> =
            requests[before..].iter().filter_map(|request| request.form("client_assertion")).collect();
        assert_eq!(assertions.len(), 3);
        assertions.sort_unstable();
        assertions.dedup();
        assert_eq!(assertions.len(), if own { 3 } else { 1 });
    }
}

#[tokio::test]
async fn an_issuer_that_writes_out_its_default_port_can_be_configured() {
    for configured in ["http://127.0.0.1", "http://127.0.0.1:80"] {
        for named in ["http://127.0.0.1", "http://127.0.0.1:80"] {
            let world = World::at(testkit::Issuer::builder().public_origin("http://127.0.0.1")).await;
            let document = serde_json::json!({
                "issuer": named, "introspection_endpoint": "http://127.0.0.1/oauth/v2/introspect",
            });
            let fault = Fault::answer(200, "application/json", document.to_string());
            world.issuer.inject(fault.on(Endpoint::Discovery));
            let answer = serde_json::json!({"active": true, "iss": named}).to_string();
            world.issuer.inject(Fault::answer(200, "application/json", answer));
            let auth = ClientAuth::key_json(&world.api.key_json()).unwrap();
            let verifier = Verifier::builder(Issuer::parse(configured).unwrap(), auth);
            let verifier = verifier.connect_to(format!("http://{}", world.issuer.address())).build().unwrap();
            assert_eq!(status(&authorize(&verifier, "any").await), 200, "{configured} {named}");
            // The assertion is meant for the issuer as it names itself.
            let asked = world.issuer.requests().pop().unwrap().form("client_assertion").unwrap();
            let claims = asked.split('.').nth(1).unwrap().to_owned();
            let claims =
                base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
            let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(claims["aud"], named);
        }
    }
}

#[tokio::test]
async fn an_https_issuer_is_never_asked_in_the_clear() {
    let world = World::new().await;
    let document = serde_json::json!({
        "issuer": "https://issuer.example", "introspection_endpoint": "http://127.0.0.1:1/oauth/v2/introspect",
    });
    let http = |named: &str| document.to_string().replace("https://issuer.example", named);
    // A proxy that ends TLS before the issuer: the name is https, the way to it is not.
    let tls = crate::connection::TlsIssuer::start().await;
    tls.world
        .issuer
        .inject(Fault::answer(200, "application/json", http(&tls.origin)).on(Endpoint::Discovery));
    let error = tls.builder().build().unwrap().check().await.unwrap_err();
    assert!(error.to_string().contains("an endpoint is plain http"), "{error}");
    let allowed = tls.builder().dangerous_allow_http().build().unwrap();
    let error = allowed.check().await.unwrap_err();
    assert!(error.to_string().contains("an endpoint is plain http"), "also where http is allowed: {error}");
    drop(world);
}

#[tokio::test]
async fn a_host_without_an_instance_is_told_what_to_use() {
    let world = World::new().await;
    let not_found = "unable to set instance using origin x: Message=Instance not found.";
    let no_database = "unable to set instance using origin x";
    for (body, is_said) in [(not_found, Some(true)), ("404 page not found", Some(false)), (no_database, None)]
    {
        world.issuer.heal();
        world.issuer.inject(Fault::answer(404, "text/plain", body).on(Endpoint::Discovery));
        let error = world.verifier().check().await.unwrap_err();
        let found = match &error {
            zitadel_introspect::IssuerError::NoInstance { is_said, .. } => Some(*is_said),
            _ => None,
        };
        assert_eq!(found, is_said, "{}", chain(&error));
        if is_said.is_some() {
            // The instance is found by the issuer's name, wherever that is asked.
            let inner = format!("http://localhost:{}", world.issuer.address().port());
            let elsewhere =
                world.builder().connect_to(inner).build().unwrap().check().await.unwrap_err().to_string();
            assert!(elsewhere.contains(&world.issuer.address().to_string()), "{elsewhere}");
            assert!(!elsewhere.contains("connect_to"), "{elsewhere}");
            let host = world.issuer.address().to_string();
            let text = error.to_string();
            assert!(
                text.contains(&host) && text.contains("external domain") && text.contains("`connect_to`"),
                "{text}"
            );
        }
    }
}
