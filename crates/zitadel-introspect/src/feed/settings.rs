//! The settings of the event feed.

use std::{fmt, path::Path, time::Duration};

use crate::{
    echo,
    error::config::ConfigError,
    feed::credentials::Credentials,
    issuer::client_auth::{KeyFile, Owner, read_small},
};

/// The shortest and the longest interval between two polls.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
const INTERVAL: Duration = Duration::from_millis(500);

/// Reads what ZITADEL tells of its changes, so that verdicts may be held for an hour and still end within a second:
/// [`VerifierBuilder::event_feed`](crate::VerifierBuilder::event_feed).
///
/// The feed asks ZITADEL's event search every half second. An event that ends or narrows tokens evicts their verdicts at
/// once; all other verdicts are known to be true until the moment of that search, so they need not be asked about again.
/// If the feed is interrupted, verdicts lapse as without it: [`cache_ttl`](crate::VerifierBuilder::cache_ttl) after the
/// last search.
///
/// **The credential is powerful.** It belongs to a service user with the permission `events.read` (of ZITADEL's own roles
/// `IAM_OWNER_VIEWER` has it) and reads every event of the instance, password hashes included. Keep its file at mode
/// 0600.
///
/// ```no_run
/// use zitadel_introspect::{ClientAuth, EventFeed, Issuer, Verifier};
///
/// let auth = ClientAuth::key_file("key.json")?;
/// let verifier = Verifier::builder(Issuer::parse("my-domain.zitadel.cloud")?, auth)
///     .project("400949520696937510")
///     .event_feed(EventFeed::token_file("/run/secrets/events-token")?)
///     .build()?;
/// # Ok::<(), zitadel_introspect::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct EventFeed {
    pub(crate) credentials: Credentials,
    pub(crate) interval: Duration,
    pub(crate) follows_claims: bool,
    pub(crate) holds_action_claims: bool,
}

impl EventFeed {
    /// With the personal access token of a service user, from a file. The file is read again when ZITADEL refuses the
    /// token. Logs a warning if other users of the machine can read it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] if the file cannot be read, is larger than 64 KiB, or holds no token. The message never
    /// repeats what it holds.
    pub fn token_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let invalid = |problem: String| {
            let remedy = "give the path of a file that holds a personal access token and nothing else";
            ConfigError::invalid("event_feed", problem, remedy)
        };
        let shown = echo::path(path).unwrap_or_else(|| "the token file".to_owned());
        let unreadable = |error: std::io::Error| invalid(format!("{shown} cannot be read ({error})"));
        let path = std::path::absolute(path).map_err(unreadable)?;
        let (text, others_can_read) = read_small(&path).map_err(unreadable)?;
        Credentials::token(&text).ok_or_else(|| invalid(format!("{shown} holds no token")))?;
        if others_can_read {
            tracing::warn!(path = shown, "others can read the token of the event feed; set its mode to 0600");
        }
        Ok(Self::new(Credentials::TokenFile(path)))
    }

    /// With the key.json of a service user (RFC 7523 section 2.1). The tokens that it buys are renewed before they
    /// lapse. Logs a warning if other users of the machine can read it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`] if the file is missing, unreadable, larger than 64 KiB, not the key of a service user, or
    /// holds no usable RSA key.
    pub fn key_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let (key, file) = KeyFile::open(path.as_ref(), Owner::ServiceUser)?;
        file.iter().for_each(KeyFile::warn_if_others_can_read);
        Ok(Self::new(Credentials::Key(key)))
    }

    /// How often the event search is asked: every 500 ms unless set, from 100 ms to 10 s. One search costs ZITADEL about
    /// as much as two introspections, whatever the number of tokens; two are asked each time.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Does not follow what only changes claims, such as a name or metadata: a third search, every 5 s. Such claims are
    /// then as old as [`longest_hold`](crate::VerifierBuilder::longest_hold) allows.
    #[must_use]
    pub fn without_claims_events(mut self) -> Self {
        self.follows_claims = false;
        self
    }

    /// Also holds answers with members that an action has added. No event tells when an action would answer otherwise:
    /// by default such answers are held for [`cache_ttl`](crate::VerifierBuilder::cache_ttl) alone.
    #[must_use]
    pub fn hold_action_claims(mut self) -> Self {
        self.holds_action_claims = true;
        self
    }

    fn new(credentials: Credentials) -> Self {
        Self { credentials, interval: INTERVAL, follows_claims: true, holds_action_claims: false }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let (least, most) = INTERVALS;
        if (least..=most).contains(&self.interval) {
            return Ok(());
        }
        let problem = format!("the interval {:?} is not within {least:?} and {most:?}", self.interval);
        Err(ConfigError::invalid("event_feed", problem, "choose an interval within these bounds"))
    }
}

impl fmt::Debug for EventFeed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EventFeed").field("interval", &self.interval).finish_non_exhaustive()
    }
}
