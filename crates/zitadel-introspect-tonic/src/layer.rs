//! A tower layer for a whole server, or for one service. Methods are denied by default.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION, request::Parts};
use tonic::{body::Body, server::NamedService};
use tower_layer::Layer;
use tower_service::Service;
use zitadel_introspect::{AuthError, Caller, Requirement, Verifier};
use zitadel_introspect_tower::{BoxError, Gate, Guard, GuardLayer};

use crate::{
    Rejection,
    methods::{Methods, MethodsError, Rule},
};

/// Lets a call pass only if its caller meets the requirement of the method. Puts the caller into the request's
/// extensions.
///
/// Guards a server, one service, or other layers. With grpc-web, a browser's preflight has no credentials, and its
/// calls must be translated before the guard: `.layer(CorsLayer).layer(GrpcWebLayer).layer(this)`.
#[derive(Debug, Clone)]
pub struct RequireAuthorizationLayer(GuardLayer<Authorization>);

/// The service of [`RequireAuthorizationLayer`].
#[derive(Debug, Clone)]
pub struct RequireAuthorization<S>(Guard<S, Authorization>);

/// The gate of [`RequireAuthorizationLayer`].
#[derive(Debug)]
pub struct Authorization {
    verifier: Verifier,
    methods: Methods,
}

/// The guard's finding about an optional caller.
#[derive(Debug, Clone)]
pub(crate) struct Looked(pub(crate) Option<Caller>);

impl RequireAuthorizationLayer {
    /// Guards the wrapped server or service.
    ///
    /// # Errors
    ///
    /// [`MethodsError`] if a method is named twice, or by a name that is not `/package.Service/Method`.
    pub fn new(verifier: Verifier, methods: Methods) -> Result<Self, MethodsError> {
        let methods = methods.checked()?;
        Ok(Self(GuardLayer::new(Authorization { verifier, methods })))
    }
}

impl Authorization {
    /// The finding for the request's extensions; `None` for a public method.
    async fn look(&self, head: &Parts) -> Result<Option<Looked>, AuthError> {
        let fields = head.headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let looked = match self.methods.rule(head.uri.path())? {
            Rule::Public => return Ok(None),
            Rule::Optional => self.verifier.authorize_optional(fields, &Requirement::any_caller()).await?,
            Rule::Required(requirement) => Some(self.verifier.authorize(fields, requirement).await?),
        };
        Ok(Some(Looked(looked)))
    }
}

impl Gate for Authorization {
    type Body = Body;

    fn authorize_now<B>(&self, request: &mut Request<B>) -> bool {
        let Some(Rule::Required(requirement)) = self.methods.find(request.uri().path()) else { return false };
        let fields = request.headers().get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let Some(caller) = self.verifier.authorize_held(fields, requirement) else { return false };
        leave(request.extensions_mut(), Some(Looked(Some(caller))));
        true
    }

    async fn authorize(&self, head: &mut Parts) -> Result<(), Response<Body>> {
        let looked = self.look(head).await;
        let looked = looked.map_err(|error| tonic::Status::from(Rejection(error)).into_http())?;
        leave(&mut head.extensions, looked);
        Ok(())
    }

    fn wrap<B>(body: B) -> Body
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Body::new(body)
    }
}

/// Replaces callers that other layers have put into the extensions: only the result of this guard counts.
fn leave(extensions: &mut http::Extensions, looked: Option<Looked>) {
    extensions.remove::<Caller>();
    extensions.remove::<Looked>();
    let Some(looked) = looked else { return };
    if let Looked(Some(caller)) = &looked {
        extensions.insert(caller.clone());
    }
    extensions.insert(looked);
}

impl<S> Layer<S> for RequireAuthorizationLayer {
    type Service = RequireAuthorization<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireAuthorization(self.0.layer(inner))
    }
}

impl<S: NamedService> NamedService for RequireAuthorization<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for RequireAuthorization<S>
where
    Guard<S, Authorization>: Service<Request<B>>,
{
    type Response = <Guard<S, Authorization> as Service<Request<B>>>::Response;
    type Error = <Guard<S, Authorization> as Service<Request<B>>>::Error;
    type Future = <Guard<S, Authorization> as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request)
    }
}
