//! Converts an error to a response.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header::HeaderValue},
};
use zitadel_introspect::AuthError;

/// An [`AuthError`] as a response. Handlers that call `caller.require(…)` return it with `?`.
///
/// The error is also in the response's extensions, so that outer middleware can read it.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct Rejection(#[from] pub AuthError);

impl ResponseError for Rejection {
    fn status_code(&self) -> StatusCode {
        status(self.0.status())
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = to_actix(self.0.to_response());
        response.extensions_mut().insert(self.0.clone());
        response
    }
}

/// Converts a response to the older `http` types of actix-web.
pub(crate) fn to_actix(answer: ::http::Response<String>) -> HttpResponse {
    let (head, body) = answer.into_parts();
    let mut response = HttpResponse::build(status(head.status));
    for (name, value) in &head.headers {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            response.insert_header((name.as_str(), value));
        }
    }
    response.body(body)
}

fn status(status: ::http::StatusCode) -> StatusCode {
    StatusCode::from_u16(status.as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
