//! A tower layer: a requirement for whole routers.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    BoxError,
    body::{Body, Bytes, HttpBody},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Request, header::AUTHORIZATION};
use tower_layer::Layer;
use tower_service::Service;
use zitadel_introspect::{AuthError, Caller, Requirement, Verifier};

use crate::Rejection;

/// Lets only callers through who meet a requirement, and hands them on in the request's extensions, as a
/// [`Caller`](crate::Caller).
///
/// Around any service: a router, a `ServeDir`, other layers of tower-http. What a browser asks before it may call
/// (`CorsLayer`) and what sees each answer (`TraceLayer`) belong outside of it; see the page
/// `docs/choosing-an-adapter.md`, "Order of layers".
#[derive(Debug, Clone)]
pub struct RequireAuthorizationLayer(Arc<Gate>);

/// The service of [`RequireAuthorizationLayer`].
#[derive(Debug, Clone)]
pub struct RequireAuthorization<S> {
    inner: S,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    verifier: Verifier,
    requirement: Requirement,
}

impl RequireAuthorizationLayer {
    /// Guards whatever it is put on.
    #[must_use]
    pub fn new(verifier: Verifier, requirement: Requirement) -> Self {
        Self(Arc::new(Gate { verifier, requirement }))
    }
}

impl Gate {
    async fn authorize(&self, headers: &HeaderMap) -> Result<Caller, AuthError> {
        let fields = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        self.verifier.authorize(fields, &self.requirement).await
    }
}

impl<S> Layer<S> for RequireAuthorizationLayer {
    type Service = RequireAuthorization<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireAuthorization { inner, gate: Arc::clone(&self.0) }
    }
}

impl<S, B, R> Service<Request<B>> for RequireAuthorization<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Call the service that was polled ready; leave the fresh clone behind.
        let fresh = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, fresh);
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            // Only the headers: a body is not `Sync`, and must not be touched before the verdict.
            match gate.authorize(request.headers()).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    Ok(ready.call(request).await?.map(Body::new))
                }
                Err(error) => Ok(Rejection(error).into_response()),
            }
        })
    }
}
