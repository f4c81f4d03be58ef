//! Callers with the same roles share one block of memory: the block stays in the caches of the CPU, and is stored once.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::claims::{Claims, RoleGrants};

/// The most blocks that the pool remembers. Then the pool is cleared; claims keep their blocks.
const MOST: usize = 1024;
/// A larger block is not remembered: so the pool never takes more than 4 MiB.
const LARGEST_BYTES: usize = 4 * 1024;

#[derive(Default)]
pub(crate) struct RolePool(Mutex<HashSet<RoleGrants>>);

impl RolePool {
    /// Replaces the blocks of the claims by equal blocks of the pool.
    pub(crate) fn share(&self, claims: &mut Claims) {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for grants in claims.grants_mut().filter(|grants| grants.size() <= LARGEST_BYTES) {
            if let Some(block) = blocks.get(grants) {
                *grants = block.clone();
            } else {
                if blocks.len() >= MOST {
                    blocks.clear();
                }
                blocks.insert(grants.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn claims(role: &str, organizations: usize) -> Claims {
        let organizations: Map<_, _> = (0..organizations).map(|id| (id.to_string(), "x".into())).collect();
        let document = json!({"active": true, "urn:zitadel:iam:org:project:roles": {role: organizations}});
        Claims::from_introspection(document.to_string(), None).unwrap().unwrap()
    }

    #[test]
    fn equal_blocks_are_shared_and_large_ones_and_many_are_not_remembered() {
        let pool = RolePool::default();
        let share = |mut claims: Claims| {
            pool.share(&mut claims);
            claims
        };
        let [one, two, other] =
            [("admin", 1), ("admin", 1), ("viewer", 1)].map(|(role, n)| share(claims(role, n)));
        assert!(one.roles().is_same_block(two.roles()) && !one.roles().is_same_block(other.roles()));
        let [one, two] = [50, 50].map(|n| share(claims("admin", n)));
        assert!(one.roles().is_same_block(two.roles()), "50 organizations take less than 4 KiB");
        let [one, two] = [70, 70].map(|n| share(claims("admin", n)));
        assert!(one.roles() == two.roles() && !one.roles().is_same_block(two.roles()));
        for number in 0..MOST * 2 {
            let _ = share(claims(&number.to_string(), 1));
            assert!(pool.0.lock().unwrap().len() <= MOST);
        }
    }
}
