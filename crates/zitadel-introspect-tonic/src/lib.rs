#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

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
