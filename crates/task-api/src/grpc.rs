//! The same tasks over gRPC. The service runs beside HTTP and uses the same store.

mod front;

use std::{collections::HashMap, convert::Infallible, io, net::TcpListener, sync::Arc, time::Duration};

use axum::{Router, body::Body, middleware};
use futures_util::StreamExt;
use tonic::{Code, Request, Response, Status, Streaming, server::NamedService};
use tonic_types::{ErrorDetails, StatusExt};
use tower::Service;
use tower_http::catch_panic::CatchPanicLayer;
use zitadel_introspect_tonic::{Authorized, RequireAuthorizationLayer, Verifier};

use self::proto::{
    AddTaskRequest, AddTaskResponse, AddTasksRequest, AddTasksResponse, HealthzRequest, HealthzResponse,
    ListTasksRequest, ListTasksResponse,
    example_service_server::{ExampleService, ExampleServiceServer},
};
use crate::{
    form::{NoTask, trimmed},
    limits::Limits,
    methods::{SERVICE, methods},
    observe::{name_caller, observe},
    options::Options,
    serve::{self, Speaks},
    store::{self, Store, StoreError},
    tasks::{self, ADMIN, MAX_BODY_BYTES},
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
/// The message for a bug in this program.
const INTERNAL: &str = "internal server error";
const HINT: &str = "create a new task with `AddTask`";

/// The default message limit of gRPC clients; clients must read longer lists in pages over HTTP.
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;
/// The limits of one stream, which is one transaction.
const MAX_STREAM_TASKS: usize = 10_000;
const MAX_STREAM_BYTES: usize = 1024 * 1024;
/// The body of one call: the texts of a stream, and some bytes of framing for each text.
const MAX_CALL_BYTES: usize = MAX_STREAM_BYTES + 16 * MAX_STREAM_TASKS;
/// The limit of a message to the standard services, which are open to everybody.
const MAX_STANDARD_BYTES: usize = 4 * 1024;

/// Serves until `stop` is ready; then finishes the calls in flight, for 20 s at most.
///
/// # Errors
///
/// If the socket cannot be used.
pub async fn serve(
    listener: TcpListener,
    verifier: Verifier,
    store: Arc<dyn Store>,
    limits: &Limits,
    options: &Options,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ExampleServiceServer<Tasks>>().await;
    let reflection_service = reflection().build_v1().map_err(io::Error::other)?;
    let older_reflection_service = reflection().build_v1alpha().map_err(io::Error::other)?;
    let standard = routed(health_service.max_decoding_message_size(MAX_STANDARD_BYTES))
        .merge(routed(reflection_service.max_decoding_message_size(MAX_STANDARD_BYTES)))
        .merge(routed(older_reflection_service.max_decoding_message_size(MAX_STANDARD_BYTES)));
    let example = routed(ExampleServiceServer::new(Tasks(store)).max_decoding_message_size(MAX_BODY_BYTES));
    let router = limits
        .around(example, front::CALL_TIMEOUT)
        .merge(standard)
        .fallback(async || Status::unimplemented("unimplemented").into_http::<Body>())
        .layer(middleware::from_fn(name_caller))
        .layer(RequireAuthorizationLayer::new(verifier, methods(options)).map_err(io::Error::other)?)
        .layer(CatchPanicLayer::custom(|_| Status::internal(INTERNAL).into_http::<Body>()))
        .layer(middleware::from_fn(front::receive))
        .layer(middleware::from_fn(observe));
    let unhealthy = async {
        stop.clone().await;
        // Watchers of the health are told, and do not delay the end.
        health.set_not_serving::<ExampleServiceServer<Tasks>>().await;
        for service in ["", SERVICE] {
            let mut health = health.clone();
            health.clear_service_status(service).await;
        }
    };
    let serving = serve::serve(listener, router, Speaks::Grpc, limits.clone(), stop.clone());
    tokio::join!(serving, unhealthy);
    Ok(())
}

/// Routes calls to a service by its name.
fn routed<S>(service: S) -> Router
where
    S: NamedService
        + Service<http::Request<Body>, Response = http::Response<tonic::body::Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    Router::new().route_service(&format!("/{}/{{*method}}", S::NAME), service)
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DEFINITION)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // So that clients can show the details of errors.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
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
        let read = store::read(self.0.as_ref(), 0, usize::MAX, MAX_LIST_BYTES).await;
        let (kept, is_all) = read.map_err(|error| unavailable(&error))?;
        if !is_all {
            return Err(Status::resource_exhausted("the list is too long for one message: page over HTTP"));
        }
        let mut tasks: Vec<_> = kept.into_iter().map(|kept| kept.task).collect();
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
        let texts = read(request.into_inner()).await?;
        if texts.is_empty() {
            return Err(Status::invalid_argument("no task provided"));
        }
        // If the client has disconnected, this future is dropped here, before the tasks are stored.
        tokio::task::yield_now().await;
        let added = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        let new = texts.into_iter().map(|task| tasks::by(&caller, task)).collect();
        self.0.add(new).await.map_err(|error| unavailable(&error))?;
        Ok(Response::new(AddTasksResponse { added }))
    }
}

/// All tasks of a stream; empty ones are skipped.
async fn read(mut stream: Streaming<AddTasksRequest>) -> Result<Vec<String>, Status> {
    let (mut texts, mut bytes) = (Vec::new(), 0);
    for count in 1.. {
        let Some(message) = stream.next().await else { break };
        let text = message?.task;
        bytes += text.len();
        if count > MAX_STREAM_TASKS || bytes > MAX_STREAM_BYTES {
            return Err(Status::resource_exhausted("too many tasks in one stream"));
        }
        match trimmed(&text) {
            Ok(task) => texts.push(task),
            Err(NoTask::Empty) => {}
            Err(error) => return Err(invalid(error)),
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
    let mut details = ErrorDetails::with_error_info("TASK_STORE", "task-api", HashMap::new());
    details.set_retry_info(Some(Duration::from_secs(1)));
    Status::with_error_details(Code::Unavailable, "task store", details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_of_the_definition_is_named_and_no_other() {
        methods(&Options::default()).checked_against(DEFINITION).unwrap();
    }
}
