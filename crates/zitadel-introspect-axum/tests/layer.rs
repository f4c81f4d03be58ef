//! The layer as a tower service: it calls the service that was polled ready, and leaves bodies alone.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use tower::{Layer, Service, ServiceExt};
use zitadel_introspect_axum::{
    Authorized, Caller, RequireAuthorizationLayer, Requirement, TestCaller, TestTokens,
};

/// A body that is neither axum's nor `Sync`, as streams may be.
struct OwnBody(std::cell::Cell<u8>);

/// A service that may only be called where it was polled ready; a clone was not.
#[derive(Default)]
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<OwnBody>> for Strict {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<OwnBody>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        assert_eq!(request.body().0.get(), 7);
        assert!(request.extensions().get::<Caller>().is_some());
        ready(Ok(Response::new(Body::empty())))
    }
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_called() {
    let verifier = TestTokens::new().caller("token", TestCaller::new("ada")).verifier();
    let mut service =
        RequireAuthorizationLayer::new(verifier, Requirement::any_caller()).layer(Strict::default());
    for (token, status) in [("token", 200), ("dead", 401), ("token", 200)] {
        let request = Request::builder().header("authorization", format!("Bearer {token}"));
        let request = request.body(OwnBody(std::cell::Cell::new(7))).unwrap();
        let answer = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(answer.status(), status);
    }
}

/// What stands inside of the guard may answer with a body of its own.
#[tokio::test]
async fn the_layer_goes_around_any_service() {
    let verifier = || TestTokens::new().caller("token", TestCaller::new("ada")).verifier();
    let guard = || RequireAuthorizationLayer::new(verifier(), Requirement::any_caller());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file.txt"), "content").unwrap();
    let files = || tower_http::services::ServeDir::new(folder.path());
    let stack = tower::ServiceBuilder::new()
        .layer(tower_http::cors::CorsLayer::new())
        .layer(guard())
        .layer(tower_http::trace::TraceLayer::new_for_http())
        .layer(tower_http::compression::CompressionLayer::new())
        .layer(tower_http::limit::RequestBodyLimitLayer::new(1024))
        .service(files());
    expect(stack).await;
    expect(guard().layer(files())).await;
    expect(guard().layer(tower::service_fn(async |_: Request<Body>| {
        Ok::<_, Infallible>(Response::new("content".to_owned()))
    })))
    .await;
}

#[expect(clippy::unwrap_used, reason = "a test may panic")]
async fn expect<S, B>(service: S)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
    B: axum::body::HttpBody<Data = axum::body::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    for (token, status, content) in
        [("token", 200, "content"), ("dead", 401, "unauthorized: invalid token\n")]
    {
        let request = Request::get("/file.txt").header("authorization", format!("Bearer {token}"));
        let answer = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status);
        let body = axum::body::to_bytes(Body::new(answer.into_body()), 1024).await.unwrap();
        assert_eq!(body, content);
    }
}

#[tokio::test]
async fn an_optional_extractor_is_empty_without_credentials_alone() {
    use axum::{Router, routing::get};
    use zitadel_introspect_axum::{Authorized, AuthorizedAs, RequiredRole};

    struct Admin;
    impl RequiredRole for Admin {
        const ROLE: &'static str = "admin";
    }
    async fn any(caller: Option<Authorized>) -> String {
        caller.map_or_else(
            || "nobody".to_owned(),
            |Authorized(caller)| caller.claims().subject().unwrap_or_default().to_owned(),
        )
    }
    async fn admin(caller: Option<AuthorizedAs<Admin>>) -> &'static str {
        if caller.is_some() { "admin" } else { "nobody" }
    }
    let tokens = TestTokens::new()
        .caller("ada", TestCaller::new("ada"))
        .caller("eva", TestCaller::new("eva").role("admin"));
    let app = Router::new().route("/any", get(any)).route("/admin", get(admin)).with_state(tokens.verifier());
    for (path, header, status, body) in [
        ("/any", None, 200, "nobody"),
        ("/any", Some("Basic YTpi"), 200, "nobody"),
        ("/any", Some("Bearer ada"), 200, "ada"),
        ("/any", Some("Bearer dead"), 401, "unauthorized: invalid token\n"),
        ("/any", Some("Bearer a b"), 401, "unauthorized: malformed token\n"),
        ("/admin", None, 200, "nobody"),
        ("/admin", Some("Bearer eva"), 200, "admin"),
        ("/admin", Some("Bearer ada"), 403, "permission denied: missing required role: `admin`\n"),
    ] {
        let mut request = Request::get(path);
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{path} {header:?}");
        assert_eq!(axum::body::to_bytes(answer.into_body(), 1024).await.unwrap(), body);
    }
}

#[tokio::test]
async fn a_router_is_guarded_by_a_parameter_of_its_path() {
    let verifier = TestTokens::new()
        .caller("one", TestCaller::new("ada").role_in("editor", "1"))
        .caller("two", TestCaller::new("bob").role_in("editor", "2"))
        .verifier();
    let editors = |parameter| {
        RequireAuthorizationLayer::from_path(verifier.clone(), parameter, |id| {
            Requirement::role("editor").in_organization(id)
        })
    };
    let reports = |parameter| {
        axum::Router::new()
            .route("/reports", axum::routing::get(async |caller: Authorized| caller.user_id().to_owned()))
            .route_layer(editors(parameter))
    };
    let app = axum::Router::new()
        .nest("/organizations/{organization}", reports("organization"))
        .nest("/wrong/{id}", reports("organization"))
        .with_state(verifier.clone());
    for (path, token, status) in [
        ("/organizations/1/reports", Some("one"), 200),
        ("/organizations/2/reports", Some("two"), 200),
        ("/organizations/2/reports", Some("one"), 403),
        ("/organizations/1%20/reports", Some("one"), 403),
        ("/organizations/1/reports", Some("dead"), 401),
        ("/organizations/1/reports", None, 401),
        ("/organizations/%FF/reports", None, 401),
        ("/organizations/%FF/reports", Some("one"), 403),
        ("/wrong/1/reports", Some("one"), 500),
    ] {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{path} {token:?}");
    }
}
