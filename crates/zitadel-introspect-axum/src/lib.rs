//! Trust ZITADEL access tokens in an axum API.
//!
//! Three lines turn a public handler into a protected one: the verifier as state, an extractor in the
//! handler, and, for whole routers, a layer.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use zitadel_introspect_axum::{
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
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = Issuer::parse("my-domain.zitadel.cloud")?;
//! let verifier = Verifier::builder(issuer, ClientAuth::key_file("key.json")?).build()?;
//! let reports = Router::new()
//!     .route("/reports", get(hello))
//!     .route_layer(RequireAuthorizationLayer::new(verifier.clone(), Requirement::role("auditor")));
//! let app: Router = Router::new()
//!     .route("/hello", get(hello))
//!     .route("/settings", get(settings))
//!     .merge(reports)
//!     .with_state(verifier);
//! # Ok(())
//! # }
//! ```
//!
//! An extractor behind the layer reuses the layer's caller: the token is verified once per request.
//!
//! Add the layer with `Router::route_layer` or `MethodRouter::layer`. With `MethodRouter::route_layer` a wrong method
//! is answered with 405 before the token is verified.
//!
//! Error bodies follow ZITADEL's guide for APIs; `VerifierBuilder::error_body` replaces them with a format of your own.
//! Your server sets the limits of the request head and body.

mod event_target;
mod extract;
mod layer;
mod rejection;
mod resource;

pub use event_target::event_target;
pub use extract::{Authorized, AuthorizedAs, MaybeAuthorized};
pub use layer::{RequireAuthorization, RequireAuthorizationLayer};
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

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
