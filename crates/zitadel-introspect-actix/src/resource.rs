//! The route of the API's protected resource metadata (RFC 9728).

use actix_web::{Resource, web};
use zitadel_introspect::Verifier;

use crate::rejection::to_actix;

/// The route `/.well-known/oauth-protected-resource`, public, for GET and HEAD.
///
/// It serves the values that were set by [`VerifierBuilder::resource`](crate::VerifierBuilder::resource).
/// Register it at the root of the app.
#[must_use]
pub fn protected_resource_metadata(verifier: &Verifier) -> Resource {
    let metadata = verifier.resource_metadata();
    let path = metadata.path().to_owned();
    let describe = move || {
        let answer = metadata.to_response();
        async move { to_actix(answer) }
    };
    web::resource(path).route(web::get().to(describe.clone())).route(web::head().to(describe))
}
