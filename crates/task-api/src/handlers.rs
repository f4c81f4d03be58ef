//! The handlers on axum, with what the document says of each.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use http::{HeaderValue, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use zitadel_introspect_axum::Authorized;

use crate::{
    answer::respond,
    readiness::{Readiness, Ready},
    schema::{NewTask, Refusals, Tasks},
    store::Store,
    tasks::{self, BODY_TIMEOUT, MAX_BODY_BYTES},
};

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
