//! The suite that every adapter must pass, on tonic.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use conformance::{
    Adapter, Protocol, Running, Settings,
    grpc::{SERVICE, method},
};
use futures_util::future::BoxFuture;
use tokio::{net::TcpListener, task::AbortHandle};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower_service::Service;
use zitadel_introspect_tonic::{
    Authorized, AuthorizedAs, ClientAuth, Issuer, MaybeAuthorized, Methods, Rejection,
    RequireAuthorizationLayer, RequiredRole, Requirement, Verifier,
};

#[tokio::test(flavor = "multi_thread")]
async fn tonic() {
    conformance::run::<Tonic>().await;
}

struct Tonic;

struct Admin;

impl RequiredRole for Admin {
    const ROLE: &'static str = "admin";
}

impl Adapter for Tonic {
    const PROTOCOL: Protocol = Protocol::Grpc;
    const NAME: &'static str = "tonic";
    const COMPILES_WITHOUT_VERIFIER: bool = true;

    async fn serve(settings: Settings) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = TcpIncoming::from(listener);
        // A token of 16 KiB must reach the guard.
        let server = Server::builder().http2_max_header_list_size(64 * 1024);
        let serving = if settings.without_verifier {
            let mut server = server;
            tokio::spawn(server.add_service(Routes).serve_with_incoming(incoming))
        } else {
            let mut server = server.layer(layer(&settings));
            tokio::spawn(server.add_service(Routes).serve_with_incoming(incoming))
        };
        Running::new(address, AbortOnDrop(serving.abort_handle()))
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn layer(settings: &Settings) -> RequireAuthorizationLayer {
    let auth = ClientAuth::key_json(&settings.key_json).unwrap();
    let mut builder = Verifier::builder(Issuer::parse(&settings.issuer).unwrap(), auth);
    if settings.cache_off {
        builder = builder.cache_off();
    }
    let name = |path: &str| format!("/{SERVICE}/{}", method(path));
    let admin_reads = Requirement::role("admin").and(Requirement::scope("tasks:read"));
    let auditor = Requirement::role("auditor").in_project(settings.other_project.clone());
    let any_caller = ["/caller", "/admin", "/organizations", "/organizations/1/own", "/layer/caller"];
    let methods = any_caller
        .into_iter()
        .fold(Methods::new(), |methods, path| methods.require(name(path), Requirement::any_caller()))
        .public(name("/public"))
        .optional(name("/maybe"))
        .require(name("/layer/any-role"), Requirement::any_role(["editor", "admin"]))
        .require(name("/layer/all-roles"), Requirement::all_roles(["editor", "admin"]))
        .require(name("/layer/scope"), Requirement::scope("tasks:read"))
        .require(name("/layer/combined"), admin_reads.or(Requirement::role("owner")))
        .require(name("/layer/project"), auditor);
    RequireAuthorizationLayer::new(builder.build().unwrap(), methods).unwrap()
}

#[derive(Clone)]
struct Routes;

impl NamedService for Routes {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<Body>> for Routes {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let handler = tower::service_fn(move |request| answer(name.clone(), request));
        Box::pin(async move {
            Ok(Grpc::new(ProstCodec::<String, String>::default()).unary(handler, request).await)
        })
    }
}

async fn answer(name: String, request: Request<String>) -> Result<Response<String>, Status> {
    let subject = |caller: &zitadel_introspect_tonic::Caller| caller.claims().subject().unwrap().to_owned();
    Ok(Response::new(match name.as_str() {
        "public" => "public".to_owned(),
        "caller" | "layer-caller" => {
            let Authorized(caller) = Authorized::of(&request)?;
            subject(&caller)
        }
        "admin" => {
            let admin = AuthorizedAs::<Admin>::of(&request).await?;
            subject(&admin)
        }
        "maybe" => {
            let MaybeAuthorized(caller) = MaybeAuthorized::of(&request)?;
            caller.as_ref().map_or("anonymous".to_owned(), subject)
        }
        "organizations" => {
            let Authorized(caller) = Authorized::of(&request)?;
            let editor = Requirement::role("editor").in_organization(request.into_inner());
            let _ = caller.require(&editor).await.map_err(Rejection)?;
            "editor".to_owned()
        }
        "organizations-own" => {
            let Authorized(caller) = Authorized::of(&request)?;
            let _ =
                caller.require(&Requirement::organization(request.into_inner())).await.map_err(Rejection)?;
            "own".to_owned()
        }
        _ => "passed".to_owned(),
    }))
}
