//! Remembers evictions: an answer to a question that was sent before a matching eviction must not be held.
//!
//! A state machine without input and output: what the time is, the caller of each function says.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::verdict::{Active, cache::bounded::Key, evict::Evict};

/// Evictions are remembered for longer than any question takes (10 s).
const KEPT_FOR: Duration = Duration::from_secs(75);
/// At most so many are remembered: about 5 MiB.
const MOST: usize = 50_000;

#[derive(Default)]
pub(crate) struct Ledger(Mutex<Window>);

#[derive(Default)]
struct Window {
    evictions: VecDeque<(Instant, Evict)>,
    /// Nothing is known of evictions up to this instant.
    forgotten_until: Option<Instant>,
    last: Option<Instant>,
}

impl Ledger {
    pub(crate) fn record(&self, what: Evict, now: Instant) {
        let mut window = self.lock();
        // Two threads may have read the clock in another order than they come here: the window stays in order.
        let now = window.last.map_or(now, |last| last.max(now));
        window.last = Some(now);
        window.evictions.push_back((now, what));
        while let Some((at, _)) = window.evictions.front() {
            let at = *at;
            if window.evictions.len() <= MOST && now.saturating_duration_since(at) <= KEPT_FOR {
                break;
            }
            window.forgotten_until = Some(at);
            window.evictions.pop_front();
        }
    }

    /// Whether an eviction that matches the verdict came after its question was sent, or may have come.
    pub(crate) fn concerns(&self, key: &Key, active: &Active) -> bool {
        let window = self.lock();
        window.may_have_forgotten(active.asked_at)
            || window.since(active.asked_at).any(|what| what.may_concern(key, active))
    }

    /// As [`concerns`](Self::concerns), for a refusal, whose claims are not known: every eviction may match, but for that
    /// of another token.
    pub(crate) fn may_concern_refusal(&self, key: &Key, asked_at: Instant) -> bool {
        let window = self.lock();
        let is_of_another = |what: &Evict| matches!(what, Evict::Token(other) if other != key);
        window.may_have_forgotten(asked_at) || window.since(asked_at).any(|what| !is_of_another(what))
    }

    /// When a verdict was last evicted.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.lock().last
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn may_have_forgotten(&self, asked_at: Instant) -> bool {
        self.forgotten_until.is_some_and(|until| asked_at <= until)
    }

    /// The evictions at that instant and later, the newest first.
    fn since(&self, asked_at: Instant) -> impl Iterator<Item = &Evict> {
        let newest_first = self.evictions.iter().rev();
        newest_first.take_while(move |(at, _)| *at >= asked_at).map(|(_, what)| what)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{claims::Claims, verdict::cache::bounded::Keyer};

    const SECOND: Duration = Duration::from_secs(1);

    fn of_user(user: &str, asked_at: Instant) -> Active {
        let document = json!({"active": true, "sub": user, "jti": user,
            "urn:zitadel:iam:user:resourceowner:id": format!("organization of {user}")});
        let claims = Claims::from_introspection(document.to_string(), None).unwrap().unwrap();
        Active::answered(claims, asked_at, false)
    }

    #[test]
    fn only_a_matching_eviction_that_came_after_the_question_concerns_a_verdict() {
        let (ledger, then, keyer) = (Ledger::default(), Instant::now(), Keyer::new());
        let (key, other) = (keyer.key(b"token"), keyer.key(b"other"));
        let concerns = |user: &str, at: Instant| ledger.concerns(&key, &of_user(user, at));
        ledger.record(Evict::User("ada".into()), then + SECOND);
        assert!(
            concerns("ada", then) && concerns("ada", then + SECOND) && !concerns("ada", then + SECOND * 2)
        );
        assert!(!concerns("bob", then), "an eviction of somebody else");
        ledger.record(Evict::Token(other), then + SECOND * 2);
        ledger.record(Evict::TokenId("eve".into()), then + SECOND * 2);
        ledger.record(Evict::Organization("organization of joe".into()), then + SECOND * 2);
        assert!(!concerns("bob", then) && concerns("eve", then) && concerns("joe", then));
        assert!(
            ledger.may_concern_refusal(&key, then + SECOND * 2)
                && !ledger.may_concern_refusal(&key, then + SECOND * 3)
        );
        ledger.record(Evict::Token(key), then + SECOND * 3);
        assert!(concerns("bob", then) && ledger.last() == Some(then + SECOND * 3));
        ledger.record(Evict::User("max".into()), then);
        assert!(
            concerns("max", then + SECOND * 3),
            "an eviction that comes late counts as one of the newest"
        );
        ledger.record(Evict::All, then + SECOND * 9);
        assert!(concerns("zoe", then + SECOND * 9) && !concerns("zoe", then + SECOND * 10));
    }

    #[test]
    fn what_is_forgotten_counts_as_a_match() {
        let (ledger, then, keyer) = (Ledger::default(), Instant::now(), Keyer::new());
        let (key, other) = (keyer.key(b"token"), keyer.key(b"other"));
        ledger.record(Evict::Token(other), then);
        ledger.record(Evict::Token(other), then + KEPT_FOR);
        assert!(!ledger.concerns(&key, &of_user("ada", then)), "still remembered");
        ledger.record(Evict::Token(other), then + KEPT_FOR + SECOND);
        assert!(ledger.concerns(&key, &of_user("ada", then)), "too long ago to be known");
        assert!(!ledger.concerns(&key, &of_user("ada", then + SECOND)));
        for _ in 0..MOST {
            ledger.record(Evict::Token(other), then + KEPT_FOR + SECOND * 2);
        }
        assert!(ledger.lock().evictions.len() <= MOST);
        assert!(ledger.concerns(&key, &of_user("ada", then + SECOND)), "too many to be known");
    }
}
