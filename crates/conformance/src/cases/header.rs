use crate::{Adapter, World, http::bearer, world::refusal};

const BARE: Option<&str> = Some("Bearer");
const INVALID: Option<&str> = Some("Bearer error=\"invalid_token\"");

pub(super) async fn no_header_is_challenged_without_an_error<A: Adapter>() {
    let world = World::new::<A>().await;
    let answer = world.get("/caller", &[]).await;
    assert_eq!(refusal(&answer), (401, BARE, "unauthorized: authorization header is empty\n"));
    assert_eq!(world.issuer.introspections(), 0);
}

pub(super) async fn an_empty_header_counts_as_none<A: Adapter>() {
    let world = World::new::<A>().await;
    for header in ["authorization:", "authorization: ", "Authorization: \t "] {
        let answer = world.get("/caller", &[header.to_owned()]).await;
        assert_eq!(
            refusal(&answer),
            (401, BARE, "unauthorized: authorization header is empty\n"),
            "{header:?}"
        );
    }
}

pub(super) async fn another_scheme_is_challenged_without_an_error<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&[]);
    for value in [
        "Basic dXNlcjpwYXNz".to_owned(),
        token.to_string(),
        format!("Bearer{token}"),
        format!("Token {token}"),
    ] {
        let answer = world.get("/caller", &[format!("authorization: {value}")]).await;
        assert_eq!(refusal(&answer), (401, BARE, "unauthorized: missing bearer token\n"), "{value:?}");
    }
    assert_eq!(world.issuer.introspections(), 0);
}

pub(super) async fn the_scheme_is_read_in_any_case_with_any_spaces<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&[]);
    for header in [
        format!("authorization: bearer {token}"),
        format!("AUTHORIZATION: BEARER    {token}"),
        format!("Authorization:\t bEaReR {token} \t"),
    ] {
        assert_eq!(world.get("/caller", std::slice::from_ref(&header)).await.status, 200, "{header:?}");
    }
}

pub(super) async fn malformed_credentials_are_an_invalid_token<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&[]);
    for value in [
        "Bearer".to_owned(),
        format!("Bearer {token} {token}"),
        format!("Bearer {token},"),
        format!("Bearer \"{token}\""),
        format!("Bearer token={token}"),
        format!("Bearer\t{token}"),
        format!("Bearer {token}\u{e9}"),
        "Bearer =".to_owned(),
    ] {
        let answer = world.get("/caller", &[format!("authorization: {value}")]).await;
        assert_eq!(refusal(&answer), (401, INVALID, "unauthorized: malformed token\n"), "{value:?}");
    }
    assert_eq!(world.issuer.introspections(), 0);
}

pub(super) async fn an_oversized_token_is_malformed<A: Adapter>() {
    let world = World::new::<A>().await;
    let answer = world.get_as("/caller", &"a".repeat(16 * 1024 + 1)).await;
    assert_eq!(refusal(&answer), (401, INVALID, "unauthorized: malformed token\n"));
    assert_eq!(world.issuer.introspections(), 0);
    let answer = world.get_as("/caller", &"a".repeat(16 * 1024)).await;
    assert_eq!(refusal(&answer), (401, INVALID, "unauthorized: invalid token\n"));
}

pub(super) async fn two_headers_that_would_each_pass_are_refused<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&["admin"]);
    for path in ["/caller", "/admin", "/maybe", "/layer/caller"] {
        let answer = world.get(path, &[bearer(&token), bearer(&token)]).await;
        let body = "bad request: more than one authorization header\n";
        assert_eq!(refusal(&answer), (400, Some("Bearer error=\"invalid_request\""), body), "{path}");
    }
    assert_eq!(world.issuer.introspections(), 0);
}

pub(super) async fn tokens_elsewhere_mean_nothing<A: Adapter>() {
    let world = World::new::<A>().await;
    let token = world.token(&["admin"]);
    let headers = [
        format!("cookie: access_token={token}; authorization={token}"),
        format!("x-authorization: Bearer {token}"),
        format!("proxy-authorization: Bearer {token}"),
    ];
    let answer = world.get(&format!("/caller?access_token={token}"), &headers).await;
    assert_eq!((answer.status, world.issuer.introspections()), (401, 0));
}

pub(super) async fn identity_headers_of_the_caller_mean_nothing<A: Adapter>() {
    let world = World::new::<A>().await;
    let user = world.user(&[]);
    let headers = [bearer(&user.pat()), "x-forwarded-user: admin".to_owned(), "x-roles: admin".to_owned()];
    assert_eq!(world.get("/caller", &headers).await.body, user.id());
    assert_eq!(world.get("/admin", &headers).await.status, 403);
}
