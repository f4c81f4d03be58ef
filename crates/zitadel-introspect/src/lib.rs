//! Trust ZITADEL access tokens in any Rust API.
//!
//! A [`Verifier`] takes the `Authorization` header of a request and a [`Requirement`], and yields a
//! [`Caller`] or an [`AuthError`] that is already a whole HTTP answer. Use it through an adapter for your
//! framework (`zitadel-introspect-axum`); this crate knows none.
//!
//! ```no_run
//! use zitadel_introspect::{ClientAuth, Issuer, Requirement, Verifier};
//!
//! # async fn example(header: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = Issuer::parse("my-domain.zitadel.cloud")?;
//! let verifier = Verifier::builder(issuer, ClientAuth::key_file("key.json")?).build()?;
//!
//! let caller = verifier.authorize([header], &Requirement::role("admin")).await?;
//! println!("hello {}", caller.claims().username().unwrap_or("nobody"));
//! # Ok(())
//! # }
//! ```
//!
//! A request passes one file after another: `bearer.rs` (header to [`AccessToken`]), `verifier.rs` and
//! `introspection.rs` (token to [`Claims`], RFC 7662), `requirement.rs` (may they?), and every refusal
//! leaves by `error.rs` (status, challenge, body, RFC 6750 section 3).
//!
//! Nobody gets in unless the whole chain said yes; an issuer that cannot answer is a 503, never a 401.
//!
//! Verdicts are held for 60 s unless set otherwise ([`Builder::cache_ttl`]): a revoked token works for at
//! most that long. Before a held verdict refuses for want of a role, the issuer is asked once more.

mod bearer;
mod verifier;
mod verdicts;
mod cache;
mod causes;
mod flight;
mod introspection;
mod jwt;
mod claims;
mod requirement;
mod error;

mod breaker;
mod builder;
mod client_auth;
mod clock;
mod config_error;
mod connector;
mod discovery;
pub mod echo;
mod engine;
mod http_client;
mod issuer;
mod issuer_error;
mod key_watch;
mod names;
mod protected_resource;
mod random;
mod runtime;
mod stats;
mod suspicion;
#[cfg(feature = "test-util")]
mod test_util;
mod turns;

pub use bearer::AccessToken;
pub use builder::Builder;
pub use claims::{Claims, RoleGrants};
pub use client_auth::ClientAuth;
pub use config_error::ConfigError;
pub use error::{AuthError, InvalidToken, Reason};
pub use issuer::Issuer;
pub use issuer_error::IssuerError;
pub use key_watch::ReloadError;
pub use names::{OrganizationId, ProjectId, Role, Scope};
pub use protected_resource::ResourceMetadata;
pub use requirement::{RequiredRole, Requirement};
pub use stats::Stats;
pub use suspicion::Suspicion;
#[cfg(feature = "test-util")]
pub use test_util::{TestCaller, TestClock, TestTokens};
pub use verifier::{Caller, Verifier};
