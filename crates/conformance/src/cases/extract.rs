use crate::{Adapter, World, http::request, world::refusal};

const INVALID: Option<&str> = Some("Bearer error=\"invalid_token\"");

pub(super) async fn a_live_token_passes<A: Adapter>() {
    let world = World::new::<A>().await;
    let user = world.user(&[]);
    for token in [user.pat(), user.access_token().for_project(&world.project).issue()] {
        let answer = world.get_as("/caller", &token).await;
        assert_eq!((answer.status, answer.body), (200, user.id()));
    }
}

pub(super) async fn dead_tokens_are_invalid<A: Adapter>() {
    let world = World::new::<A>().await;
    let user = world.user(&["admin"]);
    let revoked = user.pat();
    revoked.revoke();
    let for_nobody = user.access_token().issue();
    for dead in ["never-was", &revoked, &for_nobody] {
        for path in ["/caller", "/admin", "/layer/caller"] {
            let answer = world.get_as(path, dead).await;
            assert_eq!(refusal(&answer), (401, INVALID, "unauthorized: invalid token\n"), "{path}");
            assert!(!format!("{answer:?}").contains(dead));
        }
    }
}

pub(super) async fn the_role_in_the_type_is_required<A: Adapter>() {
    let world = World::new::<A>().await;
    let admin = world.user(&["admin"]);
    assert_eq!(world.get_as("/admin", &admin.pat()).await.body, admin.id());
    let answer = world.get_as("/admin", &world.token(&["editor"])).await;
    let challenge = Some("Bearer error=\"insufficient_scope\"");
    assert_eq!(refusal(&answer), (403, challenge, "permission denied: missing required role: `admin`\n"));
}

pub(super) async fn an_optional_caller_is_absent_only_without_credentials<A: Adapter>() {
    let world = World::new::<A>().await;
    for headers in [vec![], vec!["authorization:".to_owned()], vec!["authorization: Basic YTpi".to_owned()]] {
        let answer = world.get("/maybe", &headers).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "anonymous"), "{headers:?}");
    }
    let user = world.user(&[]);
    assert_eq!(world.get_as("/maybe", &user.pat()).await.body, user.id());
}

pub(super) async fn an_optional_caller_with_a_bad_token_is_refused<A: Adapter>() {
    let world = World::new::<A>().await;
    let answer = world.get_as("/maybe", "never-was").await;
    assert_eq!(refusal(&answer), (401, INVALID, "unauthorized: invalid token\n"));
    let answer = world.get_as("/maybe", "a,b").await;
    assert_eq!(refusal(&answer), (401, INVALID, "unauthorized: malformed token\n"));
    world.issuer.stop().await;
    assert_eq!(world.get_as("/maybe", "another").await.status, 503);
}

pub(super) async fn a_public_route_ignores_credentials<A: Adapter>() {
    let world = World::new::<A>().await;
    for headers in
        [vec![], vec!["authorization: Bearer a,b".to_owned()], vec!["authorization: Bearer dead".to_owned()]]
    {
        let answer = world.get("/public", &headers).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "public"));
    }
    assert_eq!(world.issuer.introspections(), 0);
}

pub(super) async fn a_head_request_is_guarded_like_get<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&[]);
    for path in ["/caller", "/layer/caller"] {
        let head = format!("HEAD {path}");
        assert_eq!(request(world.server.address, &head, &[]).await.status, 401, "{path}");
        let bearer = crate::http::bearer(&token);
        assert_eq!(request(world.server.address, &head, &[bearer]).await.status, 200, "{path}");
    }
}

pub(super) async fn a_forgotten_verifier_is_our_fault<A: Adapter>() {
    if !A::COMPILES_WITHOUT_VERIFIER {
        return; // a `compile_fail` example of the adapter stands for it
    }
    let world = World::with::<A>(|settings| settings.without_verifier = true).await;
    let token = world.token(&["admin"]);
    for path in ["/caller", "/admin", "/maybe"] {
        let answer = world.get_as(path, &token).await;
        assert_eq!(refusal(&answer), (500, None, "internal server error\n"), "{path}");
    }
    assert_eq!(world.get("/public", &[]).await.status, 200, "the process lives on");
}
