//! Extractors: the caller as an argument of a handler.

use std::{fmt, ops::Deref};

use axum::extract::{FromRef, FromRequestParts, OptionalFromRequestParts};
use http::{HeaderValue, header::AUTHORIZATION, request::Parts};
use zitadel_introspect::{AuthError, Caller, RequiredRole, Requirement, Verifier, adapter::CallerAs};

use crate::Rejection;

/// A caller with a valid token.
///
/// The state must hold a [`Verifier`]. A program whose state holds no verifier does not compile:
///
/// ```compile_fail
/// use axum::{Router, routing::get};
/// use zitadel_introspect_axum::Authorized;
///
/// async fn hello(_: Authorized) {}
///
/// let app: Router = Router::new().route("/", get(hello)).with_state(());
/// ```
#[derive(Debug, Clone)]
pub struct Authorized(pub Caller);

/// A caller with a valid token and the role `R`.
///
/// Derefs to the [`Caller`].
pub struct AuthorizedAs<R>(pub CallerAs<R>);

/// A caller, if the request carries bearer credentials at all.
///
/// `None` only if the request has no credentials, or credentials of another scheme. A token that is malformed, inactive
/// or cannot be verified is refused: such a caller never counts as anonymous.
#[derive(Debug, Clone)]
pub struct MaybeAuthorized(pub Option<Caller>);

impl<S> FromRequestParts<S> for Authorized
where
    Verifier: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        Ok(Self(authorize(parts, state).await?))
    }
}

impl<S, R> FromRequestParts<S> for AuthorizedAs<R>
where
    Verifier: FromRef<S>,
    S: Send + Sync,
    R: RequiredRole,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        Ok(Self(CallerAs::require(&authorize(parts, state).await?).await?))
    }
}

impl<S> FromRequestParts<S> for MaybeAuthorized
where
    Verifier: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        Ok(Self(authorize_optional(parts, state).await?))
    }
}

/// `Option<Authorized>` works like [`MaybeAuthorized`].
impl<S> OptionalFromRequestParts<S> for Authorized
where
    Verifier: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Rejection> {
        Ok(authorize_optional(parts, state).await?.map(Self))
    }
}

/// `Option<AuthorizedAs<R>>`: `None` only without credentials; a caller without the role is refused.
impl<S, R> OptionalFromRequestParts<S> for AuthorizedAs<R>
where
    Verifier: FromRef<S>,
    S: Send + Sync,
    R: RequiredRole,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Rejection> {
        let Some(caller) = authorize_optional(parts, state).await? else { return Ok(None) };
        Ok(Some(Self(CallerAs::require(&caller).await?)))
    }
}

async fn authorize<S>(parts: &Parts, state: &S) -> Result<Caller, AuthError>
where
    Verifier: FromRef<S>,
{
    let verifier = Verifier::from_ref(state);
    match known(parts, &verifier) {
        Some(caller) => Ok(caller),
        None => verifier.authorize(fields(parts), &Requirement::any_caller()).await,
    }
}

async fn authorize_optional<S>(parts: &Parts, state: &S) -> Result<Option<Caller>, AuthError>
where
    Verifier: FromRef<S>,
{
    let verifier = Verifier::from_ref(state);
    match known(parts, &verifier) {
        Some(caller) => Ok(Some(caller)),
        None => verifier.authorize_optional(fields(parts), &Requirement::any_caller()).await,
    }
}

/// The caller that a layer has verified with the same verifier.
fn known(parts: &Parts, verifier: &Verifier) -> Option<Caller> {
    parts.extensions.get::<Caller>().filter(|caller| verifier.has_verified(caller)).cloned()
}

fn fields(parts: &Parts) -> impl Iterator<Item = &[u8]> {
    parts.headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes)
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
