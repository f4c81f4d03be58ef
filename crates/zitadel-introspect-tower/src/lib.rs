#![doc = include_str!("../README.md")]

mod future;

use std::{
    error::Error,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

pub use future::GuardFuture;

/// Any error of a body.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Decides about requests by their heads.
pub trait Gate: Send + Sync + 'static {
    /// The body of all answers.
    type Body;

    /// Returns `true` if the request may pass without waiting; may add values to the request's extensions.
    /// `false` is not a refusal: [`authorize`](Self::authorize) then decides.
    fn authorize_now<B>(&self, request: &mut Request<B>) -> bool;

    /// Lets a request pass, or returns the answer that refuses it.
    fn authorize(&self, head: &mut Parts) -> impl Future<Output = Result<(), Response<Self::Body>>> + Send;

    /// Converts the body of the guarded service's answer to [`Self::Body`].
    fn wrap<B>(body: B) -> Self::Body
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>;
}

/// Puts a gate before a service.
#[derive(Debug)]
pub struct GuardLayer<G>(Arc<G>);

/// A service behind a gate.
#[derive(Debug)]
pub struct Guard<S, G> {
    inner: S,
    gate: Arc<G>,
}

impl<G> GuardLayer<G> {
    /// A layer with this gate.
    #[must_use]
    pub fn new(gate: G) -> Self {
        Self(Arc::new(gate))
    }
}

impl<G> Clone for GuardLayer<G> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Clone, G> Clone for Guard<S, G> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate) }
    }
}

impl<S, G> Layer<S> for GuardLayer<G> {
    type Service = Guard<S, G>;

    fn layer(&self, inner: S) -> Self::Service {
        Guard { inner, gate: Arc::clone(&self.0) }
    }
}

impl<S, G, B, R> Service<Request<B>> for Guard<S, G>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    G: Gate,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<G::Body>;
    type Error = S::Error;
    type Future = GuardFuture<S, G, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if self.gate.authorize_now(&mut request) {
            return GuardFuture::serve(self.inner.call(request));
        }
        // Call the service that was polled ready; leave the fresh clone behind.
        let fresh = self.inner.clone();
        let ready = mem::replace(&mut self.inner, fresh);
        let gate = Arc::clone(&self.gate);
        GuardFuture::check(ready, async move {
            // Only the head: a body is not `Sync`, and must not be touched before the verdict.
            let (mut head, body) = request.into_parts();
            gate.authorize(&mut head).await?;
            Ok(Request::from_parts(head, body))
        })
    }
}
