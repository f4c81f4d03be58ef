//! Numbers that need to differ, not to be secret.

use std::hash::{BuildHasher, Hasher, RandomState};

pub(crate) fn u64() -> u64 {
    RandomState::new().build_hasher().finish()
}
