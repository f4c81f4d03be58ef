//! A tower layer: a whole server, or one service, that denies by default.

use std::{
    error::Error,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION};
use tonic::{body::Body, server::NamedService};
use tower_layer::Layer;
use tower_service::Service;
use zitadel_introspect::{AuthError, Caller, Requirement, Verifier};

use crate::{
    Rejection,
    methods::{Methods, Rule},
};

/// Lets only callers through who meet what their method requires, and hands them on in the request's extensions.
///
/// Around a server, one service, or other layers. With grpc-web, a browser's question whether it may call comes without
/// credentials, and its calls are translated first: `.layer(CorsLayer).layer(GrpcWebLayer).layer(this)`.
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
    methods: Methods,
}

/// What a guard has found out about an optional caller.
#[derive(Debug, Clone)]
pub(crate) struct Looked(pub(crate) Option<Caller>);

impl RequireAuthorizationLayer {
    /// Guards whatever it is put on.
    #[must_use]
    pub fn new(verifier: Verifier, methods: Methods) -> Self {
        Self(Arc::new(Gate { verifier, methods }))
    }
}

impl Gate {
    /// What goes on in the request's extensions; nothing for a public method.
    async fn authorize(&self, method: &str, headers: &HeaderMap) -> Result<Option<Looked>, AuthError> {
        let fields = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let looked = match self.methods.rule(method)? {
            Rule::Public => return Ok(None),
            Rule::Optional => self.verifier.authorize_optional(fields, &Requirement::any_caller()).await?,
            Rule::Required(requirement) => Some(self.verifier.authorize(fields, requirement).await?),
        };
        Ok(Some(Looked(looked)))
    }
}

impl<S> Layer<S> for RequireAuthorizationLayer {
    type Service = RequireAuthorization<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireAuthorization { inner, gate: Arc::clone(&self.0) }
    }
}

impl<S: NamedService> NamedService for RequireAuthorization<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<Request<B>> for RequireAuthorization<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
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
            // Only the head: a body is not `Sync`, and must not be touched before the verdict.
            match gate.authorize(request.uri().path(), request.headers()).await {
                Ok(looked) => {
                    let extensions = request.extensions_mut();
                    // None but the guard's own counts, whatever other layers have left.
                    extensions.remove::<Caller>();
                    extensions.remove::<Looked>();
                    if let Some(caller) = looked.as_ref().and_then(|Looked(caller)| caller.clone()) {
                        extensions.insert(caller);
                    }
                    if let Some(looked) = looked {
                        extensions.insert(looked);
                    }
                    Ok(ready.call(request).await?.map(Body::new))
                }
                Err(error) => Ok(tonic::Status::from(Rejection(error)).into_http()),
            }
        })
    }
}
