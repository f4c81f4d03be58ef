//! A middleware: a requirement for scopes and whole apps.

use std::{fmt, future::Future, pin::Pin};

use actix_web::{
    Error, HttpMessage,
    body::MessageBody,
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
    http::header::{AUTHORIZATION, HeaderValue},
};
use actix_web_httpauth::middleware::HttpAuthentication;
use zitadel_introspect::{Requirement, Verifier};

use crate::Rejection;

type Authorization = Pin<Box<dyn Future<Output = Result<ServiceRequest, (Error, ServiceRequest)>>>>;
type Authorize = Box<dyn Fn(ServiceRequest, ()) -> Authorization>;

/// Lets only callers through who meet a requirement, and hands them on in the request's extensions.
///
/// Carried by [`HttpAuthentication`], with an extractor that cannot fail: reading the header, verifying and
/// the challenge are this library's.
pub struct RequireAuthorizationLayer(HttpAuthentication<(), Authorize>);

impl RequireAuthorizationLayer {
    /// Guards whatever it is wrapped around.
    #[must_use]
    pub fn new(verifier: Verifier, requirement: Requirement) -> Self {
        let authorize: Authorize = Box::new(move |request, ()| {
            let (verifier, requirement) = (verifier.clone(), requirement.clone());
            Box::pin(async move {
                let fields = request.headers().get_all(AUTHORIZATION).map(HeaderValue::as_bytes);
                match verifier.authorize(fields, &requirement).await {
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
