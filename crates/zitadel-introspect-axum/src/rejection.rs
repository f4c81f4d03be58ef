//! An error on its way out.

use std::{error::Error, fmt};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use zitadel_introspect::AuthError;

/// An [`AuthError`] as a response. Handlers that call `caller.require(…)` return it with `?`.
///
/// The error rides in the response's extensions, so that outer layers can see it.
#[derive(Debug, Clone)]
pub struct Rejection(pub AuthError);

impl From<AuthError> for Rejection {
    fn from(error: AuthError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let mut response = self.0.to_response().map(Body::from);
        response.extensions_mut().insert(self.0);
        response
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
