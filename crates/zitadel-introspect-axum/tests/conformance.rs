//! The suite that every adapter must pass, on axum.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use axum::{
    Router,
    extract::Path,
    routing::{MethodRouter, get},
};
use conformance::{Adapter, Running, Settings};
use tokio::{net::TcpListener, task::AbortHandle};
use zitadel_introspect_axum::{
    Authorized, AuthorizedAs, ClientAuth, Issuer, MaybeAuthorized, Rejection, RequireAuthorizationLayer,
    RequiredRole, Requirement, Verifier, protected_resource_metadata,
};

#[tokio::test(flavor = "multi_thread")]
async fn axum() {
    conformance::run::<Axum>().await;
}

struct Axum;

struct Admin;

impl RequiredRole for Admin {
    const ROLE: &'static str = "admin";
}

impl Adapter for Axum {
    const NAME: &'static str = "axum";
    const COMPILES_WITHOUT_VERIFIER: bool = false;

    async fn serve(settings: Settings) -> Running {
        let verifier = verifier(&settings);
        let router = router(&verifier, &settings).with_state(verifier);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async { axum::serve(listener, router).await });
        Running::new(address, AbortOnDrop(serving.abort_handle()))
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn verifier(settings: &Settings) -> Verifier {
    let auth = ClientAuth::key_json(&settings.key_json).unwrap();
    let mut builder = Verifier::builder(Issuer::parse(&settings.issuer).unwrap(), auth);
    if let Some(realm) = settings.realm {
        builder = builder.realm(realm);
    }
    if let Some(resource) = settings.resource {
        builder = builder.resource(resource, ["tasks:read"]);
    }
    if settings.cache_off {
        builder = builder.cache_off();
    }
    if settings.own_bodies {
        builder = builder.error_body("application/problem+json", |error| {
            format!("{{\"own\":{}}}", error.status().as_u16())
        });
    }
    builder.build().unwrap()
}

fn router(verifier: &Verifier, settings: &Settings) -> Router<Verifier> {
    let layer = |requirement| RequireAuthorizationLayer::new(verifier.clone(), requirement);
    let guarded =
        |requirement| -> MethodRouter<Verifier> { get(async || "passed").layer(layer(requirement)) };
    let admin_reads = Requirement::role("admin").and(Requirement::scope("tasks:read"));
    let auditor = Requirement::role("auditor").in_project(settings.other_project.clone());
    Router::new()
        .route("/public", get(async || "public"))
        .route("/caller", get(caller))
        .route("/admin", get(admin))
        .route("/maybe", get(maybe))
        .route("/organizations/{id}", get(editor))
        .route("/organizations/{id}/own", get(own))
        .route("/layer/caller", get(caller).post(caller).layer(layer(Requirement::any_caller())))
        .route("/layer/any-role", guarded(Requirement::any_role(["editor", "admin"])))
        .route("/layer/all-roles", guarded(Requirement::all_roles(["editor", "admin"])))
        .route("/layer/scope", guarded(Requirement::scope("tasks:read")))
        .route("/layer/combined", guarded(admin_reads.or(Requirement::role("owner"))))
        .route("/layer/project", guarded(auditor))
        .merge(protected_resource_metadata(verifier))
}

async fn caller(Authorized(caller): Authorized) -> String {
    caller.claims().subject().unwrap().to_owned()
}

async fn admin(admin: AuthorizedAs<Admin>) -> String {
    admin.claims().subject().unwrap().to_owned()
}

async fn maybe(MaybeAuthorized(caller): MaybeAuthorized) -> String {
    caller.map_or_else(|| "anonymous".to_owned(), |caller| caller.claims().subject().unwrap().to_owned())
}

async fn editor(
    Path(organization): Path<String>,
    Authorized(caller): Authorized,
) -> Result<&'static str, Rejection> {
    let _ = caller.require(&Requirement::role("editor").in_organization(organization)).await?;
    Ok("editor")
}

async fn own(
    Path(organization): Path<String>,
    Authorized(caller): Authorized,
) -> Result<&'static str, Rejection> {
    let _ = caller.require(&Requirement::organization(organization)).await?;
    Ok("own")
}
