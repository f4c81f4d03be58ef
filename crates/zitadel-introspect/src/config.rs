//! What a user may set, with defaults and units.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize},
    },
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST,
        TRANSFER_ENCODING,
    },
};
use url::Url;

use crate::{
    breaker::Breaker,
    cache::{Cache, CacheSettings},
    client_auth::ClientAuth,
    clock::Clock,
    discovery::Discovery,
    error::{AuthError, ErrorBody, Presentation},
    flight::Flights,
    http_client::{HttpClient, INSTANCE_HOST, PUBLIC_HOST},
    introspection::{Introspection, Turns},
    issuer::{Issuer, is_loopback, parse_origin},
    jwt::{KeySource, LocalJwts},
    names::ProjectId,
    protected_resource::ProtectedResource,
    stats::Counters,
    verdicts::{VerdictSettings, Verdicts},
    verifier::{Source, Verifier},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT_CEILING: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CACHE_TTL: Duration = Duration::from_secs(60);
const CACHE_TTL_CEILING: Duration = Duration::from_secs(3600);
const CACHE_CAPACITY: usize = 50_000;
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
const NEGATIVE_TTL_CEILING: Duration = Duration::from_secs(10);
const NEGATIVE_CAPACITY: usize = 5_000;
const DENIAL_INTERVAL: Duration = Duration::from_secs(1);
const STALE_CEILING: Duration = Duration::from_secs(3600);

/// What a start can meet. Each message is one line and names the field, the problem and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value that cannot be used.
    #[error("{field}: {problem}; {remedy}")]
    Invalid {
        /// Which setting.
        field: &'static str,
        /// What is wrong with its value.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A key that cannot be used.
    #[error("key {}: {problem}; {remedy}", name(path.as_ref()))]
    Key {
        /// The file, where the key came from one.
        path: Option<PathBuf>,
        /// What is wrong with it. Never key material.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The thread that asks the issuer cannot be started.
    #[error("the thread that asks the issuer cannot be started; look at the limits of this process")]
    Thread(#[source] std::io::Error),
}

impl ConfigError {
    pub(crate) fn invalid(field: &'static str, problem: String, remedy: &'static str) -> Self {
        Self::Invalid { field, problem, remedy }
    }
}

fn name(path: Option<&PathBuf>) -> String {
    path.map_or_else(|| "in memory".to_owned(), |path| format!("{:?}", path.display().to_string()))
}

/// Makes a [`Verifier`]; from [`Verifier::builder`].
pub struct Builder {
    issuer: Issuer,
    client_auth: Option<ClientAuth>,
    connect_to: Option<String>,
    allow_http: bool,
    timeout: Duration,
    connect_timeout: Option<Duration>,
    audience: Option<String>,
    project: Option<ProjectId>,
    proxy: Option<String>,
    root_certificates: Vec<Vec<u8>>,
    headers: Vec<(String, String)>,
    realm: Option<String>,
    resource: Option<(String, Vec<String>)>,
    error_body: Option<(String, RenderBody)>,
    cache: CacheSettings,
    is_cached: bool,
    denial_interval: Duration,
    refresh_ahead: Option<Duration>,
    stale_for: Duration,
    local_project: Option<ProjectId>,
    confirm_within: Option<Duration>,
    clock: Clock,
}

type RenderBody = Box<dyn Fn(&AuthError) -> String + Send + Sync>;

impl Builder {
    pub(crate) fn new(issuer: Issuer, client_auth: Option<ClientAuth>) -> Self {
        Self {
            issuer,
            client_auth,
            connect_to: None,
            allow_http: false,
            timeout: TIMEOUT,
            connect_timeout: None,
            audience: None,
            project: None,
            proxy: None,
            root_certificates: Vec::new(),
            headers: Vec::new(),
            realm: None,
            resource: None,
            error_body: None,
            cache: CacheSettings {
                ttl: CACHE_TTL,
                capacity: CACHE_CAPACITY,
                negative_ttl: NEGATIVE_TTL,
                negative_capacity: NEGATIVE_CAPACITY,
            },
            is_cached: true,
            denial_interval: DENIAL_INTERVAL,
            refresh_ahead: None,
            stale_for: Duration::ZERO,
            local_project: None,
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

    /// Refuses tokens whose `aud` lacks this client id or project id. Unset, ZITADEL's own check stands:
    /// it answers inactive for a token that is for neither this API nor its project, but counts every
    /// personal access token of the instance as for everybody.
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
        self.realm = Some(realm.into());
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
        self.resource = Some((resource.into(), scopes.into_iter().map(Into::into).collect()));
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
        self.error_body = Some((content_type.into(), Box::new(render)));
        self
    }

    /// How long a good verdict is held, at most until the token's own end: **a revoked token works for at most
    /// this long**, and so does a role that was taken away. 60 s unless set, 1 hour at most.
    #[must_use]
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.cache.ttl = ttl;
        self
    }

    /// How many good verdicts are held: 50,000 unless set, at about 2 KiB each.
    #[must_use]
    pub fn cache_capacity(mut self, verdicts: usize) -> Self {
        self.cache.capacity = verdicts;
        self
    }

    /// How long a bad verdict is held. 5 s unless set, 10 s at most: ZITADEL says inactive for troubles of its
    /// own as well.
    #[must_use]
    pub fn negative_cache_ttl(mut self, ttl: Duration) -> Self {
        self.cache.negative_ttl = ttl;
        self
    }

    /// How many bad verdicts are held: 5,000 unless set. They cannot push out good ones.
    #[must_use]
    pub fn negative_cache_capacity(mut self, verdicts: usize) -> Self {
        self.cache.negative_capacity = verdicts;
        self
    }

    /// Holds no verdicts: each request asks the issuer, or joins a question about its token that is under way.
    #[must_use]
    pub fn cache_off(mut self) -> Self {
        self.is_cached = false;
        self
    }

    /// How often the issuer may be asked about one token because a held verdict does not meet a requirement.
    /// 1 s unless set: a role that was granted works on the next request, and a caller without the role cannot
    /// hammer the issuer.
    #[must_use]
    pub fn denial_refresh_interval(mut self, interval: Duration) -> Self {
        self.denial_interval = interval;
        self
    }

    /// Renews verdicts that are in use this long before they lapse, so that no request waits; 16 at once. Off
    /// unless set.
    #[must_use]
    pub fn refresh_ahead(mut self, before_the_end: Duration) -> Self {
        self.refresh_ahead = Some(before_the_end);
        self
    }

    /// Lets verdicts past their time serve for so much longer while the issuer fails, never past the token's own
    /// end, and not where a requirement asks for a fresh one. Off unless set, 1 hour at most. A token that was
    /// revoked shortly before an outage then works for that much longer.
    #[must_use]
    pub fn serve_stale_on_error(mut self, longest: Duration) -> Self {
        self.stale_for = longest;
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
        self.local_project = Some(project.into());
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

    /// For tests: how many milliseconds the verifier's clock is ahead of the system's.
    #[doc(hidden)]
    #[must_use]
    pub fn clock_ahead(mut self, millis: Arc<AtomicI64>) -> Self {
        self.clock = Clock::ahead(millis);
        self
    }

    /// Checks all that is local and makes the verifier. No network call: the issuer is asked on first use,
    /// or by [`Verifier::check`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting that cannot be used.
    pub fn build(self) -> Result<Verifier, ConfigError> {
        let handle = crate::runtime::handle().map_err(ConfigError::Thread)?;
        let base = self.base()?;
        self.check_bounds()?;
        let client = self.client(base.as_ref())?;
        let http = Arc::new(HttpClient::new(client, &self.issuer, base, self.allow_http));
        let resource = self.resource.map(|(resource, scopes)| ProtectedResource::parse(resource, scopes));
        let resource = resource.transpose()?;
        let presentation = Arc::new(Presentation {
            realm: self.realm.map(check_realm).transpose()?,
            resource_metadata: resource.as_ref().map(ProtectedResource::address),
            body: self.error_body.map(error_body).transpose()?,
        });
        let issuer = self.issuer;
        let discovery = Arc::new(Discovery::new(Arc::clone(&http), issuer.as_str().to_owned(), self.timeout));
        let local_project = self.local_project.clone();
        let local = self.local_project.map(|project| {
            let source = KeySource {
                handle: handle.clone(),
                http: Arc::clone(&http),
                discovery: Arc::clone(&discovery),
                timeout: self.timeout,
            };
            LocalJwts::new(source, issuer.as_str(), project, self.audience.clone())
        });
        let client_id = self.client_auth.as_ref().map(|auth| auth.client_id().to_owned());
        let identity = format!("{issuer} {}", client_id.unwrap_or_default());
        let introspection = self.client_auth.map(|auth| Introspection {
            http,
            discovery,
            credentials: auth.for_issuer(&issuer),
            project: self.project.or(local_project),
            turns: Turns::new(),
        });
        let verdicts = Arc::new(Verdicts {
            settings: VerdictSettings {
                issuer: issuer.as_str().to_owned(),
                audience: self.audience,
                is_cached: self.is_cached,
                timeout: self.timeout,
                denial_interval: self.denial_interval,
                refresh_ahead: self.refresh_ahead,
                stale_for: self.stale_for,
                confirm_within: self.confirm_within,
            },
            cache: Cache::new(&identity, self.cache),
            breaker: Breaker::new(self.timeout),
            counters: Counters::default(),
            clock: self.clock.clone(),
            flights: Flights::default(),
            local,
            introspection,
            handle,
            renewals: AtomicUsize::new(0),
        });
        verdicts.publish_stats();
        Ok(Verifier::new(Source::Issuer(verdicts), issuer, resource, presentation, self.clock))
    }

    fn check_bounds(&self) -> Result<(), ConfigError> {
        check_duration("timeout", self.timeout, TIMEOUT_CEILING)?;
        if let Some(timeout) = self.connect_timeout {
            check_duration("connect_timeout", timeout, self.timeout)?;
        }
        check_duration("denial_refresh_interval", self.denial_interval, CACHE_TTL_CEILING)?;
        check_duration("cache_ttl", self.cache.ttl, CACHE_TTL_CEILING)?;
        check_duration("negative_cache_ttl", self.cache.negative_ttl, NEGATIVE_TTL_CEILING)?;
        if let Some(ahead) = self.refresh_ahead {
            check_duration("refresh_ahead", ahead, self.cache.ttl)?;
        }
        if let Some(within) = self.confirm_within {
            let field = "confirm_local_verdicts_within";
            check_duration(field, within, self.cache.ttl)?;
            if !self.is_cached || self.client_auth.is_none() || self.local_project.is_none() {
                let problem = "has nothing to confirm, or nobody to ask".to_owned();
                let remedy = "use it with local verification, credentials and the cache";
                return Err(ConfigError::invalid(field, problem, remedy));
            }
        }
        if !self.stale_for.is_zero() {
            check_duration("serve_stale_on_error", self.stale_for, STALE_CEILING)?;
        }
        for (field, count) in [
            ("cache_capacity", self.cache.capacity),
            ("negative_cache_capacity", self.cache.negative_capacity),
        ] {
            if count == 0 {
                let remedy = "choose a number of verdicts, or call `cache_off`";
                return Err(ConfigError::invalid(field, "is zero".to_owned(), remedy));
            }
        }
        Ok(())
    }

    /// Where the issuer is asked: another origin, or `None` for its own.
    fn base(&self) -> Result<Option<Url>, ConfigError> {
        let base = match &self.connect_to {
            Some(origin) => Some(parse_origin(origin).map_err(|(problem, remedy)| {
                ConfigError::invalid("connect_to", format!("{origin:?} {problem}"), remedy)
            })?),
            None => None,
        };
        let (field, asked) = match &base {
            Some(base) => ("connect_to", base),
            None => ("issuer", self.issuer.url()),
        };
        for (field, url) in [(field, asked), ("issuer", self.issuer.url())] {
            if url.scheme() == "http" && !is_loopback(url) {
                if !self.allow_http {
                    let problem = format!(
                        "{:?} is plain http, and tokens would travel in the clear",
                        url.origin().ascii_serialization()
                    );
                    return Err(ConfigError::invalid(
                        field,
                        problem,
                        "use https, or call `dangerous_allow_http`",
                    ));
                }
                tracing::warn!(field, "tokens travel in the clear: plain http is allowed by configuration");
            }
        }
        Ok(base)
    }

    fn client(&self, base: Option<&Url>) -> Result<reqwest::Client, ConfigError> {
        let mut client = reqwest::Client::builder()
            .connect_timeout(self.connect_timeout.unwrap_or(CONNECT_TIMEOUT.min(self.timeout)))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .default_headers(self.default_headers(base.is_some())?);
        let asked = base.unwrap_or(self.issuer.url());
        if let Some(proxy) = &self.proxy {
            // The parser's own message may repeat credentials that stand in the address.
            let proxy = reqwest::Proxy::all(proxy).map_err(|_| {
                ConfigError::invalid("proxy", "is not an address".to_owned(), "write `http://host:port`")
            })?;
            if !is_loopback(asked) {
                client = client.proxy(proxy);
            }
        }
        let mut roots = Vec::new();
        for pem in &self.root_certificates {
            let read = reqwest::Certificate::from_pem_bundle(pem).ok().filter(|found| !found.is_empty());
            roots.extend(read.ok_or_else(|| {
                let problem = "holds no certificate".to_owned();
                ConfigError::invalid(
                    "root_certificates_pem",
                    problem,
                    "give PEM blocks that begin with BEGIN CERTIFICATE",
                )
            })?);
        }
        client.tls_certs_merge(roots).build().map_err(|error| {
            let problem = format!("the TLS client cannot be made ({error})");
            ConfigError::invalid(
                "root_certificates_pem",
                problem,
                "look at the certificates, the system's included",
            )
        })
    }

    fn default_headers(&self, elsewhere: bool) -> Result<HeaderMap, ConfigError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let remedy = "give a header name and a printable value that this library does not set itself";
            let invalid = || ConfigError::invalid("header", format!("{name:?} cannot be set"), remedy);
            let name = HeaderName::try_from(name).map_err(|_| invalid())?;
            let mut value = HeaderValue::try_from(value).map_err(|_| invalid())?;
            if is_ours(&name) {
                return Err(invalid());
            }
            value.set_sensitive(true);
            headers.append(name, value);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if elsewhere {
            for name in [INSTANCE_HOST, PUBLIC_HOST] {
                let authority = HeaderValue::try_from(self.issuer.authority());
                headers.insert(name, authority.expect("a parsed host is a valid header value"));
            }
        }
        Ok(headers)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Builder").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

fn is_ours(name: &HeaderName) -> bool {
    [
        ACCEPT,
        ACCEPT_ENCODING,
        AUTHORIZATION,
        CONNECTION,
        CONTENT_LENGTH,
        CONTENT_TYPE,
        COOKIE,
        HOST,
        TRANSFER_ENCODING,
        INSTANCE_HOST,
        PUBLIC_HOST,
    ]
    .contains(name)
}

fn check_duration(field: &'static str, value: Duration, ceiling: Duration) -> Result<(), ConfigError> {
    if value.is_zero() || value > ceiling {
        let problem = format!("{value:?} is not within 1 ms and {ceiling:?}");
        return Err(ConfigError::invalid(field, problem, "choose a duration within these bounds"));
    }
    Ok(())
}

fn check_realm(realm: String) -> Result<String, ConfigError> {
    let harmless = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if realm.bytes().all(harmless) {
        return Ok(realm);
    }
    let problem = format!("{realm:?} has characters that a challenge cannot carry");
    Err(ConfigError::invalid("realm", problem, "use printable ASCII without quotes and backslashes"))
}

fn error_body((content_type, render): (String, RenderBody)) -> Result<ErrorBody, ConfigError> {
    let content_type = HeaderValue::try_from(&content_type).map_err(|_| {
        let problem = format!("{content_type:?} is not a media type");
        ConfigError::invalid("error_body", problem, "give one such as `application/problem+json`")
    })?;
    Ok(ErrorBody { content_type, render })
}
