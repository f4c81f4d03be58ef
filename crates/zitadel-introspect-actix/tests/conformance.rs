//! The suite that every adapter must pass, on actix-web.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use actix_web::{App, HttpRequest, HttpServer, dev::ServerHandle, web};
use conformance::{Adapter, Running, Settings};
use zitadel_introspect_actix::{
    Authorized, AuthorizedAs, ClientAuth, Issuer, MaybeAuthorized, Rejection, RequireAuthorizationLayer,
    RequiredRole, Requirement, Verifier, protected_resource_metadata,
};

#[tokio::test(flavor = "multi_thread")]
async fn actix() {
    conformance::run::<Actix>().await;
}

struct Actix;

struct Admin;

impl RequiredRole for Admin {
    const ROLE: &'static str = "admin";
}

impl Adapter for Actix {
    const NAME: &'static str = "actix";
    const COMPILES_WITHOUT_VERIFIER: bool = true;

    async fn serve(settings: Settings) -> Running {
        let verifier = verifier(&settings);
        let server = HttpServer::new(move || {
            let state = (!settings.without_verifier).then(|| web::Data::new(verifier.clone()));
            App::new().configure(|config| {
                if let Some(state) = state {
                    config.app_data(state);
                }
                routes(config, &verifier, &settings);
            })
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        std::thread::spawn(move || actix_web::rt::System::new().block_on(server));
        Running::new(address, StopOnDrop(handle))
    }
}

struct StopOnDrop(ServerHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        drop(self.0.stop(false));
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

fn routes(config: &mut web::ServiceConfig, verifier: &Verifier, settings: &Settings) {
    let admin_reads = Requirement::role("admin").and(Requirement::scope("tasks:read"));
    config
        .service(
            web::resource("/public")
                .route(web::get().to(async || "public"))
                .route(web::head().to(async || "")),
        )
        .service(web::resource("/caller").route(web::get().to(caller)).route(web::head().to(caller)))
        .service(web::resource("/admin").route(web::get().to(admin)).route(web::head().to(admin)))
        .service(web::resource("/maybe").route(web::get().to(maybe)).route(web::head().to(maybe)))
        .route("/organizations/{id}", web::get().to(editor))
        .route("/organizations/{id}/own", web::get().to(own))
        .service(protected_resource_metadata(verifier))
        .service(
            web::resource("/layer/caller")
                .wrap(RequireAuthorizationLayer::new(verifier.clone(), Requirement::any_caller()))
                .route(web::get().to(caller))
                .route(web::head().to(caller))
                .route(web::post().to(caller)),
        );
    for (path, requirement) in [
        ("/layer/any-role", Requirement::any_role(["editor", "admin"])),
        ("/layer/all-roles", Requirement::all_roles(["editor", "admin"])),
        ("/layer/scope", Requirement::scope("tasks:read")),
        ("/layer/combined", admin_reads.or(Requirement::role("owner"))),
        ("/layer/project", Requirement::role("auditor").in_project(settings.other_project.clone())),
    ] {
        let layer = RequireAuthorizationLayer::new(verifier.clone(), requirement);
        config.service(web::resource(path).wrap(layer).route(web::get().to(async || "passed")));
    }
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

async fn editor(request: HttpRequest, Authorized(caller): Authorized) -> Result<&'static str, Rejection> {
    let organization = request.match_info().get("id").unwrap().to_owned();
    let _ = caller.require(&Requirement::role("editor").in_organization(organization)).await?;
    Ok("editor")
}

async fn own(
    organization: web::Path<String>,
    Authorized(caller): Authorized,
) -> Result<&'static str, Rejection> {
    let _ = caller.require(&Requirement::organization(organization.into_inner())).await?;
    Ok("own")
}
