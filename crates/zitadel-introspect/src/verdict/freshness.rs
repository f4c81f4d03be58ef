//! May this verdict answer? One table for all rules about the age of verdicts.

use std::time::{Duration, Instant};

use crate::{
    clock::Now,
    requirement::Ages,
    verdict::{Active, fed::Fed},
};

/// A request that has obtained a verdict does not judge the verdict's age again within this time.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// How long verdicts answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetimes {
    pub(crate) ttl: Duration,
    /// With an event feed, verdicts answer for so long after their question, at most.
    pub(crate) longest_hold: Duration,
    /// With an event feed, verdicts in use are renewed from this time without an event on.
    pub(crate) unfed_after: Duration,
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
    pub(crate) ages: Ages,
    pub(crate) obtained: Obtained,
    /// Read before the verdict was looked up.
    pub(crate) fed: Fed,
}

/// How long a verdict has been and will be there.
struct Age {
    /// Since the verdict was last known to be true.
    of_knowledge: Duration,
    /// Since the issuer was asked.
    of_question: Duration,
    /// When it lapses, in ages of knowledge and of the question.
    ends: (Duration, Duration),
    /// Events told that it was still true after the question.
    is_prolonged: bool,
}

/// How and when the request got the verdict.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Obtained {
    /// It was in the cache.
    FromCache,
    /// It was obtained for this very request, at the instant `at`. `is_evicted`: an eviction came later.
    Earlier { at: Instant, is_fresh: bool, is_evicted: bool },
}

impl Age {
    /// Whether the verdict has lapsed `longer` ago.
    fn is_over_for(&self, longer: Duration) -> bool {
        let ends = (self.ends.0.saturating_add(longer), self.ends.1.saturating_add(longer));
        self.of_knowledge >= ends.0 || self.of_question >= ends.1
    }
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
        let age = self.age(active, asker, now.instant);
        // A local verdict is nobody's word, but for what events say.
        let exceeds = |allowed: Option<Duration>, is_word: bool, age| {
            allowed.is_some_and(|allowed| !is_word || age > allowed)
        };
        let is_too_old =
            exceeds(asker.ages.fresh_within, !active.is_local || age.is_prolonged, age.of_knowledge)
                || exceeds(asker.ages.asked_within, !active.is_local, age.of_question);
        let lacks_word =
            active.is_local && self.confirm_within.is_some_and(|within| age.of_question >= within);
        let is_over = age.is_over_for(Duration::ZERO);
        let may_be_stale = !asker.ages.are_set() && !active.is_local && !age.is_over_for(self.stale_for);
        let soft_end = active.ends_softly_at();
        let nears_end = if active.is_local {
            self.confirm_within.is_some()
        } else {
            soft_end.is_some() || self.nears_end(active, &age)
        };
        if active.claims.has_expired(now) {
            Freshness::Expired
        } else if asker.obtained.is_evicted() {
            Freshness::Ask
        } else if asker.obtained.is_just_asked(now.instant) {
            Freshness::Serve
        } else if is_too_old {
            Freshness::Ask
        } else if asker.obtained.is_just_looked_up(now.instant) {
            Freshness::Serve
        } else if lacks_word || soft_end.is_some_and(|end| now.instant >= end) {
            Freshness::Ask
        } else if is_over {
            if may_be_stale { Freshness::ServeStale } else { Freshness::Ask }
        } else if nears_end {
            Freshness::ServeAndRenew
        } else {
            Freshness::Serve
        }
    }

    /// Whether the verdict can never answer again, for any requirement.
    pub(crate) fn is_over(&self, active: &Active, fed: Fed, now: Instant) -> bool {
        let asker = Asker { ages: Ages::default(), obtained: Obtained::FromCache, fed };
        self.age(active, asker, now).is_over_for(self.stale_for)
    }

    /// How long the verdict answers, if nothing is heard meanwhile.
    pub(crate) fn time_left(&self, active: &Active, asker: Asker, now: Instant) -> Duration {
        let age = self.age(active, asker, now);
        let left =
            age.ends.0.saturating_sub(age.of_knowledge).min(age.ends.1.saturating_sub(age.of_question));
        let soft = active.ends_softly_at().map(|end| end.saturating_duration_since(now));
        soft.map_or(left, |soft| soft.min(left))
    }

    /// The time since the verdict was last known to be true.
    pub(crate) fn verdict_age(&self, active: &Active, asker: Asker, now: Instant) -> Duration {
        self.age(active, asker, now).of_knowledge
    }

    /// All rules about the age of verdicts use this.
    fn age(&self, active: &Active, asker: Asker, now: Instant) -> Age {
        // An evicted verdict is not true any more: events do not prolong it.
        let as_of = if asker.obtained.is_evicted() { active.asked_at } else { active.as_of(asker.fed) };
        let is_prolonged = as_of > active.asked_at;
        Age {
            of_knowledge: now.saturating_duration_since(as_of),
            of_question: now.saturating_duration_since(active.asked_at),
            // Verdicts that one feed has prolonged would all lapse together.
            ends: if is_prolonged {
                (active.spread_end(self.ttl), active.spread_end(self.longest_hold))
            } else {
                (self.ttl, Duration::MAX)
            },
            is_prolonged,
        }
    }

    /// Whether a verdict in use is renewed before its end: where that is set, and where no event has been heard for a
    /// while, one after the other.
    fn nears_end(&self, active: &Active, age: &Age) -> bool {
        if !age.is_prolonged {
            return self.refresh_ahead.is_some_and(|ahead| age.of_knowledge + ahead >= age.ends.0);
        }
        let last = (self.ttl * 3 / 4).saturating_sub(self.unfed_after);
        age.of_knowledge >= self.unfed_after + active.share_of(last)
            || self.refresh_ahead.is_some_and(|ahead| age.of_question + ahead >= age.ends.1)
    }
}

impl Obtained {
    /// An eviction counts for a verdict that outlived its request, and where the requirement asks for an age.
    pub(crate) fn earlier(
        at: Instant,
        is_fresh: bool,
        now: Instant,
        ages: Ages,
        is_evicted: impl FnOnce() -> bool,
    ) -> Self {
        let earlier = Self::Earlier { at, is_fresh, is_evicted: false };
        if !ages.are_set() && earlier.is_just_looked_up(now) {
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
    use crate::{
        claims::Claims,
        clock::Clock,
        verdict::{Sent, cache::bounded::Keyer, fed::FedClock, ledger::Position},
    };

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

    fn active(asked_at: Instant, is_local: bool) -> Active {
        let document = json!({"active": true, "sub": "1"}).to_string();
        let claims = Claims::from_introspection(document, None).unwrap().unwrap();
        let (sent, key) = (Sent { at: asked_at, position: Position::default() }, Keyer::new().key(b"token"));
        if is_local {
            Active::verified_locally(claims, sent, &key)
        } else {
            Active::answered(claims, sent, &key, false)
        }
    }

    fn check(lifetimes: Lifetimes, rows: &[Row]) {
        let clock = Clock::default();
        for (number, row) in rows.iter().enumerate() {
            let now = clock.now();
            let asked_at = now.instant.checked_sub(Duration::from_secs(row.age)).expect("as above");
            let active = active(asked_at, row.is_local);
            let asker = Asker {
                ages: Ages { fresh_within: row.max_age.map(Duration::from_secs), asked_within: None },
                obtained: (row.obtained)(now.instant),
                fed: FedClock::new(asked_at).read(),
            };
            assert_eq!(lifetimes.judge(&active, asker, now), row.expected, "row {number}");
        }
    }

    fn plain() -> Lifetimes {
        let ttl = Duration::from_secs(TTL);
        Lifetimes {
            ttl,
            longest_hold: ttl * 60,
            unfed_after: ttl / 4,
            refresh_ahead: None,
            stale_for: Duration::ZERO,
            confirm_within: None,
        }
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
                rows(|now| earlier(0, true, false)(now), Some(0), Serve),
                rows(|now| earlier(0, true, true)(now), Some(0), Ask),
                rows(|now| earlier(1, true, false)(now), None, Serve),
                rows(|now| earlier(0, false, false)(now), None, Serve),
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
        let sent = Sent { at: now.instant, position: Position::default() };
        let active = Active::answered(claims, sent, &Keyer::new().key(b"token"), false);
        for fresh_within in [None, Some(Duration::ZERO)] {
            let ages = Ages { fresh_within, asked_within: None };
            let fed = FedClock::new(now.instant).read();
            let asker = Asker { ages, obtained: Obtained::FromCache, fed };
            assert_eq!(plain().judge(&active, asker, now), Expired);
        }
    }

    /// A verdict that was asked for at 0, and the seconds at which the feed was current.
    struct Scene {
        clock: FedClock,
        start: Instant,
        active: Active,
    }

    impl Scene {
        fn new(stretches: &[(u64, u64)], is_told: bool) -> Self {
            let start = Instant::now();
            let clock = FedClock::new(start.checked_sub(Duration::from_secs(9)).expect("as above"));
            for (from, until) in stretches {
                let before = start.checked_sub(Duration::from_secs(9)).expect("as above");
                clock.break_off(before);
                clock.advance(
                    start.checked_sub(Duration::from_secs(1)).expect("as above") + Duration::from_secs(*from),
                );
                clock.advance(start + Duration::from_secs(*until));
            }
            Self { clock, start, active: active(start, false).told_by_events(is_told) }
        }

        fn at(&self, seconds: u64, ages: Ages, is_evicted: bool) -> Freshness {
            let now = Clock::default().now().at(self.start + Duration::from_secs(seconds));
            let obtained = if is_evicted {
                Obtained::Earlier { at: self.start, is_fresh: false, is_evicted }
            } else {
                Obtained::FromCache
            };
            plain().judge(&self.active, Asker { ages, obtained, fed: self.clock.read() }, now)
        }
    }

    fn within(fresh: Option<u64>, asked: Option<u64>) -> Ages {
        Ages { fresh_within: fresh.map(Duration::from_secs), asked_within: asked.map(Duration::from_secs) }
    }

    #[test]
    fn with_a_feed_age_counts_from_the_newest_event_that_is_known() {
        let any = Ages::default();
        let fed = Scene::new(&[(0, 1000)], true);
        assert_eq!(fed.at(1001, any, false), Serve);
        assert_eq!(fed.at(1014, any, false), Serve);
        assert_eq!(fed.at(1045, any, false), ServeAndRenew, "nothing was heard for a while");
        assert_eq!(fed.at(1060, any, false), Ask, "all have lapsed");
        let lapses = fed.active.spread_end(Duration::from_secs(TTL)).as_secs();
        assert!((45..60).contains(&lapses));
        assert_eq!(fed.at(1000 + lapses, any, false), ServeAndRenew);
        assert_eq!(fed.at(1000 + lapses + 1, any, false), Ask, "each one at another moment");
        // What is asked for.
        assert_eq!(fed.at(1002, within(Some(2), None), false), Serve);
        assert_eq!(fed.at(1003, within(Some(2), None), false), Ask);
        assert_eq!(fed.at(1002, within(None, Some(1001)), false), Ask);
        assert_eq!(fed.at(1002, within(None, Some(1002)), false), Serve);
        assert_eq!(fed.at(1002, any, true), Ask, "an eviction matched");
        assert_eq!(fed.at(1001, within(Some(60), None), true), Ask, "events do not prolong what is evicted");
        let held = Scene::new(&[(0, 3600)], true);
        let lapses = held.active.spread_end(Duration::from_secs(3600)).as_secs();
        assert!((2700..3600).contains(&lapses));
        assert_eq!(held.at(3600, any, false), Ask, "the longest hold");
    }

    #[test]
    fn with_a_feed_verdicts_are_renewed_ahead_of_the_longest_hold_alone() {
        let fed = Scene::new(&[(0, 3600)], true);
        let lifetimes = Lifetimes { refresh_ahead: Some(Duration::from_secs(50)), ..plain() };
        let end = fed.active.spread_end(lifetimes.longest_hold);
        let judged = |at: Duration| {
            let now = Clock::default().now().at(fed.start + at);
            let clock = FedClock::new(fed.start.checked_sub(Duration::from_secs(9)).expect("as above"));
            clock.advance(fed.start);
            clock.advance(fed.start + at);
            let asker = Asker { ages: Ages::default(), obtained: Obtained::FromCache, fed: clock.read() };
            lifetimes.judge(&fed.active, asker, now)
        };
        let second = Duration::from_secs(1);
        assert_eq!(judged(second), Serve);
        assert_eq!(judged(end.saturating_sub(second * 52)), Serve);
        assert_eq!(judged(end.saturating_sub(second * 49)), ServeAndRenew);
    }

    #[test]
    fn events_prolong_neither_what_they_do_not_tell_nor_what_is_older_than_them() {
        let any = Ages::default();
        for (fed, until) in [
            (Scene::new(&[(0, 1000)], false), 60),
            // Asked before the stretch began; a stretch that broke; no stretch at all.
            (Scene::new(&[(2, 1000)], true), 60),
            (Scene::new(&[(0, 20), (30, 1000)], true), 60),
            (Scene::new(&[], true), 60),
        ] {
            assert_eq!(fed.at(until - 1, any, false), Serve);
            assert_eq!(fed.at(until, any, false), Ask);
        }
    }

    #[test]
    fn a_soft_end_renews_until_it_is_there() {
        let fed = Scene::new(&[(0, 1000)], true);
        fed.active.end_softly(fed.start + Duration::from_secs(1004));
        assert_eq!(fed.at(1003, Ages::default(), false), ServeAndRenew);
        assert_eq!(fed.at(1004, Ages::default(), false), Ask);
    }
}
