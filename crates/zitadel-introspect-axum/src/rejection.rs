//! Converts an error to a response.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use zitadel_introspect::AuthError;

/// An [`AuthError`] as a response. Handlers that call `caller.require(…)` return it with `?`.
///
/// The error is also in the response's extensions, so that outer layers can read it.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct Rejection(#[from] pub AuthError);

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let mut response = self.0.to_response().map(Body::from);
        response.extensions_mut().insert(self.0);
        response
    }
}
