//! A middleware: a requirement for scopes and whole apps.

use std::{fmt, future::Future, pin::Pin};

use actix_web::{
    Error, HttpMessage,
    body::MessageBody,
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
    http::header::{AUTHORIZATION, HeaderValue},
};
use actix_web_httpauth::middleware::HttpAuthentication;
use zitadel_introspect::{AuthError, Requirement, Verifier};

use crate::Rejection;

type Authorization = Pin<Box<dyn Future<Output = Result<ServiceRequest, (Error, ServiceRequest)>>>>;
type Authorize = Box<dyn Fn(ServiceRequest, ()) -> Authorization>;

const NO_REQUIREMENT: &str =
    "the middleware found no requirement in a request: wrap it around a scope whose path has the parameter";

/// Lets a request pass only if its caller meets the requirement. Puts the caller into the request's extensions.
///
/// Uses [`HttpAuthentication`] with an extractor that cannot fail. This library reads the header, verifies the token
/// and sets the challenge.
pub struct RequireAuthorizationLayer(HttpAuthentication<(), Authorize>);

impl RequireAuthorizationLayer {
    /// Guards the wrapped scope or app by one requirement.
    #[must_use]
    pub fn new(verifier: Verifier, requirement: Requirement) -> Self {
        Self::from_request(verifier, move |_| Some(requirement.clone()))
    }

    /// Guards a scope by a requirement that depends on each request. If the function returns `None`, the request is
    /// denied: the answer is 500, and an error is logged.
    #[must_use]
    pub fn from_request(
        verifier: Verifier,
        requirement: impl Fn(&ServiceRequest) -> Option<Requirement> + 'static,
    ) -> Self {
        let authorize: Authorize = Box::new(move |request, ()| {
            let verifier = verifier.clone();
            let requirement = requirement(&request).ok_or_else(|| AuthError::miswired(NO_REQUIREMENT));
            Box::pin(async move {
                let fields = request.headers().get_all(AUTHORIZATION).map(HeaderValue::as_bytes);
                let authorized = match &requirement {
                    Ok(requirement) => verifier.authorize(fields, requirement).await,
                    Err(error) => Err(error.clone()),
                };
                match authorized {
                    Ok(caller) => {
                        request.extensions_mut().insert(caller);
                        Ok(request)
                    }
                    Err(error) => Err((Rejection(error).into(), request)),
                }
            })
        });
        Self(HttpAuthentication::with_fn(authorize))
    }

    /// Guards a scope by a requirement that is computed from a path parameter, such as an organization:
    ///
    /// ```
    /// # use actix_web::web;
    /// # use zitadel_introspect_actix::{RequireAuthorizationLayer, Requirement, Verifier};
    /// # fn example(verifier: Verifier) -> impl actix_web::dev::HttpServiceFactory {
    /// let editors = RequireAuthorizationLayer::from_path(verifier, "organization", |id| {
    ///     Requirement::role("editor").in_organization(id)
    /// });
    /// web::scope("/organizations/{organization}")
    ///     .wrap(editors)
    ///     .route("/reports", web::get().to(async || "reports"))
    /// # }
    /// ```
    ///
    /// A scope without that parameter is answered with 500 and a log line.
    #[must_use]
    pub fn from_path(
        verifier: Verifier,
        parameter: &str,
        requirement: impl Fn(&str) -> Requirement + 'static,
    ) -> Self {
        let parameter = parameter.to_owned();
        Self::from_request(verifier, move |request| request.match_info().get(&parameter).map(&requirement))
    }
}

impl<S, B> Transform<S, ServiceRequest> for RequireAuthorizationLayer
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = <HttpAuthentication<(), Authorize> as Transform<S, ServiceRequest>>::Response;
    type Error = Error;
    type Transform = <HttpAuthentication<(), Authorize> as Transform<S, ServiceRequest>>::Transform;
    type InitError = ();
    type Future = <HttpAuthentication<(), Authorize> as Transform<S, ServiceRequest>>::Future;

    fn new_transform(&self, service: S) -> Self::Future {
        self.0.new_transform(service)
    }
}

impl fmt::Debug for RequireAuthorizationLayer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RequireAuthorizationLayer").finish_non_exhaustive()
    }
}
