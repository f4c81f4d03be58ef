//! The reader of events, and the target of webhooks.

use std::time::Duration;

use serde_json::{Value, json};
use zitadel_introspect::{ClientAuth, EventFeed, EventTarget, Requirement, Verifier};
use zitadel_introspect_setup::{FeedSetup, Mode, Outcome, Proof, Sign, WebhookSetup};
use zitadel_introspect_testkit::{Endpoint, Fault};

use crate::world::{World, signs};

const URL: &str = "https://tasks.example.com/zitadel/events";

fn webhook(world: &World, url: &str) -> WebhookSetup {
    WebhookSetup::new("tasks", url, world.file("signing-keys")).unwrap()
}

async fn run(world: &World, setup: &WebhookSetup, mode: Mode) -> Outcome {
    setup.run(&world.zitadel, mode, &mut |_| {}).await.unwrap()
}

async fn call(world: &World, method: &str, request: Value) -> Value {
    world.zitadel.call(&format!("action.v2.ActionService/{method}"), &request).await.unwrap()
}

/// Another program's target on a condition.
async fn another(world: &World, name: &str, condition: Value) {
    let target = json!({"name": name, "endpoint": URL, "timeout": "5s", "restWebhook": {}});
    let id = call(world, "CreateTarget", target).await["id"].clone();
    call(world, "SetExecution", json!({"condition": {"event": condition}, "targets": [id]})).await;
}

async fn executions(world: &World) -> Vec<Value> {
    world.snapshot().await["executions"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_reader_of_events_can_be_used_at_once() {
    let world = World::new().await;
    let setup = FeedSetup::new("reader", world.file("events-key.json"));
    let outcome = setup.run(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap();
    assert_eq!(signs(&outcome.steps), ["+service user", "+instance role", "+key"]);
    let again = setup.run(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap();
    assert_eq!(signs(&again.steps), ["=service user", "=instance role", "=key"]);

    let api = world.issuer.project("tasks").api("tasks");
    let issuer = zitadel_introspect::Issuer::parse(&world.issuer.url()).unwrap();
    let feed = EventFeed::key_file(world.file("events-key.json")).unwrap();
    let auth = ClientAuth::key_json(&api.key_json()).unwrap();
    let verifier = Verifier::builder(issuer, auth).event_feed(feed).build().unwrap();
    let token = world.issuer.service_user("robot").pat();
    let (header, any) = (format!("Bearer {token}"), Requirement::any_caller());
    assert!(verifier.authorize([header.as_bytes()], &any).await.is_ok());
    token.revoke();
    let refused = async {
        while verifier.authorize([header.as_bytes()], &any).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("far sooner than the verdict ends");

    let outcome = setup.remove(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap();
    assert_eq!(signs(&outcome.steps), ["-service user"]);
    let outcome = setup.remove(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap();
    assert!(outcome.steps.is_empty());
}

#[tokio::test]
async fn a_key_that_was_removed_is_told() {
    let world = World::new().await;
    let setup = FeedSetup::new("reader", world.file("events-key.json"));
    setup.run(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap();
    let key: Value = serde_json::from_str(&world.text("events-key.json")).unwrap();
    let request = json!({"userId": key["userId"], "keyId": key["keyId"]});
    world.zitadel.call("user.v2.UserService/RemoveKey", &request).await.unwrap();
    let error = setup.run(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("removed from ZITADEL"), "{error}");
}

#[tokio::test]
async fn a_target_with_one_execution_for_each_event() {
    let world = World::new().await;
    let setup = webhook(&world, URL);
    let events = EventTarget::event_types();
    let outcome = run(&world, &setup, Mode::apply()).await;
    assert_eq!(outcome.steps.len(), 2 + events.len());
    assert!(outcome.steps.iter().all(|step| step.sign == Sign::Create && step.is_done));
    let expected: std::collections::BTreeSet<_> =
        events.iter().map(|event| json!([{"event": event}, ["tasks"]]).to_string()).collect();
    assert_eq!(
        executions(&world).await.iter().map(Value::to_string).collect::<std::collections::BTreeSet<_>>(),
        expected
    );
    assert!(events.contains(&"user.pat.removed") && !events.contains(&"oidc_session.access_token.added"));

    let before = world.issuer.events().len();
    let again = run(&world, &setup, Mode::apply()).await;
    assert!(again.steps.iter().all(|step| step.sign == Sign::Same));
    assert_eq!(world.issuer.events().len(), before);
    let outcome = setup.remove(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap();
    assert!(outcome.steps.iter().all(|step| step.sign == Sign::Remove && step.is_done));
    assert_eq!(executions(&world).await, [Value::Null; 0]);
    assert_eq!(world.snapshot().await["targets"], json!([]));
}

#[tokio::test]
async fn other_programs_keep_their_webhooks() {
    let world = World::new().await;
    another(&world, "exact", json!({"event": "user.locked"})).await;
    another(&world, "group", json!({"group": "user.pat"})).await;
    another(&world, "all", json!({"all": true})).await;
    let before = executions(&world).await;
    let setup = webhook(&world, URL);
    run(&world, &setup, Mode::apply()).await;
    let now = executions(&world).await;
    for expected in [
        json!([{"event": "user.locked"}, ["exact", "tasks"]]),
        json!([{"event": "user.pat.removed"}, ["group", "tasks"]]),
        json!([{"event": "user.removed"}, ["all", "tasks"]]),
        json!([{"group": "user.pat"}, ["group"]]),
        json!([{"all": true}, ["all"]]),
    ] {
        assert!(now.contains(&expected), "{expected} in {now:?}");
    }
    let again = run(&world, &setup, Mode::apply().updating(true)).await;
    assert!(again.steps.iter().all(|step| step.sign == Sign::Same));
    setup.remove(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap();
    assert_eq!(executions(&world).await, before);
}

#[tokio::test]
async fn another_address_is_set_by_an_update_alone() {
    let world = World::new().await;
    run(&world, &webhook(&world, URL), Mode::apply()).await;
    let moved = webhook(&world, "https://tasks.example.com/two");
    assert!(run(&world, &moved, Mode::apply()).await.leaves_differences());
    assert!(world.snapshot().await["targets"].to_string().contains(URL));
    assert!(!run(&world, &moved, Mode::apply().updating(true)).await.leaves_differences());
    assert_eq!(world.snapshot().await["targets"], json!([["tasks", "https://tasks.example.com/two"]]));
}

#[tokio::test]
async fn a_lost_file_of_signing_keys_is_written_again() {
    let world = World::new().await;
    let setup = webhook(&world, URL);
    run(&world, &setup, Mode::apply()).await;
    let key = world.text("signing-keys");
    std::fs::remove_file(world.file("signing-keys")).unwrap();
    run(&world, &setup, Mode::apply()).await;
    assert_eq!(world.text("signing-keys"), key);
    std::fs::write(world.file("signing-keys"), "another-key-of-somebody\n").unwrap();
    assert!(run(&world, &setup, Mode::apply()).await.leaves_differences());
    assert_eq!(world.text("signing-keys"), "another-key-of-somebody\n");
    run(&world, &setup, Mode::apply().updating(true)).await;
    assert_eq!(world.text("signing-keys"), format!("another-key-of-somebody\n{key}"));
}

#[tokio::test]
async fn zitadel_does_not_sign_with_a_key_that_the_servers_lack() {
    let world = World::new().await;
    let setup = webhook(&world, URL);
    std::fs::write(world.file("signing-keys"), "another-key-of-somebody\n").unwrap();
    assert!(run(&world, &setup, Mode::apply()).await.leaves_differences());
    assert_eq!(executions(&world).await, [Value::Null; 0]);
    let plan = run(&world, &setup, Mode::plan().updating(true)).await;
    assert!(plan.steps.len() > 2, "the plan of an update has the executions");
    run(&world, &setup, Mode::apply().updating(true)).await;
    assert_eq!(world.text("signing-keys").lines().count(), 2);
    assert_eq!(executions(&world).await.len(), EventTarget::event_types().len());
}

#[tokio::test]
async fn another_service_user_is_not_removed() {
    let world = World::new().await;
    let robot = world.issuer.service_user("robot");
    let setup = FeedSetup::new("robot", world.file("events-key.json"));
    let error = setup.remove(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("has not made it"), "{error}");
    let _token = robot.pat();
}

#[tokio::test]
async fn a_signing_key_is_changed_without_a_gap() {
    let world = World::new().await;
    let setup = webhook(&world, URL);
    run(&world, &setup, Mode::apply()).await;
    let (old, before) = (world.text("signing-keys"), executions(&world).await);
    let change = setup.clone().change_key();

    let outcome = run(&world, &change, Mode::apply()).await;
    assert_eq!(signs(&outcome.steps), ["+target", "+signing key"]);
    let both = world.text("signing-keys");
    assert!(both.starts_with(&old) && both.lines().count() == 2, "the file has both keys");
    assert_eq!(executions(&world).await, before, "ZITADEL signs with the old key");
    let waits = run(&world, &setup, Mode::apply()).await;
    assert!(waits.warnings[0].contains("a new signing key waits"));

    run(&world, &change, Mode::apply()).await;
    let new = world.text("signing-keys");
    assert!(both.ends_with(&new) && new.lines().count() == 1, "the file has the new key alone");
    assert!(executions(&world).await.iter().all(|one| one[1] == json!(["tasks-2"])));
    assert_eq!(executions(&world).await.len(), before.len());
    let again = run(&world, &setup, Mode::apply()).await;
    assert!(again.steps.iter().all(|step| step.sign == Sign::Same) && again.warnings.is_empty());

    run(&world, &change, Mode::apply()).await;
    run(&world, &change, Mode::apply()).await;
    assert_eq!(executions(&world).await, before, "the first name is used again");
}

#[tokio::test]
async fn an_event_that_this_zitadel_does_not_know_is_left_out() {
    let world = World::new().await;
    let body = r#"{"code":"not_found","message":"Execution condition is invalid (COMMAND-74aaqj8fv9)"}"#;
    let fault = Fault::answer(404, "application/json", body).on(Endpoint::Management);
    world.issuer.inject(fault.for_call("ActionService/SetExecution").times(1));
    let outcome = run(&world, &webhook(&world, URL), Mode::apply()).await;
    let left: Vec<_> = outcome.steps.iter().filter(|step| step.sign == Sign::Same).collect();
    assert_eq!(left.len(), 1);
    assert!(left[0].to_string().contains("this ZITADEL has no such event"));
}

#[tokio::test]
async fn an_address_that_zitadel_denies_is_told() {
    let world = World::new().await;
    let body = r#"{"code":"invalid_argument","message":"Errors.Target.DeniedURL (COMMAND-x)"}"#;
    let fault = Fault::answer(400, "application/json", body).on(Endpoint::Management);
    world.issuer.inject(fault.for_call("ActionService/CreateTarget"));
    let setup = webhook(&world, "http://10.0.0.1/zitadel/events");
    let error = setup.run(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("DeniedURL") && error.contains("private network"), "{error}");
}

#[tokio::test]
async fn an_address_is_http() {
    for url in ["", "tasks.example.com", "ftp://tasks.example.com/", "/zitadel/events"] {
        assert!(WebhookSetup::new("tasks", url, "signing-keys").is_err(), "{url}");
    }
    assert!(Proof::new("http://localhost:1/api/tasks").is_ok());
}
