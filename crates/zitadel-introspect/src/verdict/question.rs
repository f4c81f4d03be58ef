//! A question to the issuer, and the handling of the answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::Instrument;

use crate::{
    error::issuer::IssuerError,
    jwt::{Jwt, Reading},
    token::AccessToken,
    verdict::{
        Active, Outcome, Refused, Sent, Verdict,
        cache::bounded::Key,
        engine::Engine,
        in_flight::{Joined, Reply, SentAt},
        shared::Asked,
    },
};

/// The most renewals ahead that are in flight at once.
const RENEWALS_AT_ONCE: usize = 16;

impl Engine {
    /// Renews a verdict that is in use. No caller waits for the renewal.
    pub(super) fn renew_ahead(self: &Arc<Self>, token: &AccessToken, key: Key, active: &Arc<Active>) {
        if self.renewals.load(Ordering::Relaxed) >= RENEWALS_AT_ONCE || !active.claim_renewal() {
            return;
        }
        let Joined::First(waiting, reply) = self.in_flight.join(key, None) else {
            return active.release_renewal();
        };
        self.counters.renewals.count();
        self.renewals.fetch_add(1, Ordering::Relaxed);
        self.start(token.clone(), key, reply, true);
        let (this, active) = (Arc::clone(self), Arc::clone(active));
        self.handle.spawn(async move {
            if waiting.await.is_err() {
                active.release_renewal();
            }
            this.renewals.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Asks on the library's own thread. `may_take`: a verdict that another instance has asked for answers the first
    /// question as well.
    pub(super) fn start(self: &Arc<Self>, token: AccessToken, key: Key, reply: Reply, may_take: bool) {
        let this = Arc::clone(self);
        let may_take = AtomicBool::new(may_take);
        self.handle.spawn(async move {
            let ask = |sent_at: SentAt| {
                let (this, token) = (&this, &token);
                let may_take = may_take.swap(false, Ordering::Relaxed);
                async move {
                    if let Some(verdict) = this.take(token, key, &sent_at, may_take).await {
                        return Ok(verdict);
                    }
                    this.question(token, key, &sent_at).await
                }
            };
            this.in_flight.run(key, reply, ask).await;
        });
    }

    /// The verdict of another instance, where one may be taken.
    async fn take(
        self: &Arc<Self>,
        token: &AccessToken,
        key: Key,
        sent_at: &SentAt,
        may_take: bool,
    ) -> Option<Verdict> {
        if !may_take || !self.settings.is_cached {
            return None;
        }
        let held = self.cache.peek(&key);
        let shared = self.take_shared(token, key, held.as_deref()).await?;
        let sent = Sent { at: shared.asked_at, position: shared.position };
        let _ = sent_at.set(sent);
        let verdict = Verdict::Active(shared);
        self.keep(key, &verdict, sent);
        self.counters.shared.count();
        Some(verdict)
    }

    /// Asks the issuer, asks a second time if the answer is a surprise, and stores the verdict; all within the
    /// time-out.
    async fn question(self: &Arc<Self>, token: &AccessToken, key: Key, sent_at: &SentAt) -> Outcome {
        let began = Instant::now();
        let asked = self.peers.as_ref().and_then(|peers| peers.place(self.clock.now()));
        let held = self.cache.peek(&key);
        let span = tracing::debug_span!("introspection", issuer = %self.settings.issuer);
        let outcome = self.ask_and_doubt(token, key, sent_at).instrument(span).await;
        self.labels.upstream_seconds().record(began.elapsed());
        if outcome.as_ref().is_ok_and(Verdict::is_inactive) {
            self.distrust(token, key);
            if let Some(held) = held {
                // The other instances may hold it as well.
                self.tell_of_end(token, Some(&held));
            }
        }
        if let (Some(asked), Ok(Verdict::Active(active))) = (asked, &outcome) {
            self.share(asked, active);
        }
        if let Ok(verdict) = &outcome {
            self.keep(key, verdict, self.sent(sent_at));
        }
        match &outcome {
            Ok(Verdict::Active(_)) => self.counters.active.count(),
            Ok(Verdict::Refused(_)) => self.counters.inactive.count(),
            Err(_) => self.counters.failed.count(),
        }
        outcome
    }

    /// ZITADEL also says inactive if ZITADEL itself has a problem: the issuer is asked once more about a token that was
    /// active.
    async fn ask_and_doubt(&self, token: &AccessToken, key: Key, sent_at: &SentAt) -> Outcome {
        let deadline = tokio::time::Instant::now() + self.settings.timeout;
        let verdict = self.ask_once(token, key, sent_at, deadline).await?;
        if verdict.is_inactive() && self.cache.knew_as_active(&key, self.clock.now()) {
            return self.ask_once(token, key, sent_at, deadline).await;
        }
        Ok(verdict)
    }

    async fn ask_once(
        &self,
        token: &AccessToken,
        key: Key,
        sent_at: &SentAt,
        deadline: tokio::time::Instant,
    ) -> Outcome {
        let mark = || {
            let _ = sent_at.set(self.now_as_sent());
        };
        let mut claims = match self.source.ask(token, deadline, mark).await? {
            Ok(claims) => claims,
            Err(reason) => return Ok(Verdict::Refused(reason.into())),
        };
        let checked = claims.check_origin(&self.settings.issuer, self.settings.audience.as_deref());
        Ok(match checked.and_then(|()| claims.check_times(self.clock.now().wall())) {
            Ok(()) => {
                self.roles.share(&mut claims);
                let is_jwt = (self.local.is_some() || self.feed.is_some()) && Jwt::of(token).is_some();
                let is_told = self.feed.as_ref().is_some_and(|feed| feed.tells_of(&claims));
                let name = self.peers.as_ref().map(|peers| peers.name(token));
                let active = Active::answered(*claims, self.sent(sent_at), &key, is_jwt).named(name);
                // Shortly after an eviction ZITADEL's own answer may still lag behind its event.
                let may_lag =
                    is_told && self.cache.ledger.concerned_lately(&key, &active, self.clock.now().instant);
                Verdict::Active(Arc::new(active.told_by_events(is_told && !may_lag)))
            }
            Err(reason) => Verdict::Refused(Refused::of(&claims, reason)),
        })
    }

    /// Nobody waits until the store has the verdict.
    fn share(self: &Arc<Self>, asked: Asked, active: &Arc<Active>) {
        let (this, active) = (Arc::clone(self), Arc::clone(active));
        let now = self.clock.now();
        let left = u64::try_from(active.claims.end().saturating_sub(now.wall())).unwrap_or_default();
        let lifetimes = &self.settings.lifetimes;
        let longest = if active.is_told_by_events() { lifetimes.longest_hold } else { lifetimes.ttl };
        let lifetime = longest.min(Duration::from_secs(left));
        self.handle.spawn(async move {
            if let Some(peers) = &this.peers {
                peers.put(asked, &active, lifetime, now.instant).await;
            }
        });
    }

    fn sent(&self, sent_at: &SentAt) -> Sent {
        sent_at.get().copied().unwrap_or_else(|| self.now_as_sent())
    }

    /// The position is read first: an eviction in between counts as one that came after the question.
    pub(super) fn now_as_sent(&self) -> Sent {
        let position = self.cache.ledger.position();
        Sent { at: self.clock.now().instant, position }
    }

    /// A JWT that the issuer calls inactive is not verified locally any more. If keys must be fetched for this, the
    /// answer does not wait for them: the cached refusal applies until the keys are there.
    fn distrust(self: &Arc<Self>, token: &AccessToken, key: Key) {
        let (Some(local), Some(jwt)) = (&self.local, Jwt::of(token)) else { return };
        if let Some(reading) = local.read_by_known(&jwt, self.clock.now()) {
            return self.distrust_read(key, &jwt, Ok(reading), false);
        }
        let was_active = self.cache.peek(&key).is_some();
        let (this, token) = (Arc::clone(self), token.clone());
        self.handle.spawn(async move {
            let (Some(local), Some(jwt)) = (&this.local, Jwt::of(&token)) else { return };
            let reading = local.read(&jwt, this.clock.now()).await;
            this.distrust_read(key, &jwt, reading, was_active);
        });
    }

    /// Only a JWT that would pass local verification is stored; otherwise made-up JWTs could push it out of the cache.
    fn distrust_read(
        &self,
        key: Key,
        jwt: &Jwt<'_>,
        reading: Result<Reading, IssuerError>,
        was_active: bool,
    ) {
        match reading {
            Ok(Reading::Valid(claims)) => self.cache.distrust(key, claims.end()),
            // Without the keys, only a token that was active is known to be genuine.
            Err(_) if was_active => self.cache.distrust(key, jwt.end()),
            _ => {}
        }
    }

    pub(super) fn keep(&self, key: Key, verdict: &Verdict, sent: Sent) {
        if !self.settings.is_cached {
            return;
        }
        match verdict {
            Verdict::Active(active) => self.cache.keep(key, active),
            Verdict::Refused(refused) => self.cache.keep_refused(key, refused.clone(), sent),
        }
    }
}
