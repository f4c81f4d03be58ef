//! Evictions that wait: those that are repeated, and those that would come too often.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::verdict::evict::{Evict, echoes};

/// Evictions that wait to be repeated; beyond this, one that ends all verdicts waits in their place.
const MOST_ECHOES: usize = 10_000;
/// Soft evictions of organizations come at most so often, and so many are told apart.
const SOFT_INTERVAL: Duration = Duration::from_secs(10);
const MOST_WAITING: usize = 100;

/// Evictions that are repeated, in the order of their time.
#[derive(Default)]
pub(crate) struct Echoes(VecDeque<(Instant, Vec<Evict>)>);

impl Echoes {
    pub(crate) fn add(&mut self, evictions: Vec<Evict>, now: Instant) {
        if evictions.is_empty() {
            return;
        }
        let waiting: usize = self.0.iter().map(|(_, evictions)| evictions.len()).sum();
        let is_too_much = waiting + evictions.len() * 3 > MOST_ECHOES;
        let evictions = if is_too_much { vec![Evict::All] } else { evictions };
        for (after, due) in echoes(&evictions) {
            if due.is_empty() {
                continue;
            }
            let at = now + after;
            let place = self.0.partition_point(|(other, _)| *other <= at);
            self.0.insert(place, (at, due));
        }
        if is_too_much {
            self.0.truncate(MOST_ECHOES);
        }
    }

    /// Those whose time has come.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Evict> {
        let mut due = Vec::new();
        while self.0.front().is_some_and(|(at, _)| *at <= now) {
            due.extend(self.0.pop_front().into_iter().flat_map(|(_, evictions)| evictions));
        }
        due
    }
}

/// Soft evictions that wait: anybody who registers can cause those by organization, which renew many verdicts.
#[derive(Default)]
pub(crate) struct Soft {
    waiting: Vec<Evict>,
    done_at: Option<Instant>,
}

impl Soft {
    /// Those of organizations at most once in a while, all others at once.
    pub(crate) fn take(&mut self, changes: Vec<Evict>, now: Instant) -> Vec<Evict> {
        let (wide, mut due): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|what| matches!(what, Evict::Organization(_) | Evict::All));
        for what in wide {
            if self.waiting.len() >= MOST_WAITING {
                self.waiting = vec![Evict::All];
            } else if !self.waiting.contains(&what) {
                self.waiting.push(what);
            }
        }
        let rests = |at: Instant| now.saturating_duration_since(at) < SOFT_INTERVAL;
        if !self.waiting.is_empty() && !self.done_at.is_some_and(rests) {
            self.done_at = Some(now);
            due.append(&mut self.waiting);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn evictions_are_repeated_after_one_five_and_sixty_seconds_and_wide_ones_once() {
        let (mut echoes, now) = (Echoes::default(), Instant::now());
        let (user, all) = (Evict::User("1".into()), Evict::All);
        echoes.add(vec![user.clone(), all.clone()], now);
        let due: Vec<_> = [0, 1, 4, 5, 59, 60, 99].map(|seconds| echoes.due(now + SECOND * seconds)).into();
        assert_eq!(
            due,
            [vec![], vec![user.clone()], vec![], vec![user.clone(), all], vec![], vec![user], vec![]]
        );
    }

    #[test]
    fn what_waits_is_bounded_and_then_ends_all() {
        let (mut echoes, now) = (Echoes::default(), Instant::now());
        let users = |count: usize| (0..count).map(|number| Evict::User(number.to_string().into())).collect();
        echoes.add(users(MOST_ECHOES / 3), now);
        assert_eq!(echoes.due(now + SECOND).len(), MOST_ECHOES / 3);
        echoes.add(users(MOST_ECHOES / 3 + 1), now);
        assert!(echoes.due(now + SECOND * 5).contains(&Evict::All));
    }

    #[test]
    fn organizations_are_renewed_at_most_once_in_ten_seconds() {
        let (mut soft, now) = (Soft::default(), Instant::now());
        let of = |id: &str| Evict::Organization(id.into());
        let user = Evict::User("1".into());
        assert_eq!(soft.take(vec![of("1"), user.clone()], now), [user.clone(), of("1")]);
        assert_eq!(soft.take(vec![of("2"), of("2"), user.clone()], now + SECOND), [user]);
        assert_eq!(soft.take(vec![of("3")], now + SECOND * 10), [of("2"), of("3")]);
        for number in 0..=MOST_WAITING {
            assert_eq!(soft.take(vec![of(&number.to_string())], now + SECOND * 11), []);
        }
        assert_eq!(soft.take(Vec::new(), now + SECOND * 20), [Evict::All]);
    }
}
