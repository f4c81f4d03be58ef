//! Verdicts: for each token its claims, or a refusal.

pub(crate) mod cache;
mod ends;
pub(crate) mod engine;
pub(crate) mod evict;
pub(crate) mod fed;
pub(crate) mod followed;
pub(crate) mod freshness;
pub(crate) mod in_flight;
pub(crate) mod ledger;
mod local;
pub(crate) mod memory;
mod question;
pub(crate) mod shared;
pub(crate) mod source;
mod together;
mod upkeep;

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    claims::Claims,
    error::{InvalidToken, issuer::IssuerError},
    seal::Name,
    verdict::{cache::bounded::Key, fed::Fed, ledger::Position},
};

/// Verdicts whose claims have changed answer up to so much longer, each another time.
pub(crate) const SOFT: Duration = Duration::from_secs(5);
/// How many questions in quick succession the denials of one token may cause.
const DENIAL_BURST: u32 = 5;

/// A verdict on a token.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    Active(Arc<Active>),
    Refused(Refused),
}

/// A verdict, or why there is none.
pub(crate) type Outcome = Result<Verdict, IssuerError>;

/// When a question was sent, and which evictions were known then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    pub(crate) position: Position,
}

/// The token is active.
#[derive(Debug)]
#[repr(C)] // fields that are read at each request stand together, at the beginning
pub(crate) struct Active {
    /// When the question for this answer was sent to the issuer; for a local verdict, when the JWT was verified.
    pub(crate) asked_at: Instant,
    pub(crate) position: Position,
    /// Spreads what would otherwise happen to all verdicts at once.
    key: Key,
    /// Events tell of everything that can change this verdict.
    is_told_by_events: bool,
    /// Verified locally: this says nothing about revocation.
    pub(crate) is_local: bool,
    /// The token is a JWT: it could be verified locally.
    pub(crate) is_jwt: bool,
    is_renewing: AtomicBool,
    /// Set by an event that changes claims alone: the verdict answers until then, and is renewed meanwhile.
    ends_softly_at: OnceLock<Instant>,
    pub(crate) claims: Claims,
    /// Where there is a shared store: the name that all instances know the token by.
    name: Option<Box<Name>>,
    /// Taken from a shared store: events since the question are known, in this stretch.
    vouched_in: Option<u64>,
    /// The denial questions asked so far use up the allowance until this instant.
    denials_paid_until: Mutex<Option<Instant>>,
}

/// The token is refused. The user is named if the issuer named the user.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) reason: InvalidToken,
    pub(crate) user_id: Option<Arc<str>>,
}

impl Verdict {
    pub(crate) fn is_inactive(&self) -> bool {
        matches!(self, Self::Refused(Refused { reason: InvalidToken::Inactive, .. }))
    }
}

impl Refused {
    pub(crate) fn of(claims: &Claims, reason: InvalidToken) -> Self {
        Self { reason, user_id: claims.subject().map(Arc::from) }
    }
}

impl From<InvalidToken> for Refused {
    fn from(reason: InvalidToken) -> Self {
        Self { reason, user_id: None }
    }
}

impl Active {
    /// The issuer's answer to a question that was sent then.
    pub(crate) fn answered(claims: Claims, sent: Sent, key: &Key, is_jwt: bool) -> Self {
        Self { is_jwt, ..Self::new(claims, sent, key) }
    }

    /// A JWT that was verified locally.
    pub(crate) fn verified_locally(claims: Claims, at: Sent, key: &Key) -> Self {
        Self { is_local: true, is_jwt: true, ..Self::new(claims, at, key) }
    }

    fn new(claims: Claims, sent: Sent, key: &Key) -> Self {
        Self {
            asked_at: sent.at,
            position: sent.position,
            key: *key,
            is_told_by_events: false,
            is_local: false,
            is_jwt: false,
            is_renewing: AtomicBool::default(),
            ends_softly_at: OnceLock::new(),
            claims,
            name: None,
            vouched_in: None,
            denials_paid_until: Mutex::default(),
        }
    }

    /// Says that events tell of everything that can change this verdict.
    pub(crate) fn told_by_events(self, is_told: bool) -> Self {
        Self { is_told_by_events: is_told, ..self }
    }

    /// Says by which name all instances know the token.
    pub(crate) fn named(self, name: Option<Name>) -> Self {
        Self { name: name.map(Box::new), ..self }
    }

    pub(crate) fn name(&self) -> Option<&Name> {
        self.name.as_deref()
    }

    /// Says that events since the question are known, as long as so many stretches have broken off.
    pub(crate) fn vouched_for(self, breaks: Option<u64>) -> Self {
        Self { vouched_in: breaks, ..self }
    }

    pub(crate) fn is_told_by_events(&self) -> bool {
        self.is_told_by_events
    }

    /// The last moment at which the verdict was known to be true: when the issuer was asked, or later, if the issuer's
    /// events up to then are known. All rules about age start from here.
    #[inline]
    pub(crate) fn as_of(&self, fed: Fed) -> Instant {
        if self.is_told_by_events { fed.as_of(self.asked_at, self.vouched_in) } else { self.asked_at }
    }

    /// As [`Key::spread_end`], for this token.
    pub(crate) fn spread_end(&self, time: Duration) -> Duration {
        self.key.spread_end(time)
    }

    /// As [`Key::share_of`], for this token.
    pub(crate) fn share_of(&self, time: Duration) -> Duration {
        self.key.share_of(time)
    }

    /// The verdict ends at that instant, unless it ends earlier already.
    pub(crate) fn end_softly(&self, at: Instant) {
        let _ = self.ends_softly_at.set(at);
    }

    pub(crate) fn ends_softly_at(&self) -> Option<Instant> {
        self.ends_softly_at.get().copied()
    }

    /// Whether the issuer was asked at that instant or later.
    pub(crate) fn was_asked_since(&self, instant: Instant) -> bool {
        !self.is_local && self.asked_at >= instant
    }

    /// Whether the issuer may be asked because of a denial: at most five times in quick succession, and on average once
    /// in each interval. Each question uses up one interval; up to four intervals may be used in advance.
    pub(crate) fn claim_denial_question(&self, interval: Duration, now: Instant) -> bool {
        let mut paid_until = self.denials_paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let from = paid_until.map_or(now, |until| until.max(now));
        let may = from.saturating_duration_since(now) <= interval * (DENIAL_BURST - 1);
        if may {
            *paid_until = from.checked_add(interval);
        }
        may
    }

    /// Takes over the rate limit of the previous verdict on the same token.
    pub(crate) fn inherit_denials(&self, before: &Self) {
        let paid_until = *before.denials_paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *self.denials_paid_until.lock().unwrap_or_else(PoisonError::into_inner) = paid_until;
    }

    /// True for one caller only, who renews the verdict ahead of its end.
    pub(crate) fn claim_renewal(&self) -> bool {
        !self.is_renewing.swap(true, Ordering::Relaxed)
    }

    /// The renewal failed: another caller may try.
    pub(crate) fn release_renewal(&self) {
        self.is_renewing.store(false, Ordering::Relaxed);
    }

    /// The bytes that the verdict takes in memory, or a little more.
    pub(crate) fn size(&self) -> usize {
        let name = self.name.as_ref().map_or(0, |name| size_of_val(&**name));
        size_of::<Self>() - size_of::<Claims>() + name + self.claims.size()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::verdict::cache::bounded::Keyer;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn denials_are_asked_about_five_times_at_once_and_once_in_an_interval() {
        let then = Instant::now();
        let document = json!({"active": true, "sub": "1"}).to_string();
        let sent = Sent { at: then, position: Position::default() };
        let claims = Claims::from_introspection(document, None).unwrap().unwrap();
        let active = Active::answered(claims, sent, &Keyer::new().key(b"token"), false);
        let count = |at: Instant| (0..20).filter(|_| active.claim_denial_question(SECOND, at)).count();
        assert_eq!(count(then), 5);
        assert_eq!(count(then + Duration::from_millis(999)), 0);
        assert_eq!(count(then + SECOND), 1);
        assert_eq!(count(then + SECOND * 3), 2);
        assert_eq!(count(then + SECOND * 100), 5, "never more than five");
    }
}
