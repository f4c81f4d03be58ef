//! Remembers evictions: an answer to a question that was sent before a matching eviction must not be held.
//!
//! A state machine without input and output: what the time is, the caller of each function says.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::verdict::{Active, cache::bounded::Key, evict::Evict};

/// Evictions are remembered for longer than any question takes (10 s).
const KEPT_FOR: Duration = Duration::from_secs(75);
/// At most so many are remembered: about 5 MiB.
const MOST: usize = 50_000;

/// How many evictions there have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64);

#[derive(Default)]
pub(crate) struct Ledger {
    window: Mutex<Window>,
    /// The newest position.
    end: watch::Sender<Position>,
}

struct Remembered {
    at: Instant,
    what: Evict,
    /// Only claims have changed and no right was taken away: streams go on without a new question.
    is_soft: bool,
}

#[derive(Default)]
struct Window {
    /// The newest evictions; the last one has the position `end`.
    evictions: VecDeque<Remembered>,
    end: Position,
}

impl Ledger {
    pub(crate) fn record(&self, evictions: impl IntoIterator<Item = Evict>, now: Instant) {
        self.remember(evictions, false, now);
    }

    /// As [`record`](Self::record), for soft evictions: they count for answers in flight, not for who is let in already.
    pub(crate) fn record_softly(&self, evictions: impl IntoIterator<Item = Evict>, now: Instant) {
        self.remember(evictions, true, now);
    }

    fn remember(&self, evictions: impl IntoIterator<Item = Evict>, is_soft: bool, now: Instant) {
        let mut window = self.lock();
        for what in evictions {
            window.end.0 += 1;
            window.evictions.push_back(Remembered { at: now, what, is_soft });
        }
        while let Some(Remembered { at, .. }) = window.evictions.front() {
            if window.evictions.len() <= MOST && now.saturating_duration_since(*at) <= KEPT_FOR {
                break;
            }
            window.evictions.pop_front();
        }
        self.end.send_replace(window.end);
    }

    /// The position of the newest eviction.
    pub(crate) fn position(&self) -> Position {
        self.lock().end
    }

    /// For who waits for evictions.
    pub(crate) fn watch(&self) -> watch::Receiver<Position> {
        self.end.subscribe()
    }

    /// Whether a matching eviction came after the question was sent, or may have come. Soft evictions do not count.
    pub(crate) fn concerns(&self, key: &Key, active: &Active) -> bool {
        self.concerned_since(key, active, active.position)
    }

    /// As [`concerns`](Self::concerns), for a verdict that is held: those evictions that are forgotten have not ended it.
    pub(crate) fn concerns_held(&self, key: &Key, active: &Active) -> bool {
        let window = self.lock();
        let known_from = window.forgotten().max(active.position.0);
        let is_match = |known: &Remembered| !known.is_soft && known.what.may_concern(key, active);
        window.any(Position(known_from), Position(u64::MAX), is_match)
    }

    /// As [`concerns`](Self::concerns), by evictions behind a position.
    pub(crate) fn concerned_since(&self, key: &Key, active: &Active, since: Position) -> bool {
        let is_match = |known: &Remembered| !known.is_soft && known.what.may_concern(key, active);
        self.lock().any(since, Position(u64::MAX), is_match)
    }

    /// Whether the verdict must not be held: as [`concerns`](Self::concerns), but soft evictions count as well.
    pub(crate) fn forbids(&self, key: &Key, active: &Active) -> bool {
        self.concerned_until(key, active, Position(u64::MAX))
    }

    /// Whether an eviction of the last 75 s matches the verdict.
    pub(crate) fn concerned_lately(&self, key: &Key, active: &Active, now: Instant) -> bool {
        // The window forgets only when it records: it may hold older ones.
        let is_late = |known: &&Remembered| now.saturating_duration_since(known.at) <= KEPT_FOR;
        let window = self.lock();
        window.evictions.iter().rev().take_while(is_late).any(|known| known.what.may_concern(key, active))
    }

    /// As [`concerns`](Self::concerns), by evictions up to a position, soft ones included.
    pub(crate) fn concerned_until(&self, key: &Key, active: &Active, until: Position) -> bool {
        self.lock().any(active.position, until, |known| known.what.may_concern(key, active))
    }

    /// As [`concerned_until`](Self::concerned_until), for a refusal, whose claims are not known: every eviction may match,
    /// but for that of another token.
    pub(crate) fn may_concern_refusal(&self, key: &Key, from: Position, until: Option<Position>) -> bool {
        let is_of_another = |what: &Evict| matches!(what, Evict::Token(other) if other != key);
        self.lock().any(from, until.unwrap_or(Position(u64::MAX)), |known| !is_of_another(&known.what))
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// The position of the newest eviction that is forgotten.
    fn forgotten(&self) -> u64 {
        self.end.0 - self.evictions.len() as u64
    }

    /// Whether an eviction behind `from`, up to `until`, is a match; one that is forgotten counts as a match.
    fn any(&self, from: Position, until: Position, is_match: impl Fn(&Remembered) -> bool) -> bool {
        if until <= from {
            return false;
        }
        let forgotten = self.forgotten();
        let newest_first = (0..=self.end.0).rev().zip(self.evictions.iter().rev());
        let behind = newest_first.take_while(|(position, _)| *position > from.0);
        from.0 < forgotten
            || behind.filter(|(position, _)| *position <= until.0).any(|(_, known)| is_match(known))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        claims::Claims,
        verdict::{Sent, cache::bounded::Keyer},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn of_user(user: &str, key: &Key, position: Position) -> Active {
        let document = json!({"active": true, "sub": user, "jti": user,
            "urn:zitadel:iam:user:resourceowner:id": format!("organization of {user}")});
        let claims = Claims::from_introspection(document.to_string(), None).unwrap().unwrap();
        Active::answered(claims, Sent { at: Instant::now(), position }, key, false)
    }

    #[test]
    fn only_a_matching_eviction_that_came_after_the_question_concerns_a_verdict() {
        let (ledger, then, keyer) = (Ledger::default(), Instant::now(), Keyer::new());
        let (key, other) = (keyer.key(b"token"), keyer.key(b"other"));
        let concerns = |user: &str, at: Position| ledger.concerns(&key, &of_user(user, &key, at));
        let start = ledger.position();
        ledger.record([Evict::User("ada".into())], then);
        let first = ledger.position();
        assert!(concerns("ada", start) && !concerns("ada", first));
        assert!(!concerns("bob", start), "an eviction of somebody else");
        let several = [
            Evict::Token(other),
            Evict::TokenId("eve".into()),
            Evict::Organization("organization of joe".into()),
        ];
        ledger.record(several, then);
        assert!(!concerns("bob", start) && concerns("eve", first) && concerns("joe", first));
        let second = ledger.position();
        assert!(ledger.may_concern_refusal(&key, first, None));
        assert!(!ledger.may_concern_refusal(&key, second, None));
        ledger.record([Evict::Token(other)], then);
        assert!(!ledger.may_concern_refusal(&key, second, None), "an eviction of another token");
        ledger.record([Evict::Token(key)], then);
        assert!(concerns("bob", second) && ledger.may_concern_refusal(&key, second, None));
        let third = ledger.position();
        ledger.record([Evict::All], then);
        assert!(concerns("zoe", third) && !concerns("zoe", ledger.position()));
        // Who has come before an eviction need not mind it.
        let zoe = of_user("zoe", &key, third);
        assert!(!ledger.concerned_until(&key, &zoe, third));
        assert!(ledger.concerned_until(&key, &zoe, ledger.position()));
    }

    #[test]
    fn what_is_forgotten_counts_as_a_match() {
        let (ledger, then, keyer) = (Ledger::default(), Instant::now(), Keyer::new());
        let (key, other) = (keyer.key(b"token"), keyer.key(b"other"));
        let concerns = |at: Position| ledger.concerns(&key, &of_user("ada", &key, at));
        let start = ledger.position();
        ledger.record([Evict::Token(other)], then);
        let first = ledger.position();
        ledger.record([Evict::Token(other)], then + KEPT_FOR);
        assert!(!concerns(start), "still remembered");
        ledger.record([Evict::Token(other)], then + KEPT_FOR + SECOND);
        assert!(concerns(start), "too long ago to be known");
        assert!(!concerns(first));
        let many = (0..MOST).map(|_| Evict::Token(other));
        ledger.record(many, then + KEPT_FOR + SECOND);
        assert!(ledger.lock().evictions.len() <= MOST);
        assert!(concerns(first), "too many to be known");
        let held = of_user("ada", &key, start);
        assert!(!ledger.concerns_held(&key, &held), "a verdict that is held has outlived them");
        ledger.record([Evict::User("ada".into())], then + KEPT_FOR + SECOND);
        assert!(ledger.concerns_held(&key, &held));
    }

    #[test]
    fn a_soft_eviction_forbids_to_hold_an_answer_and_ends_nobody() {
        let (ledger, then, keyer) = (Ledger::default(), Instant::now(), Keyer::new());
        let key = keyer.key(b"token");
        let ada = of_user("ada", &key, ledger.position());
        ledger.record_softly([Evict::User("ada".into())], then);
        assert!(ledger.forbids(&key, &ada) && !ledger.concerns(&key, &ada));
        ledger.record([Evict::User("ada".into())], then);
        assert!(ledger.forbids(&key, &ada) && ledger.concerns(&key, &ada));
        assert!(!ledger.concerned_since(&key, &ada, ledger.position()));
    }

    #[test]
    fn an_eviction_concerns_new_answers_for_75_seconds_also_when_no_other_follows() {
        let (ledger, then, keyer) = (Ledger::default(), Instant::now(), Keyer::new());
        let key = keyer.key(b"token");
        ledger.record([Evict::User("ada".into())], then);
        let lately =
            |user: &str, now| ledger.concerned_lately(&key, &of_user(user, &key, ledger.position()), now);
        assert!(lately("ada", then + KEPT_FOR) && !lately("bob", then));
        assert!(!lately("ada", then + KEPT_FOR + SECOND));
    }
}
