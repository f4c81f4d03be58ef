//! `GET /public` and `GET /private` with the same short body, on any adapter (on tonic: unary calls), with the libraries' defaults
//! and nothing tuned for the race.

use std::{
    convert::Infallible,
    error::Error,
    path::PathBuf,
    task::{Context, Poll},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use axum::{Json, Router, response::IntoResponse, routing::get};
use clap::{Parser, ValueEnum};
use futures_util::future::BoxFuture;
use serde::Serialize;
use tonic::{
    body::Body,
    server::{Grpc, NamedService},
    transport::Server,
};
use tonic_prost::ProstCodec;
use tower::Service;
use zitadel_introspect::{ClientAuth, Issuer, Requirement, Verifier};
use zitadel_introspect_tonic::{Methods, RequireAuthorizationLayer};

/// What a handler answers: on both routes by the same serializer, so that the ratio measures the check alone.
#[derive(Serialize)]
struct Hello<'a> {
    user: &'a str,
}

#[derive(Debug, Parser)]
struct Arguments {
    /// Which adapter serves.
    #[arg(long)]
    adapter: Adapter,
    /// The issuer.
    #[arg(long)]
    domain: String,
    /// The key.json of the API.
    #[arg(long)]
    key: PathBuf,
    /// The port, at 127.0.0.1.
    #[arg(long)]
    port: u16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Adapter {
    Axum,
    Actix,
    Tonic,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let auth = ClientAuth::key_file(&arguments.key)?;
    let verifier = Verifier::builder(Issuer::parse(&arguments.domain)?, auth).build()?;
    match arguments.adapter {
        Adapter::Axum => serve_axum(verifier, arguments.port),
        Adapter::Actix => serve_actix(verifier, arguments.port),
        Adapter::Tonic => serve_tonic(verifier, arguments.port),
    }
}

#[tokio::main]
async fn serve_axum(verifier: Verifier, port: u16) -> Result<(), Box<dyn Error>> {
    let private = async |caller: zitadel_introspect_axum::Authorized| {
        Json(Hello { user: caller.user_id() }).into_response()
    };
    let router = Router::new()
        .route("/public", get(async || Json(Hello { user: "anyone" }).into_response()))
        .route("/private", get(private))
        .with_state(verifier);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

#[actix_web::main]
async fn serve_actix(verifier: Verifier, port: u16) -> Result<(), Box<dyn Error>> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(verifier.clone()))
            .route("/public", web::get().to(async || HttpResponse::Ok().json(Hello { user: "anyone" })))
            .route(
                "/private",
                web::get().to(async |caller: zitadel_introspect_actix::Authorized| {
                    HttpResponse::Ok().json(Hello { user: caller.user_id() })
                }),
            )
    });
    server.bind(("127.0.0.1", port))?.run().await?;
    Ok(())
}

#[tokio::main]
async fn serve_tonic(verifier: Verifier, port: u16) -> Result<(), Box<dyn Error>> {
    let methods =
        Methods::new().public("/race.Race/Public").require("/race.Race/Private", Requirement::any_caller());
    let mut server = Server::builder().layer(RequireAuthorizationLayer::new(verifier, methods)?);
    server.add_service(Race).serve(([127, 0, 0, 1], port).into()).await?;
    Ok(())
}

/// Two methods with one answer, as generated code would serve them.
#[derive(Clone)]
struct Race;

impl NamedService for Race {
    const NAME: &'static str = "race.Race";
}

impl Service<tonic::codegen::http::Request<Body>> for Race {
    type Response = tonic::codegen::http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::codegen::http::Request<Body>) -> Self::Future {
        let is_private = request.uri().path().ends_with("/Private");
        let handler = tower::service_fn(move |request: tonic::Request<String>| async move {
            let user = if is_private {
                zitadel_introspect_tonic::Authorized::of(&request)?.user_id().to_owned()
            } else {
                "anyone".to_owned()
            };
            Ok::<_, tonic::Status>(tonic::Response::new(user))
        });
        Box::pin(async move {
            Ok(Grpc::new(ProstCodec::<String, String>::default()).unary(handler, request).await)
        })
    }
}
