//! The answers of each route, byte for byte as in ZITADEL's guide for APIs. No web framework.

use std::{error::Error, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, LINK, X_CONTENT_TYPE_OPTIONS},
};
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use zitadel_introspect::{Caller, Requirement};

use crate::{
    form::{NoTask, read_task},
    options::Options,
    page::{Page, PageError},
    readiness::Readiness,
    store::{self, Kept, NewTask, Store, StoreError},
};

/// The longest body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// The longest that reading a body may take.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// The role that may add tasks.
pub(crate) const ADMIN: &str = "admin";
const HINT: &str = "create a new task on /api/add-task";
/// The part of a long list that is in memory at once: so many tasks, and about so many bytes.
const CHUNK: usize = 128;
const CHUNK_BYTES: usize = 256 * 1024;
/// Long lists in flight.
static LONG_LISTS: Semaphore = Semaphore::const_new(64);
/// A page ends at this size, also below its limit: tasks may be long.
const PAGE_BYTES: usize = 1024 * 1024;

/// The body of an answer.
pub enum Body {
    /// The whole body.
    Whole(Bytes),
    /// A list that is too long to be in memory at once.
    Stream(BoxStream<'static, io::Result<Bytes>>),
}

#[derive(Serialize)]
struct Tasks {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<String>,
}

/// The requirement for adding a task.
#[must_use]
pub fn add_requirement(options: &Options) -> Requirement {
    let admin = Requirement::role(ADMIN);
    match options.add_fresh_within {
        Some(age) => admin.fresh_within(age),
        None => admin,
    }
}

/// `GET /api/healthz`: shows that the process lives; does not check issuer or store.
#[must_use]
pub fn healthz() -> Response<Body> {
    json(StatusCode::OK, "OK")
}

/// `GET /api/tasks`: the tasks, and for admins a hint at the end; or one page, if the query asks for a page.
pub async fn list(store: &Arc<dyn Store>, caller: &Caller, query: Option<&str>) -> Response<Body> {
    match Page::of(query) {
        Ok(None) => all(store, caller).await,
        Ok(Some(page)) => one_page(store.as_ref(), &page).await,
        Err(error) => malformed_page(error),
    }
}

/// `POST /api/add-task`: stores the task of the body, else of the query. `header` returns the value of a header.
pub async fn add<'h>(
    store: &dyn Store,
    caller: &Caller,
    header: impl Fn(&'static str) -> Option<&'h [u8]>,
    body: Bytes,
    query: Option<&str>,
) -> Response<Body> {
    if header("content-encoding").is_some() {
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let task = match read_task(header("content-type"), body, query).await {
        Ok(task) => task,
        Err(error) => return no_task(error),
    };
    let answer = format!("task `{task}` added");
    match store.add(vec![by(caller, task)]).await {
        Ok(()) => private(json(StatusCode::OK, &answer)),
        Err(error) => no_store(&error),
    }
}

/// A task, together with the caller who adds it.
pub(crate) fn by(caller: &Caller, task: String) -> NewTask {
    let claims = caller.claims();
    let (user_id, organization_id) = (claims.subject(), claims.organization_id());
    let [user_id, organization_id] = [user_id, organization_id].map(|id| id.map(str::to_owned));
    NewTask { task, user_id, organization_id }
}

async fn all(store: &Arc<dyn Store>, caller: &Caller) -> Response<Body> {
    let hint = caller.claims().has_role(ADMIN).then(|| HINT.to_owned());
    let (first, is_all) = match store::read(store.as_ref(), 0, CHUNK, CHUNK_BYTES).await {
        Ok(first) => first,
        Err(error) => return no_store(&error),
    };
    if is_all {
        let tasks = first.into_iter().map(|kept| kept.task).chain(hint).collect();
        return private(json(StatusCode::OK, &Tasks { tasks }));
    }
    let Ok(permit) = LONG_LISTS.try_acquire() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "unavailable: too many requests at once");
    };
    let mut response = json(StatusCode::OK, "");
    *response.body_mut() = Body::Stream(long_list(Arc::clone(store), first, hint, permit));
    private(response)
}

/// Sends one chunk after another, as fast as the client reads them.
fn long_list(
    store: Arc<dyn Store>,
    first: Vec<Kept>,
    hint: Option<String>,
    permit: SemaphorePermit<'static>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let chunks = stream::unfold(Some((first, false, store)), |state| async move {
        let (chunk, is_last, store) = state?;
        let Some(position) = chunk.last().map(|kept| kept.position).filter(|_| !is_last) else {
            return Some((Ok(chunk), None));
        };
        match store::read(store.as_ref(), position, CHUNK, CHUNK_BYTES).await {
            Ok((next, is_last)) => Some((Ok(chunk), Some((next, is_last, store)))),
            Err(error) => {
                log(&error);
                // The status has been sent: a list that is cut short must not look whole.
                Some((Err(io::Error::other("task store")), None))
            }
        }
    });
    let mut separator = "";
    let texts = chunks.map(move |chunk| {
        let mut text = String::new();
        for kept in chunk? {
            text += separator;
            text += &to_json(&kept.task);
            separator = ",";
        }
        Ok(Bytes::from(text))
    });
    let begin = stream::iter([Ok(Bytes::from_static(b"{\"tasks\":["))]);
    let hint = hint.map(|hint| format!(",{}", to_json(&hint))).unwrap_or_default();
    let end = stream::iter([Ok(Bytes::from(hint + "]}"))]);
    let list = begin.chain(texts).chain(end);
    // Hold the permit until the end of the list.
    list.inspect(move |_| {
        let _ = &permit;
    })
    .boxed()
}

async fn one_page(store: &dyn Store, page: &Page) -> Response<Body> {
    let limit = page.limit as usize;
    // Read one task more than requested: it shows whether there is a further page.
    let (mut kept, is_all) = match store::read(store, page.after, limit + 1, PAGE_BYTES).await {
        Ok(read) => read,
        Err(error) => return no_store(&error),
    };
    let has_more = kept.len() > limit || !is_all;
    kept.truncate(limit);
    let link = kept.last().filter(|_| has_more).map(|last| page.next(last.position));
    let tasks = kept.into_iter().map(|kept| kept.task).collect();
    let mut response = private(json(StatusCode::OK, &Tasks { tasks }));
    if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
        response.headers_mut().insert(LINK, link);
    }
    response
}

fn malformed_page(error: PageError) -> Response<Body> {
    plain(StatusCode::BAD_REQUEST, &format!("bad request: {error}"))
}

fn no_task(error: NoTask) -> Response<Body> {
    let malformed = |what| plain(StatusCode::BAD_REQUEST, &format!("bad request: {what}"));
    match error {
        NoTask::Empty => json(StatusCode::BAD_REQUEST, "task must not be empty"),
        NoTask::MalformedForm => malformed("malformed form"),
        NoTask::MalformedJson => malformed("malformed json"),
        NoTask::HasNul => malformed("task must not contain U+0000"),
        NoTask::UnsupportedType => refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}

fn no_store(error: &StoreError) -> Response<Body> {
    log(error);
    plain(StatusCode::SERVICE_UNAVAILABLE, "unavailable: task store")
}

pub(crate) fn log(error: &StoreError) {
    metrics::counter!("task_api_store_failures_total").increment(1);
    tracing::error!(error = %error, source = ?error.source().map(ToString::to_string), "the task store failed");
}

/// `GET /readyz`: whether this instance is ready for requests, and what is missing.
pub async fn readyz(readiness: &Readiness) -> Response<Body> {
    let ready = readiness.look().await;
    let status = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = json(status, &ready);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer whose body is only the reason phrase of its status, in lower case.
#[must_use]
pub fn refusal(status: StatusCode) -> Response<Body> {
    plain(status, &status.canonical_reason().unwrap_or_default().to_lowercase())
}

pub(crate) fn plain(status: StatusCode, line: &str) -> Response<Body> {
    let mut response = answer(status, "text/plain; charset=utf-8", format!("{line}\n"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn json(status: StatusCode, body: &(impl Serialize + ?Sized)) -> Response<Body> {
    answer(status, "application/json", to_json(body))
}

fn to_json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("texts and lists of texts are JSON")
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Adds headers for private content: the answer repeats texts that users have sent.
fn private(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => formatter.debug_struct("Whole").field("bytes", &bytes.len()).finish(),
            Self::Stream(_) => formatter.debug_struct("Stream").finish_non_exhaustive(),
        }
    }
}
