//! Keys and secrets: accepted, refused, and never printed.

use std::fs;

use serde_json::{Value, json};
use zitadel_introspect::{ClientAuth, Issuer, IssuerError, Verifier};

use crate::setup::{World, authorize, chain, status};

#[tokio::test]
async fn a_key_file_and_a_secret_both_prove_us() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.json");
    world.api.write_key_file(&path).unwrap();
    let secret_api = world.project.secret_api("secret api");
    for auth in [
        ClientAuth::key_file(&path).unwrap(),
        ClientAuth::secret(secret_api.client_id(), secret_api.secret()).unwrap(),
    ] {
        let verifier = Verifier::builder(Issuer::parse(&world.issuer.url()).unwrap(), auth).build().unwrap();
        verifier.check().await.unwrap();
        assert_eq!(status(&authorize(&verifier, &world.token).await), 200);
    }
}

#[tokio::test]
async fn a_refused_key_is_told_from_an_unreachable_issuer() {
    let world = World::new().await;
    let verifier = world.verifier();
    verifier.check().await.unwrap();
    world.api.remove_key(&world.api.key());
    let refused = |outcome| matches!(outcome, Err(IssuerError::Refused { .. }));
    assert!(refused(verifier.check().await));
    let wrong = ClientAuth::secret(world.project.secret_api("s").client_id(), "wrong").unwrap();
    let verifier = Verifier::builder(Issuer::parse(&world.issuer.url()).unwrap(), wrong).build().unwrap();
    let error = verifier.check().await.unwrap_err();
    let message = error.to_string();
    for cause in ["removed or expired", "deactivated", "another instance", "clock"] {
        assert!(message.contains(cause), "{message}");
    }
}

#[tokio::test]
async fn the_start_check_notices_deactivation_and_a_wrong_clock() {
    let world = World::new().await;
    let verifier = world.verifier();
    for (break_it, mend_it) in [
        (
            Box::new(|| world.api.deactivate()) as Box<dyn Fn()>,
            Box::new(|| world.api.reactivate()) as Box<dyn Fn()>,
        ),
        (Box::new(|| world.project.deactivate()), Box::new(|| world.project.reactivate())),
        (Box::new(|| world.issuer.set_clock_ahead(-60)), Box::new(|| world.issuer.set_clock_ahead(0))),
        (Box::new(|| world.issuer.set_clock_ahead(7200)), Box::new(|| world.issuer.set_clock_ahead(0))),
    ] {
        break_it();
        assert!(matches!(verifier.check().await, Err(IssuerError::Refused { .. })));
        mend_it();
        verifier.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_clock_a_few_seconds_off_is_no_trouble() {
    let world = World::new().await;
    for seconds in [-8, 8] {
        world.issuer.set_clock_ahead(seconds);
        world.verifier().check().await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_used_says_which_field_and_what_to_download() {
    let world = World::new().await;
    let good: Value = serde_json::from_str(&world.api.key_json()).unwrap();
    let without = |name: &str| {
        let mut key = good.clone();
        key.as_object_mut().unwrap().remove(name);
        key.to_string()
    };
    let with = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        key.to_string()
    };
    let secret = "c2VjcmV0LWtleS1tYXRlcmlhbA";
    let broken_pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{secret}\n-----END RSA PRIVATE KEY-----\n");
    for (text, names) in [
        (String::new(), "not a JSON object"),
        (format!("\"{secret}\""), "not a JSON object"),
        (without("type"), "`type` is missing"),
        (with("type", json!("serviceaccount")), "key of a service user"),
        (with("type", json!("other")), "`type` is not `application`"),
        (without("keyId"), "`keyId` is missing"),
        (without("clientId"), "`clientId` is missing"),
        (with("clientId", json!("")), "`clientId` is missing"),
        (without("key"), "`key` is missing"),
        (with("key", json!(7)), "not a JSON object with text fields"),
        (with("key", json!(secret)), "`key` holds no usable RSA private key"),
        (with("key", json!(broken_pem)), "`key` holds no usable RSA private key"),
    ] {
        let message = chain(&ClientAuth::key_json(&text).unwrap_err());
        assert!(message.contains(names), "{message}");
        assert!(message.contains("download the key of an API application"), "{message}");
        assert!(!message.contains(secret) && !message.contains('\n'), "{message}");
    }
}

#[test]
fn a_key_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.json");
    let not_text = folder.path().join("not-text.json");
    fs::write(&not_text, b"\xff\xfe").unwrap();
    for path in [&missing, &not_text, &folder.path().to_owned()] {
        let message = ClientAuth::key_file(path).unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(message.contains("cannot be read"), "{message}");
    }
}

#[tokio::test]
async fn neither_key_nor_token_is_printed() {
    let world = World::new().await;
    let key: Value = serde_json::from_str(&world.api.key_json()).unwrap();
    let material = &key["key"].as_str().unwrap()[40..80];
    let auth = ClientAuth::key_json(&world.api.key_json()).unwrap();
    let printed_auth = format!("{auth:?}");
    let builder =
        Verifier::builder(Issuer::parse(&world.issuer.url()).unwrap(), auth).header("x-own", "own-secret");
    let printed_builder = format!("{builder:?}");
    let verifier = builder.build().unwrap();
    let caller = authorize(&verifier, &world.token).await.unwrap();
    for printed in [
        printed_auth,
        printed_builder,
        format!("{verifier:?}"),
        format!("{caller:?}"),
        format!("{:?}", caller.token()),
    ] {
        assert!(!printed.contains(material) && !printed.contains("own-secret"), "{printed}");
        assert!(!printed.contains(&*world.token), "{printed}");
    }
}
