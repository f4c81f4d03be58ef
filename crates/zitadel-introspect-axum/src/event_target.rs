//! The route for ZITADEL's webhooks.

use axum::{
    body::{Body, to_bytes},
    http::{HeaderValue, Request},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use zitadel_introspect::{EventTarget, EventTargetError};

/// A POST route that takes ZITADEL's signed webhooks (Actions v2) and evicts what they end.
///
/// The route is public: the signature proves that a call is ZITADEL's. A body of more than 256 KiB is refused.
///
/// ```
/// use axum::Router;
/// use zitadel_introspect_axum::{EventTarget, Verifier, event_target};
///
/// fn app(verifier: &Verifier, signing_key: String) -> Result<Router, zitadel_introspect_axum::ConfigError> {
///     let target = EventTarget::new(verifier, [signing_key])?;
///     Ok(Router::new().route("/zitadel/events", event_target(target)))
/// }
/// ```
pub fn event_target<S: Clone + Send + Sync + 'static>(target: EventTarget) -> MethodRouter<S> {
    post(async move |request: Request<Body>| receive(&target, request).await)
}

async fn receive(target: &EventTarget, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let outcome = match to_bytes(body, EventTarget::MOST_BYTES).await {
        Ok(body) => {
            let fields = head.headers.get_all(EventTarget::SIGNATURE).into_iter();
            let fields: Vec<_> = fields.map(HeaderValue::as_bytes).collect();
            target.receive(fields, &body).await
        }
        Err(_) => Err(EventTargetError::TooLarge),
    };
    match outcome {
        Ok(()) => ().into_response(),
        Err(error) => (error.status(), format!("{error}\n")).into_response(),
    }
}
