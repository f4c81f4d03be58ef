//! What ended, and when: a JWT that was issued before that must not be verified locally.
//!
//! A state machine without input and output. All times are the issuer's, in Unix seconds.

use std::collections::HashMap;

use crate::{
    claims::Claims,
    names::{TokenId, UserId},
    verdict::evict::{Evict, session_of},
};

/// The longest life of a JWT access token, unless ZITADEL is told otherwise, and an hour more.
pub(crate) const DEPTH: i64 = 13 * 3600;
/// `iat` has whole seconds, of another clock than the events.
const TOLERANCE: i64 = 60;
/// So many ends are remembered: about 10 MiB.
const MOST: usize = 100_000;
/// So many of those that are looked through one by one.
const MOST_WIDE: usize = 1000;

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
    users: HashMap<UserId, i64>,
    tokens: HashMap<TokenId, i64>,
    /// By OIDC session: the newest token, which ended the others.
    newest: HashMap<String, (TokenId, i64)>,
    /// Evictions of another kind; there are few different ones.
    wide: Vec<(Evict, i64)>,
    /// All ends since then were recorded; `None`: nothing was.
    read_from: Option<i64>,
    /// Ends up to then may have been forgotten.
    lost_until: Option<i64>,
}

impl Memory {
    /// Something ended at that time.
    pub(crate) fn record(&mut self, what: &Evict, at: i64) {
        let newest = |known: &mut i64| *known = at.max(*known);
        match what {
            Evict::User(user) => newest(self.users.entry(user.clone()).or_insert(at)),
            Evict::TokenId(token) => newest(self.tokens.entry(token.clone()).or_insert(at)),
            Evict::Predecessors(token) if session_of(token.as_str()).is_some() => {
                let session = session_of(token.as_str()).unwrap_or_default();
                let known = self.newest.get(session).map(|(_, known)| *known);
                if known.is_none_or(|known| known <= at) {
                    self.newest.insert(session.to_owned(), (token.clone(), at));
                }
            }
            other => match self.wide.iter_mut().find(|(known, _)| known == other) {
                Some((_, known)) => newest(known),
                None => self.wide.push((other.clone(), at)),
            },
        }
        if self.users.len() + self.tokens.len() + self.newest.len() > MOST || self.wide.len() > MOST_WIDE {
            self.forget_older_half();
        }
    }

    /// All ends since then are recorded, but for what is forgotten.
    pub(crate) fn know_from(&mut self, at: i64) {
        self.read_from = Some(self.read_from.map_or(at, |known| known.min(at)));
    }

    /// From when on all ends are known.
    pub(crate) fn known_from(&self) -> Option<i64> {
        let lost = self.lost_until.map(|lost| lost.saturating_add(1));
        self.read_from.map(|read| lost.map_or(read, |lost| lost.max(read)))
    }

    /// Whether reading further back is of use: what would be read must not be forgotten at once.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost_until.zip(self.read_from).is_some_and(|(lost, read)| lost >= read)
    }

    /// What a JWT with these claims may expect.
    pub(crate) fn recall(&self, claims: &Claims) -> Recalled {
        let Some(issued_at) = claims.issued_at_seconds() else { return Recalled::Unknown };
        let ended = |at: &i64| *at > issued_at.saturating_sub(TOLERANCE);
        let token = claims.token_id();
        let of_token = token.is_none_or(|token| self.tokens.get(token).is_some_and(ended));
        let session = token.and_then(session_of);
        let of_session = session.and_then(|session| self.tokens.get(session)).is_some_and(ended);
        let newest = session.and_then(|session| self.newest.get(session));
        let is_replaced = newest.is_some_and(|(newest, at)| token != Some(newest.as_str()) && ended(at));
        let of_user = claims.subject().is_none_or(|user| self.users.get(user).is_some_and(ended));
        let is_wide = self.wide.iter().any(|(what, at)| ended(at) && what.may_concern_jwt(claims));
        if of_token || of_session || is_replaced || of_user || is_wide {
            return Recalled::Ended;
        }
        let is_known = self.known_from().is_some_and(|from| issued_at >= from.saturating_add(TOLERANCE));
        if is_known { Recalled::Good } else { Recalled::Unknown }
    }

    /// Forgets what no JWT needs any more.
    pub(crate) fn sweep(&mut self, now: i64) {
        self.forget_until(now.saturating_sub(DEPTH + TOLERANCE));
    }

    /// Makes room: what is older than the median is not known any more.
    fn forget_older_half(&mut self) {
        let mut times: Vec<i64> = if self.wide.len() > MOST_WIDE {
            self.wide.iter().map(|(_, at)| *at).collect()
        } else {
            let of_sessions = self.newest.values().map(|(_, at)| at);
            self.users.values().chain(self.tokens.values()).chain(of_sessions).copied().collect()
        };
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.forget_until(median);
    }

    fn forget_until(&mut self, until: i64) {
        self.lost_until = self.lost_until.max(Some(until));
        self.users.retain(|_, at| *at > until);
        self.tokens.retain(|_, at| *at > until);
        self.newest.retain(|_, (_, at)| *at > until);
        self.wide.retain(|(_, at)| *at > until);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::claims::Members;

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
        assert!(memory.users.len() <= MOST);
        let from = memory.known_from().unwrap();
        assert!(from > NOW && from <= NOW + 60, "{from}");
        let mut refreshed = Memory::default();
        for number in 0..=i64::try_from(MOST).unwrap() {
            refreshed.record(&Evict::Predecessors(format!("V2_{number}-at_1").into()), NOW + number / 1000);
        }
        assert!(refreshed.newest.len() <= MOST && refreshed.wide.is_empty());
        for number in 0..=i64::try_from(MOST_WIDE).unwrap() {
            memory.record(&Evict::AnyRole(number.to_string().into()), NOW + 200 + number);
        }
        assert!(memory.wide.len() <= MOST_WIDE && memory.known_from().unwrap() > from);
        memory.sweep(NOW + DEPTH + TOLERANCE + 2000);
        assert_eq!((memory.users.len(), memory.tokens.len(), memory.wide.len()), (0, 0, 0));
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
