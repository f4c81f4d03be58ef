//! The cache of verdicts. A verdict in the cache is called "held".
//!
//! Active and refused verdicts have separate stores, so that unknown tokens cannot push out active verdicts. The cache
//! stores no token: its keys are keyed hashes of tokens. `freshness.rs` decides whether a verdict may answer; the cache
//! crate bounds the number of verdicts and their bytes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    clock::Now,
    token::AccessToken,
    verdict::{
        Active, Refused, Sent,
        cache::bounded::{Bounded, Key, Keyer, bounded},
        evict::{Batch, Evict, Marks},
        fed::Fed,
        freshness::Lifetimes,
        ledger::Ledger,
    },
};

pub(crate) mod bounded;

/// The largest size of a refusal or a distrusted token, in bytes.
const REFUSED_BYTES: usize = 512;
/// A refusal does not store a longer user id: ZITADEL's user ids have 18 digits.
const MAX_USER_ID_BYTES: usize = 256;
/// An expired verdict stays in memory for this much longer. If the issuer calls the token inactive within this time,
/// the issuer is asked once more, because the token is known to have been active.
const KEPT_BEYOND: Duration = Duration::from_secs(60);

/// How many verdicts are held, and how large they may be together.
#[derive(Debug, Clone)]
pub(crate) struct CacheSettings {
    pub(crate) capacity: usize,
    pub(crate) bytes: usize,
    /// The most that one verdict takes, in bytes.
    pub(crate) largest: usize,
    pub(crate) refused_ttl: Duration,
    pub(crate) refused_capacity: usize,
    /// JWTs are verified locally, and the issuer can be asked: JWTs that the issuer refused are remembered.
    pub(crate) distrusts: bool,
}

pub(crate) struct Cache {
    settings: CacheSettings,
    keyer: Keyer,
    active: Bounded<HeldActive>,
    refused: Bounded<HeldRefusal>,
    /// JWTs that must no longer be verified locally, with their end in Unix seconds. A separate store, so that unknown
    /// tokens cannot push them out.
    distrusted: Bounded<i64>,
    pub(crate) ledger: Ledger,
}

#[derive(Debug, Clone)]
struct HeldActive {
    active: Arc<Active>,
    marks: Marks,
}

#[derive(Debug, Clone)]
struct HeldRefusal {
    refused: Refused,
    asked_at: Instant,
}

impl Cache {
    pub(crate) fn new(settings: CacheSettings) -> Self {
        let of_refusals = |capacity: usize| (capacity, capacity.saturating_mul(REFUSED_BYTES), REFUSED_BYTES);
        Self {
            keyer: Keyer::new(),
            active: bounded((settings.capacity, settings.bytes, settings.largest), |held| held.active.size()),
            refused: bounded(of_refusals(settings.refused_capacity), |held| {
                size_of_val(held) + held.refused.user_id.as_ref().map_or(0, |id| id.len())
            }),
            distrusted: bounded(of_refusals(settings.capacity), size_of_val),
            ledger: Ledger::default(),
            settings,
        }
    }

    #[inline]
    pub(crate) fn key(&self, token: &AccessToken) -> Key {
        self.keyer.key(token.as_bytes())
    }

    #[inline]
    pub(crate) fn active(&self, key: &Key) -> Option<Arc<Active>> {
        self.active.get(key).map(|held| held.active)
    }

    /// As [`active`](Self::active), without counting as a use.
    pub(crate) fn peek(&self, key: &Key) -> Option<Arc<Active>> {
        self.active.peek(key).map(|held| held.active)
    }

    /// Whether a matching eviction came after the question for a verdict was sent, or may have come.
    pub(crate) fn is_evicted(&self, key: &Key, active: &Arc<Active>) -> bool {
        // Looked up first: an eviction is recorded before it removes the verdict.
        let is_held = self.peek(key).is_some_and(|held| Arc::ptr_eq(&held, active));
        if is_held { self.ledger.concerns_held(key, active) } else { self.ledger.concerns(key, active) }
    }

    /// A refusal that may still answer.
    pub(crate) fn refused(&self, key: &Key, now: Instant) -> Option<Refused> {
        let held = self.refused.get(key)?;
        let age = now.saturating_duration_since(held.asked_at);
        (age < self.settings.refused_ttl).then_some(held.refused)
    }

    /// Whether the token was active, and is not past its own end.
    pub(crate) fn knew_as_active(&self, key: &Key, now: Now) -> bool {
        self.peek(key).is_some_and(|active| active.claims.check_times(now.wall()).is_ok())
    }

    /// Whether the issuer has ever called the token inactive, or its verdict was evicted. Local verification must not
    /// be used for such a token.
    pub(crate) fn is_distrusted(&self, key: &Key) -> bool {
        self.distrusted.peek(key).is_some()
    }

    /// `end` is the token's own end, in Unix seconds.
    pub(crate) fn distrust(&self, key: Key, end: i64) {
        if self.settings.distrusts {
            self.distrusted.insert(key, end);
        }
    }

    pub(crate) fn keep(&self, key: Key, active: &Arc<Active>) {
        if let Some(before) = self.peek(&key) {
            if before.asked_at > active.asked_at && !before.is_local {
                return; // an older answer that came late
            }
            active.inherit_denials(&before);
        }
        if self.may_keep(&key, active) {
            self.refused.remove(&key);
            self.active.insert(key, HeldActive { active: Arc::clone(active), marks: Marks::of(active) });
            // An eviction or the issuer's answer may have come between the check and the insertion.
            if !self.may_keep(&key, active) {
                self.active.remove(&key);
            }
        } else if !active.is_local {
            self.active.remove(&key);
        }
    }

    fn may_keep(&self, key: &Key, active: &Active) -> bool {
        let is_distrusted = active.is_local && self.is_distrusted(key);
        !is_distrusted && !self.ledger.forbids(key, active)
    }

    pub(crate) fn keep_refused(&self, key: Key, mut refused: Refused, sent: Sent) {
        refused.user_id = refused.user_id.filter(|id| id.len() <= MAX_USER_ID_BYTES);
        self.active.remove(&key);
        if !self.ledger.may_concern_refusal(&key, sent.position, None) {
            self.refused.insert(key, HeldRefusal { refused, asked_at: sent.at });
        }
        if self.ledger.may_concern_refusal(&key, sent.position, None) {
            self.refused.remove(&key); // an eviction came between the check and the insertion
        }
    }

    /// `end` is the end of a JWT, in Unix seconds.
    pub(crate) fn evict_token(&self, key: &Key, end: Option<i64>, now: Instant) {
        self.ledger.record([Evict::Token(*key)], now);
        if let Some(end) = end {
            self.distrust(*key, end);
        }
        self.active.remove(key);
        self.refused.remove(key);
    }

    /// Looks once at each verdict, however many evictions there are: for rare events, not for requests.
    pub(crate) fn evict(&self, evictions: &[Evict], now: Instant) {
        if evictions.is_empty() {
            return;
        }
        self.ledger.record(evictions.iter().cloned(), now);
        let batch = Batch::of(evictions);
        self.active.retain(|key, held| {
            let stays = !(batch.may_mean(key, held.marks) && batch.may_concern(key, &held.active));
            if !stays {
                self.distrust_jwt(key, &held.active);
            }
            stays
        });
        if evictions.contains(&Evict::All) {
            self.refused.clear();
        }
    }

    /// Renews the verdicts at their next use; each of them still answers for a share of `time`, another one for each.
    pub(crate) fn evict_softly(&self, evictions: &[Evict], time: Duration, now: Instant) {
        if evictions.is_empty() {
            return;
        }
        // An answer to a question from before is not held.
        self.ledger.record_softly(evictions.iter().cloned(), now);
        let batch = Batch::of(evictions);
        self.active.retain(|key, held| {
            if batch.may_mean(key, held.marks) && batch.may_concern(key, &held.active) {
                held.active.end_softly(now + held.active.share_of(time));
            }
            true
        });
    }

    /// Removes lapsed verdicts: perhaps no other verdict ever pushes them out.
    pub(crate) fn sweep(&self, lifetimes: &Lifetimes, fed: Fed, now: Now) {
        let wall = now.wall();
        let kept = Lifetimes { stale_for: lifetimes.stale_for + KEPT_BEYOND, ..*lifetimes };
        self.active.retain(|_, held| {
            !kept.is_over(&held.active, fed, now.instant) && held.active.claims.end() > wall
        });
        let ttl = self.settings.refused_ttl;
        self.refused.retain(|_, held| now.instant.saturating_duration_since(held.asked_at) < ttl);
        self.distrusted.retain(|_, end| *end > wall);
    }

    /// How many active and how many refused verdicts are held.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.active.len(), self.refused.len())
    }

    fn distrust_jwt(&self, key: &Key, active: &Active) {
        if active.is_jwt {
            self.distrust(*key, active.claims.end());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        claims::Claims,
        error::InvalidToken,
        verdict::{fed::FedClock, ledger::Position},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn cache() -> Cache {
        Cache::new(CacheSettings {
            capacity: 100,
            bytes: 1024 * 1024,
            largest: 64 * 1024,
            refused_ttl: SECOND * 5,
            refused_capacity: 100,
            distrusts: true,
        })
    }

    fn at(at: Instant) -> Sent {
        Sent { at, position: Position::default() }
    }

    fn held(asked_at: Instant, is_local: bool) -> Arc<Active> {
        let key = Keyer::new().key(b"token");
        let document = json!({"active": true, "sub": "1"}).to_string();
        let claims = Claims::from_introspection(document, None).unwrap().unwrap();
        Arc::new(if is_local {
            Active::verified_locally(claims, at(asked_at), &key)
        } else {
            Active::answered(claims, at(asked_at), &key, false)
        })
    }

    fn key(cache: &Cache, text: &str) -> Key {
        cache.key(&text.parse().unwrap())
    }

    #[test]
    fn an_older_answer_that_comes_late_replaces_no_newer_one() {
        let (cache, then) = (cache(), Instant::now());
        let key = key(&cache, "token");
        let (older, newer) = (held(then, false), held(then + SECOND, false));
        cache.keep(key, &newer);
        cache.keep(key, &older);
        assert!(Arc::ptr_eq(&cache.active(&key).unwrap(), &newer));
        let newest = held(then + SECOND * 2, false);
        cache.keep(key, &newest);
        assert!(Arc::ptr_eq(&cache.active(&key).unwrap(), &newest));
        // A verdict of the issuer replaces one that was read out of a JWT, whenever the issuer was asked.
        let (cache, local) = (self::cache(), held(then + SECOND, true));
        cache.keep(key, &local);
        cache.keep(key, &older);
        assert!(Arc::ptr_eq(&cache.active(&key).unwrap(), &older));
    }

    #[test]
    fn what_was_asked_before_an_eviction_is_not_kept_after_it() {
        let (cache, then) = (cache(), Instant::now());
        let key = key(&cache, "token");
        let before = cache.ledger.position();
        cache.evict(&[Evict::User("1".into())], then);
        for (position, is_kept) in [(before, false), (cache.ledger.position(), true)] {
            let document = json!({"active": true, "sub": "1"}).to_string();
            let claims = Claims::from_introspection(document, None).unwrap().unwrap();
            let active = Active::answered(claims, Sent { at: then, position }, &key, false);
            cache.keep(key, &Arc::new(active));
            assert_eq!(cache.active(&key).is_some(), is_kept);
        }
    }

    #[test]
    fn a_soft_eviction_ends_within_its_time_and_no_older_answer_is_kept_after_it() {
        let (cache, then) = (cache(), Instant::now());
        let (kept, late) = (key(&cache, "kept"), key(&cache, "late"));
        cache.keep(kept, &held(then, false));
        cache.evict_softly(&[Evict::User("2".into())], SECOND * 5, then);
        assert_eq!(cache.active(&kept).unwrap().ends_softly_at(), None, "an eviction of somebody else");
        cache.evict_softly(&[Evict::User("1".into())], SECOND * 5, then);
        let end = cache.active(&kept).unwrap().ends_softly_at().unwrap();
        assert!(end >= then && end < then + SECOND * 5);
        cache.keep(late, &held(then, false));
        assert!(cache.active(&late).is_none(), "its question was sent before");
    }

    #[test]
    fn bad_verdicts_and_distrust_are_bounded_and_lapse() {
        let (cache, then) = (cache(), Instant::now());
        for number in 0..1000 {
            cache.keep_refused(
                key(&cache, &format!("bad-{number}")),
                InvalidToken::Inactive.into(),
                at(then),
            );
            cache.distrust(key(&cache, &format!("jwt-{number}")), i64::MAX);
        }
        assert!(cache.len().1 <= 100 && cache.distrusted.len() <= 100);
        let kept = key(&cache, "kept");
        cache.keep_refused(kept, InvalidToken::Inactive.into(), at(then));
        let standing = |at| cache.refused(&kept, at).is_some();
        assert!(standing(then + Duration::from_nanos(4_999_999_999)) && !standing(then + SECOND * 5));
        // A user id of a megabyte does not take a megabyte for each.
        let long = Refused { reason: InvalidToken::Inactive, user_id: Some("x".repeat(1 << 20).into()) };
        cache.keep_refused(key(&cache, "long"), long, at(then));
        let held = cache.refused(&key(&cache, "long"), then).expect("it is held");
        assert_eq!(held.user_id, None);
        assert!(cache.refused.weight() <= 100 * REFUSED_BYTES as u64);
    }

    #[test]
    fn the_only_entry_and_the_largest_one_are_held() {
        let claims = |entries: usize| {
            let metadata: serde_json::Map<_, _> =
                (0..entries).map(|n| (format!("{n:x}"), "".into())).collect();
            let name = "urn:zitadel:iam:user:metadata";
            let document = json!({"active": true, "sub": "1", name: metadata}).to_string();
            let size = document.len();
            (Claims::from_introspection(document, None).unwrap().unwrap(), size)
        };
        let (smallest, _) = claims(0);
        let (largest, bytes) = claims(20_000);
        let most = bytes * Claims::LARGEST_GROWTH;
        assert!(largest.size() <= most);
        for (claims, capacity, bytes) in [(smallest, 1, 1 << 20), (largest, 100_000, most)] {
            let settings = CacheSettings {
                capacity,
                refused_capacity: capacity,
                bytes,
                largest: most,
                ..cache().settings
            };
            let (cache, then) = (Cache::new(settings), Instant::now());
            let key = key(&cache, "token");
            cache.keep(key, &Arc::new(Active::answered(claims, at(then), &key, false)));
            assert_eq!(cache.len(), (1, 0));
            cache.keep_refused(key, InvalidToken::Inactive.into(), at(then));
            assert_eq!(cache.len(), (0, 1));
        }
    }

    #[test]
    fn a_sweep_gives_back_what_is_over_and_nothing_else() {
        let millis = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let clock = crate::clock::Clock::ahead(Arc::clone(&millis));
        let start = clock.now();
        let (ttl, stale_for) = (SECOND * 60, SECOND * 30);
        let longest_hold = SECOND * 3600;
        let lifetimes = Lifetimes {
            ttl,
            stale_for,
            longest_hold,
            unfed_after: ttl,
            refresh_ahead: None,
            confirm_within: None,
        };
        let fed = FedClock::new(start.instant).read();
        let cache = cache();
        let with_end = |end: i64| {
            let document = json!({"active": true, "sub": "1", "exp": end}).to_string();
            let claims = Claims::from_introspection(document, None).unwrap().unwrap();
            Arc::new(Active::answered(claims, at(start.instant), &Keyer::new().key(b"token"), false))
        };
        cache.keep(key(&cache, "endless"), &held(start.instant, false));
        cache.keep(key(&cache, "short"), &with_end(start.wall() + 20));
        cache.keep_refused(key(&cache, "bad"), InvalidToken::Inactive.into(), at(start.instant));
        cache.distrust(key(&cache, "distrusted"), start.wall() + 20);
        let left = |seconds: i64| {
            millis.store(seconds * 1000, std::sync::atomic::Ordering::SeqCst);
            cache.sweep(&lifetimes, fed, clock.now());
            (cache.len(), cache.distrusted.len())
        };
        assert_eq!(left(0), ((2, 1), 1));
        assert_eq!(left(4), ((2, 1), 1));
        assert_eq!(left(5), ((2, 0), 1));
        assert_eq!(left(18), ((2, 0), 1));
        assert_eq!(left(21), ((1, 0), 0));
        assert_eq!(left(60 + 30 + 59), ((1, 0), 0));
        assert_eq!(left(60 + 30 + 60), ((0, 0), 0));
    }
}
