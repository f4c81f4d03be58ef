//! The caller of a request, in a handler.

use std::{fmt, ops::Deref};

use tonic::Request;
use zitadel_introspect::{AuthError, Caller, RequiredRole, Requirement, adapter::CallerAs};

use crate::{Rejection, layer::Looked};

const NO_LAYER: &str =
    "put RequireAuthorizationLayer on the server, and name the method in Methods by require(…)";
const NOT_OPTIONAL: &str =
    "put RequireAuthorizationLayer on the server, and name the method in Methods by optional(…)";

/// A caller with a valid token.
#[derive(Debug, Clone)]
pub struct Authorized(pub Caller);

/// A caller with a valid token and the role `R`.
///
/// Derefs to the [`Caller`].
pub struct AuthorizedAs<R>(pub CallerAs<R>);

/// A caller, if the request carries bearer credentials at all. For methods that are named by
/// [`Methods::optional`](crate::Methods::optional).
///
/// `None` only if the request has no credentials, or credentials of another scheme. A token that is malformed, inactive
/// or cannot be verified is refused: the request is never treated as anonymous.
#[derive(Debug, Clone)]
pub struct MaybeAuthorized(pub Option<Caller>);

impl Authorized {
    /// The caller that the layer has verified.
    ///
    /// # Errors
    ///
    /// `INTERNAL`, with a log line that says what to do, if there is no layer or the method is public.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Rejection> {
        match request.extensions().get::<Looked>() {
            Some(Looked(Some(caller))) => Ok(Self(caller.clone())),
            _ => Err(AuthError::miswired(NO_LAYER).into()),
        }
    }
}

impl Authorized {
    /// As [`Caller::require`]; `?` converts the error into a `Status`.
    ///
    /// # Errors
    ///
    /// As [`Caller::require`].
    pub async fn require(&self, requirement: &Requirement) -> Result<Self, Rejection> {
        Ok(Self(self.0.require(requirement).await?))
    }
}

/// Replaces the layer in a test of a handler: inserts the caller, or `None` for a call without credentials.
#[cfg(feature = "test-util")]
pub fn let_in<T>(request: &mut Request<T>, caller: Option<Caller>) {
    request.extensions_mut().insert(Looked(caller));
}

impl<R: RequiredRole> AuthorizedAs<R> {
    /// The caller that the layer has verified, if the caller has the role.
    ///
    /// # Errors
    ///
    /// As [`Authorized::of`], and as [`Caller::require`] for the role. The returned future does not borrow the request.
    pub fn of<T>(request: &Request<T>) -> impl Future<Output = Result<Self, Rejection>> + Send + use<R, T> {
        let caller = Authorized::of(request);
        async move {
            let Authorized(caller) = caller?;
            Ok(Self(CallerAs::require(&caller).await?))
        }
    }
}

impl MaybeAuthorized {
    /// The caller, if the request has credentials.
    ///
    /// # Errors
    ///
    /// `INTERNAL`, with a log line that says what to do, if no layer guards the method, or the method is public.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Rejection> {
        match request.extensions().get::<Looked>() {
            Some(Looked(caller)) => Ok(Self(caller.clone())),
            None => Err(AuthError::miswired(NOT_OPTIONAL).into()),
        }
    }
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
