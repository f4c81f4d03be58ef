//! Each request for an operator: an id, one line in the log, and numbers.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use http::{HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use tonic::Code;
use tracing::{Instrument, Span, field::Empty};
use zitadel_introspect_axum::Caller;

use crate::methods;

/// The path that load balancers ask every few seconds.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request an id (a proxy's id, if it is valid), and logs and counts the request when it is answered.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(&request);
    let (method, path) = (method(request.method()), request.uri().path().to_owned());
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let matched = matched.filter(|path| !path.contains('*'));
    let route = methods::known(&path).or(matched).unwrap_or("other").to_owned();
    let span = tracing::info_span!(
        "request",
        request_id = id.to_str().unwrap_or_default(),
        method,
        path,
        user_id = Empty,
        organization_id = Empty,
        actor_id = Empty
    );
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, took) = (status(&response), began.elapsed());
    let milliseconds = took.as_secs_f64() * 1e3;
    span.in_scope(|| match &*route {
        // Orchestrators ask for these every few seconds.
        "/api/healthz" | "/readyz" | HEALTH => tracing::debug!(status, milliseconds, "answered"),
        _ => tracing::info!(status, milliseconds, "answered"),
    });
    metrics::histogram!("task_api_request_seconds", "route" => route.clone()).record(took);
    let labels = [("method", method.to_owned()), ("route", route), ("status", status)];
    metrics::counter!("task_api_requests_total", &labels).increment(1);
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Runs behind the guard: adds the caller to the request's log span.
pub(crate) async fn name_caller(request: Request, next: Next) -> Response {
    if let Some(caller) = request.extensions().get::<Caller>() {
        let claims = caller.claims();
        let span = Span::current();
        span.record("user_id", claims.subject());
        span.record("organization_id", claims.organization_id());
        // Set if somebody else acts for the user.
        span.record("actor_id", claims.actor().map(|actor| actor_name(&actor)));
    }
    next.run(request).await
}

/// The user id of an impersonator, or `unnamed`.
pub(crate) fn actor_name(actor: &serde_json::Value) -> String {
    actor.get("sub").and_then(serde_json::Value::as_str).map_or_else(|| "unnamed".to_owned(), str::to_owned)
}

/// The HTTP status, or the gRPC code. The final code of a gRPC stream is in its trailers and not visible here.
fn status(response: &Response) -> String {
    let media_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !media_type.starts_with(b"application/grpc") {
        return response.status().as_u16().to_string();
    }
    let code =
        response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    format!("{code:?}")
}

/// A given id is used only if it cannot forge a log line and has at most 64 bytes; otherwise the id is new.
fn request_id(request: &Request) -> HeaderValue {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let given = request.headers().get(REQUEST_ID);
    let usable = given.filter(|id| (1..=64).contains(&id.len()) && id.as_bytes().iter().all(is_plain));
    usable.cloned().unwrap_or_else(new_id)
}

/// Unique in this process, and very likely unique among processes.
fn new_id() -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = format!("{:016x}-{:x}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
    HeaderValue::try_from(id).expect("hexadecimal digits")
}

/// A fixed set of method names: metrics keep each label value for ever, and callers can send any method.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
