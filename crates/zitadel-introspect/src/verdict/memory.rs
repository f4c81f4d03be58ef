//! What ended, and when: a JWT that was issued before that must not be verified locally.
//!
//! A state machine without input and output. All times are the issuer's, in Unix seconds.

use crate::{
    claims::Claims,
    verdict::{ends::Ends, evict::Evict},
};

/// The longest life of a JWT access token, unless ZITADEL is told otherwise, and an hour more.
pub(crate) const DEPTH: i64 = 13 * 3600;
/// `iat` has whole seconds, of another clock than the events.
const TOLERANCE: i64 = 60;

/// Whether a JWT may be verified locally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recalled {
    /// Nothing has ended it.
    Good,
    /// Something that matches it ended after it was issued.
    Ended,
    /// It is older than what is known.
    Unknown,
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    ends: Ends,
    /// All ends since then were recorded; `None`: nothing was.
    read_from: Option<i64>,
}

impl Memory {
    /// Something ended at that time.
    pub(crate) fn record(&mut self, what: &Evict, at: i64) {
        // By the issuer's time: the order of events does not matter.
        let _ = self.ends.record(what, at);
    }

    /// All ends since then are recorded, but for what is forgotten.
    pub(crate) fn know_from(&mut self, at: i64) {
        self.read_from = Some(self.read_from.map_or(at, |known| known.min(at)));
    }

    /// Ends may have been missed: nothing is known to be complete any more.
    pub(crate) fn doubt(&mut self) {
        self.read_from = None;
    }

    /// From when on all ends are known.
    pub(crate) fn known_from(&self) -> Option<i64> {
        let lost = self.ends.lost_until().map(|lost| lost.saturating_add(1));
        self.read_from.map(|read| lost.map_or(read, |lost| lost.max(read)))
    }

    /// Whether reading further back is of use: what would be read must not be forgotten at once.
    pub(crate) fn has_lost(&self) -> bool {
        self.ends.lost_until().zip(self.read_from).is_some_and(|(lost, read)| lost >= read)
    }

    /// What a JWT with these claims may expect.
    pub(crate) fn recall(&self, claims: &Claims) -> Recalled {
        let Some(issued_at) = claims.issued_at_seconds() else { return Recalled::Unknown };
        let since = issued_at.saturating_sub(TOLERANCE);
        if self.ends.any_behind(since, claims, None, |what| what.may_concern_jwt(claims)) {
            return Recalled::Ended;
        }
        let is_known = self.known_from().is_some_and(|from| issued_at >= from.saturating_add(TOLERANCE));
        if is_known { Recalled::Good } else { Recalled::Unknown }
    }

    /// Forgets what no JWT needs any more.
    pub(crate) fn sweep(&mut self, now: i64) {
        self.ends.forget_until(now.saturating_sub(DEPTH + TOLERANCE));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        claims::Members,
        verdict::ends::{MOST, MOST_WIDE},
    };

    const NOW: i64 = 1_800_000_000;

    fn claims(issued_at: i64) -> Claims {
        let roles = json!({"admin": {"1": "one.example"}});
        let document = json!({"sub": "ada", "jti": "V2_5-at_1", "iat": issued_at,
            "urn:zitadel:iam:org:project:7:roles": roles})
        .to_string();
        Claims::from_jwt(&document, &Members::read(&document).unwrap(), &"7".into()).unwrap()
    }

    #[test]
    fn what_was_issued_before_a_matching_end_is_not_verified_locally() {
        for (what, is_match) in [
            (Evict::User("ada".into()), true),
            (Evict::User("bob".into()), false),
            (Evict::TokenId("V2_5".into()), true),
            (Evict::TokenId("V2_5-at_1".into()), true),
            (Evict::TokenId("V2_6".into()), false),
            (Evict::Predecessors("V2_5-at_2".into()), true),
            (Evict::Predecessors("V2_5-at_1".into()), false),
            (Evict::Role("7".into(), "admin".into()), true),
            (Evict::Role("7".into(), "viewer".into()), false),
            (Evict::RolesFrom("1".into()), true),
            (Evict::OidcSessions, true),
            (Evict::Groups, false),
            (Evict::Jwts, true),
            (Evict::All, true),
        ] {
            let mut memory = Memory::default();
            memory.know_from(NOW - 10_000);
            memory.record(&what, NOW);
            let expected = if is_match { Recalled::Ended } else { Recalled::Good };
            for issued_at in [NOW - 100, NOW, NOW + TOLERANCE - 1] {
                assert_eq!(memory.recall(&claims(issued_at)), expected, "{what:?} {issued_at}");
            }
            assert_eq!(memory.recall(&claims(NOW + TOLERANCE)), Recalled::Good, "{what:?}");
        }
    }

    #[test]
    fn what_is_older_than_the_memory_is_not_known() {
        let mut memory = Memory::default();
        assert_eq!(memory.recall(&claims(NOW)), Recalled::Unknown);
        memory.know_from(NOW);
        assert_eq!(memory.recall(&claims(NOW + TOLERANCE - 1)), Recalled::Unknown);
        assert_eq!(memory.recall(&claims(NOW + TOLERANCE)), Recalled::Good);
        memory.know_from(NOW - 300);
        memory.know_from(NOW + 300);
        assert_eq!(memory.recall(&claims(NOW - 300 + TOLERANCE)), Recalled::Good);
        memory.record(&Evict::User("ada".into()), NOW - 200);
        assert_eq!(
            memory.recall(&claims(NOW - 300)),
            Recalled::Ended,
            "an end counts however little is known"
        );
    }

    #[test]
    fn the_memory_is_bounded_and_says_what_it_has_lost() {
        let mut memory = Memory::default();
        memory.know_from(NOW - 10);
        for number in 0..=i64::try_from(MOST).unwrap() {
            memory.record(&Evict::User(number.to_string().into()), NOW + number / 1000);
        }
        assert!(memory.ends.len() <= MOST);
        let from = memory.known_from().unwrap();
        assert!(from > NOW && from <= NOW + 60, "{from}");
        let mut refreshed = Memory::default();
        for number in 0..=i64::try_from(MOST).unwrap() {
            refreshed.record(&Evict::Predecessors(format!("V2_{number}-at_1").into()), NOW + number / 1000);
        }
        assert!(refreshed.ends.len() <= MOST);
        for number in 0..=i64::try_from(MOST_WIDE).unwrap() {
            memory.record(&Evict::AnyRole(number.to_string().into()), NOW + 200 + number);
        }
        assert!(memory.known_from().unwrap() > from);
        memory.sweep(NOW + DEPTH + TOLERANCE + 2000);
        assert_eq!(memory.ends.len(), 0);
        assert_eq!(
            memory.recall(&claims(NOW + 1000)),
            Recalled::Unknown,
            "what is swept is not known any more"
        );
        // What is read again does not undo a loss.
        memory.know_from(NOW - 10_000);
        assert!(memory.has_lost());
        assert_eq!(memory.recall(&claims(NOW + 1000)), Recalled::Unknown);
    }

    proptest! {
        /// Whatever is recorded, forgotten or learnt in whatever order: a JWT is good only if no end that was recorded, and
        /// that matches it, came later than a minute before it was issued.
        #[test]
        fn nothing_ended_is_good(
            ends in proptest::collection::vec((0..4_u8, 0..5_000_i64), 0..40),
            known in proptest::collection::vec(0..5_000_i64, 0..4),
            issued_at in 0..6_000_i64,
        ) {
            let mut memory = Memory::default();
            for from in known {
                memory.know_from(NOW + from);
            }
            let kinds = [
                Evict::User("ada".into()), Evict::TokenId("V2_5".into()), Evict::User("bob".into()), Evict::AnyRole("7".into()),
            ];
            let mut newest = i64::MIN;
            for (kind, at) in ends {
                memory.record(&kinds[usize::from(kind)], NOW + at);
                if kind != 2 {
                    newest = newest.max(NOW + at);
                }
            }
            let is_good = memory.recall(&claims(NOW + issued_at)) == Recalled::Good;
            prop_assert!(!is_good || newest <= NOW + issued_at - TOLERANCE);
        }
    }
}
