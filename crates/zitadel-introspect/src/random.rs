//! Random numbers that must differ, but need not be secret.

use std::hash::{BuildHasher, Hasher, RandomState};

pub(crate) fn u64() -> u64 {
    RandomState::new().build_hasher().finish()
}
