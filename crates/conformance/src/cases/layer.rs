use crate::{
    Adapter, World,
    http::{Connection, bearer, request, request_with_body},
};

pub(super) async fn layer_and_extractor_verify_once<A: Adapter>() {
    // A held verdict would hide a second verification.
    let world = World::with::<A>(|settings| settings.cache_off = true).await;
    let user = world.user(&[]);
    let answer = world.get_as("/layer/caller", &user.pat()).await;
    assert_eq!((answer.status, answer.body), (200, user.id()));
    assert_eq!(world.issuer.introspections(), 1);
}

pub(super) async fn a_guarded_route_takes_a_body<A: Adapter>() {
    let world = World::new::<A>().await;
    let user = world.user(&[]);
    let headers = [bearer(&user.pat())];
    let answer = request_with_body(world.server.address, "POST /layer/caller", &headers, "hello").await;
    assert_eq!((answer.status, answer.body), (200, user.id()));
}

pub(super) async fn a_refusal_comes_before_the_body<A: Adapter>() {
    let world = World::new::<A>().await;
    let mut connection = Connection::open(world.server.address).await;
    // A megabyte is announced, and none of it sent.
    connection
        .send("POST /layer/caller HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1048576\r\n\r\n")
        .await;
    assert_eq!(connection.answer(false).await.unwrap().status, 401);
}

pub(super) async fn what_is_left_of_a_refused_body_is_no_request<A: Adapter>() {
    let world = World::new::<A>().await;
    let mut connection = Connection::open(world.server.address).await;
    let smuggled = "GET /public HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let head = "POST /layer/caller HTTP/1.1\r\nhost: localhost\r\ncontent-length:";
    connection.send(format!("{head} {}\r\n\r\n{smuggled}", smuggled.len())).await;
    assert_eq!(connection.answer(false).await.unwrap().status, 401);
    // Either the connection ends, or the next request on it is answered, and no other.
    connection.send("HEAD /caller HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let next = connection.answer(true).await;
    assert!(next.as_ref().is_none_or(|answer| answer.status == 401), "{next:?}");
}

pub(super) async fn no_method_and_no_spelling_opens_a_guarded_route<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&[]);
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        for path in [
            "/admin",
            "/layer/any-role",
            "//layer/any-role",
            "/layer//any-role",
            "/layer/any-role/",
            "/layer/%61ny-role",
            "/layer/../layer/any-role",
            "/layer/./any-role",
            "/LAYER/ANY-ROLE",
            "/layer/any-role;x",
            "/layer/any-role%2f",
            "/public/../layer/any-role",
            "/public/%2e%2e/layer/any-role",
        ] {
            let headers = [bearer(&token), "x-http-method-override: GET".to_owned()];
            let answer = request(world.server.address, &format!("{method} {path}"), &headers).await;
            assert!(answer.status >= 400, "{method} {path}: {answer:?}");
            assert_ne!(answer.body, "passed", "{method} {path}");
        }
    }
}
