//! Reads the issuer's events for other instances.

use std::{fmt, time::Duration};

use crate::{
    builder::{network_setters, settings::Settings},
    error::config::ConfigError,
    event_target::EventTarget,
    feed::settings::EventFeed,
    issuer::name::Issuer,
    peers::settings::Shared,
    store::StoreError,
    verdict::{followed::FeedStatus, shared::SharedStatus},
    verifier::Verifier,
};

/// Reads ZITADEL's events and tells them to the instances of all APIs that share a store, so that none of these needs the
/// powerful credential of the feed. It knows no API and verifies no token.
///
/// One relay serves every API of an issuer. Two of them may run at once: one reads, and the other takes over when it fails.
///
/// ```no_run
/// # use zitadel_introspect::{ConfigError, EventFeed, Issuer, Relay, Shared};
/// # fn example(shared: Shared) -> Result<Relay, ConfigError> {
/// let feed = EventFeed::token_file("/run/secrets/events-token")?;
/// let relay = Relay::builder(Issuer::parse("my-domain.zitadel.cloud")?, feed, shared).build()?;
/// # Ok(relay)
/// # }
/// ```
#[derive(Clone)]
pub struct Relay(Verifier);

/// Makes a [`Relay`].
pub struct RelayBuilder(Settings);

impl Relay {
    /// Starts with the required settings.
    #[must_use]
    pub fn builder(issuer: Issuer, feed: EventFeed, shared: Shared) -> RelayBuilder {
        let mut settings = Settings::new(issuer, None);
        (settings.feed, settings.shared) = (Some(feed), Some(shared.evictions_only()));
        RelayBuilder(settings)
    }

    /// How the event feed fares.
    #[must_use]
    pub fn event_feed(&self) -> Option<FeedStatus> {
        self.0.event_feed()
    }

    /// How the shared store fares.
    #[must_use]
    pub fn shared(&self) -> Option<SharedStatus> {
        self.0.shared()
    }

    /// As [`Verifier::check_shared`].
    ///
    /// # Errors
    ///
    /// As [`Verifier::check_shared`].
    pub async fn check_shared(&self) -> Result<Vec<String>, StoreError> {
        self.0.check_shared().await.map(Option::unwrap_or_default)
    }

    /// The issuer whose events are read.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        self.0.issuer()
    }

    /// Takes ZITADEL's webhooks as well, with the signing keys of the target.
    ///
    /// # Errors
    ///
    /// As [`EventTarget::new`].
    pub fn event_target<K: Into<String>>(
        &self,
        signing_keys: impl IntoIterator<Item = K>,
    ) -> Result<EventTarget, ConfigError> {
        EventTarget::new(&self.0, signing_keys)
    }
}

impl RelayBuilder {
    network_setters!();

    /// Checks the settings and starts to read.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting that cannot be used.
    pub fn build(self) -> Result<Relay, ConfigError> {
        self.0.build().map(Relay)
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Relay").field("issuer", self.0.issuer()).finish_non_exhaustive()
    }
}

impl fmt::Debug for RelayBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RelayBuilder").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}
