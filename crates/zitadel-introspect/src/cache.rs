//! Verdicts that we hold already.
//!
//! Good and bad ones apart, so that unknown tokens cannot push out good ones. The keys are digests of the
//! token: no token stays in memory. When a verdict is too old is decided here, against the verifier's clock; the cache
//! crate bounds how many there are and what they weigh in bytes.

use std::{
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::{Weighter, sync::DefaultLifecycle};

use crate::{bearer::AccessToken, claims::Claims, clock::Now, error::InvalidToken, names::OrganizationId};

/// SHA-256 over the whole token. Each verifier has a cache of its own, so that nothing else needs to be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

/// A good verdict.
#[derive(Debug)]
#[repr(C)] // what is read at each request stands together, at the beginning
pub(crate) struct Held {
    /// When the question was sent to which this is the answer.
    pub(crate) asked_at: Instant,
    /// Made by reading the token ourselves: it says nothing about revocation.
    pub(crate) is_local: bool,
    /// The token is a JWT: it could be read locally.
    pub(crate) is_jwt: bool,
    pub(crate) claims: Claims,
    /// Up to when questions because of a denial are paid for.
    denials_paid_until: Mutex<Option<Instant>>,
    renewing: AtomicBool,
}

/// A token that is refused, and whose it is where that is known.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) reason: InvalidToken,
    pub(crate) user_id: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
struct Bad {
    refused: Refused,
    asked_at: Instant,
}

/// How long verdicts are held, how many, and how large they may be together.
#[derive(Debug, Clone)]
pub(crate) struct CacheSettings {
    pub(crate) ttl: Duration,
    pub(crate) capacity: usize,
    pub(crate) bytes: usize,
    /// The most that one verdict takes, in bytes.
    pub(crate) largest: usize,
    pub(crate) negative_ttl: Duration,
    pub(crate) negative_capacity: usize,
    /// JWTs are read locally: what must not be is remembered.
    pub(crate) distrusts: bool,
}

pub(crate) struct Cache {
    settings: CacheSettings,
    good: Bounded<Arc<Held>>,
    bad: Bounded<Bad>,
    /// Tokens that must not be read locally any more, with the second of their end: bounded apart, so that bad ones
    /// cannot push them out.
    distrusted: Bounded<i64>,
    evicted_at: Mutex<Option<Instant>>,
}

/// A denied token may have the issuer asked so often in quick succession.
const DENIAL_BURST: u32 = 5;
/// What an entry takes beside its value.
const OVERHEAD_BYTES: usize = 128;
/// The most that a bad verdict or a distrusted token takes.
const BAD_BYTES: usize = 512;
/// A user id that is longer is not remembered with a refusal: ZITADEL's have 18 digits.
const MAX_USER_ID_BYTES: usize = 256;
/// A verdict stays in memory for so much longer than it may answer. Within this time a token that was active and turns
/// inactive is known as one that was active, and is asked about once more.
const KEPT_BEYOND: Duration = Duration::from_secs(60);

/// What the cache knows of a token.
pub(crate) enum Known {
    Good(Arc<Held>),
    Bad(Refused),
    Nothing,
}

/// What to forget.
pub(crate) enum Evict<'a> {
    /// `jti`, or its part before `-at_`: the OIDC session.
    TokenId(&'a str),
    User(&'a str),
    Organization(&'a OrganizationId),
}

type Bounded<V> =
    quick_cache::sync::Cache<Key, V, Weight, BuildHasherDefault<DigestHasher>, DefaultLifecycle<Key, V>>;

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

impl Held {
    /// An answer of the issuer about an opaque token, or about one of which that does not matter.
    pub(crate) fn new(claims: Claims, asked_at: Instant, is_local: bool) -> Self {
        let (denials_paid_until, renewing) = (Mutex::new(None), AtomicBool::new(false));
        Self { asked_at, is_local, is_jwt: is_local, claims, denials_paid_until, renewing }
    }

    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.asked_at)
    }

    /// Whether the issuer was asked at that time or later.
    pub(crate) fn is_of_issuer_since(&self, instant: Instant) -> bool {
        !self.is_local && self.asked_at >= instant
    }

    /// Whether the verdict is not older than that, and the issuer's own.
    pub(crate) fn is_within(&self, max_age: Option<Duration>, now: Instant) -> bool {
        max_age.is_none_or(|max_age| !self.is_local && self.age(now) <= max_age)
    }

    /// Whether the issuer may be asked because of a denial: several times in quick succession, and once in each interval
    /// in the long run. Each question pays for an interval; a few may be paid ahead.
    pub(crate) fn claim_denial_question(&self, interval: Duration, now: Instant) -> bool {
        let mut paid_until = self.denials_paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let from = paid_until.map_or(now, |until| until.max(now));
        let may = from.saturating_duration_since(now) <= interval * (DENIAL_BURST - 1);
        if may {
            *paid_until = from.checked_add(interval);
        }
        may
    }

    /// Whether this caller is the one to renew the verdict ahead of its end.
    pub(crate) fn claim_renewal(&self) -> bool {
        !self.renewing.swap(true, Ordering::Relaxed)
    }

    /// The renewal came to nothing: another caller may try.
    pub(crate) fn give_renewal_back(&self) {
        self.renewing.store(false, Ordering::Relaxed);
    }

    fn inherit(&self, before: &Self) {
        let paid_until = *before.denials_paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *self.denials_paid_until.lock().unwrap_or_else(PoisonError::into_inner) = paid_until;
    }

    /// What the issuer did not tell may be what is looked for.
    fn may_be_of(&self, what: &Evict<'_>) -> bool {
        match what {
            Evict::TokenId(id) => {
                let own = self.claims.token_id();
                own.is_none_or(|own| {
                    own == *id || own.split_once("-at_").is_some_and(|(session, _)| session == *id)
                })
            }
            Evict::User(id) => self.claims.subject().is_none_or(|own| own == *id),
            Evict::Organization(id) => self.claims.may_be_of_organization(id.as_str()),
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>() - size_of::<Claims>() + self.claims.size() + OVERHEAD_BYTES
    }
}

impl Cache {
    pub(crate) fn new(settings: CacheSettings) -> Self {
        Self {
            good: bounded(settings.capacity, settings.bytes, settings.largest),
            bad: bounded_bad(settings.negative_capacity),
            distrusted: bounded_bad(settings.capacity),
            evicted_at: Mutex::new(None),
            settings,
        }
    }

    pub(crate) fn key(token: &AccessToken) -> Key {
        let digest = digest(&SHA256, token.as_bytes());
        Key(digest.as_ref().try_into().expect("a SHA-256 digest has 32 bytes"))
    }

    /// A verdict that still stands. A good one also when it is older than its time, if `stale_for` says so.
    pub(crate) fn look(&self, key: &Key, now: Instant, stale_for: Duration) -> Known {
        if let Some(held) = self.good.get(key) {
            if held.age(now) < self.settings.ttl + stale_for {
                return Known::Good(held);
            }
            // Too old to serve; kept, so that a surprise can be told from an unknown token.
            return Known::Nothing;
        }
        let bad = self.bad.get(key);
        let standing =
            bad.filter(|bad| now.saturating_duration_since(bad.asked_at) < self.settings.negative_ttl);
        standing.map_or(Known::Nothing, |bad| Known::Bad(bad.refused))
    }

    /// A token that was good and is not over by its own word.
    pub(crate) fn knew_as_good(&self, key: &Key, now: Now) -> bool {
        self.good.peek(key).is_some_and(|held| held.claims.check_times(now.wall()).is_ok())
    }

    #[inline]
    pub(crate) fn held(&self, key: &Key) -> Option<Arc<Held>> {
        self.good.get(key)
    }

    /// Whether the verdict is past its time.
    pub(crate) fn is_lapsed(&self, held: &Held, now: Instant) -> bool {
        held.age(now) >= self.settings.ttl
    }

    /// Whether the verdict is past its time and a further one.
    pub(crate) fn is_past(&self, held: &Held, now: Instant, further: Duration) -> bool {
        held.age(now) >= self.settings.ttl + further
    }

    /// A token that the issuer has called inactive, or whose verdict was evicted, however long ago: reading it
    /// ourselves says nothing then.
    pub(crate) fn is_distrusted(&self, key: &Key) -> bool {
        self.distrusted.peek(key).is_some()
    }

    /// `end` is the token's own, in Unix seconds.
    pub(crate) fn distrust(&self, key: Key, end: i64) {
        if self.settings.distrusts {
            self.distrusted.insert(key, end);
        }
    }

    pub(crate) fn newest(&self, key: &Key) -> Option<Arc<Held>> {
        self.good.peek(key)
    }

    /// Whether little is left of a verdict's time.
    pub(crate) fn lapses_within(&self, held: &Held, ahead: Duration, now: Instant) -> bool {
        held.age(now) + ahead >= self.settings.ttl
    }

    pub(crate) fn keep(&self, key: Key, held: &Arc<Held>) {
        if let Some(before) = self.good.peek(&key) {
            if before.asked_at > held.asked_at && !before.is_local {
                return; // an older answer that came late
            }
            held.inherit(&before);
        }
        if held.is_local && self.is_distrusted(&key) {
            return; // the issuer knows better
        }
        if !self.was_evicted_since(held.asked_at) {
            self.bad.remove(&key);
            self.good.insert(key, Arc::clone(held));
        }
        if self.was_evicted_since(held.asked_at) || (held.is_local && self.is_distrusted(&key)) {
            self.good.remove(&key); // an eviction or the issuer's word came between the look and the insertion
        }
    }

    pub(crate) fn keep_bad(&self, key: Key, mut refused: Refused, asked_at: Instant) {
        refused.user_id = refused.user_id.filter(|id| id.len() <= MAX_USER_ID_BYTES);
        self.good.remove(&key);
        if !self.was_evicted_since(asked_at) {
            self.bad.insert(key, Bad { refused, asked_at });
        }
        if self.was_evicted_since(asked_at) {
            self.bad.remove(&key); // an eviction ran between the look and the insertion
        }
    }

    /// `end` is that of a JWT, in Unix seconds.
    pub(crate) fn forget(&self, key: &Key, end: Option<i64>, now: Instant) {
        self.mark_evicted(now);
        if let Some(end) = end {
            self.distrust(*key, end);
        }
        self.good.remove(key);
        self.bad.remove(key);
    }

    /// Looks at each verdict: for rare events, not for requests.
    pub(crate) fn evict(&self, what: &Evict<'_>, now: Instant) {
        self.mark_evicted(now);
        self.good.retain(|key, held| {
            let stays = !held.may_be_of(what);
            if !stays && held.is_jwt {
                self.distrust(*key, held.claims.end());
            }
            stays
        });
    }

    pub(crate) fn clear(&self, now: Instant) {
        self.mark_evicted(now);
        self.good.retain(|key, held| {
            if held.is_jwt {
                self.distrust(*key, held.claims.end());
            }
            false
        });
        self.bad.clear();
    }

    /// Gives back what has lapsed: nobody may ever push it out. `stale_for` is how much longer verdicts may serve.
    pub(crate) fn sweep(&self, now: Now, stale_for: Duration) {
        let wall = now.wall();
        let longest = self.settings.ttl + stale_for + KEPT_BEYOND;
        self.good.retain(|_, held| held.age(now.instant) < longest && held.claims.end() > wall);
        let negative_ttl = self.settings.negative_ttl;
        self.bad.retain(|_, bad| now.instant.saturating_duration_since(bad.asked_at) < negative_ttl);
        self.distrusted.retain(|_, end| *end > wall);
    }

    pub(crate) fn len(&self) -> (usize, usize) {
        (self.good.len(), self.bad.len())
    }

    /// Answers to questions that were sent before an eviction serve those who wait and are not kept.
    fn mark_evicted(&self, now: Instant) {
        *self.evicted_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    pub(crate) fn was_evicted_since(&self, asked_at: Instant) -> bool {
        self.evicted_at().is_some_and(|evicted_at| asked_at <= evicted_at)
    }

    /// When anything was last forgotten.
    pub(crate) fn evicted_at(&self) -> Option<Instant> {
        *self.evicted_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The weight of an entry, in bytes. None weighs less than its share where there are as many as there may be: so one
/// bound holds for the bytes and for the number.
#[derive(Clone)]
struct Weight {
    least: usize,
}

impl Weighter<Key, Arc<Held>> for Weight {
    fn weight(&self, _key: &Key, held: &Arc<Held>) -> u64 {
        held.size().max(self.least) as u64
    }
}

impl Weighter<Key, Bad> for Weight {
    fn weight(&self, _key: &Key, bad: &Bad) -> u64 {
        let user_id = bad.refused.user_id.as_ref().map_or(0, |id| id.len());
        (size_of::<Bad>() + user_id + OVERHEAD_BYTES).max(self.least) as u64
    }
}

impl Weighter<Key, i64> for Weight {
    fn weight(&self, _key: &Key, _end: &i64) -> u64 {
        self.least as u64
    }
}

fn bounded_bad<V: Clone>(capacity: usize) -> Bounded<V>
where
    Weight: Weighter<Key, V>,
{
    bounded(capacity, capacity.saturating_mul(BAD_BYTES), BAD_BYTES)
}

/// The crate divides the bytes among shards and takes nothing in that weighs more than 97 % of one: so each shard must
/// hold the largest entry, and an entry that is alone must not weigh all of it.
fn bounded<V: Clone>(capacity: usize, bytes: usize, largest: usize) -> Bounded<V>
where
    Weight: Weighter<Key, V>,
{
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut shards = (cores * 4).next_power_of_two();
    while shards > 1 && bytes / shards < largest {
        shards /= 2;
    }
    let options = quick_cache::OptionsBuilder::new()
        .shards(shards)
        .estimated_items_capacity(capacity)
        .weight_capacity(bytes as u64)
        .build()
        .expect("both capacities are set");
    let weight = Weight { least: (bytes / capacity).min(bytes / 100 * 97) };
    let (hasher, lifecycle) = (BuildHasherDefault::default(), DefaultLifecycle::default());
    quick_cache::sync::Cache::with_options(options, weight, hasher, lifecycle)
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let first = self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        state.write_u64(first);
    }
}

/// A digest is a hash already.
#[derive(Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
#[expect(clippy::unchecked_time_subtraction, reason = "a test may panic")]
mod tests {
    use serde_json::json;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn cache() -> Cache {
        Cache::new(CacheSettings {
            ttl: SECOND * 60,
            capacity: 100,
            bytes: 1024 * 1024,
            largest: 64 * 1024,
            negative_ttl: SECOND * 5,
            negative_capacity: 100,
            distrusts: true,
        })
    }

    fn held(asked_at: Instant, is_local: bool) -> Arc<Held> {
        let document = json!({"active": true, "sub": "1"}).to_string();
        let claims = Claims::from_introspection(document, None).unwrap().unwrap();
        Arc::new(Held::new(claims, asked_at, is_local))
    }

    fn key(text: &str) -> Key {
        Cache::key(&AccessToken::from_text(text).unwrap())
    }

    #[test]
    fn an_older_answer_that_comes_late_replaces_no_newer_one() {
        let (cache, key, then) = (cache(), key("token"), Instant::now());
        let (older, newer) = (held(then, false), held(then + SECOND, false));
        cache.keep(key, &newer);
        cache.keep(key, &older);
        assert!(Arc::ptr_eq(&cache.held(&key).unwrap(), &newer));
        let newest = held(then + SECOND * 2, false);
        cache.keep(key, &newest);
        assert!(Arc::ptr_eq(&cache.held(&key).unwrap(), &newest));
        // What was read out of a JWT gives way to what the issuer said, whenever it was asked.
        let (cache, local) = (self::cache(), held(then + SECOND, true));
        cache.keep(key, &local);
        cache.keep(key, &older);
        assert!(Arc::ptr_eq(&cache.held(&key).unwrap(), &older));
    }

    #[test]
    fn what_was_asked_before_an_eviction_is_not_kept_after_it() {
        let (cache, key, then) = (cache(), key("token"), Instant::now());
        cache.evict(&Evict::User("1"), then + SECOND);
        for (asked_at, is_kept) in [(then, false), (then + SECOND, false), (then + SECOND * 2, true)] {
            cache.keep(key, &held(asked_at, false));
            assert_eq!(cache.held(&key).is_some(), is_kept);
        }
    }

    #[test]
    fn denials_are_asked_about_five_times_at_once_and_once_in_an_interval() {
        let then = Instant::now();
        let held = held(then, false);
        let count = |at: Instant| (0..20).filter(|_| held.claim_denial_question(SECOND, at)).count();
        assert_eq!(count(then), 5);
        assert_eq!(count(then + SECOND - Duration::from_millis(1)), 0);
        assert_eq!(count(then + SECOND), 1);
        assert_eq!(count(then + SECOND * 3), 2);
        assert_eq!(count(then + SECOND * 100), 5, "never more than five");
    }

    #[test]
    fn a_verdict_lapses_at_its_edge() {
        let (cache, then) = (cache(), Instant::now());
        let held = held(then, false);
        let nearly = then + SECOND * 60 - Duration::from_nanos(1);
        assert!(!cache.is_lapsed(&held, nearly) && cache.is_lapsed(&held, then + SECOND * 60));
        assert!(
            !cache.is_past(&held, nearly + SECOND, SECOND)
                && cache.is_past(&held, then + SECOND * 61, SECOND)
        );
        assert!(!cache.lapses_within(&held, SECOND, nearly - SECOND));
        assert!(cache.lapses_within(&held, SECOND, then + SECOND * 59));
        assert!(held.is_within(Some(SECOND), then + SECOND));
        assert!(!held.is_within(Some(SECOND), then + SECOND + Duration::from_nanos(1)));
    }

    #[test]
    fn bad_verdicts_and_distrust_are_bounded_and_lapse() {
        let (cache, then) = (cache(), Instant::now());
        for number in 0..1000 {
            cache.keep_bad(key(&format!("bad-{number}")), InvalidToken::Inactive.into(), then);
            cache.distrust(key(&format!("jwt-{number}")), i64::MAX);
        }
        assert!(cache.len().1 <= 100 && cache.distrusted.len() <= 100);
        let kept = key("kept");
        cache.keep_bad(kept, InvalidToken::Inactive.into(), then);
        let standing = |at| matches!(cache.look(&kept, at, Duration::ZERO), Known::Bad(_));
        assert!(standing(then + SECOND * 5 - Duration::from_nanos(1)) && !standing(then + SECOND * 5));
        // A user id of a megabyte does not take a megabyte for each.
        let long = Refused { reason: InvalidToken::Inactive, user_id: Some("x".repeat(1 << 20).into()) };
        cache.keep_bad(key("long"), long, then);
        let Known::Bad(held) = cache.look(&key("long"), then, Duration::ZERO) else {
            panic!("it is not held")
        };
        assert_eq!(held.user_id, None);
        assert!(cache.bad.weight() <= 100 * BAD_BYTES as u64);
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
                negative_capacity: capacity,
                bytes,
                largest: most,
                ..cache().settings
            };
            let (cache, key, then) = (Cache::new(settings), key("token"), Instant::now());
            cache.keep(key, &Arc::new(Held::new(claims, then, false)));
            assert_eq!(cache.len(), (1, 0));
            cache.keep_bad(key, InvalidToken::Inactive.into(), then);
            assert_eq!(cache.len(), (0, 1));
        }
    }

    #[test]
    fn a_sweep_gives_back_what_is_over_and_nothing_else() {
        let millis = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let clock = crate::clock::Clock::ahead(Arc::clone(&millis));
        let start = clock.now();
        let stale_for = SECOND * 30;
        let cache = cache();
        let with_end = |end: i64| {
            let document = json!({"active": true, "sub": "1", "exp": end}).to_string();
            Arc::new(Held::new(
                Claims::from_introspection(document, None).unwrap().unwrap(),
                start.instant,
                false,
            ))
        };
        cache.keep(key("endless"), &held(start.instant, false));
        cache.keep(key("short"), &with_end(start.wall() + 20));
        cache.keep_bad(key("bad"), InvalidToken::Inactive.into(), start.instant);
        cache.distrust(key("distrusted"), start.wall() + 20);
        let left = |seconds: i64| {
            millis.store(seconds * 1000, Ordering::SeqCst);
            cache.sweep(clock.now(), stale_for);
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
