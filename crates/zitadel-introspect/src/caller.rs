//! A caller with a valid token.

use std::{
    fmt,
    marker::PhantomData,
    ops::Deref,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};

use crate::{
    background::Timer,
    claims::Claims,
    clock::Now,
    error::AuthError,
    judge::Judge,
    requirement::{Ages, RequiredRole, Requirement},
    token::AccessToken,
    verdict::{
        Active,
        engine::{Engine, Known},
        freshness::{Asker, Freshness, Obtained},
    },
};

/// The lower bound of the interval of [`Caller::until_unauthorized`]: all timers run on one thread.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);

/// Somebody whose token is valid, and what the issuer says of them. Cheap to clone.
#[derive(Clone)]
#[must_use = "a newer caller has newer claims"]
pub struct Caller {
    active: Arc<Active>,
    obtained_at: Instant,
    /// The issuer was asked during this request.
    is_fresh: bool,
    token: AccessToken,
    judge: Arc<Judge>,
}

/// When an eviction counts for a caller.
#[derive(Debug, Clone, Copy)]
enum Watch {
    /// Once the caller has outlived the request, or where the requirement asks for an age.
    Request,
    /// At once: the caller belongs to a stream.
    Evictions,
}

impl Caller {
    /// `began` is the beginning of the request for which the verdict was obtained.
    #[inline]
    pub(crate) fn new(
        judge: &Arc<Judge>,
        token: AccessToken,
        active: Arc<Active>,
        began: Instant,
        obtained_at: Instant,
    ) -> Self {
        let is_fresh = active.was_asked_since(began);
        Self { active, obtained_at, is_fresh, token, judge: Arc::clone(judge) }
    }

    /// What the issuer says of the caller.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.active.claims
    }

    /// `sub`: the id of the user or service user. ZITADEL sends it with each token; empty if another issuer does not
    /// send it.
    #[must_use]
    pub fn user_id(&self) -> &str {
        self.claims().subject().unwrap_or_default()
    }

    /// The age of the verdict: the time since its question was sent to the issuer.
    #[must_use]
    pub fn verdict_age(&self) -> Duration {
        let now = self.judge.clock.now();
        let Ok(engine) = self.judge.engine() else { return now.instant - self.active.asked_at };
        let asker = self.asker(engine, Ages::default(), now, Watch::Evictions);
        engine.settings.lifetimes.verdict_age(&self.active, asker, now.instant)
    }

    /// The token itself.
    #[must_use]
    pub fn token(&self) -> &AccessToken {
        &self.token
    }

    /// Checks the caller against one more requirement, such as a requirement that is built from the request's path.
    ///
    /// If a held verdict does not meet the requirement, the issuer is asked once more before the refusal: a role that
    /// was granted a moment ago counts. The returned caller has the newest claims: use this caller from then on.
    ///
    /// ```
    /// # use zitadel_introspect::{AuthError, Caller, Requirement};
    /// # async fn example(caller: Caller, organization: &str) -> Result<(), AuthError> {
    /// let editor = Requirement::role("editor").in_organization(organization);
    /// let caller = caller.require(&editor).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AuthError`] as [`Verifier::authorize`](crate::Verifier::authorize) gives it: 403 if the requirement is not met.
    pub async fn require(&self, requirement: &Requirement) -> Result<Self, AuthError> {
        self.require_by(requirement, Watch::Request).await
    }

    async fn require_by(&self, requirement: &Requirement, watch: Watch) -> Result<Self, AuthError> {
        let now = self.judge.clock.now();
        let engine = self.judge.engine_or_refuse()?;
        let asker = self.asker(engine, requirement.ages(), now, watch);
        let freshness = engine.settings.lifetimes.judge(&self.active, asker, now);
        if freshness.serves() && requirement.is_met(&self.active.claims) {
            return Ok(self.clone());
        }
        let key = engine.cache.key(&self.token);
        let known = match freshness {
            // The cache may hold a newer verdict, or a refusal.
            Freshness::Ask | Freshness::ServeStale => {
                let fed = engine.fed.read();
                // An eviction counts from the moment at which it is recorded, also before it has removed the verdict.
                let is_good = |active: &Arc<Active>| !engine.cache.is_evicted(&key, active);
                let active = engine.cache.active(&key).filter(is_good);
                Known { key, active, obtained: Obtained::FromCache, fed }
            }
            _ => Known {
                key,
                active: Some(Arc::clone(&self.active)),
                obtained: asker.obtained,
                fed: asker.fed,
            },
        };
        // In a box, and with its timer, only where something may have to be awaited.
        Box::pin(self.meet(requirement, known, now)).await
    }

    async fn meet(&self, requirement: &Requirement, known: Known, began: Now) -> Result<Self, AuthError> {
        let active = self.judge.decide(&self.token, known, requirement, began).await?;
        if Arc::ptr_eq(&active, &self.active) {
            return Ok(self.clone());
        }
        let now = self.judge.clock.now().instant;
        Ok(Self::new(&self.judge, self.token.clone(), active, began.instant, now))
    }

    /// Completes when the caller no longer meets the requirement: the token has expired, or the verdict has expired or
    /// was evicted and the newest verdict is not enough. For work that outlives a request, such as a stream.
    ///
    /// Checks the verdict at once when an eviction may concern it, when it lapses, when the token expires, and at the
    /// interval `every` (10 ms at least); a held verdict costs no question. The error is the response for the caller: 401 or 403, or 503 if there was no verdict in time.
    pub async fn until_unauthorized(&self, requirement: &Requirement, every: Duration) -> AuthError {
        let engine = match self.judge.engine_or_refuse() {
            Ok(engine) => Arc::clone(engine),
            Err(error) => return error,
        };
        let handle = engine.handle.clone();
        let every = every.max(SHORTEST_LOOK);
        let mut caller = self.clone();
        loop {
            let look = Timer::start(&handle, caller.time_to_look(&engine, every));
            select(pin!(caller.evicted(&engine)), look).await;
            // A renewal that hangs must not extend the time of an expired token.
            let end = caller.time_left().filter(|left| !left.is_zero());
            let end = end.map(|left| Timer::start(&handle, left));
            match caller.require_before(requirement, end).await {
                Some(Ok(newest)) => caller = newest,
                Some(Err(error)) => return error,
                None => {}
            }
        }
    }

    /// `None` if the token expires first.
    async fn require_before(
        &self,
        requirement: &Requirement,
        end: Option<Timer>,
    ) -> Option<Result<Self, AuthError>> {
        let Some(end) = end else { return Some(self.require_by(requirement, Watch::Evictions).await) };
        match select(pin!(self.require_by(requirement, Watch::Evictions)), end).await {
            Either::Left((outcome, _)) => Some(outcome),
            Either::Right(_) => None,
        }
    }

    /// Until the verdict lapses or the token expires, or `every` if that is sooner.
    fn time_to_look(&self, engine: &Engine, every: Duration) -> Duration {
        let now = self.judge.clock.now();
        let asker = self.asker(engine, Ages::default(), now, Watch::Evictions);
        let lapses = engine.settings.lifetimes.time_left(&self.active, asker, now.instant).max(SHORTEST_LOOK);
        self.time_left().map_or(every, |left| left.min(every)).min(lapses)
    }

    /// Ready when an eviction may concern the verdict.
    async fn evicted(&self, engine: &Engine) {
        let key = engine.cache.key(&self.token);
        let mut evictions = engine.cache.ledger.watch();
        while !engine.cache.is_evicted(&key, &self.active) {
            // The sender lives as long as the engine.
            let _ = evictions.changed().await;
        }
    }

    fn time_left(&self) -> Option<Duration> {
        self.active.claims.time_left(self.judge.clock.now())
    }

    /// Reads until when events are known, and only then what they have evicted.
    fn asker(&self, engine: &Engine, ages: Ages, now: Now, watch: Watch) -> Asker {
        let fed = engine.fed.read();
        let is_evicted = || engine.cache.is_evicted(&engine.cache.key(&self.token), &self.active);
        let obtained = match watch {
            Watch::Evictions => {
                Obtained::Earlier { at: self.obtained_at, is_fresh: self.is_fresh, is_evicted: is_evicted() }
            }
            Watch::Request => {
                Obtained::earlier(self.obtained_at, self.is_fresh, now.instant, ages, is_evicted)
            }
        };
        Asker { ages, obtained, fed }
    }

    pub(crate) fn belongs_to(&self, judge: &Arc<Judge>) -> bool {
        Arc::ptr_eq(&self.judge, judge)
    }
}

/// A caller with the role that the type parameter names. For adapters, whose `AuthorizedAs` wraps this type; derefs to
/// the [`Caller`].
pub struct CallerAs<R> {
    caller: Caller,
    role: PhantomData<fn() -> R>,
}

impl<R: RequiredRole> CallerAs<R> {
    /// The caller, if they have the role.
    ///
    /// # Errors
    ///
    /// As [`Caller::require`].
    pub async fn require(caller: &Caller) -> Result<Self, AuthError> {
        let caller = caller.require(&Requirement::role(R::ROLE)).await?;
        Ok(Self { caller, role: PhantomData })
    }
}

impl<R> CallerAs<R> {
    /// Returns the caller itself.
    pub fn into_caller(self) -> Caller {
        self.caller
    }
}

impl<R> Deref for CallerAs<R> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<R: RequiredRole> fmt::Debug for CallerAs<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CallerAs").field("caller", &self.caller).field("role", &R::ROLE).finish()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Caller").field("claims", &self.active.claims).finish_non_exhaustive()
    }
}
