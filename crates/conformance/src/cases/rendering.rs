use crate::{Adapter, World, world::refusal};

pub(super) async fn errors_can_have_bodies_of_ones_own<A: Adapter>() {
    let world = World::with::<A>(|settings| settings.own_bodies = true).await;
    let token = world.token(&[]);
    let bare = Some("Bearer");
    let insufficient = Some("Bearer error=\"insufficient_scope\"");
    for (path, expected) in
        [("/caller", (401, bare, "{\"own\":401}")), ("/layer/caller", (401, bare, "{\"own\":401}"))]
    {
        let answer = world.get(path, &[]).await;
        assert_eq!(refusal(&answer), expected, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    for path in ["/admin", "/layer/any-role", "/organizations/1"] {
        let answer = world.get_as(path, &token).await;
        assert_eq!(refusal(&answer), (403, insufficient, "{\"own\":403}"), "{path}");
    }
    world.issuer.stop().await;
    let answer = world.get_as("/caller", "another").await;
    assert_eq!(refusal(&answer), (503, None, "{\"own\":503}"));
    assert!(answer.header("retry-after").is_some());
}

pub(super) async fn a_realm_is_in_every_challenge<A: Adapter>() {
    let world = World::with::<A>(|settings| settings.realm = Some("tasks")).await;
    let token = world.token(&[]);
    for (answer, challenge) in [
        (world.get("/caller", &[]).await, "Bearer realm=\"tasks\""),
        (world.get_as("/caller", "never-was").await, "Bearer error=\"invalid_token\", realm=\"tasks\""),
        (world.get_as("/admin", &token).await, "Bearer error=\"insufficient_scope\", realm=\"tasks\""),
        (
            world.get_as("/organizations/1", &token).await,
            "Bearer error=\"insufficient_scope\", realm=\"tasks\"",
        ),
    ] {
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
    }
}

pub(super) async fn errors_are_one_line_of_text_that_is_not_kept<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&[]);
    for answer in [world.get("/caller", &[]).await, world.get_as("/admin", &token).await] {
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.body.lines().count(), 1);
        assert!(answer.body.ends_with('\n'));
    }
}
