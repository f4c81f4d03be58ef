//! Trust ZITADEL access tokens in an actix-web API.
//!
//! Three lines turn a public handler into a protected one: the verifier as app data, an extractor in the
//! handler, and, for scopes and whole apps, a middleware.
//!
//! ```no_run
//! use actix_web::{App, HttpServer, web};
//! use zitadel_introspect_actix::{
//!     Authorized, AuthorizedAs, ClientAuth, Issuer, RequireAuthorizationLayer, RequiredRole, Requirement, Verifier,
//! };
//!
//! struct Admin;
//! impl RequiredRole for Admin {
//!     const ROLE: &'static str = "admin";
//! }
//!
//! async fn hello(Authorized(caller): Authorized) -> String {
//!     format!("hello {}", caller.claims().username().unwrap_or("nobody"))
//! }
//!
//! async fn settings(admin: AuthorizedAs<Admin>) -> String {
//!     format!("settings for {:?}", admin.claims().subject())
//! }
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let issuer = Issuer::parse("my-domain.zitadel.cloud")?;
//!     let verifier = Verifier::builder(issuer, ClientAuth::key_file("key.json")?).build()?;
//!     let server = HttpServer::new(move || {
//!         let auditors = RequireAuthorizationLayer::new(verifier.clone(), Requirement::role("auditor"));
//!         App::new()
//!             .app_data(web::Data::new(verifier.clone()))
//!             .route("/hello", web::get().to(hello))
//!             .route("/settings", web::get().to(settings))
//!             .service(web::scope("/reports").wrap(auditors).route("", web::get().to(hello)))
//!     });
//!     server.bind("127.0.0.1:8080")?.run().await?;
//!     Ok(())
//! }
//! ```
//!
//! An extractor behind the middleware reuses the middleware's caller: each request verifies its token once. The
//! middleware uses `actix-web-httpauth`; your own routes with `BearerAuth` continue to work.
//!
//! actix-web answers HEAD only if a route for HEAD is registered: register HEAD beside GET.
//!
//! Error bodies follow ZITADEL's guide for APIs; `VerifierBuilder::error_body` replaces them with a format of your own.
//! actix-web sets the limits of the request head and body: 96 header fields, 128 KiB, 5 s for the head of a
//! connection's first request.

mod event_target;
mod extract;
mod guard;
mod middleware;
mod rejection;
mod resource;

pub use event_target::event_target;
pub use extract::{Authorized, AuthorizedAs, MaybeAuthorized};
pub use guard::RoleGuard;
pub use middleware::RequireAuthorizationLayer;
pub use rejection::Rejection;
pub use resource::protected_resource_metadata;
pub use zitadel_introspect::{
    AccessToken, AuthError, Caller, Claims, ClientAuth, ConfigError, EventFeed, EventTarget,
    EventTargetError, FeedError, FeedStatus, InvalidToken, Issuer, IssuerError, JwtVerifierBuilder,
    OrganizationId, ProjectId, Reason, ReloadError, RequiredRole, Requirement, Role, RoleGrants, Scope,
    Shared, SharedSecrets, SharedStatus, Stats, Suspicion, TokenId, UserId, Verifier, VerifierBuilder,
};
#[cfg(feature = "test-util")]
pub use zitadel_introspect::{TestCaller, TestClock, TestTokens};
