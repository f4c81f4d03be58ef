//! The route for ZITADEL's webhooks.

use actix_web::{
    HttpRequest, HttpResponse, Route,
    http::{StatusCode, header::HeaderValue},
    web,
};
use zitadel_introspect::{EventTarget, EventTargetError};

/// A POST route that takes ZITADEL's signed webhooks (Actions v2) and evicts what they end.
///
/// The route is public: the signature proves that a call is ZITADEL's. A body of more than 256 KiB is refused.
///
/// ```
/// use actix_web::{App, web};
/// use zitadel_introspect_actix::{EventTarget, TestTokens, event_target};
///
/// # fn example() -> Result<(), zitadel_introspect_actix::ConfigError> {
/// let target = EventTarget::new(&TestTokens::new().verifier(), ["the signing key of the target"])?;
/// let app = App::new().route("/zitadel/events", event_target(target));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn event_target(target: EventTarget) -> Route {
    web::post().to(move |request: HttpRequest, body: web::Payload| {
        let target = target.clone();
        async move { receive(&target, &request, body).await }
    })
}

async fn receive(target: &EventTarget, request: &HttpRequest, body: web::Payload) -> HttpResponse {
    let outcome = match body.to_bytes_limited(EventTarget::MOST_BYTES).await {
        Ok(Ok(body)) => {
            let fields = request.headers().get_all(EventTarget::SIGNATURE);
            let fields: Vec<_> = fields.map(HeaderValue::as_bytes).collect();
            target.receive(fields, &body).await
        }
        Ok(Err(_)) => Err(EventTargetError::Malformed),
        Err(_) => Err(EventTargetError::TooLarge),
    };
    match outcome {
        Ok(()) => HttpResponse::Ok().finish(),
        Err(error) => {
            let status = StatusCode::from_u16(error.status().as_u16()).unwrap_or(StatusCode::BAD_REQUEST);
            HttpResponse::build(status).body(format!("{error}\n"))
        }
    }
}
