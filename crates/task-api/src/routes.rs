//! The routes on axum: which guard stands where.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{FromRef, Request, State},
    middleware::{self, Next},
    response::Response,
    routing::{MethodRouter, get, post},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, TRANSFER_ENCODING},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower_http::catch_panic::CatchPanicLayer;
use zitadel_introspect_axum::{Authorized, RequireAuthorizationLayer, Requirement, Verifier};

use crate::{store::Store, tasks};

/// The longest body that is read, and the longest that reading it may take.
const MAX_BODY_BYTES: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone, FromRef)]
struct AppState {
    store: Arc<Store>,
    verifier: Verifier,
}

/// The whole API. Each guarded route has one guard around all its methods, so that a wrong method is told
/// to those who may know.
pub fn router(verifier: Verifier, store: Arc<Store>) -> Router {
    let any_caller = RequireAuthorizationLayer::new(verifier.clone(), Requirement::any_caller());
    let admin = RequireAuthorizationLayer::new(verifier.clone(), tasks::add_requirement());
    Router::new()
        .route("/api/healthz", closed(get(healthz)))
        .route("/api/tasks", closed(get(list)).layer(any_caller))
        .route("/api/add-task", closed(post(add)).layer(admin))
        .fallback(async || respond(tasks::refusal(StatusCode::NOT_FOUND)))
        .layer(middleware::from_fn(refuse_unknown_codings))
        .layer(CatchPanicLayer::custom(|_| respond(tasks::refusal(StatusCode::INTERNAL_SERVER_ERROR))))
        .with_state(AppState { store, verifier })
}

/// hyper takes any list of transfer codings that ends in `chunked`, and decodes that one alone. What another
/// server on the way makes of such a body is anybody's guess: the connection ends.
async fn refuse_unknown_codings(request: Request, next: Next) -> Response {
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let is_known = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    };
    if is_known {
        return next.run(request).await;
    }
    let mut response = respond(tasks::refusal(StatusCode::BAD_REQUEST));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Other methods are refused, with an `Allow` that axum adds.
fn closed(methods: MethodRouter<AppState>) -> MethodRouter<AppState> {
    methods.fallback(async || respond(tasks::refusal(StatusCode::METHOD_NOT_ALLOWED)))
}

async fn healthz() -> Response {
    respond(tasks::healthz())
}

async fn list(State(store): State<Arc<Store>>, Authorized(caller): Authorized) -> Response {
    respond(tasks::list(&store, &caller))
}

async fn add(State(store): State<Arc<Store>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if head.headers.contains_key(CONTENT_ENCODING) {
        return respond(tasks::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err(status) => return respond(tasks::refusal(status)),
    };
    let content_type = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    respond(tasks::add(&store, content_type, &body, head.uri.query()))
}

async fn read(body: Body) -> Result<Bytes, StatusCode> {
    let limited = Limited::new(body, MAX_BODY_BYTES).collect();
    match tokio::time::timeout(BODY_TIMEOUT, limited).await {
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

fn respond(response: http::Response<String>) -> Response {
    response.map(Body::from)
}
