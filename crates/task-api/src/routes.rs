//! The routes on axum: which guard stands where.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{FromRef, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{MethodRouter, get, post},
};
use http::{
    HeaderValue, Method, StatusCode, Uri,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_TYPE, LINK, RETRY_AFTER, TRANSFER_ENCODING, WWW_AUTHENTICATE,
    },
};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower_http::{catch_panic::CatchPanicLayer, cors::CorsLayer};
use zitadel_introspect_axum::{Authorized, RequireAuthorizationLayer, Requirement, Verifier};

use crate::{
    limits::Limits,
    observe::{REQUEST_ID, name_caller, observe},
    openapi::{self, NewTask, Refusals, Tasks},
    options::Options,
    readiness::{Readiness, Ready},
    store::Store,
    tasks::{self, BODY_TIMEOUT, MAX_BODY_BYTES},
};

/// How long a browser need not ask again whether it may ask.
const PREFLIGHT_HOLDS: Duration = Duration::from_hours(1);

/// Beyond the limits of its parts: a verdict (5 s), a body (15 s), the store (10 s).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// What the handlers need.
#[derive(Debug, Clone, FromRef)]
pub struct AppState {
    /// Verifies tokens.
    pub verifier: Verifier,
    /// Keeps tasks.
    pub store: Arc<dyn Store>,
    /// Knows what is missing.
    pub readiness: Arc<Readiness>,
}

impl AppState {
    /// The state of a server.
    #[must_use]
    pub fn new(verifier: Verifier, store: Arc<dyn Store>) -> Self {
        let readiness = Arc::new(Readiness::new(verifier.clone(), Arc::clone(&store)));
        Self { verifier, store, readiness }
    }
}

/// The whole API. Each guarded route has one guard around all its methods, so that a wrong method is told
/// to those who may know. What is public is not limited: an orchestrator must not be refused because callers crowd.
pub fn router(state: AppState, limits: &Limits, options: &Options) -> Router {
    let guard = |requirement| RequireAuthorizationLayer::new(state.verifier.clone(), requirement);
    let (any_caller, admin) = (guard(Requirement::any_caller()), guard(tasks::add_requirement(options)));
    let guarded = Router::new()
        .route("/api/tasks", named(get(list)).layer(any_caller))
        .route("/api/add-task", named(post(add)).layer(admin));
    let readiness = Arc::clone(&state.readiness);
    let routes = Router::new()
        .route("/api/openapi.json", closed(get(async || respond(openapi::document()))))
        .route("/docs", closed(get(async || Redirect::permanent("/docs/").into_response())))
        .route("/docs/", closed(get(async || respond(openapi::page("")))))
        .route("/docs/{*path}", closed(get(page)))
        .merge(limits.around(guarded, REQUEST_TIMEOUT))
        .with_state(state)
        .merge(health(readiness))
        .fallback(async || respond(tasks::refusal(StatusCode::NOT_FOUND)));
    // Before the guards: a browser asks without credentials whether it may ask.
    let routes = if options.cors_origins.is_empty() { routes } else { routes.layer(cors(options)) };
    routes
        .layer(middleware::from_fn(refuse_unknown_codings))
        .layer(CatchPanicLayer::custom(|_| respond(tasks::refusal(StatusCode::INTERNAL_SERVER_ERROR))))
        .layer(middleware::from_fn(observe))
}

/// What an orchestrator asks.
pub(crate) fn health(readiness: Arc<Readiness>) -> Router {
    Router::new()
        .route("/api/healthz", closed(get(healthz)))
        .route("/readyz", closed(get(readyz)))
        .with_state(readiness)
}

/// Lets pages of some origins call the API, and read what clients need of an answer's head.
fn cors(options: &Options) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(options.cors_origins.clone())
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, REQUEST_ID])
        .expose_headers([WWW_AUTHENTICATE, RETRY_AFTER, LINK, REQUEST_ID])
        .max_age(PREFLIGHT_HOLDS)
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
fn closed<S: Clone + Send + Sync + 'static>(methods: MethodRouter<S>) -> MethodRouter<S> {
    methods.fallback(async || respond(tasks::refusal(StatusCode::METHOD_NOT_ALLOWED)))
}

/// What stands behind a guard: who was let in stands in the log.
fn named(methods: MethodRouter<AppState>) -> MethodRouter<AppState> {
    closed(methods).layer(middleware::from_fn(name_caller))
}

async fn page(uri: Uri) -> Response {
    respond(openapi::page(uri.path().trim_start_matches("/docs/")))
}

/// That the process lives.
///
/// Says nothing of issuer or database, and ignores credentials.
#[utoipa::path(
    get,
    path = "/api/healthz",
    operation_id = "healthz",
    tag = "tasks",
    responses(
        (status = 200, body = String, content_type = "application/json", description = "It does", example = json!("OK")),
        (status = 431, description = "The head of the request is too large")
    )
)]
pub(crate) async fn healthz() -> Response {
    respond(tasks::healthz())
}

/// Whether requests are worth sending here.
///
/// Asks the database and, where no caller has done so lately, the issuer; an answer serves for two seconds.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "operations",
    responses(
        (status = 200, body = Ready, description = "They are", example = json!({"ready": true, "missing": []})),
        (status = 431, description = "The head of the request is too large"),
        (
            status = 503, body = Ready, description = "What is missing",
            example = json!({"ready": false, "missing": ["database"]})
        )
    )
)]
pub(crate) async fn readyz(State(readiness): State<Arc<Readiness>>) -> Response {
    respond(tasks::readyz(&readiness).await)
}

/// The tasks, oldest first.
///
/// Needs any valid token. Without `limit` and `after` the whole list; with one of them a page of it.
#[utoipa::path(
    get,
    path = "/api/tasks",
    operation_id = "listTasks",
    tag = "tasks",
    security(("bearer" = [])),
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The longest page; 100 unless given"),
        ("after" = Option<u64>, Query, maximum = 9_223_372_036_854_775_807_u64, description = "Where to read on, from a `Link` header")
    ),
    responses(
        (
            status = 200, body = Tasks, description = "The tasks",
            headers(("Link" = String, description = "`<…>; rel=\"next\"` leads to the next page, where there is one. \
                A page ends early when it has grown beyond 1 MiB."))
        ),
        (
            status = 400, body = String, content_type = "text/plain; charset=utf-8",
            description = "A page that cannot be, or more than one `Authorization` header",
            example = json!("bad request: limit must be a number from 1 to 1000\n")
        ),
        Refusals
    )
)]
pub(crate) async fn list(
    State(store): State<Arc<dyn Store>>,
    Authorized(caller): Authorized,
    uri: Uri,
) -> Response {
    respond(tasks::list(&store, &caller, uri.query()).await)
}

/// Adds a task.
///
/// Needs the role `admin`. The task comes in the body, else in the query; an answer of 200 means that it is on disk.
/// After 503 it may have been kept all the same.
#[utoipa::path(
    post,
    path = "/api/add-task",
    operation_id = "addTask",
    tag = "tasks",
    security(("bearer" = ["admin"])),
    params(("task" = Option<String>, Query, description = "The task, where the body has none")),
    request_body(content(
        (NewTask = "application/x-www-form-urlencoded"),
        (NewTask = "application/json"),
        (NewTask = "multipart/form-data")
    )),
    responses(
        (
            status = 200, body = String, content_type = "application/json", description = "It is on disk",
            example = json!("task `My new task` added")
        ),
        (
            status = 400, description = "An empty task, a body that cannot be read, or more than one `Authorization` header",
            content((String = "application/json"), (String = "text/plain; charset=utf-8"))
        ),
        (
            status = 403, body = String, content_type = "text/plain; charset=utf-8", description = "A caller without the role",
            headers(("WWW-Authenticate" = String, description = "The challenge (RFC 6750)")),
            example = json!("permission denied: missing required role: `admin`\n")
        ),
        (
            status = 408, body = String, content_type = "text/plain; charset=utf-8", description = "The body took longer than 15 s",
            example = json!("request timeout\n")
        ),
        (
            status = 413, body = String, content_type = "text/plain; charset=utf-8", description = "The body is longer than 64 KiB",
            example = json!("payload too large\n")
        ),
        (
            status = 415, body = String, content_type = "text/plain; charset=utf-8", description = "Another body than a form or JSON",
            example = json!("unsupported media type\n")
        ),
        Refusals
    )
)]
pub(crate) async fn add(
    State(store): State<Arc<dyn Store>>,
    Authorized(caller): Authorized,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let body = match read(body).await {
        Ok(body) => body,
        Err(status) => return respond(tasks::refusal(status)),
    };
    let header = |name| head.headers.get(name).map(HeaderValue::as_bytes);
    respond(tasks::add(store.as_ref(), &caller, header, body, head.uri.query()).await)
}

async fn read(body: Body) -> Result<Bytes, StatusCode> {
    // A length that is announced need not be waited for.
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let limited = Limited::new(body, MAX_BODY_BYTES).collect();
    match tokio::time::timeout(BODY_TIMEOUT, limited).await {
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

pub(crate) fn respond(response: http::Response<tasks::Body>) -> Response {
    response.map(|body| match body {
        tasks::Body::Whole(body) => Body::from(body),
        tasks::Body::Stream(stream) => Body::from_stream(stream),
    })
}
