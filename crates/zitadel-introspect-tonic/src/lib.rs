//! Trust ZITADEL access tokens in a tonic service.
//!
//! One layer guards a whole server. Each method has a requirement, set by the method's full name. **A method without a
//! requirement is denied**: a new method of a service is denied until you add a requirement.
//!
//! ```no_run
//! use tonic::{Request, Response, Status, transport::Server};
//! use zitadel_introspect_tonic::{
//!     Authorized, ClientAuth, Issuer, Methods, RequireAuthorizationLayer, Requirement, Verifier,
//! };
//!
//! async fn rename(request: Request<String>) -> Result<Response<()>, Status> {
//!     let caller = Authorized::of(&request)?;
//!     let editor = Requirement::role("editor").in_organization(request.get_ref());
//!     let caller = caller.require(&editor).await?;
//!     println!("renamed by {}", caller.user_id());
//!     Ok(Response::new(()))
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = Issuer::parse("my-domain.zitadel.cloud")?;
//! let verifier = Verifier::builder(issuer, ClientAuth::key_file("key.json")?).build()?;
//! let methods = Methods::new()
//!     .public("/tasks.v1.Tasks/Healthz")
//!     .require("/tasks.v1.Tasks/List", Requirement::any_caller())
//!     .require("/tasks.v1.Tasks/Add", Requirement::role("admin"))
//!     .public_health_and_reflection();
//! let server = Server::builder().layer(RequireAuthorizationLayer::new(verifier, methods)?);
//! # Ok(())
//! # }
//! ```
//!
//! Refusals are trailers-only answers with the texts of the other adapters, without prefix. Each carries a
//! `google.rpc.ErrorInfo` with a stable reason, and `UNAVAILABLE` a `google.rpc.RetryInfo` as well. The token comes from the `authorization` metadata only.
//!
//! The guard decides when a call begins. A stream may live longer than its caller's token: [`while_authorized`] ends
//! it.
//!
//! The layer guards a whole server. To guard one service only, pass `layer.layer(service)` to `add_service`; other
//! services on that server then have no guard.
//!
//! Caution, with or without this crate: tonic reports a stream of requests that its client has cancelled as a normal end of
//! the stream. If a stream must be applied completely or not at all, let the client send a final message, or use
//! a body that distinguishes the two cases (see this workspace's `task-api`).

mod extract;
mod layer;
mod methods;
mod status;
mod stream;

#[cfg(feature = "test-util")]
pub use extract::let_in;
pub use extract::{Authorized, AuthorizedAs, MaybeAuthorized};
pub use layer::{RequireAuthorization, RequireAuthorizationLayer};
pub use methods::{Methods, MethodsError};
pub use status::Rejection;
pub use stream::{WhileAuthorized, while_authorized};
pub use zitadel_introspect::{
    AccessToken, AuthError, Caller, Claims, ClientAuth, ConfigError, EventFeed, EventTarget,
    EventTargetError, FeedError, FeedStatus, InvalidToken, Issuer, IssuerError, JwtVerifierBuilder,
    OrganizationId, ProjectId, Reason, ReloadError, RequiredRole, Requirement, Role, RoleGrants, Scope,
    Shared, SharedSecrets, SharedStatus, Stats, Suspicion, TokenId, UserId, Verifier, VerifierBuilder,
};
#[cfg(feature = "test-util")]
pub use zitadel_introspect::{TestCaller, TestClock, TestTokens};
