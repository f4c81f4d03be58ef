//! The same tasks over gRPC, beside HTTP and on the same store.

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use axum::middleware;
use futures_util::StreamExt;
use tokio::time::timeout;
use tonic::{
    Request, Response, Status, Streaming,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tower_http::catch_panic::CatchPanicLayer;
use zitadel_introspect_tonic::{Authorized, Methods, RequireAuthorizationLayer, Requirement, Verifier};

use self::proto::{
    AddTaskRequest, AddTaskResponse, AddTasksRequest, AddTasksResponse, HealthzRequest, HealthzResponse,
    ListTasksRequest, ListTasksResponse,
    example_service_server::{ExampleService, ExampleServiceServer},
};
use crate::{
    form::{NoTask, trimmed},
    observe::{name_caller, observe},
    serve::DRAIN_TIMEOUT,
    store::{Store, StoreError},
    tasks::{self, ADMIN, CHUNK, MAX_BODY_BYTES},
};

#[expect(
    unreachable_pub,
    clippy::pedantic,
    reason = "generated from proto/example.proto, where the documentation stands"
)]
mod proto {
    tonic::include_proto!("zitadel.go.example.api.v3alpha");
}

const DEFINITION: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/example.bin"));
const SERVICE: &str = "/zitadel.go.example.api.v3alpha.ExampleService";
const HINT: &str = "create a new task with `AddTask`";

/// For a whole call; a client may ask for less (`grpc-timeout`).
const CALL_TIMEOUT: Duration = Duration::from_mins(1);
/// What clients take in one message unless told otherwise; longer lists are for the pages of HTTP.
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;
/// Of one stream, which is one transaction.
const MAX_STREAM_TASKS: usize = 10_000;
const MAX_STREAM_BYTES: usize = 1024 * 1024;
const MAX_HEAD_BYTES: u32 = 32 * 1024;
/// On one connection.
const CALLS_AT_ONCE: u32 = 256;
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Serves until `stop` is ready; then finishes the calls under way, for 20 s at most.
///
/// # Errors
///
/// If the socket cannot be used.
pub async fn serve(
    listener: TcpListener,
    verifier: Verifier,
    store: Arc<dyn Store>,
    stop: impl Future<Output = ()> + Clone,
) -> io::Result<()> {
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?).with_nodelay(Some(true));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ExampleServiceServer<Tasks>>().await;
    let example = ExampleServiceServer::new(Tasks(store)).max_decoding_message_size(MAX_BODY_BYTES);
    let routes = Routes::new(example)
        .add_service(health_service)
        .add_service(reflection().build_v1().map_err(io::Error::other)?)
        .add_service(reflection().build_v1alpha().map_err(io::Error::other)?);
    let serving = Server::builder()
        .timeout(CALL_TIMEOUT)
        .max_concurrent_streams(CALLS_AT_ONCE)
        .http2_max_header_list_size(MAX_HEAD_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_routes(guarded(routes, verifier))
        .serve_with_incoming_shutdown(incoming, stop.clone());
    let too_long = async {
        stop.await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        outcome = serving => outcome.map_err(io::Error::other),
        () = too_long => {
            tracing::warn!("stopped with calls under way that did not end in time");
            Ok(())
        }
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DEFINITION)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // So that clients can show the details of errors.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// What callers must have for each method; what is not named here is denied.
fn methods() -> Methods {
    let method = |name: &str| format!("{SERVICE}/{name}");
    Methods::new()
        .public(method("Healthz"))
        .require(method("ListTasks"), Requirement::any_caller())
        .require(method("AddTask"), tasks::add_requirement())
        .require(method("AddTasks"), tasks::add_requirement())
        .public_health_and_reflection()
}

fn guarded(routes: Routes, verifier: Verifier) -> Routes {
    let layered = routes
        .into_axum_router()
        .layer(middleware::from_fn(name_caller))
        .layer(RequireAuthorizationLayer::new(verifier, methods()))
        .layer(CatchPanicLayer::custom(|_| {
            Status::internal("internal server error").into_http::<axum::body::Body>()
        }))
        .layer(middleware::from_fn(observe));
    Routes::from(layered)
}

struct Tasks(Arc<dyn Store>);

#[tonic::async_trait]
impl ExampleService for Tasks {
    async fn healthz(&self, _: Request<HealthzRequest>) -> Result<Response<HealthzResponse>, Status> {
        Ok(Response::new(HealthzResponse { health: "OK".to_owned() }))
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        let Authorized(caller) = Authorized::of(&request)?;
        let (mut tasks, mut bytes, mut after) = (Vec::new(), 0, 0);
        loop {
            let chunk = self.0.page(after, CHUNK).await.map_err(|error| unavailable(&error))?;
            bytes += chunk.iter().map(|kept| kept.task.len() + 8).sum::<usize>();
            if bytes > MAX_LIST_BYTES {
                return Err(Status::resource_exhausted(
                    "the list is too long for one message: page over HTTP",
                ));
            }
            let is_last = chunk.len() < CHUNK as usize;
            after = chunk.last().map_or(after, |last| last.position);
            tasks.extend(chunk.into_iter().map(|kept| kept.task));
            if is_last {
                break;
            }
        }
        if caller.claims().has_role(ADMIN) {
            tasks.push(HINT.to_owned());
        }
        Ok(Response::new(ListTasksResponse { tasks }))
    }

    async fn add_task(&self, request: Request<AddTaskRequest>) -> Result<Response<AddTaskResponse>, Status> {
        let Authorized(caller) = Authorized::of(&request)?;
        let task = trimmed(&request.into_inner().task).map_err(invalid)?;
        let added = format!("task `{task}` added");
        self.0.add(vec![tasks::by(&caller, task)]).await.map_err(|error| unavailable(&error))?;
        Ok(Response::new(AddTaskResponse { added }))
    }

    async fn add_tasks(
        &self,
        request: Request<Streaming<AddTasksRequest>>,
    ) -> Result<Response<AddTasksResponse>, Status> {
        let Authorized(caller) = Authorized::of(&request)?;
        let reading = timeout(CALL_TIMEOUT, read(request.into_inner())).await;
        let texts = reading.map_err(|_| Status::deadline_exceeded("the stream took too long"))??;
        if texts.is_empty() {
            return Err(Status::invalid_argument("no task provided"));
        }
        let added = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        let new = texts.into_iter().map(|task| tasks::by(&caller, task)).collect();
        self.0.add(new).await.map_err(|error| unavailable(&error))?;
        Ok(Response::new(AddTasksResponse { added }))
    }
}

/// All tasks of a stream; empty ones are skipped.
async fn read(mut stream: Streaming<AddTasksRequest>) -> Result<Vec<String>, Status> {
    let (mut texts, mut bytes) = (Vec::new(), 0);
    while let Some(message) = stream.next().await {
        match trimmed(&message?.task) {
            Ok(task) => {
                bytes += task.len();
                texts.push(task);
            }
            Err(NoTask::Empty) => {}
            Err(error) => return Err(invalid(error)),
        }
        if texts.len() > MAX_STREAM_TASKS || bytes > MAX_STREAM_BYTES {
            return Err(Status::resource_exhausted("too many tasks in one stream"));
        }
    }
    Ok(texts)
}

fn invalid(error: NoTask) -> Status {
    match error {
        NoTask::HasNul => Status::invalid_argument("task must not contain U+0000"),
        _ => Status::invalid_argument("task must not be empty"),
    }
}

fn unavailable(error: &StoreError) -> Status {
    tasks::log(error);
    Status::unavailable("task store")
}
