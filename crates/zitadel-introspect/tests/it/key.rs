//! Keys and secrets: accepted, refused, and never printed.

use std::fs;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
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

/// One element of DER.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82], &length[..], content].concat()
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A PKCS#1 key whose modulus has that many bits, and whose numbers are no key.
fn rsa_of(bits: usize) -> Vec<u8> {
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] >>= bits.next_multiple_of(8) - bits;
    let numbers = [
        vec![0],
        [vec![0], modulus].concat(),
        vec![1, 0, 1],
        vec![1],
        vec![1],
        vec![1],
        vec![1],
        vec![1],
        vec![1],
    ];
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| element(0x02, number)).collect();
    element(0x30, &numbers)
}

#[tokio::test]
async fn the_keys_pem_is_pkcs1_or_pkcs8_and_other_kinds_are_named() {
    let world = World::new().await;
    let mut key: Value = serde_json::from_str(&world.api.key_json()).unwrap();
    let own = key["key"].as_str().unwrap().to_owned();
    let body: String = own.lines().filter(|line| !line.starts_with("-----")).collect();
    let rsa = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let pkcs8 =
        |pkcs1: &[u8]| element(0x30, &[&[0x02, 0x01, 0x00], &rsa[..], &element(0x04, pkcs1)[..]].concat());
    key["key"] = pem("PRIVATE KEY", &pkcs8(&STANDARD.decode(&body).unwrap())).into();
    for text in [key.to_string(), STANDARD.encode(key.to_string()), URL_SAFE_NO_PAD.encode(key.to_string())] {
        let auth = ClientAuth::key_json(&text).unwrap();
        let verifier = Verifier::builder(Issuer::parse(&world.issuer.url()).unwrap(), auth).build().unwrap();
        verifier.check().await.unwrap();
    }
    let ec = rcgen::KeyPair::generate().unwrap();
    let public = ec.public_key_pem();
    for (text, told) in [
        (ec.serialize_pem(), "give an RSA key, as ZITADEL"),
        (pem("EC PRIVATE KEY", b"0"), "give an RSA key, as ZITADEL"),
        (pem("ENCRYPTED PRIVATE KEY", b"0"), "decrypt it"),
        (
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{body}\n-----END RSA PRIVATE KEY-----\n"
            ),
            "decrypt it",
        ),
        (public, "write the private key"),
        (pem("RSA PRIVATE KEY", &rsa_of(1024)), "of at least 2048 bits"),
        (pem("RSA PRIVATE KEY", &rsa_of(2047)), "of at least 2048 bits"),
        (pem("RSA PRIVATE KEY", &rsa_of(2048)), "no usable RSA private key"),
        (pem("PRIVATE KEY", &pkcs8(&rsa_of(1024))), "of at least 2048 bits"),
        (pem("RSA PRIVATE KEY", b"0"), "no usable RSA private key"),
    ] {
        key["key"] = text.into();
        let message = chain(&ClientAuth::key_json(&key.to_string()).unwrap_err());
        assert!(message.contains(told) && !message.contains('\n'), "{told}: {message}");
    }
}

#[test]
fn a_key_in_the_place_of_its_path_is_told_and_not_printed() {
    let json = r#"{"type":"application","key":"s3cr3t"}"#;
    let long = "s3cr3t".repeat(100);
    for text in [
        json,
        "-----BEGIN RSA PRIVATE KEY-----s3cr3t",
        "s3cr3t\ns3cr3t",
        &STANDARD.encode(long.clone()),
        &long,
    ] {
        let message = chain(&ClientAuth::key_file(text).unwrap_err());
        assert!(message.contains("looks like the key itself"), "{message}");
        assert!(!message.contains("s3cr3t") && !message.contains(text), "{message}");
    }
    // A client secret looks like nothing, and is no path that is there.
    let message = chain(&ClientAuth::key_file("s3cr3t0123456789").unwrap_err());
    assert!(message.contains("cannot be read") && !message.contains("s3cr3t"), "{message}");
}

#[tokio::test]
async fn a_key_file_of_the_limit_passes_and_a_larger_one_does_not() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.json");
    let key = world.api.key_json();
    for (length, passes) in [(64 * 1024, true), (64 * 1024 + 1, false)] {
        fs::write(&path, format!("{key}{}", " ".repeat(length - key.len()))).unwrap();
        let read = ClientAuth::key_file(&path);
        assert_eq!(read.is_ok(), passes, "{length}");
        if let Err(error) = read {
            assert!(error.to_string().contains("larger than 64 KiB"), "{error}");
        }
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
