#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

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
