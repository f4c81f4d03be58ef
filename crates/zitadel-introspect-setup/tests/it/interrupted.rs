//! A set-up that is stopped at any call goes on from there: the end is the same.

use std::time::Duration;

use zitadel_introspect_setup::{FeedSetup, Mode, SetupError, WebhookSetup};
use zitadel_introspect_testkit::{Endpoint, Fault};

use crate::world::World;

/// All set-ups, one after the other.
async fn set_all_up(world: &World) -> Result<(), SetupError> {
    world.run(&world.tasks(), Mode::apply()).await?;
    let feed = FeedSetup::new("reader", world.file("events-key.json"));
    feed.run(&world.zitadel, Mode::apply(), &mut |_| {}).await?;
    let url = "https://tasks.example.com/zitadel/events";
    let webhook = WebhookSetup::new("tasks", url, world.file("signing-keys"))?;
    webhook.run(&world.zitadel, Mode::apply(), &mut |_| {}).await.map(drop)
}

/// The end of a set-up that nothing disturbs, and the number of its calls.
async fn undisturbed() -> (serde_json::Value, Vec<String>, usize) {
    let world = World::new().await;
    set_all_up(&world).await.unwrap();
    let calls = world.issuer.request_count(Endpoint::Management);
    (world.snapshot().await, world.files(), calls)
}

async fn stopped_at_each_call(fault: impl Fn(usize) -> Fault) {
    let (expected, files, calls) = undisturbed().await;
    for call in 0..calls {
        let world = World::new().await;
        world.issuer.inject(fault(call));
        let stopped = set_all_up(&world).await;
        assert!(stopped.unwrap_err().is_worth_another_run(), "call {call}");
        world.issuer.heal();
        set_all_up(&world).await.unwrap_or_else(|error| panic!("after call {call}: {error}"));
        assert_eq!(world.snapshot().await, expected, "after call {call}");
        assert_eq!(world.files(), files, "after call {call}");
    }
}

#[tokio::test]
async fn an_answer_is_lost_at_each_call() {
    stopped_at_each_call(|call| Fault::reset().on(Endpoint::Management).after(call)).await;
}

#[tokio::test]
async fn a_request_is_lost_at_each_call() {
    stopped_at_each_call(|call| Fault::refuse().on(Endpoint::Management).after(call)).await;
}

#[tokio::test]
async fn it_is_killed_at_each_call_of_an_api() {
    let (world, setup) = (World::new().await, |world: &World| world.tasks());
    world.run(&setup(&world), Mode::apply()).await.unwrap();
    let calls = world.issuer.request_count(Endpoint::Management);
    let expected = world.snapshot().await;
    for call in 1..=calls {
        let world = World::new().await;
        // The call takes effect after the set-up is gone.
        let late = Fault::latency(Duration::from_millis(50)).on(Endpoint::Management);
        world.issuer.inject(late.after(call - 1));
        let tasks = setup(&world);
        tokio::select! {
            _ = world.run(&tasks, Mode::apply()) => panic!("it is killed before its end"),
            () = world.issuer.asked(Endpoint::Management, call) => {}
        }
        world.issuer.heal();
        world.run(&setup(&world), Mode::apply()).await.unwrap_or_else(|error| panic!("call {call}: {error}"));
        assert_eq!(world.snapshot().await, expected, "killed at call {call}");
    }
}

#[tokio::test]
async fn lists_lag_behind() {
    let (expected, files, _) = undisturbed().await;
    let world = World::new().await;
    world.issuer.set_list_lag(Duration::from_millis(300));
    set_all_up(&world).await.unwrap();
    // At once again: what was made a moment ago is not listed yet.
    set_all_up(&world).await.unwrap();
    world.issuer.set_list_lag(Duration::ZERO);
    assert_eq!((world.snapshot().await, world.files()), (expected, files));
}

#[tokio::test]
async fn a_lost_key_is_removed_though_the_list_lags_behind() {
    let world = World::new().await;
    world.issuer.set_list_lag(Duration::from_millis(200));
    let key = "ApplicationService/CreateApplicationKey";
    world.issuer.inject(Fault::reset().on(Endpoint::Management).for_call(key).times(1));
    world.run(&world.tasks(), Mode::apply()).await.unwrap_err();
    assert_eq!(world.files(), ["key.json.setup-pending"]);
    world.run(&world.tasks(), Mode::apply()).await.unwrap();
    world.issuer.set_list_lag(Duration::ZERO);
    let projects = world.snapshot().await["projects"].to_string();
    assert_eq!(projects, r#"[["tasks",["admin"],[["tasks",1]]]]"#);
}

#[tokio::test]
async fn two_at_once_do_not_make_two_keys() {
    let world = World::new().await;
    let (one, other) = (world.tasks(), world.tasks());
    let both = tokio::join!(world.run(&one, Mode::apply()), world.run(&other, Mode::apply()));
    if both.0.is_err() || both.1.is_err() {
        world.run(&one, Mode::apply()).await.unwrap();
    }
    let projects = world.snapshot().await["projects"].to_string();
    assert_eq!(projects, r#"[["tasks",["admin"],[["tasks",1]]]]"#);
}

#[tokio::test]
async fn a_change_of_keys_is_stopped_at_each_call() {
    let url = "https://tasks.example.com/zitadel/events";
    let change = async |world: &World| {
        let setup = WebhookSetup::new("tasks", url, world.file("signing-keys")).unwrap().change_key();
        setup.run(&world.zitadel, Mode::apply(), &mut |_| {}).await
    };
    let (mut call, mut is_whole, mut begun_again) = (0, false, 0);
    while !is_whole {
        let world = World::new().await;
        change(&world).await.unwrap(); // makes the first target
        let old = world.text("signing-keys");
        change(&world).await.unwrap();
        let both = world.text("signing-keys");
        let new = both.strip_prefix(&old).unwrap();
        let fault = Fault::reset().on(Endpoint::Management);
        world.issuer.inject(fault.after(call));
        is_whole = change(&world).await.is_ok();
        world.issuer.heal();
        if !is_whole {
            change(&world).await.unwrap();
        }
        let snapshot = world.snapshot().await;
        if world.text("signing-keys") == new {
            assert_eq!(snapshot["targets"], serde_json::json!([["tasks-2", url]]), "stopped at call {call}");
        } else {
            // Only the answer of the last call was lost: the change is complete, and the next run begins another.
            assert!(world.text("signing-keys").starts_with(new), "stopped at call {call}");
            begun_again += 1;
        }
        let executions = snapshot["executions"].as_array().unwrap();
        let is_moved = |one: &serde_json::Value| one[1] == serde_json::json!(["tasks-2"]);
        assert!(executions.iter().all(is_moved) && executions.len() > 20, "stopped at call {call}");
        call += 1;
    }
    assert!(call > 20 && begun_again == 1, "it was stopped at each call: {call}, {begun_again}");
}

#[tokio::test]
async fn a_second_target_whose_answer_was_lost_is_made_anew() {
    let world = World::new().await;
    let url = "https://tasks.example.com/zitadel/events";
    let setup = WebhookSetup::new("tasks", url, world.file("signing-keys")).unwrap().change_key();
    let change = async || setup.run(&world.zitadel, Mode::apply(), &mut |_| {}).await;
    change().await.unwrap();
    let old = world.text("signing-keys");
    let lost = Fault::reset().on(Endpoint::Management).for_call("ActionService/CreateTarget");
    world.issuer.inject(lost.times(1));
    change().await.unwrap_err();
    assert_eq!(world.text("signing-keys"), old);
    change().await.unwrap(); // removes what nothing calls
    change().await.unwrap();
    let both = world.text("signing-keys");
    assert!(both.starts_with(&old) && both.lines().count() == 2);
}
