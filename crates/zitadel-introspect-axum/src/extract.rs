//! Extractors: the caller as an argument of a handler.

use std::{fmt, marker::PhantomData, ops::Deref};

use axum::extract::{FromRef, FromRequestParts};
use http::{HeaderValue, header::AUTHORIZATION, request::Parts};
use zitadel_introspect::{AuthError, Caller, RequiredRole, Requirement, Verifier};

use crate::Rejection;

/// A caller with a valid token.
///
/// The state must hold a [`Verifier`]; one that does not, does not compile:
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

/// A caller with a valid token and a role, which stands in the type.
///
/// Derefs to the [`Caller`].
pub struct AuthorizedAs<R> {
    caller: Caller,
    role: PhantomData<fn() -> R>,
}

/// A caller, if the request carries bearer credentials at all.
///
/// `None` only without credentials or with those of another scheme. A token that is malformed, dead or
/// cannot be verified is refused: it is never mistaken for an anonymous caller.
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
        let caller = authorize(parts, state).await?;
        let caller = caller.require(&Requirement::role(R::ROLE)).await?;
        Ok(Self { caller, role: PhantomData })
    }
}

impl<S> FromRequestParts<S> for MaybeAuthorized
where
    Verifier: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        match authorize(parts, state).await {
            Ok(caller) => Ok(Self(Some(caller))),
            Err(error) if error.is_without_credentials() => Ok(Self(None)),
            Err(error) => Err(error.into()),
        }
    }
}

async fn authorize<S>(parts: &Parts, state: &S) -> Result<Caller, AuthError>
where
    Verifier: FromRef<S>,
{
    let verifier = Verifier::from_ref(state);
    if let Some(caller) = parts.extensions.get::<Caller>().filter(|caller| caller.is_of(&verifier)) {
        return Ok(caller.clone()); // the layer has verified this request, with this very verifier
    }
    let fields = parts.headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    verifier.authorize(fields, &Requirement::any_caller()).await
}

impl<R> AuthorizedAs<R> {
    /// The caller, to keep.
    #[must_use]
    pub fn into_caller(self) -> Caller {
        self.caller
    }
}

impl<R> Deref for AuthorizedAs<R> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<R: RequiredRole> fmt::Debug for AuthorizedAs<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AuthorizedAs").field("caller", &self.caller).field("role", &R::ROLE).finish()
    }
}
