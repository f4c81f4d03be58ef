//! From the header to the caller: the line that every request passes.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::runtime::Handle;

use crate::{
    bearer::AccessToken,
    claims::Claims,
    client_auth::ClientAuth,
    config::Builder,
    discovery::Discovery,
    error::{AuthError, InvalidToken, Presentation, Reason},
    http_client::HttpClient,
    introspection::{Introspection, Turns, Verdict},
    issuer::Issuer,
    issuer_error::IssuerError,
    names::ProjectId,
    protected_resource::{ProtectedResource, ResourceMetadata},
    requirement::Requirement,
};

/// Finds out whose token a request carries, and whether they may pass. Cheap to clone; make one for the
/// process.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    source: Source,
    issuer: Issuer,
    audience: Option<String>,
    resource: Option<ProtectedResource>,
    presentation: Arc<Presentation>,
    clock: Clock,
}

/// Somebody whose token is valid, and what the issuer says of them. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    claims: Arc<Claims>,
    asked_at: Instant,
    token: AccessToken,
    verifier: Verifier,
}

impl Verifier {
    /// Begins with what is required: who issues the tokens, and how we prove ourselves to them.
    #[must_use]
    pub fn builder(issuer: Issuer, client_auth: ClientAuth) -> Builder {
        Builder::new(issuer, client_auth)
    }

    /// The only entrance: all `Authorization` fields of a request in, a caller who meets the requirement
    /// out.
    ///
    /// Asks the issuer; waits at most [`Builder::timeout`] (5 s unless set). Adapters call this; call it
    /// yourself where there is none for your framework.
    ///
    /// # Errors
    ///
    /// [`AuthError`] is the whole answer for the caller: 401 for absent, malformed and dead tokens, 400 for
    /// two `Authorization` fields, 403 for a requirement that is not met, 503 when no verdict could be had.
    /// None of them lets anybody in.
    pub async fn authorize<'h>(
        &self,
        authorization_fields: impl IntoIterator<Item = &'h [u8]>,
        requirement: &Requirement,
    ) -> Result<Caller, AuthError> {
        let token = AccessToken::from_headers(authorization_fields);
        let token = token.map_err(|reason| self.refuse(reason, None))?;
        let caller = self.verify(token).await?;
        caller.require(requirement).await?;
        Ok(caller)
    }

    /// Asks the issuer whether it accepts us: introspects a token that never was.
    ///
    /// For the start of a service, so that a wrong key stops it there. A service whose issuer cannot be
    /// reached may start all the same: the first good answer heals it.
    ///
    /// # Errors
    ///
    /// [`IssuerError::Refused`] if the issuer refuses our key or secret, [`IssuerError::OtherIssuer`] if the
    /// discovery document names another issuer, other variants if it cannot be asked.
    pub async fn check(&self) -> Result<(), IssuerError> {
        match self.0.source.ask(AccessToken::never_issued()).await? {
            Verdict::Inactive => Ok(()),
            Verdict::Active(_) => {
                Err(IssuerError::Unusable { problem: "a token that never was is said to be active" })
            }
        }
    }

    /// The issuer whose tokens are verified.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.0.issuer
    }

    /// How the API describes itself ([RFC 9728]), as [`Builder::resource`] was told. For adapters, which
    /// make a route of it.
    ///
    /// [RFC 9728]: https://www.rfc-editor.org/rfc/rfc9728
    #[must_use]
    pub fn resource_metadata(&self) -> ResourceMetadata {
        ResourceMetadata::new(self.0.resource.as_ref(), self.0.issuer.as_str())
    }

    pub(crate) fn new(parts: Parts) -> Self {
        let http = Arc::new(parts.http);
        let name = parts.issuer.as_str().to_owned();
        let introspection = Arc::new(Introspection {
            handle: parts.handle,
            discovery: Arc::new(Discovery::new(Arc::clone(&http), name, parts.timeout)),
            http,
            credentials: parts.client_auth.for_issuer(&parts.issuer),
            timeout: parts.timeout,
            project: parts.project,
            turns: Turns::new(),
        });
        Self(Arc::new(Inner {
            source: Source::Issuer(introspection),
            issuer: parts.issuer,
            audience: parts.audience,
            resource: parts.resource,
            presentation: parts.presentation,
            clock: parts.clock,
        }))
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn from_source(
        source: Source,
        issuer: Issuer,
        presentation: Arc<Presentation>,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner { source, issuer, audience: None, resource: None, presentation, clock }))
    }

    async fn verify(&self, token: AccessToken) -> Result<Caller, AuthError> {
        let asked_at = Instant::now();
        let asked = self.0.source.ask(token.clone()).await;
        let verdict = asked.map_err(|error| self.refuse(Reason::Unavailable(error), None))?;
        let Verdict::Active(claims) = verdict else {
            return Err(self.refuse(Reason::InvalidToken(InvalidToken::Inactive), None));
        };
        let now = (self.0.clock.0)();
        let checked = claims.check(self.0.issuer.as_str(), self.0.audience.as_deref(), now);
        checked.map_err(|error| self.refuse(Reason::InvalidToken(error), claims.subject()))?;
        Ok(Caller { claims, asked_at, token, verifier: self.clone() })
    }

    /// Every refusal is logged here, once, and none elsewhere.
    fn refuse(&self, reason: Reason, user_id: Option<&str>) -> AuthError {
        match &reason {
            Reason::Unavailable(error) => {
                tracing::warn!(error = ?chain(error), "no verdict: the issuer gave no usable answer");
            }
            Reason::InvalidToken(error) => {
                tracing::info!(reason = %error, user_id = ?user_id, "request refused: invalid token");
            }
            _ => tracing::info!(%reason, user_id = ?user_id, "request refused"),
        }
        AuthError::new(reason, &self.0.presentation)
    }
}

impl Caller {
    /// What the issuer says of the caller.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// How old the verdict is.
    #[must_use]
    pub fn verdict_age(&self) -> Duration {
        self.asked_at.elapsed()
    }

    /// Checks the caller against one more requirement, such as one built from the request's path.
    ///
    /// # Errors
    ///
    /// [`AuthError`] as [`Verifier::authorize`] gives it: 403 if the requirement is not met.
    #[expect(clippy::unused_async, reason = "a refusal will ask the issuer once more before it stands")]
    pub async fn require(&self, requirement: &Requirement) -> Result<(), AuthError> {
        requirement.check(&self.claims).map_err(|reason| self.verifier.refuse(reason, self.claims.subject()))
    }

    /// Whether this very verifier, or a clone of it, has verified the caller. Adapters ask before they
    /// take over a caller that a layer has left in the request.
    #[must_use]
    pub fn is_of(&self, verifier: &Verifier) -> bool {
        Arc::ptr_eq(&self.verifier.0, &verifier.0)
    }

    /// The token itself, for a call to another API on the caller's behalf.
    #[must_use]
    pub fn token(&self) -> &AccessToken {
        &self.token
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Verifier").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Caller").field("claims", &self.claims).finish_non_exhaustive()
    }
}

/// Who answers questions about tokens.
pub(crate) enum Source {
    Issuer(Arc<Introspection>),
    #[cfg(feature = "test-util")]
    Scripted(crate::test_util::TestTokens),
}

impl Source {
    async fn ask(&self, token: AccessToken) -> Result<Verdict, IssuerError> {
        match self {
            Self::Issuer(introspection) => introspection.ask(token).await,
            #[cfg(feature = "test-util")]
            Self::Scripted(tokens) => tokens.ask(&token),
        }
    }
}

/// What [`Builder::build`] hands over.
pub(crate) struct Parts {
    pub(crate) handle: Handle,
    pub(crate) http: HttpClient,
    pub(crate) issuer: Issuer,
    pub(crate) client_auth: ClientAuth,
    pub(crate) timeout: Duration,
    pub(crate) audience: Option<String>,
    pub(crate) project: Option<ProjectId>,
    pub(crate) presentation: Arc<Presentation>,
    pub(crate) resource: Option<ProtectedResource>,
    pub(crate) clock: Clock,
}

/// What the time is: the system's, or a test's.
pub(crate) struct Clock(Box<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    pub(crate) fn system() -> Self {
        Self::new(SystemTime::now)
    }

    pub(crate) fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Box::new(now))
    }
}

/// An error with its causes, in one line.
fn chain(error: &IssuerError) -> String {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |cause| cause.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
