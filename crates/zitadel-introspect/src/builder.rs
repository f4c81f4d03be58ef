//! The builders of verifiers: what a user may set, with defaults and units.

mod check;
#[cfg(feature = "management")]
pub(crate) mod management;
mod network;
pub(crate) mod relay;
mod settings;

use std::{fmt, time::Duration};

use self::settings::Settings;
use crate::{
    error::config::ConfigError,
    feed::settings::EventFeed,
    issuer::{client_auth::ClientAuth, name::Issuer},
    names::ProjectId,
    peers::settings::Shared,
    presentation::presentation_setters,
    verifier::Verifier,
};

/// Makes a [`Verifier`] that asks the issuer; from [`Verifier::builder`].
pub struct VerifierBuilder(Settings);

/// Makes a [`Verifier`] that only reads JWTs; from [`Verifier::jwt_builder_without_revocation`].
pub struct JwtVerifierBuilder(Settings);

impl Verifier {
    /// Starts with the required settings: the issuer of the tokens, and our client authentication.
    #[must_use]
    pub fn builder(issuer: Issuer, client_auth: ClientAuth) -> VerifierBuilder {
        VerifierBuilder(Settings::new(issuer, Some(client_auth)))
    }

    /// A verifier that only reads JWTs, with the issuer's published keys and an event feed, for the API of one project.
    ///
    /// It needs no API application and never asks the issuer about a token. The feed tells what has ended: a JWT that an
    /// event has ended is refused with 401. While the feed is not current, or does not know all events since the JWT was
    /// issued, the answer is 503. Opaque tokens and personal access tokens are refused.
    #[must_use]
    pub fn jwt_builder(issuer: Issuer, project: impl Into<ProjectId>, feed: EventFeed) -> JwtVerifierBuilder {
        let mut settings = Settings::new(issuer, None);
        settings.local.project = Some(project.into());
        settings.feed = Some(feed);
        settings.local.relies_on_feed = true;
        JwtVerifierBuilder(settings)
    }

    /// A verifier that only reads JWTs, with the issuer's published keys, for the API of one project.
    ///
    /// The verifier needs no credentials and never asks the issuer about a token, so **it cannot see that a token was
    /// revoked, that its user was deactivated, or that a role was taken away**, until the token expires (12 hours
    /// unless set otherwise in ZITADEL). Opaque tokens and personal access tokens are refused. See
    /// [`VerifierBuilder::verify_jwts_locally_without_revocation`] for local verification and questions together.
    #[must_use]
    pub fn jwt_builder_without_revocation(
        issuer: Issuer,
        project: impl Into<ProjectId>,
    ) -> JwtVerifierBuilder {
        let mut settings = Settings::new(issuer, None);
        settings.local.project = Some(project.into());
        JwtVerifierBuilder(settings)
    }
}

/// The setters of everything that reaches the issuer.
macro_rules! network_setters {
    () => {
        /// Reaches the issuer by another origin than its public origin, such as `http://zitadel:8080` inside a compose
        /// network.
        ///
        /// Discovery and all endpoints are asked there, with ZITADEL's instance-host and public-host headers
        /// naming the issuer; the issuer check and the assertion's audience keep the public origin. Plain http
        /// needs [`dangerous_allow_http`](Self::dangerous_allow_http) unless the host is a loopback one.
        #[must_use]
        pub fn connect_to(mut self, origin: impl Into<String>) -> Self {
            self.0.connect_to = Some(origin.into());
            self
        }

        /// Allows plain http towards hosts that are not loopback. Tokens then travel unencrypted: only for networks
        /// that you trust completely. Logs a warning when the verifier is built.
        #[must_use]
        pub fn dangerous_allow_http(mut self) -> Self {
            self.0.allow_http = true;
            self
        }

        /// The longest time to open one connection to the issuer. 2 s unless set, or the whole time-out if that is
        /// less.
        #[must_use]
        pub fn connect_timeout(mut self, timeout: Duration) -> Self {
            self.0.connect_timeout = Some(timeout);
            self
        }

        /// An HTTP proxy for requests to the issuer, such as `http://proxy.example:3128`. Proxy environment variables
        /// are ignored; loopback addresses are never asked through a proxy.
        #[must_use]
        pub fn proxy(mut self, proxy: impl Into<String>) -> Self {
            self.0.proxy = Some(proxy.into());
            self
        }

        /// Trusts the certificates in this PEM text as well as those of the operating system.
        #[must_use]
        pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
            self.0.root_certificates.push(pem.into());
            self
        }

        /// A header that goes with each request to the issuer. Its value is never logged.
        #[must_use]
        pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self.0.headers.push((name.into(), value.into()));
            self
        }

        /// A clock that a test moves, for the expiry of tokens, the age of verdicts and every pause.
        #[cfg(feature = "test-util")]
        #[must_use]
        pub fn clock(mut self, clock: &crate::TestClock) -> Self {
            self.0.clock = clock.as_clock();
            self
        }
    };
}
use network_setters;

/// The setters of verifiers.
macro_rules! verifier_setters {
    () => {
        network_setters!();

        /// The longest time that a caller waits for a verdict, including the queue, one retry and the last byte of the
        /// answer. 5 s unless set, 10 s at most.
        #[must_use]
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.0.timeout = timeout;
            self
        }

        /// The largest answer that is read, in bytes: 1 MiB unless set, 64 MiB at most. ZITADEL puts a user's metadata
        /// into the answer about each of the user's personal access tokens, and it allows more metadata than this
        /// limit. A request of such a user is answered with 503.
        #[must_use]
        pub fn max_answer_bytes(mut self, bytes: usize) -> Self {
            self.0.max_answer_bytes = bytes;
            self
        }

        /// Refuses tokens whose `aud` lacks this client id or project id. If this is not set, only ZITADEL's own check
        /// applies: ZITADEL answers inactive for a token that is for neither this API nor its project, but it accepts
        /// every personal access token of the instance for every API. An issuer other than ZITADEL may check nothing
        /// and may call a refresh token active: set the audience for such an issuer.
        #[must_use]
        pub fn audience(mut self, audience: impl Into<String>) -> Self {
            self.0.audience = Some(audience.into());
            self
        }

        /// The most bytes that cached good verdicts take together. The default is 4 KiB for each verdict that
        /// [`cache_capacity`](crate::VerifierBuilder::cache_capacity) allows. The value must be at least 16 times
        /// [`max_answer_bytes`](Self::max_answer_bytes), so that the cache can hold the verdict of the largest answer.
        /// The least used verdicts are removed first.
        #[must_use]
        pub fn cache_bytes(mut self, bytes: usize) -> Self {
            self.0.cache.bytes = Some(bytes);
            self
        }

        /// Holds no verdicts: each request asks the issuer, or joins a question about its token that is in flight.
        #[must_use]
        pub fn cache_off(mut self) -> Self {
            self.0.cache.is_off = true;
            self
        }

        presentation_setters!(0.presentation);

        /// Checks the settings and makes the verifier. Makes no network call: the issuer is asked on first use, or by
        /// [`Verifier::check`].
        ///
        /// # Errors
        ///
        /// [`ConfigError`] for the first setting that cannot be used, contradicts another or has no effect beside another.
        pub fn build(self) -> Result<Verifier, ConfigError> {
            self.0.build()
        }
    };
}

impl JwtVerifierBuilder {
    verifier_setters!();
}

impl VerifierBuilder {
    verifier_setters!();

    /// Signs a new assertion, with a `jti`, for each question (RFC 7523 section 3, item 7).
    ///
    /// For issuers that accept each assertion only once. ZITADEL accepts the same assertion repeatedly within one hour,
    /// and one signature per hour is cheaper. Has an effect only with a key, not with a secret.
    #[must_use]
    pub fn fresh_assertions(mut self) -> Self {
        self.0.is_single_use = true;
        self
    }

    /// Takes roles from the claim of this project instead of the generic one, which ZITADEL fills with
    /// the roles of the asking API's project.
    #[must_use]
    pub fn project(mut self, project: impl Into<ProjectId>) -> Self {
        self.0.project = Some(project.into());
        self
    }

    /// How long a good verdict is held, at most until the token's own end: **a revoked token works for at most
    /// this long**, and so does a role that was taken away. 60 s unless set, 1 hour at most.
    #[must_use]
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.0.cache.ttl = Some(ttl);
        self
    }

    /// How many good verdicts are held: 50,000 unless set, at about 2 KiB each.
    #[must_use]
    pub fn cache_capacity(mut self, verdicts: usize) -> Self {
        self.0.cache.capacity = Some(verdicts);
        self
    }

    /// How long a bad verdict is held. 5 s unless set, 10 s at most, because ZITADEL also answers inactive when ZITADEL
    /// itself has a problem.
    #[must_use]
    pub fn negative_cache_ttl(mut self, ttl: Duration) -> Self {
        self.0.cache.negative_ttl = Some(ttl);
        self
    }

    /// How many bad verdicts are held: 5,000 unless set. They cannot push out good ones.
    #[must_use]
    pub fn negative_cache_capacity(mut self, verdicts: usize) -> Self {
        self.0.cache.negative_capacity = Some(verdicts);
        self
    }

    /// The minimum average interval, in the long run, between questions about one token that are caused by a held
    /// verdict that does not meet a requirement. 1 s unless set.
    ///
    /// Up to five such questions may follow each other at once. So a role that was granted a moment ago works on the
    /// next request, even directly after a denial; ZITADEL itself shows a grant within 50 ms. A caller without the role
    /// still cannot flood the issuer with questions.
    #[must_use]
    pub fn denial_refresh_interval(mut self, interval: Duration) -> Self {
        self.0.cache.denial_interval = Some(interval);
        self
    }

    /// Renews verdicts that are in use this long before they lapse, so that no request waits; at most 16 at once. Off
    /// unless set.
    #[must_use]
    pub fn refresh_ahead(mut self, before_the_end: Duration) -> Self {
        self.0.cache.refresh_ahead = Some(before_the_end);
        self
    }

    /// While the issuer fails, expired verdicts are used for this much longer. A stale verdict is never used after the
    /// token's own expiry, or for a requirement that asks for a fresh verdict. Off unless set, 1 hour at most. A token
    /// that was revoked shortly before an outage then works for that much longer.
    #[must_use]
    pub fn serve_stale_on_error(mut self, longest: Duration) -> Self {
        self.0.cache.stale_for = (!longest.is_zero()).then_some(longest);
        self
    }

    /// Reads ZITADEL's events, so that a revoked token dies within a second and an introspection is asked for once an
    /// hour: see [`EventFeed`]. Off unless set.
    ///
    /// Give [`project`](Self::project) as well: nothing is held longer before the id of our project is known. Without it
    /// the feed looks for the event that made our application.
    #[must_use]
    pub fn event_feed(mut self, feed: EventFeed) -> Self {
        self.0.feed = Some(feed);
        self
    }

    /// Shares evictions and verdicts with the other instances of this API: see [`Shared`]. Off unless set.
    ///
    /// Beside [`event_feed`](Self::event_feed), one instance at a time reads the events for all. Without it, this instance
    /// relies on another one, or on a relay, to read them.
    #[must_use]
    pub fn shared(mut self, shared: Shared) -> Self {
        self.0.shared = Some(shared);
        self
    }

    /// With an event feed, a verdict answers for so long after its question, at most: 1 hour unless set, 24 hours at most.
    /// It bounds what no event tells: an organization's removal for its users, or a narrowed project grant.
    #[must_use]
    pub fn longest_hold(mut self, longest: Duration) -> Self {
        self.0.cache.longest_hold = Some(longest);
        self
    }

    /// Verifies JWTs locally with the issuer's published keys instead of asking the issuer; the issuer is still asked
    /// about opaque tokens. **Revocation, deactivation and changes of roles are not seen** until a JWT expires, except
    /// for requirements with [`fresh_within`](crate::Requirement::fresh_within) and with
    /// [`confirm_local_verdicts_within`](Self::confirm_local_verdicts_within).
    ///
    /// Roles are taken from the claim of `project` only, and the token must be for that project unless
    /// [`audience`](Self::audience) says otherwise. A client must have asked for the scopes
    /// `urn:zitadel:iam:org:project:id:{project}:aud` and `urn:zitadel:iam:org:projects:roles`.
    #[must_use]
    pub fn verify_jwts_locally_without_revocation(mut self, project: impl Into<ProjectId>) -> Self {
        self.0.local.wish(project.into());
        self
    }

    /// Reads JWTs locally, with the issuer's published keys, for the API of one project: they cost no question. Needs
    /// [`event_feed`](Self::event_feed), or [`shared`](Self::shared) with another instance that has one, which tells what
    /// has ended.
    ///
    /// A JWT is read locally if the feed is current, and knows all events since a minute before the JWT was issued, and none
    /// of them has ended it. The issuer is asked about every other JWT: about all of them until the feed's first poll, and
    /// about older ones while the past is read, which takes about a minute for 13 hours.
    #[must_use]
    pub fn verify_jwts_locally(mut self, project: impl Into<ProjectId>) -> Self {
        self.0.local.wish(project.into());
        self.0.local.relies_on_feed = true;
        self
    }

    /// With local verification: the issuer is also asked about each JWT in the background. If the issuer has not
    /// answered after this time, the next request waits for the answer. A JWT that was revoked before it was first seen
    /// therefore works for at most this long. After the issuer's first answer, the JWT is cached and asked about like
    /// an opaque token.
    #[must_use]
    pub fn confirm_local_verdicts_within(mut self, within: Duration) -> Self {
        self.0.confirm_within = Some(within);
        self
    }
}

impl fmt::Debug for VerifierBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("VerifierBuilder").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}

impl fmt::Debug for JwtVerifierBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JwtVerifierBuilder").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}
