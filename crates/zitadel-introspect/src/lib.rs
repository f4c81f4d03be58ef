#![doc = include_str!("../README.md")]
//!
//! # The path of a request
//!
//! | step | where |
//! |---|---|
//! | header to [`AccessToken`] (RFC 6750 section 2.1) | `token.rs` |
//! | entry point, and its result | `verifier.rs`, `caller.rs`; both use `judge.rs`, which makes the refusals |
//! | the verdict on the token: held, in flight, or asked for | `verdict/` |
//! | may this verdict answer? | `verdict/freshness.rs` |
//! | the question to the issuer (RFC 7662), its keys and its metadata | `issuer/` |
//! | local verification of a JWT (RFC 7519) | `jwt.rs` |
//! | [`Claims`] with ZITADEL's roles | `claims/` |
//! | does the caller meet the requirement? | `requirement.rs` |
//! | status, challenge and body of every refusal (RFC 6750 section 3) | `error/` |
//!
//! # The path of an event
//!
//! With an [`EventFeed`] the library reads ZITADEL's events: a revoked token is refused within a second, and a live one is
//! asked about once an hour. An [`EventTarget`] takes ZITADEL's webhooks instead.
//!
//! | step | where |
//! |---|---|
//! | the event search, in order and without gaps; or a signed webhook | `feed/`; `event_target.rs` |
//! | which verdicts the event ends | `events/table.rs`, `verdict/evict.rs` |
//! | remembered, so that no answer from before it is held | `verdict/ledger.rs`; for JWTs `verdict/memory.rs` |
//! | removed from the cache | `verdict/cache.rs` |
//! | until when all events are known | `verdict/fed.rs`, read by `verdict/freshness.rs` |
//!
//! Several instances may share what they learn, by a [`SharedStore`](store::SharedStore): see [`Shared`].
//!
//! | step | where |
//! |---|---|
//! | an eviction is published, and read by the others | `verdict/shared/outbox.rs`, `peers/publish.rs`; `peers/read.rs`, `verdict/shared/log.rs` |
//! | one instance reads the events for all | `peers/lead.rs`, `feed/for_all.rs` |
//! | a verdict of another instance | `verdict/shared.rs`, sealed by `seal.rs` |
#![cfg_attr(docsrs, feature(doc_cfg))]

// The layers ("floors") of this crate, lowest first: a module imports from lower floors, or from its own folder.
// `.ci/floors` reads this list.
//
// floor: names clock random echo crypto background store events::event
// floor: stats
// floor: error
// floor: issuer::name token
// floor: claims resource
// floor: requirement presentation
// floor: issuer
// floor: jwt testing::script seal
// floor: diagnosis verdict
// floor: events
// floor: peers
// floor: feed
// floor: assembly
// floor: judge
// floor: caller
// floor: verifier adapter
// floor: event_target
// floor: builder testing

mod assembly;
mod background;
mod builder;
mod caller;
mod claims;
mod clock;
mod crypto;
mod diagnosis;
pub mod echo;
mod error;
mod event_target;
mod events;
mod feed;
mod issuer;
mod judge;
mod jwt;
mod names;
mod peers;
mod presentation;
mod random;
mod requirement;
mod resource;
mod seal;
mod stats;
pub mod store;
#[cfg(feature = "test-util")]
mod testing;
mod token;
mod verdict;
mod verifier;

/// For writers of adapters and stores. [`AuthError::miswired`], [`AuthError::nothing_required`],
/// [`Verifier::authorize_held`] and [`Verifier::has_verified`] are theirs as well.
pub mod adapter {
    pub use crate::{caller::CallerAs, resource::ResourceMetadata, seal::secret_line};
}

#[cfg(feature = "management")]
pub use builder::management::{Management, ManagementBuilder};
pub use builder::{
    JwtVerifierBuilder, VerifierBuilder,
    relay::{Relay, RelayBuilder},
};
pub use caller::Caller;
pub use claims::{Claims, RoleGrants};
#[cfg(feature = "test-util")]
pub use clock::TestClock;
pub use diagnosis::Suspicion;
#[cfg(feature = "management")]
pub use error::management::{ManagementError, Refusal, RefusalKind};
pub use error::{AuthError, InvalidToken, Reason, config::ConfigError, feed::FeedError, issuer::IssuerError};
pub use event_target::{EventTarget, EventTargetError};
pub use feed::settings::EventFeed;
pub use issuer::{client_auth::ClientAuth, key_watch::ReloadError, name::Issuer};
pub use names::{OrganizationId, ProjectId, Role, Scope, TokenId, UserId};
pub use peers::settings::Shared;
pub use requirement::{RequiredRole, Requirement};
pub use seal::SharedSecrets;
pub use stats::Stats;
#[cfg(feature = "test-util")]
pub use testing::{TestCaller, TestTokens};
pub use token::AccessToken;
pub use verdict::{followed::FeedStatus, shared::SharedStatus};
pub use verifier::Verifier;
