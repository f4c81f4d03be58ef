//! The tasks server on actix-web: the same flags and the same bytes as `task-api`, whose library contains everything
//! except the glue.

use std::{io, process::ExitCode, sync::Arc};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, Resource,
    http::{StatusCode, header},
    web::{self, Data, Payload},
};
use task_api::{
    options::Options,
    readiness::Readiness,
    start::{self, Serves, Started},
    store::Store,
    tasks::{self, BODY_TIMEOUT, MAX_BODY_BYTES},
};
use zitadel_introspect_actix::{Authorized, RequireAuthorizationLayer, Requirement, Verifier};

#[actix_web::main]
async fn main() -> ExitCode {
    match start::start(Serves::Http).await {
        Ok(started) => run(started).await.map_or_else(|error| start::fail(&error), |()| ExitCode::SUCCESS),
        Err(code) => code,
    }
}

async fn run(started: Started) -> io::Result<()> {
    started.announce();
    let Started { verifier, store, readiness, options, listener, .. } = started;
    let closing = Arc::clone(&store);
    let readiness = Data::from(readiness);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(verifier.clone()))
            .app_data(Data::new(Arc::clone(&store)))
            .app_data(readiness.clone())
            .configure(|config| routes(config, &verifier, &options))
            .default_service(web::to(async || respond(tasks::refusal(::http::StatusCode::NOT_FOUND))))
    });
    server.shutdown_timeout(20).listen(listener)?.run().await?;
    start::close(closing.as_ref()).await;
    Ok(())
}

/// Each guarded route has one guard around all its methods, so that only authorized callers learn that a method is
/// wrong.
fn routes(config: &mut web::ServiceConfig, verifier: &Verifier, options: &Options) {
    let any_caller = RequireAuthorizationLayer::new(verifier.clone(), Requirement::any_caller());
    let admin = RequireAuthorizationLayer::new(verifier.clone(), tasks::add_requirement(options));
    let healthz = async || respond(tasks::healthz());
    let ready = async |readiness: Data<Readiness>| respond(tasks::readyz(&readiness).await);
    config
        .service(
            closed("/api/healthz", "GET,HEAD").route(web::get().to(healthz)).route(web::head().to(healthz)),
        )
        .service(
            closed("/api/tasks", "GET,HEAD")
                .route(web::get().to(list))
                .route(web::head().to(list))
                .wrap(any_caller),
        )
        .service(closed("/api/add-task", "POST").route(web::post().to(add)).wrap(admin))
        .service(closed("/readyz", "GET,HEAD").route(web::get().to(ready)).route(web::head().to(ready)));
}

/// A resource that refuses other methods; actix-web adds no `Allow` of its own.
fn closed(path: &str, allow: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || {
        let mut response = respond(tasks::refusal(::http::StatusCode::METHOD_NOT_ALLOWED));
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
        async { response }
    }))
}

async fn list(
    store: Data<Arc<dyn Store>>,
    Authorized(caller): Authorized,
    request: HttpRequest,
) -> HttpResponse {
    respond(tasks::list(&store, &caller, request.uri().query()).await)
}

async fn add(
    store: Data<Arc<dyn Store>>,
    Authorized(caller): Authorized,
    request: HttpRequest,
    body: Payload,
) -> HttpResponse {
    let body = match tokio::time::timeout(BODY_TIMEOUT, body.to_bytes_limited(MAX_BODY_BYTES)).await {
        Err(_) => return respond(tasks::refusal(::http::StatusCode::REQUEST_TIMEOUT)),
        Ok(Err(_)) => return respond(tasks::refusal(::http::StatusCode::PAYLOAD_TOO_LARGE)),
        Ok(Ok(Err(_))) => return respond(tasks::refusal(::http::StatusCode::BAD_REQUEST)),
        Ok(Ok(Ok(body))) => body,
    };
    let header = |name| request.headers().get(name).map(header::HeaderValue::as_bytes);
    respond(tasks::add(store.as_ref().as_ref(), &caller, header, body, request.uri().query()).await)
}

/// Converts an answer to the older `http` types of actix-web.
fn respond(answer: ::http::Response<tasks::Body>) -> HttpResponse {
    let (head, body) = answer.into_parts();
    let status = StatusCode::from_u16(head.status.as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for (name, value) in &head.headers {
        response.insert_header((name.as_str(), value.as_bytes()));
    }
    match body {
        tasks::Body::Whole(body) => response.body(body),
        tasks::Body::Stream(stream) => response.streaming(stream),
    }
}
