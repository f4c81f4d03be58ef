//! What the instances of an API share of their knowledge of ZITADEL's tokens, on [Valkey](https://valkey.io) or Redis.
//!
//! A revocation that one instance learns of counts on all of them within a second, and a verdict that one has asked for
//! serves the others. Version 6.2 of Redis, or any of Valkey, is enough; plain requests and five small scripts, no
//! publish/subscribe. All keys of an issuer have one hash tag, so they lie on one node of a cluster.
//!
//! ```no_run
//! use zitadel_introspect::{ClientAuth, Issuer, Shared, SharedSecrets, Verifier};
//! use zitadel_introspect_valkey::Valkey;
//!
//! # fn example() -> Result<Verifier, zitadel_introspect::ConfigError> {
//! let store = Valkey::builder("rediss://cache.internal").password_file("/run/secrets/cache").build()?;
//! let shared = Shared::new(store, SharedSecrets::file("/run/secrets/shared")?);
//!
//! let auth = ClientAuth::key_file("key.json")?;
//! let verifier =
//!     Verifier::builder(Issuer::parse("my-domain.zitadel.cloud")?, auth).shared(shared).build()?;
//! # Ok(verifier)
//! # }
//! ```
//!
//! # What this crate does to the process
//!
//! - With `rediss://` it installs the provider `aws_lc_rs` of `rustls`, unless the program has installed one before.
//! - It holds one connection. No request waits for it but a cache miss, for at most 30 ms.

// The layers ("floors") of this crate, lowest first: a module imports from lower floors, or from its own folder.
// `.ci/floors` reads this list.
//
// floor: connection scripts
// floor: store
// floor: builder

mod builder;
mod connection;
mod scripts;
mod store;

pub use builder::ValkeyBuilder;
pub use store::Valkey;
