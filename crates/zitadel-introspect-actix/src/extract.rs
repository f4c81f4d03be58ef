//! Extractors: the caller as an argument of a handler.

use std::{
    fmt,
    future::{Ready, ready},
    ops::Deref,
    pin::Pin,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::header::{AUTHORIZATION, HeaderValue},
    web::Data,
};
use futures_util::future::Either;
use zitadel_introspect::{AuthError, Caller, RequiredRole, Requirement, Verifier, adapter::CallerAs};

use crate::Rejection;

/// `Ready` on a cache hit: a cache hit needs no boxed future.
type Extraction<T> = Either<Ready<Result<T, Rejection>>, Pin<Box<dyn Future<Output = Result<T, Rejection>>>>>;

/// A caller with a valid token.
///
/// The app data must hold a `web::Data<Verifier>`; without it the answer is 500, and the log names the call
/// that is missing.
#[derive(Debug, Clone)]
pub struct Authorized(pub Caller);

/// A caller with a valid token and the role `R`.
///
/// Derefs to the [`Caller`].
pub struct AuthorizedAs<R>(pub CallerAs<R>);

/// A caller, if the request carries bearer credentials at all.
///
/// `None` only if the request has no credentials, or credentials of another scheme. A token that is malformed, inactive
/// or cannot be verified is refused: the request is never treated as anonymous. Use this and not
/// `Option<Authorized>`: for that type actix-web turns *every* error into `None`.
#[derive(Debug, Clone)]
pub struct MaybeAuthorized(pub Option<Caller>);

impl FromRequest for Authorized {
    type Error = Rejection;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        if let Some(caller) = held(request) {
            return Either::Left(ready(Ok(Self(caller))));
        }
        let request = request.clone();
        Either::Right(Box::pin(async move { Ok(Self(authorize(&request).await?)) }))
    }
}

impl<R: RequiredRole> FromRequest for AuthorizedAs<R> {
    type Error = Rejection;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Either::Right(Box::pin(async move {
            let caller = authorize(&request).await?;
            Ok(Self(CallerAs::require(&caller).await?))
        }))
    }
}

impl FromRequest for MaybeAuthorized {
    type Error = Rejection;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Either::Right(Box::pin(async move { Ok(Self(authorize_optional(&request).await?)) }))
    }
}

/// The caller, if it is known already or its verdict is a cache hit; never waits.
fn held(request: &HttpRequest) -> Option<Caller> {
    let verifier = request.app_data::<Data<Verifier>>()?;
    known(request, verifier).or_else(|| verifier.authorize_held(fields(request), &Requirement::any_caller()))
}

async fn authorize(request: &HttpRequest) -> Result<Caller, AuthError> {
    let verifier = verifier(request)?;
    match known(request, verifier) {
        Some(caller) => Ok(caller),
        None => verifier.authorize(fields(request), &Requirement::any_caller()).await,
    }
}

async fn authorize_optional(request: &HttpRequest) -> Result<Option<Caller>, AuthError> {
    let verifier = verifier(request)?;
    match known(request, verifier) {
        Some(caller) => Ok(Some(caller)),
        None => verifier.authorize_optional(fields(request), &Requirement::any_caller()).await,
    }
}

fn verifier(request: &HttpRequest) -> Result<&Verifier, AuthError> {
    let data = request.app_data::<Data<Verifier>>();
    data.map(Data::get_ref)
        .ok_or_else(|| AuthError::miswired("call `App::app_data(web::Data::new(verifier.clone()))`"))
}

/// The caller that the middleware has verified with the same verifier.
fn known(request: &HttpRequest, verifier: &Verifier) -> Option<Caller> {
    request.extensions().get::<Caller>().filter(|caller| verifier.has_verified(caller)).cloned()
}

fn fields(request: &HttpRequest) -> impl Iterator<Item = &[u8]> {
    request.headers().get_all(AUTHORIZATION).map(HeaderValue::as_bytes)
}

impl Deref for Authorized {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}

impl<R> Deref for AuthorizedAs<R> {
    type Target = CallerAs<R>;

    fn deref(&self) -> &CallerAs<R> {
        &self.0
    }
}

impl<R: RequiredRole> fmt::Debug for AuthorizedAs<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<R> AuthorizedAs<R> {
    /// Returns the [`Caller`].
    pub fn into_caller(self) -> Caller {
        self.0.into_caller()
    }
}
