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
use zitadel_introspect_axum::{Caller, RequireAuthorizationLayer, Requirement, TestCaller, TestTokens};

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
