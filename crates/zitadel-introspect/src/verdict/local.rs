//! Verdicts without a question: JWTs that are verified here.

use std::sync::Arc;

use crate::{
    claims::Claims,
    clock::Now,
    error::{InvalidToken, issuer::IssuerError},
    jwt::{Jwt, Reading},
    token::AccessToken,
    verdict::{
        Active, Outcome, Sent, Verdict,
        engine::{Engine, Known},
        memory::Recalled,
    },
};

impl Engine {
    /// Verifies a JWT where local verification is on; `None` where the issuer must be asked.
    pub(super) async fn verify_locally(
        self: &Arc<Self>,
        token: &AccessToken,
        known: &Known,
        now: Now,
    ) -> Option<Outcome> {
        let local = self.local.as_ref()?;
        let sent = self.now_as_sent();
        let can_ask = self.source.can_ask();
        let must_confirm = self.settings.lifetimes.confirm_within.is_some();
        // A JWT that was verified locally before must now be confirmed: verifying it again would restart
        // `confirm_within`.
        let awaits_confirmation = must_confirm && known.active.is_some();
        // With a feed a local verdict that does not answer any more was ended by something that the JWT itself cannot show.
        let is_ended = self.feed.is_some() && known.active.as_ref().is_some_and(|active| active.is_local);
        if awaits_confirmation || (can_ask && (is_ended || self.cache.is_distrusted(&known.key))) {
            return None;
        }
        let refuse = |reason: InvalidToken| Some(Ok(Verdict::Refused(reason.into())));
        if self.peers.as_ref().is_some_and(|peers| peers.has_ended(token)) {
            return if can_ask { None } else { refuse(InvalidToken::Inactive) };
        }
        let Some(jwt) = Jwt::of(token) else {
            return if can_ask { None } else { refuse(InvalidToken::Malformed) };
        };
        self.counters.local.count();
        match local.read(&jwt, now).await {
            Ok(Reading::Valid(mut claims)) => {
                match self.recalled(known, &claims, now) {
                    Recalled::Good => {}
                    _ if can_ask => return None,
                    Recalled::Ended => return refuse(InvalidToken::Inactive),
                    Recalled::Unknown => return Some(Err(IssuerError::EventsUnknown)),
                }
                self.roles.share(&mut claims);
                // With a feed it is known to be true as of the newest events, and no later.
                let as_of = self.feed.as_ref().and_then(|_| known.fed.until()).unwrap_or(now.instant);
                let at = Sent { at: as_of.min(now.instant), ..sent };
                let active = Active::verified_locally(*claims, at, &known.key);
                let name = self.peers.as_ref().map(|peers| peers.name(token));
                let active = Arc::new(active.named(name).told_by_events(self.feed.is_some()));
                let verdict = Verdict::Active(Arc::clone(&active));
                self.keep(known.key, &verdict, at);
                if must_confirm {
                    self.renew_ahead(token, known.key, &active);
                }
                Some(Ok(verdict))
            }
            // Also if the keys cannot be fetched: the issuer can still be asked.
            Ok(Reading::Unreadable(_)) | Err(_) if can_ask => None,
            Ok(Reading::Unreadable(reason)) => {
                local.tell_unreadable(reason);
                refuse(reason)
            }
            // This refusal is not held: it costs no question, and must not push out the issuer's answers about other
            // tokens.
            Ok(Reading::Refused(reason)) => refuse(reason),
            Err(error) => Some(Err(error)),
        }
    }

    /// Whether events say that a JWT is still good; without a feed nobody says otherwise.
    fn recalled(&self, known: &Known, claims: &Claims, now: Now) -> Recalled {
        let Some(feed) = &self.feed else { return Recalled::Good };
        // Until when events are known was read before the memory is looked into.
        let ttl = self.settings.lifetimes.ttl;
        let is_current = known.fed.age(now.instant).is_some_and(|age| age < known.key.spread_end(ttl));
        if is_current { feed.recall(claims) } else { Recalled::Unknown }
    }
}
