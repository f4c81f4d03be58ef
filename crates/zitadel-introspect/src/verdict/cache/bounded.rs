//! A map that is bounded in entries and in bytes. The least used entries are removed first.

use std::{
    hash::{BuildHasherDefault, Hash, Hasher},
    thread,
    time::Duration,
};

use quick_cache::{OptionsBuilder, Weighter, sync::DefaultLifecycle};
use siphasher::sip128::SipHasher24;

/// The bytes of an entry beside its value.
const OVERHEAD_BYTES: usize = 128;

/// The hash of a whole token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u128);

/// Hashes tokens by SipHash-2-4 of 128 bits, a keyed function, with a random key that never leaves the process. So
/// nobody outside can search for two tokens with the same hash, and a hash reveals nothing about its token.
pub(crate) struct Keyer(SipHasher24);

/// The weight of an entry, in bytes. Each entry weighs at least the total bytes divided by the maximum number of
/// entries, so one bound limits both the bytes and the number.
pub(crate) struct Weight<V> {
    least: usize,
    size: fn(&V) -> usize,
}

pub(crate) type Bounded<V> =
    quick_cache::sync::Cache<Key, V, Weight<V>, BuildHasherDefault<KeyHasher>, DefaultLifecycle<Key, V>>;

impl Key {
    /// A time within the last quarter of `time`, another one for each token.
    pub(crate) fn spread_end(self, time: Duration) -> Duration {
        time * 3 / 4 + self.share_of(time / 4)
    }

    /// A share of `time`, another one for each token.
    #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
    pub(crate) fn share_of(self, time: Duration) -> Duration {
        let share = (self.0 >> 64) as u16;
        time * u32::from(share) / (u32::from(u16::MAX) + 1)
    }
}

impl Keyer {
    pub(crate) fn new() -> Self {
        let mut key = [0; 16];
        aws_lc_rs::rand::fill(&mut key).expect("the operating system has random bytes");
        Self(SipHasher24::new_with_key(&key))
    }

    #[inline]
    pub(crate) fn key(&self, token: &[u8]) -> Key {
        Key(self.0.hash(token).as_u128())
    }
}

/// A map of at most `capacity` entries and `bytes` bytes in total; its largest entry has at most `largest` bytes.
///
/// The cache crate divides the bytes among shards and refuses an entry that weighs more than 97 % of a shard. So each
/// shard must be large enough for the largest entry, and a single entry must not weigh the whole shard.
pub(crate) fn bounded<V: Clone>(
    (capacity, bytes, largest): (usize, usize, usize),
    size: fn(&V) -> usize,
) -> Bounded<V> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut shards = (cores * 4).next_power_of_two();
    while shards > 1 && bytes / shards < largest {
        shards /= 2;
    }
    let options = OptionsBuilder::new()
        .shards(shards)
        .estimated_items_capacity(capacity)
        .weight_capacity(bytes as u64)
        .build()
        .expect("both capacities are set");
    let weight = Weight { least: (bytes / capacity).min(bytes / 100 * 97), size };
    let (hasher, lifecycle) = (BuildHasherDefault::default(), DefaultLifecycle::default());
    Bounded::with_options(options, weight, hasher, lifecycle)
}

impl<V> Weighter<Key, V> for Weight<V> {
    fn weight(&self, _key: &Key, value: &V) -> u64 {
        ((self.size)(value) + OVERHEAD_BYTES).max(self.least) as u64
    }
}

impl<V> Clone for Weight<V> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl Hash for Key {
    #[expect(clippy::cast_possible_truncation, reason = "half of the bits are enough for a table")]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0 as u64);
    }
}

/// A key is a hash already.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("a key is hashed as one number");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
