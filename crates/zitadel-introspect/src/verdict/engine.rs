//! Where verdicts come from: the cache, the token itself, or the issuer.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{
    claims::pool::RolePool,
    clock::{Clock, Now},
    error::{InvalidToken, Reason, issuer::IssuerError},
    issuer::{key_watch::KeyWatch, name::Issuer},
    jwt::{Jwt, LocalJwts},
    names::ProjectId,
    requirement::{Ages, Requirement},
    stats::{Counters, Labels, Stats},
    token::AccessToken,
    verdict::{
        Active, Outcome, Refused, Verdict,
        cache::{Cache, bounded::Key},
        fed::{Fed, FedClock},
        followed::Followed,
        freshness::{Asker, Freshness, Lifetimes, Obtained},
        in_flight::{InFlight, Joined, SentAt, Waiting},
        ledger::Position,
        shared::Peers,
        source::Source,
    },
};

/// The settings of the engine.
#[derive(Clone)]
pub(crate) struct EngineSettings {
    pub(crate) issuer: Issuer,
    pub(crate) audience: Option<String>,
    pub(crate) is_cached: bool,
    /// The longest time for a question, and for a request with all its questions.
    pub(crate) timeout: Duration,
    pub(crate) denial_interval: Duration,
    pub(crate) lifetimes: Lifetimes,
}

/// The engine below a verifier.
pub(crate) struct Engine {
    pub(crate) settings: EngineSettings,
    pub(crate) labels: Labels,
    pub(crate) cache: Cache,
    pub(crate) counters: Counters,
    pub(crate) clock: Clock,
    pub(crate) in_flight: InFlight,
    pub(crate) local: Option<LocalJwts>,
    pub(crate) source: Source,
    pub(crate) key_watch: Option<KeyWatch>,
    pub(crate) handle: Handle,
    pub(crate) fed: FedClock,
    pub(crate) feed: Option<Followed>,
    pub(crate) peers: Option<Peers>,
    pub(crate) renewals: AtomicUsize,
    pub(crate) roles: RolePool,
}

/// The knowledge about a token at the beginning of a decision.
pub(crate) struct Known {
    pub(crate) key: Key,
    pub(crate) active: Option<Arc<Active>>,
    pub(crate) obtained: Obtained,
    /// Read before the verdict was looked up.
    pub(crate) fed: Fed,
}

/// Why a caller is refused. The user is named where they are known.
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) user_id: Option<Arc<str>>,
}

impl Engine {
    /// The held verdict if it meets the requirement, which is the case for nearly all requests. Otherwise what is known
    /// of the token.
    #[inline]
    pub(crate) fn hit(
        self: &Arc<Self>,
        token: &AccessToken,
        requirement: &Requirement,
        now: Now,
    ) -> Result<Arc<Active>, Known> {
        let key = self.cache.key(token);
        // Before the verdict is looked up.
        let fed = self.fed.read();
        let active = self.cache.active(&key);
        let asker = Asker { ages: requirement.ages(), obtained: Obtained::FromCache, fed };
        match active {
            Some(active) if requirement.is_met(&active.claims) => {
                match self.settings.lifetimes.judge(&active, asker, now) {
                    Freshness::Serve => {}
                    Freshness::ServeAndRenew => self.renew_ahead(token, key, &active),
                    _ => return Err(Known { key, active: Some(active), obtained: Obtained::FromCache, fed }),
                }
                self.counters.hits.count();
                Ok(active)
            }
            active => Err(Known { key, active, obtained: Obtained::FromCache, fed }),
        }
    }

    /// A verdict that meets the requirement, or why the caller is refused. If a held verdict does not meet the
    /// requirement, the issuer is asked once more before the refusal.
    pub(crate) async fn decide(
        self: &Arc<Self>,
        token: &AccessToken,
        known: Known,
        requirement: &Requirement,
        began: Now,
    ) -> Result<Arc<Active>, Refusal> {
        let (key, obtained) = (known.key, known.obtained);
        let active = accept(self.verdict(token, known, requirement.ages(), began).await)?;
        let Err(reason) = requirement.check(&active.claims) else { return Ok(active) };
        let was_just_asked = active.was_asked_since(began.instant) || obtained.is_just_asked(began.instant);
        let newer = if was_just_asked { None } else { self.before_denial(token, key, &active).await };
        let refusal =
            |reason, active: &Active| Refusal { reason, user_id: active.claims.subject().map(Arc::from) };
        match newer {
            None => Err(refusal(reason, &active)),
            Some(Verdict::Refused(refused)) => Err(refusal(Reason::InvalidToken(refused.reason), &active)),
            Some(Verdict::Active(newer)) => match requirement.check(&newer.claims) {
                Ok(()) => Ok(newer),
                Err(reason) => Err(refusal(reason, &newer)),
            },
        }
    }

    /// Asks about a token that was never issued, or fetches the keys if the verifier only reads JWTs.
    pub(crate) async fn check(self: &Arc<Self>) -> Result<Option<Verdict>, IssuerError> {
        if self.source.can_ask() {
            let token = AccessToken::never_issued();
            return self.ask(&token, self.cache.key(&token), None).await.map(Some);
        }
        if let Some(local) = &self.local {
            local.keys.fetch().await?;
        }
        Ok(None)
    }

    /// Our own project, if it is known.
    pub(crate) fn project(&self) -> Option<&ProjectId> {
        let followed = self.feed.as_ref().and_then(Followed::project);
        followed.or_else(|| self.source.issuer().and_then(|issuer| issuer.project.as_ref()))
    }

    pub(crate) fn stats(&self) -> Stats {
        let (held, held_refused) = self.cache.len();
        Stats {
            held: held as u64,
            held_bad: held_refused as u64,
            breaker_open: self.source.is_refusing(),
            ..self.counters.snapshot()
        }
    }

    /// Forgets the verdict on one token.
    pub(crate) fn evict_token(&self, token: &AccessToken) {
        let end = Jwt::of(token).map(|jwt| jwt.end());
        let key = self.cache.key(token);
        let held = self.cache.peek(&key);
        self.tell_of_end(token, held.as_deref());
        self.cache.evict_token(&key, end, self.clock.now().instant);
    }

    /// A verdict on a token. The verdict is not older than `ages` allow.
    async fn verdict(self: &Arc<Self>, token: &AccessToken, known: Known, ages: Ages, now: Now) -> Outcome {
        let asker = Asker { ages, obtained: known.obtained, fed: known.fed };
        let looked_at = self.cache.ledger.position();
        let freshness = known.active.as_ref().map(|active| self.settings.lifetimes.judge(active, asker, now));
        match (&known.active, freshness) {
            (Some(active), Some(Freshness::Serve)) => return Ok(self.serve(active, known.obtained)),
            (Some(active), Some(Freshness::ServeAndRenew)) => {
                self.renew_ahead(token, known.key, active);
                return Ok(self.serve(active, known.obtained));
            }
            (Some(active), Some(Freshness::Expired)) => {
                return Ok(Verdict::Refused(Refused::of(&active.claims, InvalidToken::Expired)));
            }
            (Some(active), _) if !self.settings.lifetimes.time_left(active, asker, now.instant).is_zero() => {
                self.counters.renewals.count();
            }
            (Some(_), _) => self.counters.misses.count(),
            (None, _) => {
                if let Some(refused) = self.cache.refused(&known.key, now.instant) {
                    self.counters.negative_hits.count();
                    return Ok(Verdict::Refused(refused));
                }
                self.counters.misses.count();
            }
        }
        if !ages.are_set()
            && let Some(outcome) = self.verify_locally(token, &known, now).await
        {
            return outcome;
        }
        let not_before = ages.least().map(|age| now.instant.checked_sub(age).unwrap_or(now.instant));
        let outcome = self.ask(token, known.key, not_before).await;
        match (outcome, known.active) {
            // The clock is read again: time has passed during the question.
            (Err(error), Some(active)) => {
                match self.settings.lifetimes.judge(&active, asker, self.clock.now()) {
                    // An eviction may have come while the question was in flight.
                    Freshness::ServeStale
                        if !self.cache.ledger.concerned_since(&known.key, &active, looked_at) =>
                    {
                        self.counters.stale.count();
                        Ok(Verdict::Active(active))
                    }
                    _ => Err(error),
                }
            }
            (outcome, _) => outcome,
        }
    }

    /// The newest verdict before a denial. Asks the issuer, as often as the denial interval allows, or joins the
    /// question in flight. `None` if there is nothing newer than `denied`.
    async fn before_denial(
        self: &Arc<Self>,
        token: &AccessToken,
        key: Key,
        denied: &Arc<Active>,
    ) -> Option<Verdict> {
        if !self.source.can_ask() {
            return None;
        }
        let now = self.clock.now();
        let asker = self.any_asker();
        let is_newer = |newest: &Arc<Active>| {
            !Arc::ptr_eq(newest, denied) && self.settings.lifetimes.judge(newest, asker, now).serves()
        };
        let newest = self.cache.peek(&key).filter(is_newer);
        let payer = newest.as_ref().unwrap_or(denied);
        let outcome = if payer.claim_denial_question(self.settings.denial_interval, now.instant) {
            self.counters.refreshes_on_denial.count();
            self.ask(token, key, Some(now.instant)).await
        } else if let Some((waiting, sent)) = self.in_flight.find(&key)
            // An answer from before an eviction may be of no use: it is not waited for.
            && !sent.get().is_some_and(|sent| self.cache.ledger.may_concern_refusal(&key, sent.position, None))
        {
            self.counters.coalesced.count();
            waiting.await
        } else {
            return newest.map(Verdict::Active);
        };
        outcome.ok().or(newest.map(Verdict::Active))
    }

    /// Judges a verdict that is looked up after this, for a requirement that asks for no age.
    pub(super) fn any_asker(&self) -> Asker {
        Asker { ages: Ages::default(), obtained: Obtained::FromCache, fed: self.fed.read() }
    }

    fn serve(&self, active: &Arc<Active>, obtained: Obtained) -> Verdict {
        if matches!(obtained, Obtained::FromCache) {
            self.counters.hits.count();
        }
        Verdict::Active(Arc::clone(active))
    }

    /// The issuer's answer to a question that was not sent before `not_before`, shared by all who wait for it.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        token: &AccessToken,
        key: Key,
        not_before: Option<Instant>,
    ) -> Outcome {
        let arrived = self.cache.ledger.position();
        let mut earliest = not_before;
        loop {
            let (waiting, sent) = match self.in_flight.join(key, earliest) {
                Joined::First(waiting, reply) => {
                    match self.arrived_meanwhile(&key).filter(|_| not_before.is_none()) {
                        Some(active) => self.in_flight.answer(&key, reply, &Ok(Verdict::Active(active))),
                        None => self.start(token.clone(), key, reply, not_before.is_none()),
                    }
                    return waiting.await;
                }
                Joined::Waiting(waiting, sent) => (waiting, sent),
                Joined::Next(waiting) => {
                    self.counters.coalesced.count();
                    return self.within_timeout(waiting).await;
                }
            };
            self.counters.coalesced.count();
            let outcome = waiting.await;
            // A question that was not sent yet may have been answered by a verdict that had arrived meanwhile.
            let is_older = |active: &Active| earliest.is_some_and(|earliest| active.asked_at < earliest);
            match &outcome {
                Ok(Verdict::Active(active)) if is_older(active) => {}
                _ if self.is_evicted(&key, &outcome, &sent, arrived) => {
                    earliest = earliest.max(sent.get().map(|sent| sent.at));
                }
                _ => return outcome,
            }
        }
    }

    /// Whether a caller must not get this answer, since an eviction that matches it came after the question and before the
    /// caller.
    fn is_evicted(&self, key: &Key, outcome: &Outcome, sent: &SentAt, arrived: Position) -> bool {
        let ledger = &self.cache.ledger;
        match outcome {
            Ok(Verdict::Active(active)) => ledger.concerned_until(key, active, arrived),
            Ok(Verdict::Refused(_)) => {
                sent.get().is_some_and(|sent| ledger.may_concern_refusal(key, sent.position, Some(arrived)))
            }
            Err(_) => false,
        }
    }

    /// A caller who waits for the next question waits for the question in flight as well: for both within one time-out.
    async fn within_timeout(&self, waiting: Waiting) -> Outcome {
        let timeout = self.settings.timeout;
        // On the library's own thread: the caller's runtime may have no timer.
        let limited = self.handle.spawn(async move {
            tokio::time::timeout(timeout, waiting).await.unwrap_or(Err(IssuerError::TimedOut))
        });
        limited.await.unwrap_or(Err(IssuerError::Lost))
    }

    /// The question of another caller may have been answered since this caller looked into the cache.
    fn arrived_meanwhile(&self, key: &Key) -> Option<Arc<Active>> {
        let asker = self.any_asker();
        let active = self.cache.active(key)?;
        let freshness = self.settings.lifetimes.judge(&active, asker, self.clock.now());
        (freshness.serves() && !active.is_local && !self.cache.is_evicted(key, &active)).then_some(active)
    }
}

/// The verdict on an active token, or why the request is refused.
fn accept(outcome: Outcome) -> Result<Arc<Active>, Refusal> {
    match outcome {
        Ok(Verdict::Active(active)) => Ok(active),
        Ok(Verdict::Refused(Refused { reason, user_id })) => {
            Err(Refusal { reason: Reason::InvalidToken(reason), user_id })
        }
        Err(error) => Err(Refusal { reason: Reason::Unavailable(error), user_id: None }),
    }
}
