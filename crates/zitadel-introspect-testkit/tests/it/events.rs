//! The events and their webhooks, against those that a running ZITADEL sent.

use std::{collections::BTreeSet, time::Duration};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc};
use zitadel_introspect_testkit::Endpoint;

use crate::world::World;

const RECORDING: &str = include_str!("../recordings/events.json");

pub(crate) struct Webhook {
    pub(crate) signature: String,
    pub(crate) body: String,
}

/// A target that hands on what it is sent.
pub(crate) async fn target() -> (String, mpsc::UnboundedReceiver<Webhook>) {
    let (sender, webhooks) = mpsc::unbounded_channel();
    let take =
        async |State(sender): State<mpsc::UnboundedSender<Webhook>>, headers: HeaderMap, body: Bytes| {
            let signature = headers["zitadel-signature"].to_str().unwrap().to_owned();
            sender.send(Webhook { signature, body: String::from_utf8(body.to_vec()).unwrap() }).unwrap();
        };
    let router = Router::new().route("/hook", post(take)).with_state(sender);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    (url, webhooks)
}

/// `t=<unix>,v1=<hex>` over `<t>.<body>`, checked with another implementation of HMAC.
pub(crate) fn is_signed(webhook: &Webhook, key: &str) -> bool {
    let (time, hex) = webhook.signature.split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let message = format!("{time}.{}", webhook.body);
    hex == hmac_sha256(key.as_bytes(), message.as_bytes())
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    let digits = mac.finalize().into_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect()
}

#[tokio::test]
async fn each_change_sends_the_webhook_that_zitadel_sent() {
    let recording: Value = serde_json::from_str(RECORDING).unwrap();
    let world = World::new().await;
    let (url, mut webhooks) = target().await;
    // In the recording nobody had the role that is removed.
    world.admin_grant.clone().remove();

    // The state of the recording: a robot with a token, a person with two logins.
    let robot = world.robot.clone();
    let pat = robot.pat();
    let scopes = format!("openid offline_access {}", world.project.audience_scope());
    let logins = [(); 3].map(|()| world.ada.log_in(&world.web, &scopes));
    let before = world.issuer.events().len();
    let key = world.issuer.set_target(&url);

    world.introspect(&pat).await;
    let grant = robot.grant(&world.project, ["admin"]);
    let grant_id = grant.id();
    grant.deactivate();
    grant.reactivate();
    grant.remove();
    pat.revoke();
    logins[0].access_token.revoke();
    logins[1].refresh_token.as_ref().unwrap().revoke();
    logins[2].end_session();
    robot.lock();
    robot.unlock();
    robot.deactivate();
    world.project.remove_role("admin");
    let api_key = world.api.key();
    world.api.remove_key(&api_key);
    let robot_id = robot.id();
    robot.remove();
    world.project.deactivate();

    let oidc_session = |id: &str| id.split("-at_").next().unwrap().to_owned();
    let aggregates = [
        grant_id.clone(),
        grant_id.clone(),
        grant_id.clone(),
        grant_id,
        robot_id.clone(),
        oidc_session(&logins[0].access_token.id()),
        oidc_session(&logins[1].access_token.id()),
        logins[2].session.clone(),
        robot_id.clone(),
        robot_id.clone(),
        robot_id.clone(),
        world.project.id(),
        world.project.id(),
        robot_id,
        world.project.id(),
    ];
    let recorded: Vec<&Value> = recording["steps"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|step| step["webhooks"].as_array().unwrap())
        .collect();
    assert_eq!(recorded.len(), aggregates.len());
    for (recorded, aggregate) in recorded.iter().zip(&aggregates) {
        let webhook = tokio::time::timeout(Duration::from_secs(10), webhooks.recv()).await.unwrap().unwrap();
        let body: Value = serde_json::from_str(&webhook.body).unwrap();
        let recorded = &recorded["body"];
        let event = &recorded["event_type"];
        assert!(is_signed(&webhook, &key), "{event}");
        for name in ["event_type", "aggregateType", "version"] {
            assert_eq!(body[name], recorded[name], "{event}: {name}");
        }
        assert_eq!(body["aggregateID"], **aggregate, "{event}");
        let names =
            |value: &Value| value.as_object().map(|members| members.keys().cloned().collect::<BTreeSet<_>>());
        assert_eq!(names(&body), names(recorded), "{event}");
        assert_eq!(names(&body["event_payload"]), names(&recorded["event_payload"]), "{event}");
        let is_time = body["created_at"].as_str().unwrap().ends_with('Z');
        assert!(is_time && body["sequence"].is_u64(), "{event}");
    }
    assert!(webhooks.try_recv().is_err(), "and no others");
    assert_eq!(world.issuer.events().len() - before, aggregates.len(), "kept in order as well");
}

#[tokio::test]
async fn setting_up_makes_the_events_that_were_recorded_of_it() {
    let recording: Value = serde_json::from_str(RECORDING).unwrap();
    let recorded: BTreeSet<_> =
        recording["set_up"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let world = World::new().await;
    let _pat = world.robot.pat();
    let _login = world.ada.log_in(&world.web, "openid offline_access");
    let made: BTreeSet<_> = world.issuer.events().iter().map(|event| event.event_type).collect();
    // An instance has its first event from its own set-up; metadata stands in the recording of the search.
    let elsewhere = ["instance.added", "instance.member.added", "user.metadata.set"];
    let of_grants = |name: &&&str| !name.starts_with("user.grant.") && !elsewhere.contains(*name);
    let foreign: Vec<_> = made.iter().filter(of_grants).filter(|name| !recorded.contains(**name)).collect();
    assert!(foreign.is_empty(), "{foreign:?} were never recorded");
}

#[tokio::test]
async fn a_target_that_does_not_answer_stops_nothing() {
    let world = World::new().await;
    let _key = world.issuer.set_target("http://127.0.0.1:9/hook");
    let pat = world.robot.pat();
    assert_eq!(world.introspect(&pat).await["active"], true);
    assert_eq!(world.issuer.request_count(Endpoint::Introspection), 1);
}
