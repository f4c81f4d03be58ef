//! Where verdicts come from: held already, read out of the token, or asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tracing::Instrument;

use crate::{
    bearer::AccessToken,
    cache::{Cache, Held, Key, Known, Refused},
    clock::{Clock, Now},
    error::InvalidToken,
    flight::{Flights, Found, Joined, Outcome, SentAt, Takeoff, Waiting},
    introspection::{Introspection, Verdict},
    issuer::Issuer,
    issuer_error::IssuerError,
    jwt::{Jwt, LocalJwts, Reading},
    key_watch::{KeyWatch, ReloadError},
    requirement::Requirement,
    runtime::Timer,
    stats::{Counters, Labels, Stats},
};

/// Renewals ahead that are under way at once.
const RENEWALS_AT_ONCE: usize = 16;
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// Verdicts that have lapsed give their memory back so often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// What is set for the handling of verdicts.
#[derive(Clone)]
pub(crate) struct VerdictSettings {
    pub(crate) issuer: Issuer,
    pub(crate) audience: Option<String>,
    pub(crate) is_cached: bool,
    pub(crate) timeout: Duration,
    pub(crate) denial_interval: Duration,
    pub(crate) refresh_ahead: Option<Duration>,
    pub(crate) stale_for: Duration,
    /// How long a locally made verdict serves before the issuer must have confirmed it.
    pub(crate) confirm_within: Option<Duration>,
}

/// The engine below a verifier.
pub(crate) struct Verdicts {
    pub(crate) settings: VerdictSettings,
    pub(crate) labels: Labels,
    pub(crate) cache: Cache,
    pub(crate) counters: Counters,
    pub(crate) clock: Clock,
    pub(crate) flights: Flights,
    pub(crate) local: Option<LocalJwts>,
    /// `None` for a verifier that only reads JWTs.
    pub(crate) introspection: Option<Arc<Introspection>>,
    pub(crate) key_watch: Option<KeyWatch>,
    pub(crate) handle: tokio::runtime::Handle,
    pub(crate) renewals: AtomicUsize,
}

impl Verdicts {
    /// A verdict that is held and meets the requirement: the way of nearly all requests.
    #[inline]
    pub(crate) fn held(
        self: &Arc<Self>,
        token: &AccessToken,
        requirement: &Requirement,
        now: Now,
    ) -> Option<Arc<Held>> {
        let key = Cache::key(token);
        let held = self.cache.held(&key)?;
        let serves = self.serves(&held, requirement.max_age(), now) && !held.claims.has_expired(now);
        if !serves || !requirement.is_met(&held.claims) {
            return None;
        }
        self.hit(token, key, &held, now);
        Some(held)
    }

    /// A verdict on a token that is not older than `max_age`.
    pub(crate) async fn get(
        self: &Arc<Self>,
        token: &AccessToken,
        max_age: Option<Duration>,
        now: Now,
    ) -> Outcome {
        let key = Cache::key(token);
        let mut stale = None;
        match self.cache.look(&key, now.instant, self.settings.stale_for) {
            Known::Good(held) if self.serves(&held, max_age, now) => {
                self.hit(token, key, &held, now);
                let has_expired = held.claims.has_expired(now);
                let expired = || Refused::of(&held.claims, InvalidToken::Expired);
                return Ok(if has_expired { Found::Bad(expired()) } else { Found::Good(held) });
            }
            Known::Good(held) => stale = Some(held),
            Known::Bad(refused) => {
                self.counters.negative_hits.count();
                return Ok(Found::Bad(refused));
            }
            Known::Nothing => self.counters.misses.count(),
        }
        if max_age.is_none()
            && !self.awaits_confirmation(&key)
            && let Some(outcome) = self.read_locally(token, key, now).await
        {
            return outcome;
        }
        if stale.as_ref().is_some_and(|held| !self.cache.is_lapsed(held, now.instant)) {
            self.counters.renewals.count();
        }
        let not_before = max_age.map(|max_age| now.instant.checked_sub(max_age).unwrap_or(now.instant));
        let outcome = self.ask(token, key, not_before).await;
        match (outcome, stale) {
            // By the clock as it is now: the question has taken its time.
            (Err(_), Some(held)) if max_age.is_none() && self.serves_stale(&held, self.clock.now()) => {
                self.counters.stale.count();
                Ok(Found::Good(held))
            }
            (outcome, _) => outcome,
        }
    }

    /// The newest verdict before a denial: the issuer is asked once more, at most once in the interval, or the
    /// question that is under way is joined. `None` where there is nothing newer than `held`.
    pub(crate) async fn before_denial(
        self: &Arc<Self>,
        token: &AccessToken,
        held: &Arc<Held>,
        now: Now,
    ) -> Option<Found> {
        let key = Cache::key(token);
        let is_newer = |newest: &Arc<Held>| !Arc::ptr_eq(newest, held) && self.still_stands(newest, now);
        let newest = self.cache.newest(&key).filter(is_newer);
        let evicted_at = self.cache.evicted_at();
        let slot = newest.as_ref().unwrap_or(held);
        let outcome = if slot.claim_denial_question(self.settings.denial_interval, now.instant) {
            self.counters.refreshes_on_denial.count();
            self.ask(token, key, Some(now.instant)).await
        } else if let Some(under_way) = self.flights.under_way(&key, evicted_at) {
            self.counters.coalesced.count();
            self.within_timeout(under_way).await
        } else {
            return newest.map(Found::Good);
        };
        outcome.ok().or(newest.map(Found::Good))
    }

    /// The issuer's answer to a question that was not sent before `not_before`, shared by all who wait for it.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        token: &AccessToken,
        key: Key,
        not_before: Option<Instant>,
    ) -> Outcome {
        // Who asks after an eviction does not get what was asked for before it.
        match self.flights.join(key, not_before.max(self.cache.evicted_at())) {
            Joined::First(waiting, takeoff) => {
                // The question of another may have been answered since this caller looked.
                let known = self.cache.held(&key).filter(|held| self.serves(held, None, self.clock.now()));
                match known.filter(|held| not_before.is_none() && !held.is_local) {
                    Some(held) if !self.cache.was_evicted_since(held.asked_at) => {
                        self.answer(key, takeoff, &held);
                    }
                    _ => self.fly(token.clone(), key, takeoff),
                }
                waiting.await
            }
            Joined::Waiting(waiting) => {
                self.counters.coalesced.count();
                waiting.await
            }
            Joined::Next(waiting) => {
                self.counters.coalesced.count();
                self.within_timeout(waiting).await
            }
        }
    }

    /// Asks about a token that never was, or fetches the keys where there is nobody to ask.
    pub(crate) async fn check(self: &Arc<Self>) -> Result<Option<Found>, IssuerError> {
        if self.introspection.is_none() {
            let keys = self.local.as_ref().map(|local| &local.keys);
            if let Some(keys) = keys {
                keys.get("", self.clock.now().instant).await?;
            }
            return Ok(None);
        }
        let token = AccessToken::never_issued();
        self.ask(&token, Cache::key(&token), None).await.map(Some)
    }

    /// The issuer's clock, where there is an issuer to ask.
    pub(crate) async fn issuer_time(self: &Arc<Self>) -> Result<Option<SystemTime>, IssuerError> {
        let this = Arc::clone(self);
        let asking = self.handle.spawn(async move {
            let Some(introspection) = &this.introspection else { return Ok(None) };
            introspection.date().await
        });
        asking.await.unwrap_or(Err(IssuerError::Lost))
    }

    /// Takes up the key that the key file holds now.
    pub(crate) async fn reload_key(self: Arc<Self>) -> Result<(), ReloadError> {
        let handle = self.handle.clone();
        let reloading = handle.spawn(async move {
            match (&self.key_watch, &self.introspection) {
                (Some(watch), Some(asking)) => watch.take_up(asking).await,
                _ => Err(ReloadError::NoFile),
            }
        });
        reloading.await.unwrap_or(Err(ReloadError::Issuer(IssuerError::Lost)))
    }

    pub(crate) fn stats(&self) -> Stats {
        let (held, held_bad) = self.cache.len();
        Stats {
            held: held as u64,
            held_bad: held_bad as u64,
            breaker_open: self.introspection.as_ref().is_some_and(|asking| asking.breaker.is_open()),
            ..self.counters.snapshot()
        }
    }

    /// Forgets the verdict on one token.
    pub(crate) fn evict_token(&self, token: &AccessToken) {
        let end = Jwt::of(token).map(|jwt| jwt.end());
        self.cache.forget(&Cache::key(token), end, self.clock.now().instant);
    }

    /// What happens without a request, as long as there is a verifier: numbers go to the `metrics` facade, lapsed
    /// verdicts are given back, a new key file is taken up.
    pub(crate) fn tend(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        self.handle.spawn(async move {
            let mut swept_at = None;
            loop {
                tokio::time::sleep(PUBLISH_INTERVAL).await;
                let Some(this) = this.upgrade() else { return };
                this.publish();
                let now = this.clock.now();
                let is_due = |at: Instant| now.instant.saturating_duration_since(at) >= SWEEP_INTERVAL;
                if swept_at.is_none_or(is_due) {
                    swept_at = Some(now.instant);
                    let this = Arc::clone(&this);
                    // Looks at each verdict: not on the thread that asks.
                    tokio::task::spawn_blocking(move || this.cache.sweep(now, this.settings.stale_for));
                }
            }
        });
        if let (Some(watch), Some(asking)) = (&self.key_watch, &self.introspection) {
            self.handle.spawn(watch.clone().run(Arc::downgrade(asking)));
        }
    }

    fn publish(&self) {
        self.counters.publish(self.stats(), &self.labels);
    }

    /// Whether a held verdict may answer by itself.
    fn serves(&self, held: &Held, max_age: Option<Duration>, now: Now) -> bool {
        let unconfirmed = held.is_local
            && self.settings.confirm_within.is_some_and(|within| held.age(now.instant) >= within);
        !unconfirmed && !self.cache.is_lapsed(held, now.instant) && held.is_within(max_age, now.instant)
    }

    fn still_stands(&self, held: &Held, now: Now) -> bool {
        !self.cache.is_lapsed(held, now.instant) && !held.claims.has_expired(now)
    }

    /// A verdict of the issuer's own that is past its time, but not past the bound that the operator chose, nor
    /// past the token's end.
    fn serves_stale(&self, held: &Held, now: Now) -> bool {
        let is_lapsed = self.cache.is_lapsed(held, now.instant);
        let is_bounded = !self.cache.is_past(held, now.instant, self.settings.stale_for);
        is_lapsed && is_bounded && !held.is_local && held.claims.check_times(now.wall()).is_ok()
    }

    /// A JWT that was read locally before, where the issuer must confirm: reading it once more, also after the
    /// verdict has lapsed, would prolong what is bounded.
    fn awaits_confirmation(&self, key: &Key) -> bool {
        self.settings.confirm_within.is_some() && self.cache.newest(key).is_some()
    }

    fn hit(self: &Arc<Self>, token: &AccessToken, key: Key, held: &Arc<Held>, now: Now) {
        self.counters.hits.count();
        let is_due = if held.is_local {
            self.settings.confirm_within.is_some()
        } else {
            let ahead = self.settings.refresh_ahead;
            ahead.is_some_and(|ahead| self.cache.lapses_within(held, ahead, now.instant))
        };
        if is_due {
            self.renew_ahead(token, key, held);
        }
    }

    /// Renews a verdict that is in use, without anybody waiting for it.
    fn renew_ahead(self: &Arc<Self>, token: &AccessToken, key: Key, held: &Arc<Held>) {
        if self.renewals.load(Ordering::Relaxed) >= RENEWALS_AT_ONCE || !held.claim_renewal() {
            return;
        }
        let Joined::First(waiting, takeoff) = self.flights.join(key, None) else {
            return held.give_renewal_back();
        };
        self.counters.renewals.count();
        self.renewals.fetch_add(1, Ordering::Relaxed);
        self.fly(token.clone(), key, takeoff);
        let (this, held) = (Arc::clone(self), Arc::clone(held));
        self.handle.spawn(async move {
            if waiting.await.is_err() {
                held.give_renewal_back();
            }
            this.renewals.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// A JWT where local verification is on; `None` where the issuer must be asked.
    async fn read_locally(self: &Arc<Self>, token: &AccessToken, key: Key, now: Now) -> Option<Outcome> {
        let local = self.local.as_ref()?;
        if self.introspection.is_some() && self.cache.is_distrusted(&key) {
            return None;
        }
        let Some(jwt) = Jwt::of(token) else {
            return self.introspection.is_none().then_some(Ok(Found::Bad(InvalidToken::Malformed.into())));
        };
        self.counters.local.count();
        Some(match local.read(&jwt, now).await {
            Ok(Reading::Valid(claims)) => {
                let held = Arc::new(Held::new(*claims, now.instant, true));
                self.keep(key, &Found::Good(Arc::clone(&held)), now.instant);
                if self.settings.confirm_within.is_some() {
                    self.renew_ahead(token, key, &held);
                }
                Ok(Found::Good(held))
            }
            // Also where the keys cannot be had: the issuer may be asked all the same.
            Ok(Reading::Unreadable(_)) | Err(_) if self.introspection.is_some() => return None,
            Ok(Reading::Unreadable(reason)) => {
                local.tell_unreadable(reason);
                Ok(Found::Bad(reason.into()))
            }
            // Not held: it costs no question, and must not push out what the issuer said of other tokens.
            Ok(Reading::Refused(reason)) => Ok(Found::Bad(reason.into())),
            Err(error) => Err(error),
        })
    }

    /// A JWT that the issuer calls inactive is not read locally any more. Keys that must be fetched for this delay no
    /// answer: until they are there, the refusal itself is held.
    fn distrust(self: &Arc<Self>, token: &AccessToken, key: Key) {
        let (Some(local), Some(jwt)) = (&self.local, Jwt::of(token)) else { return };
        if let Some(reading) = local.read_by_known(&jwt, self.clock.now()) {
            return self.distrust_read(key, &jwt, Ok(reading), false);
        }
        let was_active = self.cache.newest(&key).is_some();
        let (this, token) = (Arc::clone(self), token.clone());
        self.handle.spawn(async move {
            let (Some(local), Some(jwt)) = (&this.local, Jwt::of(&token)) else { return };
            let reading = local.read(&jwt, this.clock.now()).await;
            this.distrust_read(key, &jwt, reading, was_active);
        });
    }

    /// Only a JWT that would pass is remembered, or made-up ones could push it out.
    fn distrust_read(
        &self,
        key: Key,
        jwt: &Jwt<'_>,
        reading: Result<Reading, IssuerError>,
        was_active: bool,
    ) {
        match reading {
            Ok(Reading::Valid(claims)) => self.cache.distrust(key, claims.end()),
            // Where the keys cannot be had, only a token that was active is known to be none that was made up.
            Err(_) if was_active => self.cache.distrust(key, jwt.end()),
            _ => {}
        }
    }

    fn keep(&self, key: Key, found: &Found, asked_at: Instant) {
        if !self.settings.is_cached {
            return;
        }
        match found {
            Found::Good(held) => self.cache.keep(key, held),
            Found::Bad(refused) => self.cache.keep_bad(key, refused.clone(), asked_at),
        }
    }

    /// Ready when a caller has waited as long as any may; a little later than the time-out of a question, so that
    /// its own end is told. On the library's own thread: the caller's runtime may have no timer.
    pub(crate) fn timer(&self) -> Timer {
        let time = self.settings.timeout + Duration::from_millis(20);
        Timer::start(&self.handle, time)
    }

    /// Who waits for the next question waits for the one under way as well: both within one time-out.
    async fn within_timeout(&self, waiting: Waiting) -> Outcome {
        let timeout = self.settings.timeout;
        // On the library's own thread: the caller's runtime may have no timer.
        let limited = self.handle.spawn(async move {
            tokio::time::timeout(timeout, waiting).await.unwrap_or(Err(IssuerError::TimedOut))
        });
        limited.await.unwrap_or(Err(IssuerError::Lost))
    }

    /// Lands a flight that need not be flown. Nobody can wait for a next one yet who would not be content with it.
    fn answer(&self, key: Key, takeoff: Takeoff, held: &Arc<Held>) {
        let next = self.flights.land(&key);
        for takeoff in [Some(takeoff), next].into_iter().flatten() {
            let _ = takeoff.found.send(Ok(Found::Good(Arc::clone(held))));
        }
    }

    /// Asks, on the library's own thread, until nobody waits for a further answer.
    fn fly(self: &Arc<Self>, token: AccessToken, key: Key, takeoff: Takeoff) {
        let this = Arc::clone(self);
        self.handle.spawn(async move {
            let mut landing = Landing { verdicts: &this, key, is_safe: false };
            let mut takeoff = Some(takeoff);
            while let Some(Takeoff { sent_at, found }) = takeoff {
                let outcome = this.question(&token, key, &sent_at).await;
                // Off the board first: who comes after the answer must not join a question that is over.
                takeoff = this.flights.land(&key);
                let _ = found.send(outcome);
            }
            landing.is_safe = true;
        });
    }

    /// One question, a second one for a surprise, and what becomes of the answer; all within the time-out.
    async fn question(self: &Arc<Self>, token: &AccessToken, key: Key, sent_at: &SentAt) -> Outcome {
        let began = Instant::now();
        let span = tracing::debug_span!("introspection", issuer = %self.settings.issuer);
        let outcome = self.ask_and_doubt(token, key, sent_at).instrument(span).await;
        self.labels.upstream_seconds().record(began.elapsed());
        if outcome.as_ref().is_ok_and(Found::is_inactive) {
            self.distrust(token, key);
        }
        if let Ok(found) = &outcome {
            let asked_at = sent_at.get().copied().unwrap_or_else(|| self.clock.now().instant);
            self.keep(key, found, asked_at);
        }
        match &outcome {
            Ok(Found::Good(_)) => self.counters.active.count(),
            Ok(Found::Bad(_)) => self.counters.inactive.count(),
            Err(_) => self.counters.failed.count(),
        }
        outcome
    }

    /// ZITADEL says inactive for its own troubles as well: a token that was good is asked for once more.
    async fn ask_and_doubt(&self, token: &AccessToken, key: Key, sent_at: &SentAt) -> Outcome {
        let deadline = tokio::time::Instant::now() + self.settings.timeout;
        let found = self.ask_once(token, sent_at, deadline).await?;
        if found.is_inactive() && self.cache.knew_as_good(&key, self.clock.now()) {
            return self.ask_once(token, sent_at, deadline).await;
        }
        Ok(found)
    }

    async fn ask_once(
        &self,
        token: &AccessToken,
        sent_at: &SentAt,
        deadline: tokio::time::Instant,
    ) -> Outcome {
        let Some(introspection) = &self.introspection else {
            return Err(IssuerError::Unusable { problem: "this verifier reads JWTs only and cannot ask" });
        };
        let mark = || {
            let _ = sent_at.set(self.clock.now().instant);
        };
        let claims = match introspection.ask(token, deadline, mark).await? {
            Verdict::Refused(reason) => return Ok(Found::Bad(reason.into())),
            Verdict::Active(claims) => claims,
        };
        let now = self.clock.now();
        let checked = claims.check_origin(&self.settings.issuer, self.settings.audience.as_deref());
        Ok(match checked.and_then(|()| claims.check_times(now.wall())) {
            Ok(()) => {
                let asked_at = sent_at.get().copied().unwrap_or(now.instant);
                let mut held = Held::new(*claims, asked_at, false);
                held.is_jwt = self.local.is_some() && Jwt::of(token).is_some();
                Found::Good(Arc::new(held))
            }
            Err(reason) => Found::Bad(Refused::of(&claims, reason)),
        })
    }
}

/// What was counted since the last publication is not lost.
impl Drop for Verdicts {
    fn drop(&mut self) {
        let nothing_is_held = Stats { held: 0, held_bad: 0, breaker_open: false, ..self.stats() };
        self.counters.publish(nothing_is_held, &self.labels);
    }
}

/// Takes a flight off the board that ended by a panic: who comes later asks anew.
struct Landing<'a> {
    verdicts: &'a Verdicts,
    key: Key,
    is_safe: bool,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if !self.is_safe {
            self.verdicts.flights.crash(&self.key);
        }
    }
}
