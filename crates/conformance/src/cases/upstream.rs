use std::time::Duration;

use zitadel_introspect_testkit::{Endpoint, Fault};

use crate::{Adapter, World, http::bearer, world::refusal};

const UNAVAILABLE: (u16, Option<&str>, &str) = (503, None, "unavailable: no verdict from the issuer\n");

pub(super) async fn a_dead_issuer_is_unavailable_and_comes_back<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&["admin"]);
    world.issuer.stop().await;
    for path in ["/caller", "/admin", "/maybe", "/layer/caller"] {
        let answer = world.get_as(path, &token).await;
        assert_eq!(refusal(&answer), UNAVAILABLE, "{path}");
        let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&retry_after));
    }
    assert_eq!(world.get("/public", &[]).await.status, 200);
    world.issuer.resume().await;
    let back = async { while world.get_as("/caller", &token).await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), back).await.expect("back within 10 s");
}

pub(super) async fn a_slow_issuer_does_not_slow_public_routes<A: Adapter>() {
    let world = World::new::<A>().await;
    let held = world.issuer.hold(Endpoint::Introspection);
    let target = world.target.clone();
    let stuck: Vec<_> = (0..100)
        .map(|number| {
            let (target, header) = (target.clone(), bearer(&format!("token-{number}")));
            tokio::spawn(async move { target.get("/caller", &[header]).await.status })
        })
        .collect();
    world.issuer.asked(Endpoint::Introspection, 32).await;
    let public = tokio::time::timeout(Duration::from_secs(2), world.get("/public", &[])).await;
    assert_eq!(public.expect("an answer at once").status, 200);
    drop(held);
    for status in stuck {
        assert_eq!(status.await.unwrap(), 401);
    }
}

pub(super) async fn five_hundred_requests_with_one_new_token_ask_once<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&[]);
    let held = world.issuer.hold(Endpoint::Introspection);
    let target = world.target.clone();
    let callers: Vec<_> = (0..500)
        .map(|_| {
            let (target, header) = (target.clone(), bearer(&token));
            tokio::spawn(async move { target.get("/caller", &[header]).await.status })
        })
        .collect();
    world.issuer.asked(Endpoint::Introspection, 1).await;
    drop(held);
    for status in callers {
        assert_eq!(status.await.unwrap(), 200);
    }
    assert_eq!(world.issuer.introspections(), 1);
}

pub(super) async fn a_lying_issuer_lets_nobody_in<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&["admin"]);
    for body in [
        "{}",
        "true",
        "{\"active\":\"true\"}",
        "{\"active\":1}",
        "{\"active\":true",
        "{\"active\":true,\"active\":true}",
        "{\"active\":true,\"exp\":\"never\"}",
        "<html>",
    ] {
        world.issuer.heal();
        world.issuer.inject(Fault::answer(200, "application/json", body));
        assert_eq!(refusal(&world.get_as("/caller", &token).await), UNAVAILABLE, "{body}");
    }
    for fault in
        [Fault::truncated(), Fault::reset(), Fault::content_type("text/html"), Fault::redirect("/public")]
    {
        world.issuer.heal();
        world.issuer.inject(fault);
        assert_eq!(refusal(&world.get_as("/caller", &token).await), UNAVAILABLE);
    }
    world.issuer.heal();
    let elsewhere = "{\"active\":true,\"iss\":\"https://other.example\"}";
    world.issuer.inject(Fault::answer(200, "application/json", elsewhere));
    assert_eq!(world.get_as("/caller", &token).await.status, 401);
}

pub(super) async fn an_issuer_that_refuses_us_does_not_blame_the_token<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&["admin"]);
    world.api.remove_key(&world.api.key());
    assert_eq!(refusal(&world.get_as("/caller", &token).await), UNAVAILABLE);
}

pub(super) async fn throttling_is_passed_on<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&[]);
    world.issuer.inject(Fault::status(429).header("retry-after", "7"));
    let answer = world.get_as("/caller", &token).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
}

pub(super) async fn nothing_of_the_caller_reaches_the_issuer_but_the_token<A: Adapter>() {
    const SENT: [&str; 5] = ["accept", "content-length", "content-type", "host", "user-agent"];
    let world = World::new::<A>().await;
    let token = world.token(&[]);
    // Had the caller's Host been forwarded, the issuer would know no such instance.
    let mine =
        ["x-zitadel-instance-host: evil.example", "cookie: session=mine", "x-own: mine", "user-agent: mine"];
    let mut headers = vec![bearer(&token)];
    headers.extend(mine.map(str::to_owned));
    assert_eq!(world.get("/caller", &headers).await.status, 200);
    let asked = world.issuer.requests();
    assert!(asked.iter().any(|request| request.endpoint() == Endpoint::Introspection));
    for request in asked {
        for (name, value) in request.headers() {
            assert!(SENT.contains(&name) && !value.contains("mine"), "{request:?}: {name}");
        }
        let body = String::from_utf8_lossy(request.body()).into_owned();
        assert!(!body.contains("mine") && !request.target().contains("mine"), "{request:?}");
        if request.endpoint() == Endpoint::Introspection {
            assert_eq!(request.form("token").as_deref(), Some(&*token));
        }
    }
}

pub(super) async fn a_revoked_token_is_refused<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&[]);
    token.revoke();
    assert_eq!(world.get_as("/layer/caller", &token).await.status, 401);
}
