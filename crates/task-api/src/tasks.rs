//! What each route answers, byte for byte after ZITADEL's guide for APIs. No web framework.

use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use serde::Serialize;
use zitadel_introspect::{Caller, Requirement};

use crate::{
    form::{NoTask, read_task},
    store::Store,
};

/// The role that adds tasks.
const ADMIN: &str = "admin";
const HINT: &str = "create a new task on /api/add-task";

/// What a caller must have to add a task.
#[must_use]
pub fn add_requirement() -> Requirement {
    Requirement::role(ADMIN)
}

/// `GET /api/healthz`: that the process lives, and nothing of issuer or store.
#[must_use]
pub fn healthz() -> Response<String> {
    json(StatusCode::OK, &"OK")
}

/// `GET /api/tasks`: the tasks, and for admins a hint at the end.
#[must_use]
pub fn list(store: &Store, caller: &Caller) -> Response<String> {
    #[derive(Serialize)]
    struct Tasks {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tasks: Vec<String>,
    }

    let mut tasks = store.list();
    if caller.claims().has_role(ADMIN) {
        tasks.push(HINT.to_owned());
    }
    private(json(StatusCode::OK, &Tasks { tasks }))
}

/// `POST /api/add-task`: keeps the task of the body, else of the query.
#[must_use]
pub fn add(store: &Store, content_type: Option<&[u8]>, body: &[u8], query: Option<&str>) -> Response<String> {
    match read_task(content_type, body, query) {
        Ok(task) => {
            let answer = format!("task `{task}` added");
            store.add(task);
            private(json(StatusCode::OK, &answer))
        }
        Err(NoTask::Empty) => json(StatusCode::BAD_REQUEST, &"task must not be empty"),
        Err(NoTask::Malformed) => plain(StatusCode::BAD_REQUEST, "bad request: malformed form"),
        Err(NoTask::UnsupportedType) => refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}

/// An answer that says nothing but its status, in one line of lower case.
#[must_use]
pub fn refusal(status: StatusCode) -> Response<String> {
    plain(status, &status.canonical_reason().unwrap_or_default().to_lowercase())
}

fn plain(status: StatusCode, line: &str) -> Response<String> {
    let mut response = answer(status, "text/plain; charset=utf-8", format!("{line}\n"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<String> {
    let body = serde_json::to_string(body).expect("texts and lists of texts are JSON");
    answer(status, "application/json", body)
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// For answers with private content, which repeat what somebody has sent.
fn private(mut response: Response<String>) -> Response<String> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
