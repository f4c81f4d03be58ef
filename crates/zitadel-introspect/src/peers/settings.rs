//! The settings of what instances share.

use std::{fmt, sync::Arc};

use crate::{seal::SharedSecrets, store::SharedStore};

/// What several instances of an API share: a revocation that one of them learns of counts on all within a second, and a
/// verdict that one has asked for serves the others. [`VerifierBuilder::shared`](crate::VerifierBuilder::shared).
///
/// The store carries a log of evictions, which each instance reads ten times a second, and verdicts. Everything in it is
/// sealed with a secret that all instances have. Who controls the store can undo the speed of revocation, back to
/// [`cache_ttl`](crate::VerifierBuilder::cache_ttl), and can never make a verdict; who has the secret as well can.
///
/// While the store fails, a request costs what it costs without one: nothing is shared, and verdicts that events prolong
/// lapse `cache_ttl` after the last read.
///
/// With `zitadel-introspect-valkey`, two lines switch it on:
///
/// ```ignore
/// let store = Valkey::new("rediss://cache.internal")?;
/// let builder = builder.shared(Shared::new(store, SharedSecrets::file("shared-secret")?));
/// ```
#[derive(Clone)]
pub struct Shared {
    pub(crate) store: Arc<dyn SharedStore>,
    pub(crate) secrets: SharedSecrets,
    pub(crate) shares_verdicts: bool,
    pub(crate) needs_claims: bool,
}

impl Shared {
    /// With a store and the secrets that all instances have.
    pub fn new(store: impl SharedStore, secrets: SharedSecrets) -> Self {
        Self::with(Arc::new(store), secrets)
    }

    /// As [`new`](Self::new), with a store that others have as well.
    pub fn with(store: Arc<dyn SharedStore>, secrets: SharedSecrets) -> Self {
        Self { store, secrets, shares_verdicts: true, needs_claims: true }
    }

    /// Shares evictions and no verdicts: for a store that strangers use as well, who could see which verdicts are used
    /// when, although not whose they are.
    #[must_use]
    pub fn evictions_only(mut self) -> Self {
        self.shares_verdicts = false;
        self
    }

    /// Is satisfied with a reader of events that does not follow what only changes claims
    /// ([`EventFeed::without_claims_events`](crate::EventFeed::without_claims_events)).
    #[must_use]
    pub fn without_claims_events(mut self) -> Self {
        self.needs_claims = false;
        self
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("store", &self.store).finish_non_exhaustive()
    }
}
