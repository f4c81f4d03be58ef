//! ZITADEL's webhooks: who may send one, and what it ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use zitadel_introspect::{EventTarget, EventTargetError, Requirement, Verifier};

use crate::setup::{World, require, status};

const KEY: &str = "the signing key of the target, 36 ch";
const OTHER: &str = "the key that comes after it, 36 char";

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn signed(key: &str, time: i64, body: &str) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, format!("{time}.{body}").as_bytes());
    let digits = tag.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex: String = digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect();
    format!("t={time},v1={hex}")
}

fn body(kind: &str, id: &str, payload: &Value) -> String {
    let aggregate = kind.split('.').next().unwrap();
    json!({"event_type": kind, "aggregateType": aggregate, "aggregateID": id, "resourceOwner": "1",
        "event_payload": payload})
    .to_string()
}

async fn send(target: &EventTarget, fields: &[String], body: &str) -> Result<(), EventTargetError> {
    target.receive(fields.iter().map(String::as_bytes), body.as_bytes()).await
}

#[tokio::test]
async fn only_what_a_key_has_signed_just_now_counts_and_once() {
    let world = World::new().await;
    let target = EventTarget::new(&world.verifier(), [KEY, OTHER]).unwrap();
    let event = body("user.locked", "7", &Value::Null);
    let by = |key: &str, ahead: i64| vec![signed(key, now() + ahead, &event)];
    for (fields, expected) in [
        (by(KEY, 0), Ok(())),
        (by(OTHER, 0), Ok(())),
        (by(KEY, -290), Ok(())),
        (by(KEY, 290), Ok(())),
        (by(KEY, -310), Err(EventTargetError::NotNow)),
        (by(KEY, 310), Err(EventTargetError::NotNow)),
        (by("a key of somebody else, 36 characters", 0), Err(EventTargetError::BadSignature)),
        (Vec::new(), Err(EventTargetError::NoSignature)),
        ([by(KEY, 1), by(KEY, 1)].concat(), Err(EventTargetError::NoSignature)),
    ] {
        assert_eq!(send(&target, &fields, &event).await, expected, "{fields:?}");
    }
    // One of several signatures, as while a key is changed.
    let (time, wrong) = (now() + 5, "0".repeat(64));
    let both = signed(KEY, time, &event).replace("v1=", &format!("v1={wrong},v1="));
    assert_eq!(send(&target, std::slice::from_ref(&both), &event).await, Ok(()));
    assert_eq!(send(&target, &[both], &event).await, Err(EventTargetError::Replayed));
    let changed = signed(KEY, now(), &event);
    assert_eq!(
        send(&target, &[changed], &event.replace('7', "8")).await,
        Err(EventTargetError::BadSignature)
    );
    for broken in ["", "[]", "7", "{"] {
        assert_eq!(
            send(&target, &[signed(KEY, now(), broken)], broken).await,
            Err(EventTargetError::Malformed)
        );
    }
    let large = |bytes: usize| format!("{{\"x\":\"{}\"}}", "y".repeat(bytes - 8));
    let (fits, too_large) = (large(EventTarget::MOST_BYTES), large(EventTarget::MOST_BYTES + 1));
    assert_eq!(send(&target, &[signed(KEY, now(), &fits)], &fits).await, Ok(()));
    let refused = send(&target, &[signed(KEY, now(), &too_large)], &too_large).await;
    assert_eq!(refused.unwrap_err().status(), 413);
    let statuses = [
        (EventTargetError::NoSignature, 401),
        (EventTargetError::BadSignature, 401),
        (EventTargetError::NotNow, 401),
        (EventTargetError::Replayed, 409),
        (EventTargetError::Malformed, 400),
        (EventTargetError::Unavailable, 503),
    ];
    assert!(statuses.iter().all(|(error, status)| error.status() == *status));
}

#[tokio::test]
async fn a_webhook_only_removes_and_what_is_missing_widens_it() {
    let world = World::new().await;
    let verifier = world.verifier();
    let target = EventTarget::new(&verifier, [KEY]).unwrap();
    let other = world.issuer.service_user("other").pat();
    let any = Requirement::any_caller();
    let held = async |verifier: &Verifier| {
        for token in [&world.token, &other] {
            assert_eq!(status(&require(verifier, token, &any).await), 200);
        }
        verifier.stats().held
    };
    let (user, token) = (world.admin.id(), world.token.id());
    let events = [
        ("user.pat.removed", user.as_str(), json!({"tokenId": token}), 1),
        ("user.pat.removed", &user, json!({}), 1),
        ("user.pat.removed", &user, Value::Null, 1),
        ("user.pat.removed", &user, json!("eyJ0b2tlbklkIjoieCJ9"), 2),
        ("user.pat.removed", "", Value::Null, 0),
        ("user.locked", "somebody else", Value::Null, 2),
        ("session.terminated", "5", Value::Null, 2),
        ("user.unlocked", &user, Value::Null, 2),
        ("user.of.tomorrow", &user, Value::Null, 1),
        ("something.of.tomorrow", "5", Value::Null, 0),
    ];
    for (number, (kind, id, payload, left)) in events.into_iter().enumerate() {
        assert_eq!(held(&verifier).await, 2, "{kind}");
        let event = body(kind, id, &payload);
        let time = now() - i64::try_from(number).unwrap();
        assert_eq!(send(&target, &[signed(KEY, time, &event)], &event).await, Ok(()));
        assert_eq!(verifier.stats().held, left, "{kind} {payload}");
    }
}

#[tokio::test]
async fn an_eviction_by_a_webhook_is_repeated_since_zitadel_lags() {
    let world = World::new().await;
    let verifier = world.verifier();
    let target = EventTarget::new(&verifier, [KEY]).unwrap();
    let any = Requirement::any_caller();
    let event = body("user.grant.removed", "5", &json!({"userId": world.admin.id()}));
    assert_eq!(send(&target, &[signed(KEY, now(), &event)], &event).await, Ok(()));
    assert_eq!(status(&require(&verifier, &world.token, &any).await), 200);
    let again = async {
        while verifier.stats().held > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("one second later");
}

#[tokio::test]
async fn keys_that_cannot_be_are_refused_and_never_shown() {
    let verifier = World::new().await.verifier();
    let refusal = |keys: &[&str]| EventTarget::new(&verifier, keys.iter().copied()).unwrap_err().to_string();
    assert!(refusal(&[]).contains("no signing key"));
    let short = refusal(&[KEY, "fifteen-bytes-1"]);
    assert!(short.contains("fewer than 16") && !short.contains("fifteen"), "{short}");
    let target = EventTarget::new(&verifier, ["sixteen-bytes-12"]).unwrap();
    assert!(!format!("{target:?}").contains("sixteen"));
}
