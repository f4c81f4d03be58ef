//! JWTs, read without asking.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use zitadel_introspect::{InvalidToken, Issuer, Reason, Requirement, TestClock, Verifier};
use zitadel_introspect_testkit::{self as testkit, Algorithm, Endpoint, Fault, Profile, Token};

use tracing::Level;

use crate::logs::Log;
use crate::setup::{World, authorize, reason, require, status};

fn local(world: &World) -> Verifier {
    let issuer = Issuer::parse(&world.issuer.url()).unwrap();
    Verifier::jwt_builder_without_revocation(issuer, world.project.id()).build().unwrap()
}

fn auto(world: &World) -> Verifier {
    world.builder().verify_jwts_locally_without_revocation(world.project.id()).build().unwrap()
}

fn jwt(world: &World) -> Token {
    let request = world.admin.access_token().for_project(&world.project).jwt();
    request.scopes("urn:zitadel:iam:org:projects:roles").issue()
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Claims of a token that passes, to be broken one by one.
fn good_claims(world: &World) -> Value {
    json!({
        "iss": world.issuer.url(), "sub": "7", "aud": [world.project.id()], "exp": now() + 600, "iat": now(),
        "nbf": now(), "jti": "V2_1-at_2",
    })
}

fn good_header(world: &World) -> Value {
    json!({"alg": "RS256", "kid": world.issuer.signing_key_id(), "typ": "JWT"})
}

#[tokio::test]
async fn every_kind_of_key_verifies_without_a_question() {
    let world = World::new().await;
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa] {
        world.issuer.rotate_key(algorithm);
        for verifier in [local(&world), auto(&world)] {
            let caller = require(&verifier, &jwt(&world), &Requirement::role("admin")).await.unwrap();
            assert_eq!(caller.claims().subject(), Some(&*world.admin.id()), "{algorithm:?}");
        }
    }
    assert_eq!(world.issuer.introspections(), 0);
}

#[tokio::test]
async fn a_token_under_a_key_that_cannot_be_read_here_is_asked_about() {
    let world = World::new().await;
    let (verifier, alone) = (auto(&world), local(&world));
    let rsa = jwt(&world);
    world.issuer.rotate_key(Algorithm::Es512);
    for verifier in [&verifier, &alone] {
        assert_eq!(status(&authorize(verifier, &rsa).await), 200, "the other keys serve");
    }
    assert_eq!(world.issuer.introspections(), 0);
    let token = jwt(&world);
    assert_eq!(status(&authorize(&verifier, &token).await), 200, "the issuer can read it");
    assert_eq!(world.issuer.introspections(), 1);
    let refused = reason(authorize(&alone, &token).await);
    assert!(matches!(refused, Reason::InvalidToken(InvalidToken::UnsupportedAlgorithm)));
    token.revoke();
    verifier.evict_all();
    assert_eq!(status(&authorize(&verifier, &token).await), 401);
}

#[tokio::test]
async fn an_algorithm_that_no_issuer_uses_for_tokens_is_not_asked_about() {
    let world = World::new().await;
    let verifier = auto(&world);
    for algorithm in ["none", "NONE", "nOnE", "HS256", "hs512", ""] {
        let mut header = good_header(&world);
        header["alg"] = json!(algorithm);
        let forged = world.issuer.forge(&header, &good_claims(&world));
        assert_eq!(status(&authorize(&verifier, &forged).await), 401, "{algorithm}");
    }
    assert_eq!(world.issuer.introspections(), 0);
}

/// The published keys, as the test changes them.
async fn publish(world: &World, change: impl FnOnce(&mut Vec<Value>), media_type: &str) {
    let document = reqwest::get(format!("{}/oauth/v2/keys", world.issuer.url())).await.unwrap();
    let mut document: Value = serde_json::from_slice(&document.bytes().await.unwrap()).unwrap();
    change(document["keys"].as_array_mut().unwrap());
    world.issuer.inject(Fault::answer(200, media_type, document.to_string()).on(Endpoint::Keys));
}

#[tokio::test]
async fn two_keys_of_one_id_are_both_kept() {
    for first in [true, false] {
        let world = World::new().await;
        let other = World::new().await;
        let token = jwt(&world);
        let _ = jwt(&other);
        other.issuer.rotate_key(Algorithm::Es256);
        let foreign = reqwest::get(format!("{}/oauth/v2/keys", other.issuer.url())).await.unwrap();
        let foreign: Value = serde_json::from_slice(&foreign.bytes().await.unwrap()).unwrap();
        let foreign = foreign["keys"].as_array().unwrap().clone();
        assert_eq!(foreign.len(), 2, "one RSA, one EC");
        let publish_all = |keys: &mut Vec<Value>| {
            let id = keys[0]["kid"].clone();
            for mut key in foreign {
                key["kid"] = id.clone();
                keys.insert(if first { 0 } else { keys.len() }, key);
            }
        };
        publish(&world, publish_all, "application/json").await;
        assert_eq!(status(&authorize(&local(&world), &token).await), 200, "{first}");
    }
}

#[tokio::test]
async fn keys_for_other_purposes_verify_nothing() {
    for (name, value, outcome) in [
        ("use", json!("sig"), 200),
        ("use", json!(null), 200),
        ("use", json!("enc"), 401),
        ("use", json!(7), 401),
        ("key_ops", json!(["verify"]), 200),
        ("key_ops", json!(["sign", "verify"]), 200),
        ("key_ops", json!(["encrypt"]), 401),
        ("key_ops", json!([]), 401),
        ("key_ops", json!("verify"), 401),
        ("alg", json!("RS256"), 200),
        ("alg", json!("RS512"), 401),
        ("alg", json!("RSA-OAEP"), 401),
    ] {
        let world = World::new().await;
        let token = jwt(&world);
        publish(&world, |keys| keys[0][name] = value.clone(), "application/json").await;
        assert_eq!(status(&authorize(&local(&world), &token).await), outcome, "{name}: {value}");
    }
}

#[tokio::test]
async fn an_rsa_key_without_an_algorithm_verifies_by_each_of_its_kind() {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{self, KeyPair},
    };
    let world = World::new().await;
    let key_json: Value = serde_json::from_str(&world.api.key_json()).unwrap();
    let pem = key_json["key"].as_str().unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let pair = signature::RsaKeyPair::from_der(&STANDARD.decode(body).unwrap()).unwrap();
    let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let mut jwk = json!({"kty": "RSA", "kid": "bare", "n": encode(n.big_endian_without_leading_zero()),
        "e": encode(e.big_endian_without_leading_zero())});
    let signed = |algorithm: &str, padding: &'static dyn signature::RsaEncoding| {
        let header = json!({"alg": algorithm, "typ": "JWT", "kid": "bare"});
        let message = [header, good_claims(&world)].map(|part| encode(part.to_string().as_bytes())).join(".");
        let mut bytes = vec![0; pair.public_modulus_len()];
        pair.sign(padding, &SystemRandom::new(), message.as_bytes(), &mut bytes).unwrap();
        format!("{message}.{}", encode(&bytes))
    };
    for named in [None, Some("RS256"), Some("RS384"), Some("RS512")] {
        jwk["alg"] = named.into();
        world.issuer.heal();
        publish(&world, |keys| *keys = vec![jwk.clone()], "application/json").await;
        let verifier = local(&world);
        for (algorithm, padding) in [
            ("RS256", &signature::RSA_PKCS1_SHA256),
            ("RS384", &signature::RSA_PKCS1_SHA384),
            ("RS512", &signature::RSA_PKCS1_SHA512),
        ] {
            let fits = named.is_none_or(|named| named == algorithm);
            let outcome = status(&authorize(&verifier, &signed(algorithm, padding)).await);
            assert_eq!(outcome, if fits { 200 } else { 401 }, "{algorithm} with a key for {named:?}");
        }
        let (log, _logging) = Log::start(Level::INFO);
        let outcome = authorize(&verifier, &signed("PS256", &signature::RSA_PSS_SHA256)).await;
        assert_eq!(status(&outcome), 401);
        let is_told = log.lines("JWTs ARE REFUSED") == 1;
        assert_eq!(is_told, named.is_none(), "the issuer may sign so with a key for {named:?}");
    }
}

#[tokio::test]
async fn a_jwt_that_names_no_key_is_asked_about() {
    let world = World::new().await;
    let mut header = good_header(&world);
    header["kid"] = Value::Null;
    let token = world.issuer.forge(&header, &good_claims(&world));
    assert_eq!(status(&authorize(&auto(&world), &token).await), 401);
    assert_eq!(world.issuer.introspections(), 1);
    assert_eq!(status(&authorize(&local(&world), &token).await), 401);
    assert_eq!(world.issuer.introspections(), 1);
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_keys() {
    let world = World::new().await;
    let verifier = auto(&world);
    let token = jwt(&world);
    assert_eq!(status(&authorize(&verifier, &token).await), 200);
    world.issuer.rotate_key(Algorithm::Es256);
    let of_new_key = jwt(&world);
    of_new_key.revoke();
    let held = world.issuer.hold(Endpoint::Keys);
    let fresh = Requirement::any_caller().fresh_within(Duration::ZERO);
    assert_eq!(status(&require(&verifier, &of_new_key, &fresh).await), 401);
    assert_eq!(world.issuer.introspections(), 1);
    drop(held);
}

#[tokio::test]
async fn keys_come_as_json_or_under_their_own_media_type() {
    for (media_type, outcome) in [
        ("application/jwk-set+json", 200),
        ("Application/JWK-Set+JSON; charset=utf-8", 200),
        ("application/json", 200),
        ("application/jwk+json", 503),
        ("text/plain", 503),
    ] {
        let world = World::new().await;
        let token = jwt(&world);
        publish(&world, |_| (), media_type).await;
        assert_eq!(status(&authorize(&local(&world), &token).await), outcome, "{media_type}");
    }
}

#[tokio::test]
async fn more_than_a_hundred_keys_are_all_known() {
    let world = World::new().await;
    let token = jwt(&world);
    let many = |keys: &mut Vec<Value>| {
        for number in 0..150 {
            let mut key = keys[0].clone();
            key["kid"] = json!(format!("another-{number}"));
            keys.insert(0, key);
        }
    };
    publish(&world, many, "application/json").await;
    assert_eq!(status(&authorize(&local(&world), &token).await), 200);
}

#[tokio::test]
async fn a_number_out_of_range_is_the_tokens_fault() {
    let world = World::new().await;
    let verifier = local(&world);
    for name in ["exp", "iat", "nbf", "auth_time", "updated_at"] {
        for number in ["1e999", "-1e999", "18446744073709551616"] {
            let mut claims = good_claims(&world);
            claims[name] = json!("NUMBER");
            let text = claims.to_string().replace("\"NUMBER\"", number);
            // What JSON allows and the JSON library does not.
            let raw: Box<serde_json::value::RawValue> = serde_json::from_str(&text).unwrap();
            let forged = world.issuer.forge_text(&good_header(&world).to_string(), raw.get());
            assert_eq!(status(&authorize(&verifier, &forged).await), 401, "{name}: {number}");
        }
    }
}

#[tokio::test]
async fn a_jwt_bound_to_a_key_is_refused() {
    let world = World::new().await;
    let verifier = local(&world);
    for (name, value) in [("cnf", json!({"jkt": "x"})), ("token_type", json!("DPoP"))] {
        let mut claims = good_claims(&world);
        claims[name] = value;
        let forged = world.issuer.forge(&good_header(&world), &claims);
        let refused = reason(authorize(&verifier, &forged).await);
        assert!(matches!(refused, Reason::InvalidToken(InvalidToken::NotABearerToken)), "{name}");
    }
}

#[tokio::test]
async fn an_issuer_that_writes_out_its_default_port_is_the_same_in_a_jwt() {
    let world = World::at(testkit::Issuer::builder().public_origin("http://127.0.0.1")).await;
    let issuer = Issuer::parse("http://127.0.0.1:80").unwrap();
    let verifier = Verifier::jwt_builder_without_revocation(issuer, world.project.id());
    let verifier = verifier.connect_to(format!("http://{}", world.issuer.address())).build().unwrap();
    for (issuer, outcome) in
        [("http://127.0.0.1", 200), ("http://127.0.0.1:80", 200), ("http://127.0.0.1:443", 401)]
    {
        let mut claims = good_claims(&world);
        claims["iss"] = json!(issuer);
        let token = world.issuer.forge(&good_header(&world), &claims);
        assert_eq!(status(&authorize(&verifier, &token).await), outcome, "{issuer}");
    }
}

#[tokio::test]
async fn opaque_tokens_are_asked_about_or_refused() {
    let world = World::new().await;
    assert_eq!(status(&authorize(&auto(&world), &world.token).await), 200);
    assert_eq!(world.issuer.introspections(), 1);
    assert_eq!(status(&authorize(&local(&world), &world.token).await), 401);
    assert_eq!(world.issuer.introspections(), 1);
}

#[tokio::test]
async fn roles_are_those_of_the_configured_project_only() {
    let world = World::new().await;
    let other = world.issuer.project("other");
    other.add_role("boss");
    world.admin.grant(&other, ["boss"]);
    let request = world.admin.access_token().for_project(&world.project).for_project(&other).jwt();
    let token = request.scopes("urn:zitadel:iam:org:projects:roles").issue();
    let verifier = local(&world);
    assert_eq!(status(&require(&verifier, &token, &Requirement::role("admin")).await), 200);
    assert_eq!(status(&require(&verifier, &token, &Requirement::role("boss")).await), 403);
    // A generic claim that an Action might add grants nothing either.
    let mut claims = good_claims(&world);
    claims["urn:zitadel:iam:org:project:roles"] = json!({"boss": {"1": "x"}});
    let forged = world.issuer.forge(&good_header(&world), &claims);
    assert_eq!(status(&authorize(&verifier, &forged).await), 200);
    assert_eq!(status(&require(&verifier, &forged, &Requirement::role("boss")).await), 403);
}

#[tokio::test]
async fn id_tokens_and_other_jwts_are_no_access_tokens() {
    let world = World::new().await;
    let ada = world.issuer.person("ada", Profile::default());
    let web = world.project.web_app("web").jwt_access_tokens(true);
    let login = ada.log_in(&web, "openid");
    let verifier = local(&world);
    assert_eq!(status(&authorize(&verifier, &login.access_token).await), 200);
    let refused = reason(authorize(&verifier, &login.id_token).await);
    assert!(matches!(refused, Reason::InvalidToken(InvalidToken::NotAnAccessToken)));
    for (name, value) in [
        ("azp", json!("x")),
        ("nonce", json!("x")),
        ("at_hash", json!("x")),
        ("sid", json!("x")),
        ("events", json!({})),
    ] {
        let mut claims = good_claims(&world);
        claims[name] = value;
        let forged = world.issuer.forge(&good_header(&world), &claims);
        assert_eq!(status(&authorize(&verifier, &forged).await), 401, "{name}");
    }
}

#[tokio::test]
async fn claims_that_are_wrong_or_missing_are_the_tokens_fault() {
    let world = World::new().await;
    let verifier = local(&world);
    let check = async |change: &dyn Fn(&mut Value)| {
        let mut claims = good_claims(&world);
        change(&mut claims);
        status(&authorize(&verifier, &world.issuer.forge(&good_header(&world), &claims)).await)
    };
    assert_eq!(check(&|_| {}).await, 200);
    let remove =
        |name: &'static str| move |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove(name));
    for name in ["iss", "aud", "exp", "jti"] {
        assert_eq!(check(&remove(name)).await, 401, "{name} is missing");
    }
    for (name, value) in [
        ("iss", json!("https://evil.example")),
        ("iss", json!(format!("{}/", world.issuer.url()))),
        ("aud", json!(["another"])),
        ("aud", json!(7)),
        ("exp", json!(now() - 1)),
        ("exp", json!("never")),
        ("nbf", json!(now() + 90)),
        ("nbf", json!("never")),
        ("sub", json!(7)),
    ] {
        assert_eq!(check(&|claims| claims[name] = value.clone()).await, 401, "{name}: {value}");
    }
    assert_eq!(world.issuer.introspections(), 0);
}

#[tokio::test]
async fn headers_cannot_choose_algorithm_or_key() {
    let world = World::new().await;
    let verifier = local(&world);
    let check = async |name: &str, value: Value| {
        let mut header = good_header(&world);
        header[name] = value;
        status(&authorize(&verifier, &world.issuer.forge(&header, &good_claims(&world))).await)
    };
    for algorithm in ["none", "None", "HS256", "RS384", "PS256", "ES256", "EdDSA", ""] {
        assert_eq!(check("alg", json!(algorithm)).await, 401, "{algorithm}");
    }
    for kind in ["dpop+jwt", "logout+jwt", ""] {
        assert_eq!(check("typ", json!(kind)).await, 401, "{kind}");
    }
    assert_eq!(check("typ", json!("at+jwt")).await, 200);
    assert_eq!(check("crit", json!(["b64"])).await, 401);
    assert_eq!(check("kid", json!("unknown")).await, 401);
    assert_eq!(check("kid", json!(7)).await, 401);
    // Keys and addresses in a token are not looked at.
    let requests = world.issuer.request_count(Endpoint::Keys);
    for name in ["jku", "x5u"] {
        assert_eq!(check(name, json!(format!("{}/evil", world.issuer.url()))).await, 200, "{name}");
    }
    assert_eq!(check("jwk", json!({"kty": "oct", "k": "AAAA"})).await, 200);
    assert_eq!(world.issuer.request_count(Endpoint::Keys), requests);
}

#[tokio::test]
async fn a_changed_byte_anywhere_refuses_the_token() {
    let world = World::new().await;
    let verifier = local(&world);
    let good = jwt(&world).to_string();
    assert_eq!(status(&authorize(&verifier, &good).await), 200);
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert_ne!(status(&authorize(&verifier, &changed).await), 200, "byte {at}");
    }
    for cut in ["", ".", "..", "a.b.c", &good[..good.len() - 4], &format!("{good}.x"), &good.replace('.', "")]
    {
        assert_ne!(status(&authorize(&verifier, cut).await), 200, "{cut:?}");
    }
}

#[tokio::test]
async fn an_unknown_key_is_fetched_once_for_all_and_not_in_a_storm() {
    let world = World::new().await;
    let verifier = local(&world);
    assert_eq!(status(&authorize(&verifier, &jwt(&world)).await), 200);
    assert_eq!(world.issuer.request_count(Endpoint::Keys), 1);
    for number in 0..50 {
        let header = json!({"alg": "RS256", "kid": format!("unknown-{number}"), "typ": "JWT"});
        let forged = world.issuer.forge(&header, &good_claims(&world));
        assert_eq!(status(&authorize(&verifier, &forged).await), 401);
    }
    assert_eq!(world.issuer.request_count(Endpoint::Keys), 1, "within the cool-down");
}

#[tokio::test]
async fn a_rotated_key_is_found_after_the_cool_down() {
    let world = World::new().await;
    let clock = TestClock::new();
    let issuer = Issuer::parse(&world.issuer.url()).unwrap();
    let verifier = Verifier::jwt_builder_without_revocation(issuer, world.project.id());
    let verifier = verifier.clock(&clock).build().unwrap();
    assert_eq!(status(&authorize(&verifier, &jwt(&world)).await), 200);
    world.issuer.rotate_key(Algorithm::Es256);
    clock.set_ahead_millis(10_000);
    let tokens: Vec<_> = (0..10).map(|_| jwt(&world).to_string()).collect();
    for token in &tokens {
        assert_eq!(status(&authorize(&verifier, token).await), 200);
    }
    assert_eq!(world.issuer.request_count(Endpoint::Keys), 2);
}

#[tokio::test]
async fn known_keys_serve_while_new_ones_cannot_be_fetched() {
    let world = World::new().await;
    let clock = TestClock::new();
    let issuer = Issuer::parse(&world.issuer.url()).unwrap();
    let verifier = Verifier::jwt_builder_without_revocation(issuer, world.project.id());
    let verifier = verifier.clock(&clock).build().unwrap();
    assert_eq!(status(&authorize(&verifier, &jwt(&world)).await), 200);
    world.issuer.inject(Fault::status(500).on(Endpoint::Keys));
    clock.set_ahead_millis(400_000);
    assert_eq!(status(&authorize(&verifier, &jwt(&world)).await), 200, "old keys are renewed behind");
    world.issuer.asked(Endpoint::Keys, 2).await;
    assert_eq!(status(&authorize(&verifier, &jwt(&world)).await), 200);
    world.issuer.rotate_key(Algorithm::Es256);
    clock.set_ahead_millis(500_000);
    assert_eq!(status(&authorize(&verifier, &jwt(&world)).await), 503, "no verdict, and no blame");
}

#[tokio::test]
async fn local_reading_cannot_see_revocation_and_freshness_can() {
    let world = World::new().await;
    let verifier = auto(&world);
    let token = jwt(&world);
    token.revoke();
    assert_eq!(status(&authorize(&verifier, &token).await), 200);
    let fresh = Requirement::any_caller().fresh_within(Duration::from_secs(60));
    assert_eq!(status(&require(&verifier, &token, &fresh).await), 401);
    assert_eq!(status(&authorize(&verifier, &token).await), 401, "once known, it is not read again");
}

#[tokio::test]
async fn the_issuer_confirms_local_verdicts_in_the_background() {
    let world = World::new().await;
    let clock = TestClock::new();
    let builder = world.builder().verify_jwts_locally_without_revocation(world.project.id());
    let builder = builder.confirm_local_verdicts_within(Duration::from_secs(10)).clock(&clock);
    let verifier = builder.build().unwrap();
    let token = jwt(&world);
    token.revoke();
    assert_eq!(status(&authorize(&verifier, &token).await), 200, "read locally");
    while verifier.stats().inactive < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&authorize(&verifier, &token).await), 401, "the issuer's word has come");
    // Without that word a caller waits for it in the end.
    let unconfirmed = jwt(&world);
    world.issuer.inject(Fault::status(500));
    assert_eq!(status(&authorize(&verifier, &unconfirmed).await), 200);
    for millis in [11_000, 61_000, 75_000] {
        clock.set_ahead_millis(millis);
        assert_eq!(
            status(&authorize(&verifier, &unconfirmed).await),
            503,
            "also after the verdict has lapsed"
        );
    }
}

#[tokio::test]
async fn a_role_that_a_jwt_lacks_is_asked_for_before_a_denial() {
    let world = World::new().await;
    let token = jwt(&world);
    world.admin.grant(&world.project, ["viewer"]);
    assert_eq!(status(&require(&auto(&world), &token, &Requirement::role("viewer")).await), 200);
    assert_eq!(status(&require(&local(&world), &token, &Requirement::role("viewer")).await), 403);
}

#[tokio::test]
async fn the_start_check_of_a_local_verifier_fetches_the_keys() {
    let world = World::new().await;
    local(&world).check().await.unwrap();
    assert_eq!(world.issuer.request_count(Endpoint::Keys), 1);
    world.issuer.stop().await;
    assert!(local(&world).check().await.is_err());
}

#[tokio::test]
async fn an_eviction_makes_a_held_jwt_be_asked_about() {
    let world = World::new().await;
    let forget: [fn(&Verifier, &World, &Token); 4] = [
        |verifier, _, token| verifier.evict_token(token),
        |verifier, _, token| verifier.evict_token_id(&token.id().into()),
        |verifier, world, _| verifier.evict_user(&world.admin.id().into()),
        |verifier, _, _| verifier.evict_all(),
    ];
    for (index, forget) in forget.iter().enumerate() {
        let (verifier, token) = (auto(&world), jwt(&world));
        assert_eq!(status(&authorize(&verifier, &token).await), 200, "{index}: read locally");
        token.revoke();
        forget(&verifier, &world, &token);
        assert_eq!(status(&authorize(&verifier, &token).await), 401, "{index}: asked about");
    }
}

#[tokio::test]
async fn bad_tokens_cannot_push_out_that_a_jwt_was_revoked() {
    let world = World::new().await;
    let clock = TestClock::new();
    let builder = world.builder().verify_jwts_locally_without_revocation(world.project.id());
    let verifier = builder.negative_cache_capacity(2).clock(&clock).build().unwrap();
    let token = jwt(&world);
    token.revoke();
    let fresh = Requirement::any_caller().fresh_within(Duration::ZERO);
    assert_eq!(status(&require(&verifier, &token, &fresh).await), 401);
    for number in 0..50 {
        let header = json!({"alg": "RS256", "kid": world.issuer.signing_key_id(), "typ": "JWT"});
        let forged = world.issuer.forge(&header, &good_claims(&world));
        let forged = format!("{}A{number}", &forged[..forged.len() - 8]);
        assert_eq!(status(&authorize(&verifier, &forged).await), 401);
        assert_eq!(status(&authorize(&verifier, &format!("random-{number}")).await), 401);
    }
    clock.set_ahead_millis(6_000);
    assert_eq!(status(&authorize(&verifier, &token).await), 401, "not read locally again");
}

#[tokio::test]
async fn made_up_jwts_cannot_push_out_that_one_was_revoked() {
    let world = World::new().await;
    let builder = world.builder().verify_jwts_locally_without_revocation(world.project.id());
    let clock = TestClock::new();
    let verifier = builder.cache_capacity(4).clock(&clock).build().unwrap();
    let token = jwt(&world);
    token.revoke();
    let fresh = Requirement::any_caller().fresh_within(Duration::ZERO);
    assert_eq!(status(&require(&verifier, &token, &fresh).await), 401);
    // Under keys that nobody publishes: asked about, and inactive.
    for number in 0..100 {
        let header = json!({"alg": "RS256", "kid": format!("unknown-{number}"), "typ": "JWT"});
        let forged = world.issuer.forge(&header, &good_claims(&world));
        assert_eq!(status(&authorize(&verifier, &forged).await), 401);
    }
    clock.advance(Duration::from_secs(6));
    assert_eq!(status(&authorize(&verifier, &token).await), 401, "not read locally again");
}

#[tokio::test]
async fn the_issuers_verdict_on_a_jwt_is_not_replaced_by_an_old_callers_reading() {
    let world = World::new().await;
    let clock = TestClock::new();
    let builder = world.builder().verify_jwts_locally_without_revocation(world.project.id());
    let verifier = builder.clock(&clock).build().unwrap();
    let (admin, viewer) = (Requirement::role("admin"), Requirement::role("viewer"));
    verifier.check().await.unwrap(); // signs the assertion by the issuer's own clock
    let user = world.issuer.service_user("boss");
    let grant = user.grant(&world.project, ["admin"]);
    let request = user.access_token().for_project(&world.project).jwt();
    let token = request.scopes("urn:zitadel:iam:org:projects:roles").issue();
    let caller = require(&verifier, &token, &admin).await.unwrap();
    clock.advance(Duration::from_secs(55));
    grant.remove();
    assert_eq!(status(&require(&verifier, &token, &viewer).await), 403, "asked before the denial");
    clock.advance(Duration::from_secs(15));
    assert_eq!(status(&caller.require(&admin).await), 403, "the issuer has said so since");
    assert_eq!(status(&require(&verifier, &token, &admin).await), 403);
}

#[tokio::test]
async fn a_key_that_can_never_verify_here_counts_as_unreadable() {
    let world = World::new().await;
    let token = jwt(&world);
    for (name, value) in
        [("n", URL_SAFE_NO_PAD.encode([0xC1; 255])), ("n", URL_SAFE_NO_PAD.encode([0xC1; 1025]))]
    {
        world.issuer.heal();
        publish(&world, |keys| keys[0][name] = value.clone().into(), "application/json").await;
        let asked = world.issuer.introspections();
        assert_eq!(status(&authorize(&auto(&world), &token).await), 200, "the issuer can read it");
        assert_eq!(world.issuer.introspections(), asked + 1);
    }
}

#[tokio::test]
async fn a_verifier_that_only_reads_jwts_counts_no_questions() {
    let world = World::new().await;
    let verifier = local(&world);
    let token = jwt(&world);
    for _ in 0..3 {
        assert_eq!(status(&require(&verifier, &token, &Requirement::role("owner")).await), 403);
    }
    let stats = verifier.stats();
    assert_eq!((stats.failed, stats.refreshes_on_denial), (0, 0));
}
