//! The route of the API's protected resource metadata (RFC 9728).

use axum::{Router, body::Body, routing::get};
use zitadel_introspect::Verifier;

/// The route `/.well-known/oauth-protected-resource`, public, for GET and HEAD.
///
/// It serves the values that were set by [`VerifierBuilder::resource`](crate::VerifierBuilder::resource).
/// Merge it at the root of the app.
pub fn protected_resource_metadata<S: Clone + Send + Sync + 'static>(verifier: &Verifier) -> Router<S> {
    let metadata = verifier.resource_metadata();
    let path = metadata.path().to_owned();
    Router::new().route(&path, get(async move || metadata.to_response().map(Body::from)))
}
