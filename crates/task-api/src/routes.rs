//! The axum routes, and the guard of each.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{FromRef, Request},
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
use tower_http::{catch_panic::CatchPanicLayer, cors::CorsLayer};
use zitadel_introspect_axum::{EventTarget, RequireAuthorizationLayer, Requirement, Verifier, event_target};

use crate::{
    answer::respond,
    handlers::{add, healthz, list, readyz},
    limits::Limits,
    observe::{REQUEST_ID, name_caller, observe},
    openapi,
    options::Options,
    readiness::Readiness,
    store::Store,
    tasks,
};

/// How long a browser may cache the answer to a preflight request.
const PREFLIGHT_HOLDS: Duration = Duration::from_hours(1);

/// Longer than the limits of all parts together: a verdict (5 s), a body (15 s), the store (10 s).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// What the handlers need.
#[derive(Debug, Clone, FromRef)]
pub struct AppState {
    /// Verifies tokens.
    pub verifier: Verifier,
    /// Stores tasks.
    pub store: Arc<dyn Store>,
    /// Checks whether this instance is ready.
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

/// The whole API. Each guarded route has one guard around all its methods, so that only authorized callers get 405.
/// Public routes have no limits: many callers must not make the server refuse an orchestrator.
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
        .merge(options.event_target.clone().map(events).unwrap_or_default())
        .fallback(async || respond(tasks::refusal(StatusCode::NOT_FOUND)));
    // Outside of the guards: a browser's preflight has no credentials.
    let routes = if options.cors_origins.is_empty() { routes } else { routes.layer(cors(options)) };
    routes
        .layer(middleware::from_fn(refuse_unknown_codings))
        .layer(CatchPanicLayer::custom(|_| respond(tasks::refusal(StatusCode::INTERNAL_SERVER_ERROR))))
        .layer(middleware::from_fn(observe))
}

/// The route for ZITADEL's webhooks.
pub(crate) fn events(target: EventTarget) -> Router {
    Router::new().route("/zitadel/events", closed(event_target(target)))
}

/// The routes for orchestrators.
pub(crate) fn health(readiness: Arc<Readiness>) -> Router {
    Router::new()
        .route("/api/healthz", closed(get(healthz)))
        .route("/readyz", closed(get(readyz)))
        .with_state(readiness)
}

/// Lets pages of some origins call the API, and read the response headers that clients need.
fn cors(options: &Options) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(options.cors_origins.clone())
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, REQUEST_ID])
        .expose_headers([WWW_AUTHENTICATE, RETRY_AFTER, LINK, REQUEST_ID])
        .max_age(PREFLIGHT_HOLDS)
}

/// hyper accepts any list of transfer codings that ends in `chunked`, and decodes only `chunked`. A proxy may read such
/// a body differently (request smuggling): refuse the request and close the connection.
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

/// Refuses other methods; axum adds the `Allow` header.
fn closed<S: Clone + Send + Sync + 'static>(methods: MethodRouter<S>) -> MethodRouter<S> {
    methods.fallback(async || respond(tasks::refusal(StatusCode::METHOD_NOT_ALLOWED)))
}

/// Routes behind a guard: the log names the caller.
fn named(methods: MethodRouter<AppState>) -> MethodRouter<AppState> {
    closed(methods).layer(middleware::from_fn(name_caller))
}

async fn page(uri: Uri) -> Response {
    respond(openapi::page(uri.path().trim_start_matches("/docs/")))
}
