//! Faults do what they say, for whom and as long as they say.

use std::time::{Duration, Instant};

use zitadel_introspect_testkit::{Endpoint, Fault};

use crate::world::{World, basic, client, inactive, json_of};

/// Asks with a short time-out of its own.
async fn ask(world: &World, token: &str) -> reqwest::Result<reqwest::Response> {
    let basic = basic(&world.basic_api.client_id(), &world.basic_api.secret());
    let request = client().post(format!("{}/oauth/v2/introspect", world.issuer.url()));
    let form = [("token", token)];
    request.header("authorization", basic).timeout(Duration::from_millis(300)).form(&form).send().await
}

#[tokio::test]
async fn answers_of_ones_own_replace_the_right_one() {
    let world = World::new().await;
    let pat = world.robot.pat();
    world.issuer.inject(Fault::answer(418, "text/html", "<p>").header("retry-after", "9").times(1));
    let answer = ask(&world, &pat).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()),
        (418, "text/html")
    );
    assert_eq!(answer.headers()["retry-after"], "9");
    assert_eq!(answer.text().await.unwrap(), "<p>");
    world.issuer.inject(Fault::redirect("http://127.0.0.1:9/").times(1));
    assert_eq!(ask(&world, &pat).await.unwrap().headers()["location"], "http://127.0.0.1:9/");
    world.issuer.inject(Fault::content_type("text/plain").times(1));
    let answer = ask(&world, &pat).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain");
    assert_eq!(json_of(answer).await["active"], true);
    world.issuer.inject(Fault::inactive().times(1));
    assert_eq!(json_of(ask(&world, &pat).await.unwrap()).await, inactive());
    assert_eq!(world.introspect(&pat).await["active"], true, "each came once");
}

#[tokio::test]
async fn broken_and_hanging_answers_are_broken_and_hang() {
    let world = World::new().await;
    let pat = world.robot.pat();
    for fault in
        [Fault::hang_before_head(), Fault::hang_within_head(), Fault::latency(Duration::from_secs(5))]
    {
        world.issuer.inject(fault);
        assert!(ask(&world, &pat).await.unwrap_err().is_timeout());
        world.issuer.heal();
    }
    world.issuer.inject(Fault::reset());
    assert!(!ask(&world, &pat).await.unwrap_err().is_timeout());
    world.issuer.heal();
    world.issuer.inject(Fault::hang_within_body());
    assert!(ask(&world, &pat).await.unwrap().text().await.unwrap_err().is_timeout());
    world.issuer.heal();
    world.issuer.inject(Fault::truncated());
    let cut = ask(&world, &pat).await.unwrap().text().await.unwrap_err();
    assert!(!cut.is_timeout());
    world.issuer.heal();
    world.issuer.inject(Fault::endless_body());
    let mut endless = ask(&world, &pat).await.unwrap();
    let mut read = 0;
    while read < 4 * 1024 * 1024 {
        read += endless.chunk().await.unwrap().unwrap().len();
    }
}

#[tokio::test]
async fn a_fault_is_for_one_token_one_endpoint_or_a_time() {
    let world = World::new().await;
    let (one, other) = (world.robot.pat(), world.admin_robot.pat());
    world.issuer.inject(Fault::status(500).for_token(&one));
    assert_eq!(ask(&world, &one).await.unwrap().status(), 500);
    assert_eq!(ask(&world, &other).await.unwrap().status(), 200);
    world.issuer.heal();
    world.issuer.inject(Fault::status(500).on(Endpoint::Keys));
    assert_eq!(ask(&world, &one).await.unwrap().status(), 200);
    let keys = client().get(format!("{}/oauth/v2/keys", world.issuer.url())).send().await.unwrap();
    assert_eq!(keys.status(), 500);
    world.issuer.heal();
    world.issuer.inject(Fault::status(500).lasting(Duration::from_millis(200)));
    let began = Instant::now();
    while ask(&world, &one).await.unwrap().status() == 500 {}
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stopped_issuer_refuses_connections_and_comes_back_on_its_port() {
    let world = World::new().await;
    let pat = world.robot.pat();
    let address = world.issuer.address();
    world.issuer.stop().await;
    assert!(ask(&world, &pat).await.unwrap_err().is_connect());
    world.issuer.resume().await;
    assert_eq!(world.issuer.address(), address);
    assert_eq!(world.introspect(&pat).await["active"], true, "with the same state");
}

#[tokio::test]
async fn held_requests_wait_until_they_are_let_go() {
    let world = World::new().await;
    let pat = world.robot.pat();
    let held = world.issuer.hold(Endpoint::Introspection);
    let (answer, ()) = tokio::join!(world.ask(&pat), async {
        world.issuer.asked(Endpoint::Introspection, 1).await;
        drop(held);
    });
    assert_eq!(answer.status(), 200);
}
