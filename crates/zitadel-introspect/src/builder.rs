//! What a user may set, with defaults and units.

mod bounds;
mod way;

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderValue;

use crate::{
    cache::CacheSettings,
    claims::Claims,
    client_auth::ClientAuth,
    clock::Clock,
    config_error::ConfigError,
    echo,
    engine::{Engines, Recipe},
    error::{AuthError, ErrorBody, Presentation},
    issuer::Issuer,
    names::ProjectId,
    protected_resource::ProtectedResource,
    verdicts::VerdictSettings,
    verifier::{Source, Verifier},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const CACHE_TTL: Duration = Duration::from_secs(60);
const CACHE_CAPACITY: usize = 50_000;
/// Twice what a verdict takes as a rule.
const BYTES_PER_VERDICT: usize = 4 * 1024;
/// A small cache holds a large verdict all the same.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
const NEGATIVE_CAPACITY: usize = 5_000;
const DENIAL_INTERVAL: Duration = Duration::from_secs(1);
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Makes a [`Verifier`]; from [`Verifier::builder`].
pub struct Builder {
    issuer: Issuer,
    client_auth: Option<ClientAuth>,
    connect_to: Option<String>,
    allow_http: bool,
    timeout: Duration,
    connect_timeout: Option<Duration>,
    max_answer_bytes: usize,
    is_single_use: bool,
    audience: Option<String>,
    project: Option<ProjectId>,
    proxy: Option<String>,
    root_certificates: Vec<Vec<u8>>,
    headers: Vec<(String, String)>,
    presentation: PresentationSettings,
    cache: CacheWishes,
    local_project: Option<ProjectId>,
    /// A second call named another project.
    has_two_local_projects: bool,
    confirm_within: Option<Duration>,
    clock: Clock,
}

/// What was said about the cache; what was not has a default.
#[derive(Default)]
struct CacheWishes {
    is_off: bool,
    ttl: Option<Duration>,
    capacity: Option<usize>,
    bytes: Option<usize>,
    negative_ttl: Option<Duration>,
    negative_capacity: Option<usize>,
    denial_interval: Option<Duration>,
    refresh_ahead: Option<Duration>,
    stale_for: Option<Duration>,
}

/// How errors look.
#[derive(Default)]
pub(crate) struct PresentationSettings {
    pub(crate) realm: Option<String>,
    pub(crate) resource: Option<(String, Vec<String>)>,
    pub(crate) error_body: Option<(String, RenderBody)>,
}

pub(crate) type RenderBody = Box<dyn Fn(&AuthError) -> String + Send + Sync>;

impl Builder {
    pub(crate) fn new(issuer: Issuer, client_auth: Option<ClientAuth>) -> Self {
        Self {
            issuer,
            client_auth,
            connect_to: None,
            allow_http: false,
            timeout: TIMEOUT,
            connect_timeout: None,
            max_answer_bytes: MAX_ANSWER_BYTES,
            is_single_use: false,
            audience: None,
            project: None,
            proxy: None,
            root_certificates: Vec::new(),
            headers: Vec::new(),
            presentation: PresentationSettings::default(),
            cache: CacheWishes::default(),
            local_project: None,
            has_two_local_projects: false,
            confirm_within: None,
            clock: Clock::default(),
        }
    }

    /// Reaches the issuer by another origin than its public one, such as `http://zitadel:8080` inside a
    /// compose network.
    ///
    /// Discovery and all endpoints are asked there, with ZITADEL's instance-host and public-host headers
    /// naming the issuer; the issuer check and the assertion's audience keep the public origin. Plain http
    /// needs [`dangerous_allow_http`](Self::dangerous_allow_http) unless the host is a loopback one.
    #[must_use]
    pub fn connect_to(mut self, origin: impl Into<String>) -> Self {
        self.connect_to = Some(origin.into());
        self
    }

    /// Allows plain http towards hosts that are not loopback. Tokens then travel in the clear: only for
    /// networks that you trust whole. Logs a warning when the verifier is built.
    #[must_use]
    pub fn dangerous_allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }

    /// The longest a caller waits for a verdict in all: a place in the queue, one retry and the last byte
    /// included. 5 s unless set, 10 s at most.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The longest one connection to the issuer may take. 2 s unless set, or the whole time-out if that is less.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// The largest answer that is read, in bytes: 1 MiB unless set, 64 MiB at most. A user's metadata is part of the
    /// answer about each of their personal access tokens, and ZITADEL allows more than that; such a user meets 503.
    #[must_use]
    pub fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.max_answer_bytes = bytes;
        self
    }

    /// Signs an assertion of its own, with a `jti`, for each question (RFC 7523 section 3, item 7).
    ///
    /// For issuers that refuse an assertion which they have seen before. ZITADEL takes one as often as it comes within
    /// its hour, and one signature an hour is cheaper. Of effect with a key only, not with a secret.
    #[must_use]
    pub fn fresh_assertions(mut self) -> Self {
        self.is_single_use = true;
        self
    }

    /// Refuses tokens whose `aud` lacks this client id or project id. Unset, ZITADEL's own check stands:
    /// it answers inactive for a token that is for neither this API nor its project, but counts every
    /// personal access token of the instance as for everybody. An issuer other than ZITADEL may check nothing, and call a
    /// refresh token active: with such an issuer, set it.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Takes roles from the claim of this project instead of the generic one, which ZITADEL fills with
    /// the roles of the asking API's project.
    #[must_use]
    pub fn project(mut self, project: impl Into<ProjectId>) -> Self {
        self.project = Some(project.into());
        self
    }

    /// An HTTP proxy for the way to the issuer, such as `http://proxy.example:3128`. Proxies of the
    /// environment are not used; loopback addresses are never asked through a proxy.
    #[must_use]
    pub fn proxy(mut self, proxy: impl Into<String>) -> Self {
        self.proxy = Some(proxy.into());
        self
    }

    /// Trusts the certificates in this PEM text as well as those of the operating system.
    #[must_use]
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates.push(pem.into());
        self
    }

    /// A header that goes with each request to the issuer. Its value is never logged.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The `realm` of each challenge (RFC 9110 section 11.5).
    #[must_use]
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.presentation.realm = Some(realm.into());
        self
    }

    /// The API's own public address and the scopes that it knows, for [RFC 9728]: an adapter's ready-made
    /// route then describes the API, and each challenge says where. Never taken from a request.
    ///
    /// [RFC 9728]: https://www.rfc-editor.org/rfc/rfc9728
    #[must_use]
    pub fn resource<S: Into<String>>(
        mut self,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = S>,
    ) -> Self {
        self.presentation.resource = Some((resource.into(), scopes.into_iter().map(Into::into).collect()));
        self
    }

    /// Renders the bodies of errors in a form of your own; status and headers stay.
    ///
    /// ```
    /// # use zitadel_introspect::{Builder, ClientAuth, Issuer, Verifier};
    /// # fn example(builder: Builder) -> Builder {
    /// builder.error_body("application/problem+json", |error| {
    ///     format!(r#"{{"status":{},"title":"access refused"}}"#, error.status().as_u16())
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn error_body(
        mut self,
        content_type: impl Into<String>,
        render: impl Fn(&AuthError) -> String + Send + Sync + 'static,
    ) -> Self {
        self.presentation.error_body = Some((content_type.into(), Box::new(render)));
        self
    }

    /// How long a good verdict is held, at most until the token's own end: **a revoked token works for at most
    /// this long**, and so does a role that was taken away. 60 s unless set, 1 hour at most.
    #[must_use]
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.cache.ttl = Some(ttl);
        self
    }

    /// How many good verdicts are held: 50,000 unless set, at about 2 KiB each.
    #[must_use]
    pub fn cache_capacity(mut self, verdicts: usize) -> Self {
        self.cache.capacity = Some(verdicts);
        self
    }

    /// How many bytes good verdicts may take together: 4 KiB for each that [`cache_capacity`](Self::cache_capacity)
    /// allows, unless set; at least 16 times [`max_answer_bytes`](Self::max_answer_bytes), so that the verdict
    /// of the largest answer can be held. Verdicts that are used least make room.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache.bytes = Some(bytes);
        self
    }

    /// How long a bad verdict is held. 5 s unless set, 10 s at most: ZITADEL says inactive for troubles of its
    /// own as well.
    #[must_use]
    pub fn negative_cache_ttl(mut self, ttl: Duration) -> Self {
        self.cache.negative_ttl = Some(ttl);
        self
    }

    /// How many bad verdicts are held: 5,000 unless set. They cannot push out good ones.
    #[must_use]
    pub fn negative_cache_capacity(mut self, verdicts: usize) -> Self {
        self.cache.negative_capacity = Some(verdicts);
        self
    }

    /// Holds no verdicts: each request asks the issuer, or joins a question about its token that is under way.
    #[must_use]
    pub fn cache_off(mut self) -> Self {
        self.cache.is_off = true;
        self
    }

    /// How often the issuer may be asked in the long run about one token because a held verdict does not meet a
    /// requirement. 1 s unless set.
    ///
    /// Five questions may follow each other at once, so that a role that was granted a moment ago works on the next
    /// request also where a denial came just before; ZITADEL itself shows a grant within 50 ms. A caller without the role
    /// still cannot hammer the issuer.
    #[must_use]
    pub fn denial_refresh_interval(mut self, interval: Duration) -> Self {
        self.cache.denial_interval = Some(interval);
        self
    }

    /// Renews verdicts that are in use this long before they lapse, so that no request waits; 16 at once. Off
    /// unless set.
    #[must_use]
    pub fn refresh_ahead(mut self, before_the_end: Duration) -> Self {
        self.cache.refresh_ahead = Some(before_the_end);
        self
    }

    /// Lets verdicts past their time serve for so much longer while the issuer fails, never past the token's own
    /// end, and not where a requirement asks for a fresh one. Off unless set, 1 hour at most. A token that was
    /// revoked shortly before an outage then works for that much longer.
    #[must_use]
    pub fn serve_stale_on_error(mut self, longest: Duration) -> Self {
        self.cache.stale_for = (!longest.is_zero()).then_some(longest);
        self
    }

    /// Reads JWTs with the issuer's published keys instead of asking about them; opaque tokens are still asked
    /// about. **Revocation, deactivation and changes of roles are not seen** until a JWT expires, but for
    /// requirements with [`fresh_within`](crate::Requirement::fresh_within) and with
    /// [`confirm_local_verdicts_within`](Self::confirm_local_verdicts_within).
    ///
    /// Roles are taken from the claim of `project` only, and the token must be for that project unless
    /// [`audience`](Self::audience) says otherwise. A client must have asked for the scopes
    /// `urn:zitadel:iam:org:project:id:{project}:aud` and `urn:zitadel:iam:org:projects:roles`.
    #[must_use]
    pub fn verify_jwts_locally_without_revocation(mut self, project: impl Into<ProjectId>) -> Self {
        let project = project.into();
        self.has_two_local_projects |= self.local_project.as_ref().is_some_and(|before| *before != project);
        self.local_project = Some(project);
        self
    }

    /// With local verification: the issuer is asked about each JWT in the background as well, and at the latest
    /// after this time a request waits for its word. A JWT that was revoked before it was first seen then works
    /// for at most this long; from the issuer's first word on it is held and asked about like an opaque token.
    #[must_use]
    pub fn confirm_local_verdicts_within(mut self, within: Duration) -> Self {
        self.confirm_within = Some(within);
        self
    }

    /// A clock that a test moves, for the ends of tokens, the age of verdicts and every pause.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn clock(mut self, clock: &crate::TestClock) -> Self {
        self.clock = clock.as_clock();
        self
    }

    /// Checks all that is local and makes the verifier. No network call: the issuer is asked on first use,
    /// or by [`Verifier::check`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting that cannot be used, contradicts another or has no effect beside another.
    pub fn build(self) -> Result<Verifier, ConfigError> {
        self.check_bounds()?;
        self.check_contradictions()?;
        let base = self.base()?;
        let connector = self.connector(base.as_ref())?;
        let cache = self.cache_settings();
        let (presentation, resource) = self.presentation.check()?;
        let settings = VerdictSettings {
            issuer: self.issuer.clone(),
            audience: self.audience,
            is_cached: !self.cache.is_off,
            timeout: self.timeout,
            denial_interval: self.cache.denial_interval.unwrap_or(DENIAL_INTERVAL),
            refresh_ahead: self.cache.refresh_ahead,
            stale_for: self.cache.stale_for.unwrap_or_default(),
            confirm_within: self.confirm_within,
        };
        let engines = Engines::start(Recipe {
            settings,
            cache,
            client_auth: self.client_auth,
            is_single_use: self.is_single_use,
            project: self.project,
            local_project: self.local_project,
            base,
            allow_http: self.allow_http,
            connector,
            max_answer_bytes: self.max_answer_bytes,
            clock: self.clock.clone(),
        })?;
        Ok(Verifier::new(Source::Issuer(Box::new(engines)), self.issuer, resource, presentation, self.clock))
    }

    /// In bytes.
    fn largest_verdict(&self) -> usize {
        self.max_answer_bytes.saturating_mul(Claims::LARGEST_GROWTH)
    }

    fn cache_settings(&self) -> CacheSettings {
        let capacity = self.cache.capacity.unwrap_or(CACHE_CAPACITY);
        let usual_bytes = capacity.saturating_mul(BYTES_PER_VERDICT).max(self.largest_verdict());
        CacheSettings {
            ttl: self.cache.ttl.unwrap_or(CACHE_TTL),
            capacity,
            bytes: self.cache.bytes.unwrap_or(usual_bytes),
            largest: self.largest_verdict(),
            negative_ttl: self.cache.negative_ttl.unwrap_or(NEGATIVE_TTL),
            negative_capacity: self.cache.negative_capacity.unwrap_or(NEGATIVE_CAPACITY),
            distrusts: self.local_project.is_some() && self.client_auth.is_some(),
        }
    }
}

impl PresentationSettings {
    /// How errors look, and how the API describes itself.
    pub(crate) fn check(self) -> Result<(Arc<Presentation>, Option<ProtectedResource>), ConfigError> {
        let resource = self.resource.map(|(resource, scopes)| ProtectedResource::parse(resource, scopes));
        let resource = resource.transpose()?;
        let presentation = Presentation {
            realm: self.realm.map(check_realm).transpose()?,
            resource_metadata: resource.as_ref().map(ProtectedResource::address),
            body: self.error_body.map(error_body).transpose()?,
        };
        Ok((Arc::new(presentation), resource))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Builder").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

fn check_realm(realm: String) -> Result<String, ConfigError> {
    let harmless = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if realm.bytes().all(harmless) {
        return Ok(realm);
    }
    let problem = format!("{} has characters that a challenge cannot carry", echo::value(&realm));
    Err(ConfigError::invalid("realm", problem, "use printable ASCII without quotes and backslashes"))
}

fn error_body((content_type, render): (String, RenderBody)) -> Result<ErrorBody, ConfigError> {
    let content_type = HeaderValue::try_from(&content_type).map_err(|_| {
        let problem = format!("{} is not a media type", echo::value(&content_type));
        ConfigError::invalid("error_body", problem, "give one such as `application/problem+json`")
    })?;
    Ok(ErrorBody { content_type, render })
}
