//! Converts an error to a status.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use zitadel_introspect::AuthError;

/// The domain of the reasons (`google.rpc.ErrorInfo`).
const DOMAIN: &str = "zitadel-introspect";

/// An [`AuthError`] as a status. Handlers that call `caller.require(…)` return it by `.map_err(Rejection)?`.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct Rejection(#[from] pub AuthError);

impl From<Rejection> for Status {
    fn from(Rejection(error): Rejection) -> Self {
        let metadata: HashMap<_, _> =
            error.missing_scope().map(|scope| ("scope".to_owned(), scope)).into_iter().collect();
        let mut details = ErrorDetails::with_error_info(error.reason_word(), DOMAIN, metadata);
        if let Some(delay) = error.retry_after() {
            details.set_retry_info(Some(delay));
        }
        Self::with_error_details(Code::from_i32(error.grpc_code()), error.to_string(), details)
    }
}
