//! From the header to the caller: the line that every request passes.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::{Either, select};

use crate::{
    bearer::{AccessToken, MAX_TOKEN_BYTES},
    builder::Builder,
    cache::{Evict, Held, Refused},
    causes::causes,
    claims::Claims,
    client_auth::ClientAuth,
    clock::{Clock, Now},
    engine::Engines,
    error::{AuthError, InvalidToken, Presentation, Reason},
    flight::{Found, Outcome},
    issuer::Issuer,
    issuer_error::IssuerError,
    key_watch::ReloadError,
    names::{OrganizationId, ProjectId},
    protected_resource::{ProtectedResource, ResourceMetadata},
    requirement::Requirement,
    runtime::{self, Timer},
    stats::Stats,
    suspicion::Suspicion,
    verdicts::Verdicts,
};

/// A verdict that was asked for during a request needs no second question within this time.
const JUST_NOW: Duration = Duration::from_secs(1);

/// Who asks to look at a verdict ever and again shares the library's one thread with others.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);

/// Finds out whose token a request carries, and whether they may pass. Cheap to clone; make one for the
/// process.
///
/// Build it after `fork`, where a server forks (daemons, workers before the first request). A verifier that was built
/// before works in the child as well: it notices the new process when it first asks, and starts there with a thread,
/// connections and a cache of its own.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    source: Source,
    issuer: Issuer,
    resource: Option<ProtectedResource>,
    presentation: Arc<Presentation>,
    clock: Clock,
}

/// Somebody whose token is valid, and what the issuer says of them. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    held: Arc<Held>,
    settled_at: Instant,
    /// The question was sent for this request, or while it was under way.
    is_fresh: bool,
    token: AccessToken,
    verifier: Verifier,
}

impl Verifier {
    /// Begins with what is required: who issues the tokens, and how we prove ourselves to them.
    #[must_use]
    pub fn builder(issuer: Issuer, client_auth: ClientAuth) -> Builder {
        Builder::new(issuer, Some(client_auth))
    }

    /// A verifier that only reads JWTs, with the issuer's published keys, for the API of one project.
    ///
    /// It needs no credentials and asks nothing about a token, so **it cannot see that a token was revoked, that
    /// its user was deactivated, or that a role was taken away**, until the token expires (12 hours unless set
    /// otherwise in ZITADEL). Opaque tokens and personal access tokens are refused. See
    /// [`Builder::verify_jwts_locally_without_revocation`] for both together.
    #[must_use]
    pub fn jwt_builder_without_revocation(issuer: Issuer, project: impl Into<ProjectId>) -> Builder {
        Builder::new(issuer, None).verify_jwts_locally_without_revocation(project)
    }

    /// The only entrance: all `Authorization` fields of a request in, a caller who meets the requirement
    /// out.
    ///
    /// A verdict that is held answers at once; else the issuer is asked, and callers with the same token share
    /// one answer. Waits at most [`Builder::timeout`] (5 s unless set). Adapters call this; call it yourself
    /// where there is none for your framework.
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
        self.require(token, requirement).await
    }

    /// As [`authorize`](Self::authorize), where credentials are optional: `None` without any, which is no refusal and is
    /// not logged. Bad credentials are refused all the same.
    ///
    /// # Errors
    ///
    /// As [`authorize`](Self::authorize).
    pub async fn authorize_optional<'h>(
        &self,
        authorization_fields: impl IntoIterator<Item = &'h [u8]>,
        requirement: &Requirement,
    ) -> Result<Option<Caller>, AuthError> {
        match AccessToken::from_headers(authorization_fields) {
            Err(Reason::MissingToken | Reason::UnsupportedScheme) => Ok(None),
            Err(reason) => Err(self.refuse(reason, None)),
            Ok(token) => self.require(token, requirement).await.map(Some),
        }
    }

    async fn require(&self, token: AccessToken, requirement: &Requirement) -> Result<Caller, AuthError> {
        let token = match self.held(token, requirement) {
            Ok(caller) => return Ok(caller),
            Err(token) => token,
        };
        // In a box: the long way would make the future of the short one, which is nearly always taken, large.
        Box::pin(self.verify_and_require(token, requirement)).await
    }

    /// Asks the issuer whether it accepts us: introspects a token that never was.
    ///
    /// For the start of a service, so that a wrong key stops it there. A service whose issuer cannot be
    /// reached may start all the same: the first good answer heals it.
    ///
    /// # Errors
    ///
    /// [`IssuerError::Refused`] if the issuer refuses our key or secret, [`IssuerError::OtherIssuer`] if the
    /// discovery document names another issuer, [`IssuerError::NoInstance`] if the host belongs to no ZITADEL instance,
    /// [`IssuerError::AlwaysActive`] if it says yes to anything, other variants if it cannot be asked.
    pub async fn check(&self) -> Result<(), IssuerError> {
        let Some(verdicts) = self.0.source.asking()? else { return Ok(()) };
        match verdicts.check().await? {
            Some(Found::Good(_)) => Err(IssuerError::AlwaysActive),
            Some(Found::Bad(_)) | None => Ok(()),
        }
    }

    /// Reads the key file again, and takes up its key once the issuer has accepted it; until then, and where anything is
    /// wrong with it, the previous key stays in use. What the verifier does by itself within seconds after the file
    /// has changed; call it where an operator asks for it, as by SIGHUP.
    ///
    /// # Errors
    ///
    /// [`ReloadError`] says why the new key was not taken up.
    pub async fn reload_key(&self) -> Result<(), ReloadError> {
        let Some(verdicts) = self.0.source.asking().map_err(ReloadError::Issuer)? else {
            return Err(ReloadError::NoFile);
        };
        Arc::clone(verdicts).reload_key().await
    }

    /// What the issuer's clock shows, to the second: for a check that ours agrees, on which client authentication by
    /// key and the expiry of tokens depend.
    ///
    /// `None` where the answer has no `Date` or the verifier asks nobody.
    ///
    /// # Errors
    ///
    /// [`IssuerError`] if the issuer cannot be asked.
    pub async fn issuer_time(&self) -> Result<Option<SystemTime>, IssuerError> {
        let Some(verdicts) = self.0.source.asking()? else { return Ok(None) };
        verdicts.issuer_time().await
    }

    /// All that is suspicious about the **unverified** text of a token that the issuer calls inactive; at least one
    /// thing. For the person who looks into it; nothing here lets anybody in.
    #[must_use]
    pub fn suspect(&self, token: &str) -> Vec<Suspicion> {
        let client_id = self.0.source.verdicts().map_or("", |verdicts| &verdicts.labels.client_id);
        Suspicion::of(token, &self.0.issuer, client_id, self.0.clock.now())
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

    /// What the verifier has done so far. The same numbers go to the `metrics` facade once a second.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.source.verdicts().map(|verdicts| verdicts.stats()).unwrap_or_default()
    }

    /// Forgets the verdict on one token: who asks from now on does not get it. A question that is under way is
    /// still shared by those who wait; its answer is not kept.
    ///
    /// Text that is no token forgets nothing.
    pub fn evict_token(&self, token: &str) {
        if let (Some(verdicts), Ok(token)) = (self.0.source.verdicts(), AccessToken::from_text(token)) {
            verdicts.evict_token(&token);
        }
    }

    /// Forgets verdicts by the token's id: `jti`, or the OIDC session, which is its part before `-at_`.
    ///
    /// Looks at each verdict that is held, as all calls to forget but [`evict_token`](Self::evict_token) do:
    /// for events, not for requests.
    pub fn evict_token_id(&self, id: &str) {
        self.evict(&Evict::TokenId(id));
    }

    /// Forgets all verdicts on a user's tokens.
    pub fn evict_user(&self, user_id: &str) {
        self.evict(&Evict::User(user_id));
    }

    /// Forgets all verdicts on users of an organization, on users with a role that it granted, and on users whose
    /// organization is not known: a token names it only with the scope `urn:zitadel:iam:user:resourceowner`.
    pub fn evict_organization(&self, id: &OrganizationId) {
        self.evict(&Evict::Organization(id));
    }

    /// Forgets everything.
    pub fn evict_all(&self) {
        if let Some(verdicts) = self.0.source.verdicts() {
            verdicts.cache.clear(verdicts.clock.now().instant);
        }
    }

    pub(crate) fn new(
        source: Source,
        issuer: Issuer,
        resource: Option<ProtectedResource>,
        presentation: Arc<Presentation>,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner { source, issuer, resource, presentation, clock }))
    }

    fn evict(&self, what: &Evict<'_>) {
        if let Some(verdicts) = self.0.source.verdicts() {
            verdicts.cache.evict(what, verdicts.clock.now().instant);
        }
    }

    /// The short way: a verdict that is held and meets the requirement. Else the token comes back.
    fn held(&self, token: AccessToken, requirement: &Requirement) -> Result<Caller, AccessToken> {
        let now = self.0.clock.now();
        let verdicts = self.0.source.verdicts();
        match verdicts.and_then(|verdicts| verdicts.held(&token, requirement, now)) {
            Some(held) => Ok(self.caller(held, token, now.instant, false)),
            None => Err(token),
        }
    }

    async fn verify_and_require(
        &self,
        token: AccessToken,
        requirement: &Requirement,
    ) -> Result<Caller, AuthError> {
        self.in_time(async { self.verify(token, requirement.max_age()).await?.meet(requirement).await }).await
    }

    /// Each question has its time-out; several in a row, as before a denial, have one together.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, AuthError>>) -> Result<T, AuthError> {
        let Ok(Some(verdicts)) = self.0.source.asking() else { return work.await };
        let mut work = pin!(work);
        // What is settled at once, as a JWT that is read here, needs no timer.
        if let Poll::Ready(outcome) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return outcome;
        }
        match select(work, verdicts.timer()).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Err(self.refuse(Reason::Unavailable(IssuerError::TimedOut), None)),
        }
    }

    fn caller(&self, held: Arc<Held>, token: AccessToken, settled_at: Instant, is_fresh: bool) -> Caller {
        Caller { held, settled_at, is_fresh, token, verifier: self.clone() }
    }

    async fn verify(&self, token: AccessToken, max_age: Option<Duration>) -> Result<Caller, AuthError> {
        let began = self.0.clock.now();
        let held = self.settle(self.0.source.get(&token, max_age, began).await)?;
        let is_fresh = held.is_of_issuer_since(began.instant);
        Ok(self.caller(held, token, self.0.clock.now().instant, is_fresh))
    }

    /// What was found, or why the request is refused.
    fn settle(&self, outcome: Outcome) -> Result<Arc<Held>, AuthError> {
        match outcome {
            Ok(Found::Good(held)) => Ok(held),
            Ok(Found::Bad(Refused { reason, user_id })) => {
                Err(self.refuse(Reason::InvalidToken(reason), user_id.as_deref()))
            }
            Err(error) => Err(self.refuse(Reason::Unavailable(error), None)),
        }
    }

    /// Every refusal is logged here, once, and none elsewhere.
    fn refuse(&self, reason: Reason, user_id: Option<&str>) -> AuthError {
        match &reason {
            Reason::Unavailable(error) => {
                tracing::warn!(error = ?error.explain(), "no verdict: the issuer gave no usable answer");
            }
            Reason::InvalidToken(error) => {
                tracing::info!(reason = %error, user_id = ?user_id, "request refused: invalid token");
            }
            Reason::TokenTooLong => {
                tracing::info!(limit = MAX_TOKEN_BYTES, "request refused: the token is too long");
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
        &self.held.claims
    }

    /// How old the verdict is: since its question was sent to the issuer.
    #[must_use]
    pub fn verdict_age(&self) -> Duration {
        self.held.age(self.verifier.0.clock.now().instant)
    }

    /// Checks the caller against one more requirement, such as one built from the request's path.
    ///
    /// Before a verdict that was held already refuses, the issuer is asked once more: a role that was granted a
    /// moment ago counts. The result is the caller as the newest verdict describes them.
    ///
    /// # Errors
    ///
    /// [`AuthError`] as [`Verifier::authorize`] gives it: 403 if the requirement is not met.
    pub async fn require(&self, requirement: &Requirement) -> Result<Self, AuthError> {
        let now = self.verifier.0.clock.now();
        let is_settled = !self.held.claims.has_expired(now) && !self.is_due(requirement.max_age(), now);
        if is_settled && requirement.is_met(&self.held.claims) {
            return Ok(self.clone());
        }
        // In a box, and with its timer, only where something may have to be awaited.
        Box::pin(self.verifier.in_time(self.clone().meet(requirement))).await
    }

    /// Ready when the caller meets a requirement no longer: the token has expired, or its verdict has lapsed or was
    /// evicted and the newest one does not suffice. For what outlives a request, such as a stream.
    ///
    /// Looks at the verdict `every` so often (10 ms at least), and when the token expires; a verdict that is held costs
    /// no question. The error is the answer for the caller: 401 or 403, or 503 where no verdict could be had in time.
    #[expect(clippy::missing_panics_doc, reason = "the library's thread runs, or there were no caller")]
    pub async fn until_unauthorized(&self, requirement: &Requirement, every: Duration) -> AuthError {
        let handle = runtime::handle().expect("the thread runs already where there is a verifier that asks");
        let every = every.max(SHORTEST_LOOK);
        let mut caller = self.clone();
        loop {
            Timer::start(&handle, caller.time_left().map_or(every, |left| left.min(every))).await;
            // A renewal that hangs does not prolong a token.
            let end = caller.time_left().filter(|left| !left.is_zero());
            let end = end.map(|left| Timer::start(&handle, left));
            match caller.require_before(requirement, end).await {
                Some(Ok(newest)) => caller = newest,
                Some(Err(error)) => return error,
                None => {}
            }
        }
    }

    /// `None` where the end comes first.
    async fn require_before(
        &self,
        requirement: &Requirement,
        end: Option<Timer>,
    ) -> Option<Result<Self, AuthError>> {
        let Some(end) = end else { return Some(self.require(requirement).await) };
        match select(pin!(self.require(requirement)), end).await {
            Either::Left((outcome, _)) => Some(outcome),
            Either::Right(_) => None,
        }
    }

    fn time_left(&self) -> Option<Duration> {
        self.held.claims.time_left(self.verifier.0.clock.now())
    }

    /// Whether this very verifier, or a clone of it, has verified the caller. Adapters ask before they
    /// take over a caller that a layer has left in the request.
    #[must_use]
    pub fn is_of(&self, verifier: &Verifier) -> bool {
        Arc::ptr_eq(&self.verifier.0, &verifier.0)
    }

    /// The token itself.
    #[must_use]
    pub fn token(&self) -> &AccessToken {
        &self.token
    }

    async fn meet(mut self, requirement: &Requirement) -> Result<Self, AuthError> {
        self.freshen(requirement.max_age()).await?;
        let Err(reason) = requirement.check(&self.held.claims) else { return Ok(self) };
        match self.before_denial().await {
            Some(Found::Good(newer)) => self.held = newer,
            Some(Found::Bad(refused)) => {
                let user_id = self.held.claims.subject();
                return Err(self.verifier.refuse(Reason::InvalidToken(refused.reason), user_id));
            }
            None => return Err(self.verifier.refuse(reason, self.held.claims.subject())),
        }
        match requirement.check(&self.held.claims) {
            Ok(()) => Ok(self),
            Err(reason) => Err(self.verifier.refuse(reason, self.held.claims.subject())),
        }
    }

    /// Renews a verdict that is too old for the requirement, or past its time in a stream that outlives it.
    async fn freshen(&mut self, max_age: Option<Duration>) -> Result<(), AuthError> {
        let now = self.verifier.0.clock.now();
        if self.held.claims.has_expired(now) {
            let expired = Reason::InvalidToken(InvalidToken::Expired);
            return Err(self.verifier.refuse(expired, self.held.claims.subject()));
        }
        if self.is_due(max_age, now) {
            *self = self.verifier.verify(self.token.clone(), max_age).await?;
        }
        Ok(())
    }

    /// Whether the verdict must be renewed before it answers.
    fn is_due(&self, max_age: Option<Duration>, now: Now) -> bool {
        if self.was_just_asked(now) {
            return false;
        }
        let verdicts = self.verifier.0.source.verdicts();
        let outlived = now.instant.saturating_duration_since(self.settled_at) > JUST_NOW;
        let is_over = |verdicts: &Arc<Verdicts>| {
            let cache = &verdicts.cache;
            cache.is_lapsed(&self.held, now.instant) || cache.was_evicted_since(self.held.asked_at)
        };
        (outlived && verdicts.is_some_and(is_over)) || !self.held.is_within(max_age, now.instant)
    }

    /// A newer verdict than one that was held already, before it refuses.
    async fn before_denial(&self) -> Option<Found> {
        let now = self.verifier.0.clock.now();
        let verdicts = self.verifier.0.source.asking().ok()?.filter(|_| !self.was_just_asked(now))?;
        verdicts.before_denial(&self.token, &self.held, now).await
    }

    /// What was asked for while this request was under way is as fresh as it can be; not so in a stream that
    /// outlives its beginning.
    fn was_just_asked(&self, now: Now) -> bool {
        self.is_fresh && now.instant.saturating_duration_since(self.settled_at) <= JUST_NOW
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Verifier").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Caller").field("claims", &self.held.claims).finish_non_exhaustive()
    }
}

/// Who answers questions about tokens.
pub(crate) enum Source {
    Issuer(Box<Engines>),
    #[cfg(feature = "test-util")]
    Scripted(crate::test_util::TestTokens),
}

impl Source {
    /// The engine, if this process has one already.
    #[inline]
    fn verdicts(&self) -> Option<&Arc<Verdicts>> {
        match self {
            Self::Issuer(engines) => engines.made(),
            #[cfg(feature = "test-util")]
            Self::Scripted(_) => None,
        }
    }

    /// For what asks.
    fn asking(&self) -> Result<Option<&Arc<Verdicts>>, IssuerError> {
        match self {
            Self::Issuer(engines) => engines.own().map(Some).map_err(|error| {
                tracing::error!(error = causes(&error), "no question can be asked in this process");
                IssuerError::Lost
            }),
            #[cfg(feature = "test-util")]
            Self::Scripted(_) => Ok(None),
        }
    }

    async fn get(&self, token: &AccessToken, max_age: Option<Duration>, now: Now) -> Outcome {
        match self {
            Self::Issuer(_) => match self.asking()? {
                Some(verdicts) => verdicts.get(token, max_age, now).await,
                None => Err(IssuerError::Lost),
            },
            #[cfg(feature = "test-util")]
            Self::Scripted(tokens) => tokens.get(token, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientAuth, cache::Cache};

    #[tokio::test]
    async fn what_another_was_answered_meanwhile_is_not_asked_again() {
        let issuer = zitadel_introspect_testkit::Issuer::start().await;
        let api = issuer.project("tasks").api("api");
        let token = issuer.service_user("user").pat();
        let auth = ClientAuth::key_json(&api.key_json()).unwrap();
        let verifier = Verifier::builder(Issuer::parse(&issuer.url()).unwrap(), auth).build().unwrap();
        let field = format!("Bearer {}", &*token);
        verifier.authorize([field.as_bytes()], &Requirement::any_caller()).await.unwrap();
        let verdicts = verifier.0.source.asking().unwrap().unwrap();
        let token = AccessToken::from_text(&token).unwrap();
        for _ in 0..2 {
            // As a caller does who looked before the verdict was there.
            let found = verdicts.ask(&token, Cache::key(&token), None).await;
            assert!(matches!(found, Ok(Found::Good(_))), "{found:?}");
        }
        assert_eq!(issuer.introspections(), 1);
    }
}
