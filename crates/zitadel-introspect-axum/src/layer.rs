//! A tower layer: a requirement for whole routers.

use std::{fmt, sync::Arc};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{FromRequestParts, RawPathParams, rejection::RawPathParamsRejection},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, header::AUTHORIZATION, request::Parts};
use tower_layer::Layer;
use zitadel_introspect::{AuthError, Caller, Requirement, Role, Verifier};
use zitadel_introspect_tower::{BoxError, Gate, Guard, GuardLayer};

use crate::Rejection;

/// Lets a request pass only if its caller meets the requirement. Puts the [`Caller`](crate::Caller) into the request's
/// extensions.
///
/// Guards any service: a router, a `ServeDir`, other layers of tower-http. Put `CorsLayer` (it answers preflight
/// requests) and `TraceLayer` (it sees each answer) outside of this layer; see the page
/// `docs/choosing-an-adapter.md`, "Order of layers".
#[derive(Debug, Clone)]
pub struct RequireAuthorizationLayer(GuardLayer<Authorization>);

/// The service of [`RequireAuthorizationLayer`].
pub type RequireAuthorization<S> = Guard<S, Authorization>;

/// The gate of [`RequireAuthorizationLayer`].
#[derive(Debug)]
pub struct Authorization {
    verifier: Verifier,
    requirement: Wanted,
}

type FromHead = dyn Fn(&Parts) -> Option<Requirement> + Send + Sync;

/// Where the requirement comes from.
enum Wanted {
    Always(Requirement),
    FromHead(Arc<FromHead>),
}

impl RequireAuthorizationLayer {
    /// Guards the wrapped service by one requirement.
    #[must_use]
    pub fn new(verifier: Verifier, requirement: Requirement) -> Self {
        Self::with(verifier, Wanted::Always(requirement))
    }

    /// Guards a router by a requirement that depends on each request's head. If the function returns `None`, the
    /// request is denied: the answer is 500, and an error is logged.
    #[must_use]
    pub fn from_request(
        verifier: Verifier,
        requirement: impl Fn(&Parts) -> Option<Requirement> + Send + Sync + 'static,
    ) -> Self {
        Self::with(verifier, Wanted::FromHead(Arc::new(requirement)))
    }

    /// Guards a router by a requirement that is computed from a path parameter, such as an organization:
    ///
    /// ```
    /// # use axum::{Router, routing::get};
    /// # use zitadel_introspect_axum::{RequireAuthorizationLayer, Requirement, Verifier};
    /// # fn example(verifier: Verifier) -> Router<Verifier> {
    /// let editors = RequireAuthorizationLayer::from_path(verifier, "organization", |id| {
    ///     Requirement::role("editor").in_organization(id)
    /// });
    /// let reports = Router::new().route("/reports", get(async || "reports")).route_layer(editors);
    /// Router::new().nest("/organizations/{organization}", reports)
    /// # }
    /// ```
    ///
    /// A route without that parameter is answered with 500 and a log line.
    #[must_use]
    pub fn from_path(
        verifier: Verifier,
        parameter: &str,
        requirement: impl Fn(&str) -> Requirement + Send + Sync + 'static,
    ) -> Self {
        let parameter = parameter.to_owned();
        Self::from_request(verifier, move |head| {
            let mut head = head.clone();
            let parameters = match RawPathParams::from_request_parts(&mut head, &()).now_or_never()? {
                Ok(parameters) => parameters,
                // Bytes that are no text name nothing that anybody has a role in.
                Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) => {
                    return Some(Requirement::any_role(Vec::<Role>::new()));
                }
                Err(_) => return None,
            };
            let value = parameters.iter().find_map(|(name, value)| (name == parameter).then_some(value))?;
            Some(requirement(value))
        })
    }

    fn with(verifier: Verifier, requirement: Wanted) -> Self {
        Self(GuardLayer::new(Authorization { verifier, requirement }))
    }
}

impl<S> Layer<S> for RequireAuthorizationLayer {
    type Service = RequireAuthorization<S>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(inner)
    }
}

impl Gate for Authorization {
    type Body = Body;

    fn authorize_now<B>(&self, request: &mut Request<B>) -> bool {
        let Wanted::Always(requirement) = &self.requirement else { return false };
        let caller = self.verifier.authorize_held(fields(request.headers()), requirement);
        let is_let_in = caller.is_some();
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        is_let_in
    }

    async fn authorize(&self, head: &mut Parts) -> Result<(), Response> {
        let caller = self.caller(head).await.map_err(|error| Rejection(error).into_response())?;
        head.extensions.insert(caller);
        Ok(())
    }

    fn wrap<B>(body: B) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Body::new(body)
    }
}

impl Authorization {
    async fn caller(&self, head: &Parts) -> Result<Caller, AuthError> {
        let from_head;
        let requirement = match &self.requirement {
            Wanted::Always(requirement) => requirement,
            Wanted::FromHead(read) => {
                from_head = read(head).ok_or_else(|| AuthError::miswired(NO_REQUIREMENT))?;
                &from_head
            }
        };
        self.verifier.authorize(fields(&head.headers), requirement).await
    }
}

const NO_REQUIREMENT: &str =
    "the layer found no requirement in a request: put it on routes whose path has the parameter";

fn fields(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes)
}

impl fmt::Debug for Wanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(requirement) => requirement.fmt(formatter),
            Self::FromHead(_) => formatter.write_str("from each request"),
        }
    }
}
