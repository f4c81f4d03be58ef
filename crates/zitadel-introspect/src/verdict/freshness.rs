//! May this verdict answer? One table for all rules about the age of verdicts.

use std::time::{Duration, Instant};

use crate::{clock::Now, verdict::Active};

/// A request that has obtained a verdict does not judge the verdict's age again within this time.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// How long verdicts answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetimes {
    pub(crate) ttl: Duration,
    /// Verdicts in use are renewed this long before their end.
    pub(crate) refresh_ahead: Option<Duration>,
    /// Verdicts past their end answer for this much longer while the issuer fails.
    pub(crate) stale_for: Duration,
    /// A locally verified JWT answers for this long without a confirmation by the issuer.
    pub(crate) confirm_within: Option<Duration>,
}

/// Whether a verdict may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    Serve,
    /// It answers, and is renewed in the background.
    ServeAndRenew,
    /// The issuer must be asked.
    Ask,
    /// The issuer must be asked; where it fails, the verdict answers.
    ServeStale,
    /// The token itself is past its end.
    Expired,
}

/// The conditions under which a verdict is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// From the requirement.
    pub(crate) max_age: Option<Duration>,
    pub(crate) obtained: Obtained,
}

/// How and when the request got the verdict.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Obtained {
    /// It was in the cache.
    FromCache,
    /// It was obtained for this very request, at the instant `at`. `is_evicted`: an eviction came later.
    Earlier { at: Instant, is_fresh: bool, is_evicted: bool },
}

impl Freshness {
    /// Whether the verdict answers without a question.
    pub(crate) fn serves(self) -> bool {
        matches!(self, Self::Serve | Self::ServeAndRenew)
    }
}

impl Lifetimes {
    /// The first row that fits decides. The page `docs/caching-and-revocation.md` shows the same table.
    pub(crate) fn judge(&self, active: &Active, asker: Asker, now: Now) -> Freshness {
        let age = active.age(now.instant);
        let max_age = asker.max_age;
        let is_too_old = max_age.is_some_and(|max_age| active.is_local || age > max_age);
        let lacks_word = active.is_local && self.confirm_within.is_some_and(|within| age >= within);
        let may_be_stale = max_age.is_none() && !active.is_local && age < self.ttl + self.stale_for;
        let nears_end = if active.is_local {
            self.confirm_within.is_some()
        } else {
            self.refresh_ahead.is_some_and(|ahead| age + ahead >= self.ttl)
        };
        if active.claims.has_expired(now) {
            Freshness::Expired
        } else if asker.obtained.is_just_asked(now.instant) {
            Freshness::Serve
        } else if is_too_old {
            Freshness::Ask
        } else if asker.obtained.is_just_looked_up(now.instant) {
            Freshness::Serve
        } else if asker.obtained.is_evicted() || lacks_word {
            Freshness::Ask
        } else if age >= self.ttl {
            if may_be_stale { Freshness::ServeStale } else { Freshness::Ask }
        } else if nears_end {
            Freshness::ServeAndRenew
        } else {
            Freshness::Serve
        }
    }

    /// Whether the verdict can never answer again, for any requirement.
    pub(crate) fn is_over(&self, active: &Active, now: Instant) -> bool {
        active.age(now) >= self.ttl + self.stale_for
    }
}

impl Obtained {
    /// An eviction counts only for a verdict that outlived its request.
    pub(crate) fn earlier(
        at: Instant,
        is_fresh: bool,
        now: Instant,
        is_evicted: impl FnOnce() -> bool,
    ) -> Self {
        let earlier = Self::Earlier { at, is_fresh, is_evicted: false };
        if earlier.is_just_looked_up(now) {
            return earlier;
        }
        Self::Earlier { at, is_fresh, is_evicted: is_evicted() }
    }

    /// The issuer was asked during this request: no answer is fresher.
    pub(crate) fn is_just_asked(self, now: Instant) -> bool {
        matches!(self, Self::Earlier { is_fresh: true, .. }) && self.is_just_looked_up(now)
    }

    fn is_just_looked_up(self, now: Instant) -> bool {
        match self {
            Self::Earlier { at, .. } => now.saturating_duration_since(at) <= SAME_REQUEST,
            Self::FromCache => false,
        }
    }

    fn is_evicted(self) -> bool {
        matches!(self, Self::Earlier { is_evicted: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{claims::Claims, clock::Clock};

    const TTL: u64 = 60;

    /// A row: the verdict's kind and age, what is asked, and what the table says.
    struct Row {
        is_local: bool,
        age: u64,
        max_age: Option<u64>,
        obtained: fn(Instant) -> Obtained,
        expected: Freshness,
    }

    fn cached(_: Instant) -> Obtained {
        Obtained::FromCache
    }

    fn earlier(seconds: u64, is_fresh: bool, is_evicted: bool) -> impl Fn(Instant) -> Obtained {
        move |now| {
            let at = now.checked_sub(Duration::from_secs(seconds)).expect("the machine runs for longer");
            Obtained::Earlier { at, is_fresh, is_evicted }
        }
    }

    fn check(lifetimes: Lifetimes, rows: &[Row]) {
        let clock = Clock::default();
        for (number, row) in rows.iter().enumerate() {
            let now = clock.now();
            let asked_at = now.instant.checked_sub(Duration::from_secs(row.age)).expect("as above");
            let document = json!({"active": true, "sub": "1"}).to_string();
            let claims = Claims::from_introspection(document, None).unwrap().unwrap();
            let active = if row.is_local {
                Active::verified_locally(claims, asked_at)
            } else {
                Active::answered(claims, asked_at, false)
            };
            let asker = Asker {
                max_age: row.max_age.map(Duration::from_secs),
                obtained: (row.obtained)(now.instant),
            };
            assert_eq!(lifetimes.judge(&active, asker, now), row.expected, "row {number}");
        }
    }

    fn plain() -> Lifetimes {
        let ttl = Duration::from_secs(TTL);
        Lifetimes { ttl, refresh_ahead: None, stale_for: Duration::ZERO, confirm_within: None }
    }

    fn row(is_local: bool, age: u64, max_age: Option<u64>, expected: Freshness) -> Row {
        Row { is_local, age, max_age, obtained: cached, expected }
    }

    use Freshness::{Ask, Expired, Serve, ServeAndRenew, ServeStale};

    #[test]
    fn age_and_what_is_asked_decide() {
        check(
            plain(),
            &[
                row(false, 0, None, Serve),
                row(false, 59, None, Serve),
                row(false, 60, None, Ask),
                row(false, 5, Some(5), Serve),
                row(false, 6, Some(5), Ask),
                row(false, 1, Some(0), Ask),
                row(false, 60, Some(90), Ask),
                row(true, 59, None, Serve),
                row(true, 60, None, Ask),
                row(true, 0, Some(50), Ask),
            ],
        );
    }

    #[test]
    fn verdicts_past_their_end_answer_while_the_issuer_fails_where_that_is_set() {
        check(
            Lifetimes { stale_for: Duration::from_secs(30), ..plain() },
            &[
                row(false, 59, None, Serve),
                row(false, 60, None, ServeStale),
                row(false, 89, None, ServeStale),
                row(false, 90, None, Ask),
                row(false, 60, Some(89), Ask),
                row(true, 60, None, Ask),
            ],
        );
    }

    #[test]
    fn verdicts_in_use_are_renewed_ahead_and_local_ones_confirmed() {
        check(
            Lifetimes { refresh_ahead: Some(Duration::from_secs(10)), ..plain() },
            &[row(false, 49, None, Serve), row(false, 50, None, ServeAndRenew), row(true, 50, None, Serve)],
        );
        check(
            Lifetimes { confirm_within: Some(Duration::from_secs(20)), ..plain() },
            &[
                row(true, 0, None, ServeAndRenew),
                row(true, 19, None, ServeAndRenew),
                row(true, 20, None, Ask),
            ],
        );
    }

    #[test]
    fn a_verdict_of_this_request_is_not_judged_twice_but_by_what_is_asked() {
        let rows = |obtained: fn(Instant) -> Obtained, max_age, expected| Row {
            is_local: false,
            age: 70,
            max_age,
            obtained,
            expected,
        };
        check(
            plain(),
            &[
                rows(|now| earlier(0, true, true)(now), Some(0), Serve),
                rows(|now| earlier(1, true, false)(now), None, Serve),
                rows(|now| earlier(0, false, true)(now), None, Serve),
                rows(|now| earlier(0, false, false)(now), Some(69), Ask),
                rows(|now| earlier(2, true, false)(now), None, Ask),
            ],
        );
        let young = |obtained: fn(Instant) -> Obtained, expected| Row {
            is_local: false,
            age: 5,
            max_age: None,
            obtained,
            expected,
        };
        check(
            plain(),
            &[
                young(|now| earlier(2, false, false)(now), Serve),
                young(|now| earlier(2, false, true)(now), Ask),
            ],
        );
    }

    #[test]
    fn a_token_past_its_own_end_is_expired_whatever_is_held() {
        let now = Clock::default().now();
        let document = json!({"active": true, "exp": now.wall()}).to_string();
        let claims = Claims::from_introspection(document, None).unwrap().unwrap();
        let active = Active::answered(claims, now.instant, false);
        for max_age in [None, Some(Duration::ZERO)] {
            let asker = Asker { max_age, obtained: Obtained::FromCache };
            assert_eq!(plain().judge(&active, asker, now), Expired);
        }
    }
}
