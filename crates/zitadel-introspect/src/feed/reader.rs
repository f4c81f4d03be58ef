//! Reads one filtered stretch of the issuer's events, in order and without gaps.
//!
//! A state machine without input and output. Events become visible out of order, by a few milliseconds: each round reads
//! from some seconds before the newest event that is known, and skips what was seen.

use std::collections::{HashSet, VecDeque};

use crate::{
    error::feed::FeedError,
    events::event::{Event, Micros},
    verdict::cache::bounded::{Key, Keyer},
};

/// Each round reads from so much before the newest event: twice the time-out of a search.
const OVERLAP: i64 = 4_000_000;
/// A deep round reads from so much before it.
const DEEP: i64 = 600_000_000;
/// The most events of one page; ZITADEL gives no more.
pub(crate) const MOST_PER_PAGE: usize = 1000;
/// So many pushes that were stepped over are remembered.
const MOST_STEPPED_OVER: usize = 64;
/// So many events are remembered as seen: about 10 MiB.
const MOST_SEEN: usize = 200_000;

/// What to ask next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// Only events after this; `None`: the newest event alone.
    pub(crate) since: Option<Micros>,
    /// Only events before this.
    pub(crate) until: Option<Micros>,
    pub(crate) limit: usize,
}

/// What a page meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this as well.
    More(Query),
    /// The round is complete.
    Complete,
}

/// Why a round cannot be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The newest event that is known is not there any more: another history.
    OtherHistory,
    /// The instance has no event of these types.
    NoEvents,
}

impl From<Broken> for FeedError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::OtherHistory => Self::OtherHistory,
            Broken::NoEvents => Self::NoEvents,
        }
    }
}

/// What a page brought.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    /// The events that were not seen before, in order.
    pub(crate) events: Vec<(Micros, Event)>,
    /// How many of them lay further back than the overlap: rounds that are not deep would have missed them.
    pub(crate) late: usize,
    /// When one push had more events than can be read: anything may have ended.
    pub(crate) lost_at: Option<Micros>,
    /// More events than can be remembered: those that come late may have been missed.
    pub(crate) has_forgotten: bool,
}

pub(crate) struct Reader {
    keyer: Keyer,
    newest: Option<(Micros, Key)>,
    /// From where on everything is read. What is older was there before the start.
    from: Option<Micros>,
    /// In the order in which they were read.
    seen: VecDeque<(Micros, Key)>,
    keys: HashSet<Key>,
    /// The newest pushes with more events than can be read.
    stepped_over: VecDeque<Micros>,
    round: Round,
    limit: usize,
}

struct Round {
    since: Option<Micros>,
    /// The newest event when the round began.
    anchor: Option<(Micros, Key)>,
    has_anchor: bool,
    /// A new event that is older than this has come late.
    late_before: Option<Micros>,
    /// The largest page that may still be asked for: larger ones had too many bytes.
    most: usize,
}

impl Round {
    fn of(since: Option<Micros>, anchor: Option<(Micros, Key)>, late_before: Option<Micros>) -> Self {
        Self { since, anchor, has_anchor: false, late_before, most: MOST_PER_PAGE }
    }
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            keyer: Keyer::new(),
            newest: None,
            from: None,
            seen: VecDeque::new(),
            keys: HashSet::new(),
            stepped_over: VecDeque::new(),
            round: Round::of(None, None, None),
            limit: MOST_PER_PAGE,
        }
    }

    /// The time of the newest event that is known.
    pub(crate) fn newest(&self) -> Option<Micros> {
        self.newest.map(|(created, _)| created)
    }

    /// From where on everything is read.
    pub(crate) fn from(&self) -> Option<Micros> {
        self.from
    }

    /// Begins a round. `is_deep`: reads further back, for what became visible very late.
    pub(crate) fn begin(&mut self, is_deep: bool) -> Query {
        let back = if is_deep { DEEP } else { OVERLAP };
        let since = self.newest.map(|(newest, _)| newest.before(back)).max(self.from);
        let late_before = self.newest.map(|(newest, _)| newest.before(OVERLAP));
        self.round = Round::of(since, self.newest, late_before);
        self.query()
    }

    /// A page had too many bytes: this round asks for smaller ones. `None` if there is no smaller one.
    pub(crate) fn ask_for_less(&mut self) -> Option<Query> {
        if self.limit == 1 {
            return None;
        }
        self.limit = (self.limit / 10).max(1);
        self.round.most = self.limit;
        Some(self.query())
    }

    /// A page did not come in time: the next round begins with smaller ones, of 100 events at the least.
    pub(crate) fn has_timed_out(&mut self) {
        self.limit = self.limit.min(MOST_PER_PAGE / 10);
    }

    /// Takes the answer to the last query.
    pub(crate) fn page(&mut self, page: Vec<(Micros, Event)>, brought: &mut Brought) -> Result<Step, Broken> {
        let is_full = page.len() >= self.query().limit;
        let Some(last) = page.iter().map(|(created, _)| *created).max() else {
            return self.end();
        };
        if self.newest.is_none() {
            // The newest event is known now: read from shortly before it on, and the event itself as well.
            let newest = page.into_iter().max_by_key(|(created, _)| *created);
            self.newest = newest.map(|(created, event)| (created, self.key(created, &event)));
            self.from = Some(last.before(OVERLAP));
            return Ok(Step::More(self.begin(false)));
        }
        for (created, event) in page {
            let key = self.key(created, &event);
            self.round.has_anchor |= self.round.anchor == Some((created, key));
            if !self.keys.insert(key) {
                continue;
            }
            self.seen.push_back((created, key));
            if self.newest.is_none_or(|(newest, _)| newest < created) {
                self.newest = Some((created, key));
            }
            brought.late += usize::from(self.round.late_before.is_some_and(|before| created < before));
            brought.events.push((created, event));
        }
        brought.has_forgotten |= self.forget();
        if !is_full {
            return self.end();
        }
        // Pages come in order: the anchor would have been among them.
        if !self.round.has_anchor && self.round.anchor.is_some_and(|(at, _)| at < last) {
            self.newest = self.round.anchor;
            return Err(Broken::OtherHistory);
        }
        // All events of one push have one time: the rest of the last push would be lost behind it.
        let next = last.before(1);
        if self.round.since.is_none_or(|since| since < next) {
            self.round.since = Some(next);
        } else if self.limit < self.round.most {
            // One push fills the page: a larger page may hold the whole push.
            self.limit = self.round.most;
        } else {
            if !self.stepped_over.contains(&last) {
                brought.lost_at = Some(last);
                self.stepped_over.push_back(last);
            }
            if self.stepped_over.len() > MOST_STEPPED_OVER {
                self.stepped_over.pop_front();
            }
            self.round.since = Some(last);
        }
        Ok(Step::More(self.query()))
    }

    fn query(&self) -> Query {
        Query {
            since: self.round.since,
            until: None,
            limit: if self.round.since.is_some() { self.limit } else { 1 },
        }
    }

    fn end(&mut self) -> Result<Step, Broken> {
        if self.newest.is_none() {
            return Err(Broken::NoEvents);
        }
        if self.round.anchor.is_some() && !self.round.has_anchor {
            // What this round has brought belongs to another history: the next round looks for the same event.
            self.newest = self.round.anchor;
            return Err(Broken::OtherHistory);
        }
        self.limit = (self.limit * 10).min(MOST_PER_PAGE);
        Ok(Step::Complete)
    }

    /// Forgets what no later round asks for. True if it had to forget more.
    fn forget(&mut self) -> bool {
        let Some((newest, _)) = self.newest else { return false };
        let oldest = newest.before(DEEP + OVERLAP);
        let mut has_forgotten = false;
        while let Some((created, key)) = self.seen.front().copied() {
            let is_over = self.seen.len() > MOST_SEEN;
            if created >= oldest && !is_over {
                break;
            }
            has_forgotten |= is_over && created >= newest.before(OVERLAP);
            self.seen.pop_front();
            self.keys.remove(&key);
        }
        has_forgotten
    }

    /// After a failover a sequence may come again for another event: time and type belong to an event's identity.
    fn key(&self, created: Micros, event: &Event) -> Key {
        let parts = [&event.aggregate, &event.id, &event.sequence, &event.kind];
        let text = parts.iter().fold(created.0.to_string(), |text, part| format!("{text}\0{part}"));
        self.keyer.key(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An issuer's events: created, visible from, name.
    #[derive(Debug, Clone, Default)]
    struct History(Vec<(i64, i64, String)>);

    impl History {
        fn answer(&self, query: &Query, now: i64) -> Vec<(Micros, Event)> {
            let mut visible: Vec<_> =
                self.0.iter().filter(|(created, from, _)| *from <= now && *created <= now).collect();
            visible.sort_by_key(|(created, ..)| *created);
            let event = |(created, _, name): &&(i64, i64, String)| {
                (Micros(*created), Event { id: name.clone(), ..Event::default() })
            };
            match query.since {
                None => visible.last().iter().map(|found| event(found)).collect(),
                Some(since) => visible
                    .iter()
                    .filter(|(created, ..)| *created > since.0)
                    .take(query.limit)
                    .map(event)
                    .collect(),
            }
        }
    }

    fn round(reader: &mut Reader, history: &History, now: i64, is_deep: bool) -> Result<Brought, Broken> {
        let mut brought = Brought::default();
        let mut query = reader.begin(is_deep);
        loop {
            match reader.page(history.answer(&query, now), &mut brought)? {
                Step::Complete => return Ok(brought),
                Step::More(next) => query = next,
            }
        }
    }

    fn names(brought: &Brought) -> Vec<&str> {
        brought.events.iter().map(|(_, event)| event.id.as_str()).collect()
    }

    const START: i64 = 1_000_000_000_000;

    fn history(events: &[(i64, i64)]) -> History {
        let named = |(number, (created, late)): (usize, &(i64, i64))| {
            (START + created, START + created + late, format!("e{number}"))
        };
        History(events.iter().enumerate().map(named).collect())
    }

    #[test]
    fn events_come_once_in_order_and_stragglers_too() {
        let history = history(&[(0, 0), (10, 0), (20, 3_000), (25, 0), (30, 0)]);
        let mut reader = Reader::new();
        let first = round(&mut reader, &history, START + 12, false).unwrap();
        assert_eq!(
            names(&first),
            ["e0", "e1"],
            "what was there shortly before the start ends verdicts once more"
        );
        let second = round(&mut reader, &history, START + 26, false).unwrap();
        assert_eq!(names(&second), ["e3"]);
        let third = round(&mut reader, &history, START + 5_000, false).unwrap();
        assert_eq!(names(&third), ["e2", "e4"], "one that became visible late");
        assert!(names(&round(&mut reader, &history, START + 6_000, false).unwrap()).is_empty());
    }

    #[test]
    fn what_is_later_than_the_overlap_comes_with_a_deep_round() {
        let history = history(&[(0, 0), (1, OVERLAP * 3), (OVERLAP * 2, 0)]);
        let mut reader = Reader::new();
        for (now, is_deep, expected) in [
            (0, false, &["e0"][..]),
            (OVERLAP * 2, false, &["e2"]),
            (OVERLAP * 4, false, &[]),
            (OVERLAP * 4, true, &["e1"]),
        ] {
            let brought = round(&mut reader, &history, START + now, is_deep).unwrap();
            assert_eq!(
                (names(&brought).as_slice(), brought.late),
                (expected, usize::from(expected == ["e1"]))
            );
        }
    }

    #[test]
    fn a_history_without_the_newest_known_event_is_another_one() {
        let mut reader = Reader::new();
        assert_eq!(round(&mut reader, &History::default(), START, false).unwrap_err(), Broken::NoEvents);
        let before = history(&[(0, 0), (10, 0)]);
        round(&mut reader, &before, START + 10, false).unwrap();
        let restored = history(&[(0, 0), (11, 0)]);
        assert_eq!(round(&mut reader, &restored, START + 20, false).unwrap_err(), Broken::OtherHistory);
        assert_eq!(round(&mut reader, &History::default(), START, false).unwrap_err(), Broken::OtherHistory);
        // Back again: a failed poll, nothing more.
        assert!(round(&mut reader, &before, START + 20, false).is_ok());
    }

    #[test]
    fn pages_end_within_a_push_and_nothing_is_lost() {
        // A push of 600 events ends in the middle of the second page.
        let mut events = vec![(0, 0)];
        events.extend((0..700).map(|number| (number + 1, 0)));
        events.extend((0..600).map(|_| (2_000, 0)));
        events.extend((0..900).map(|number| (3_000 + number, 0)));
        let history = history(&events);
        let mut reader = Reader::new();
        round(&mut reader, &history, START, false).unwrap();
        let brought = round(&mut reader, &history, START + 10_000, false).unwrap();
        assert_eq!(brought.events.len(), 2_200);
        assert!(brought.lost_at.is_none() && !brought.has_forgotten);
    }

    #[test]
    fn a_push_that_is_larger_than_a_page_is_told_once_and_stepped_over() {
        for (size, is_lost) in [(MOST_PER_PAGE - 1, false), (MOST_PER_PAGE + 100, true)] {
            let mut events = vec![(0, 0)];
            events.extend((0..size).map(|_| (50, 0)));
            events.push((60, 0));
            let history = history(&events);
            let mut reader = Reader::new();
            round(&mut reader, &history, START, false).unwrap();
            let brought = round(&mut reader, &history, START + 100, false).unwrap();
            assert_eq!(brought.lost_at.is_some(), is_lost, "{size}");
            assert_eq!(brought.events.last().unwrap().1.id, format!("e{}", size + 1), "what follows is read");
            let again = round(&mut reader, &history, START + 200, false).unwrap();
            assert!(again.lost_at.is_none() && again.events.is_empty(), "{size}");
        }
    }

    #[test]
    fn several_pushes_that_are_larger_than_a_page_are_told_once_each() {
        let mut events = vec![(0, 0)];
        for push in [50, 60, 70] {
            events.extend((0..MOST_PER_PAGE + 10).map(|_| (push, 0)));
        }
        events.push((80, 0));
        let history = history(&events);
        let mut reader = Reader::new();
        round(&mut reader, &history, START, false).unwrap();
        assert!(round(&mut reader, &history, START + 100, false).unwrap().lost_at.is_some());
        for is_deep in [false, true] {
            let again = round(&mut reader, &history, START + 200, is_deep).unwrap();
            assert!(again.lost_at.is_none() && again.events.is_empty());
        }
    }

    #[test]
    fn smaller_pages_read_the_same() {
        let mut events = vec![(0, 0)];
        events.extend((0..250).map(|number| (number + 1, 0)));
        let history = history(&events);
        let mut reader = Reader::new();
        round(&mut reader, &history, START, false).unwrap();
        let mut brought = Brought::default();
        reader.begin(false);
        let mut query = reader.ask_for_less().unwrap();
        assert_eq!(query.limit, 100);
        while let Step::More(next) = reader.page(history.answer(&query, START + 1_000), &mut brought).unwrap()
        {
            query = next;
        }
        assert_eq!(brought.events.len(), 250);
        let mut limits = Vec::new();
        reader.begin(false);
        while let Some(query) = reader.ask_for_less() {
            limits.push(query.limit);
        }
        assert_eq!(limits, [100, 10, 1]);
    }

    #[test]
    fn after_a_time_out_a_push_larger_than_the_smaller_page_is_read_whole() {
        let mut events = vec![(0, 0)];
        events.extend((0..150).map(|_| (50, 0)));
        let history = history(&events);
        let mut reader = Reader::new();
        round(&mut reader, &history, START, false).unwrap();
        reader.has_timed_out();
        assert_eq!(reader.begin(false).limit, 100);
        let brought = round(&mut reader, &history, START + 100, false).unwrap();
        assert_eq!((brought.events.len(), brought.lost_at), (150, None));
    }

    #[test]
    fn a_push_with_more_bytes_than_can_be_read_is_told_once_and_stepped_over() {
        let mut events = vec![(0, 0)];
        events.extend((0..150).map(|_| (50, 0)));
        events.push((60, 0));
        let history = history(&events);
        let mut reader = Reader::new();
        round(&mut reader, &history, START, false).unwrap();
        let mut losses = 0;
        for _ in 0..2 {
            let (mut brought, mut query, mut questions) = (Brought::default(), reader.begin(false), 0);
            loop {
                questions += 1;
                assert!(questions < 10, "the round ends");
                if query.limit > 100 {
                    query = reader.ask_for_less().unwrap(); // the page has too many bytes
                    continue;
                }
                match reader.page(history.answer(&query, START + 100), &mut brought).unwrap() {
                    Step::More(next) => query = next,
                    Step::Complete => break,
                }
            }
            losses += usize::from(brought.lost_at.is_some());
        }
        assert_eq!(losses, 1);
        assert_eq!(reader.newest(), Some(Micros(START + 60)), "what follows is read");
    }

    #[test]
    fn another_history_is_found_out_by_its_first_full_page() {
        let mut reader = Reader::new();
        let before = history(&[(0, 0)]);
        round(&mut reader, &before, START, false).unwrap();
        let mut events: Vec<_> = (0..3_000_i64).map(|number| (number + 1, 0)).collect();
        let other = history(&events);
        let mut brought = Brought::default();
        let query = reader.begin(false);
        let page = other.answer(&query, START + 10_000);
        assert_eq!(reader.page(page, &mut brought), Err(Broken::OtherHistory));
        // Back again, with as many events: nothing is wrong.
        events.insert(0, (0, 0));
        assert!(round(&mut reader, &history(&events), START + 10_000, false).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_told_when_it_is_too_small() {
        let mut reader = Reader::new();
        let mut brought = Brought::default();
        reader.begin(false);
        let event =
            |number: i64| (Micros(START + number), Event { id: number.to_string(), ..Event::default() });
        reader.page(vec![event(0)], &mut brought).unwrap();
        for page in 0..202 {
            reader.page((0..1000).map(|number| event(page * 1000 + number)).collect(), &mut brought).unwrap();
        }
        assert!(reader.seen.len() <= MOST_SEEN && reader.keys.len() <= MOST_SEEN);
        assert!(brought.has_forgotten);
        // Old events are forgotten without a word.
        let (mut reader, mut brought) = (Reader::new(), Brought::default());
        reader.begin(false);
        reader.page(vec![event(0)], &mut brought).unwrap();
        reader.page(vec![event(0), event(DEEP + OVERLAP + 1)], &mut brought).unwrap();
        assert_eq!((reader.seen.len(), brought.has_forgotten), (1, false));
    }

    proptest! {
        /// Events whose visibility is late by less than the overlap are read, each once, whenever the rounds come.
        #[test]
        fn no_event_is_lost_or_comes_twice(
            steps in proptest::collection::vec((0..2_000_000_i64, 0..3_900_000_i64), 1..60),
            rounds in proptest::collection::vec((1..3_000_000_i64, any::<bool>()), 1..40),
        ) {
            let mut created = 0;
            let mut events = vec![(0, 0)];
            for (step, late) in steps {
                created += step;
                events.push((created, late));
            }
            let history = history(&events);
            let mut reader = Reader::new();
            let mut now = START;
            round(&mut reader, &history, now, false).unwrap();
            let seen_at_start = history.0.iter().filter(|(_, from, _)| *from <= START).count();
            let mut read = Vec::new();
            for (step, is_deep) in rounds.into_iter().chain([(created + 10_000_000, false)]) {
                now += step;
                let brought = round(&mut reader, &history, now, is_deep).unwrap();
                read.extend(brought.events.into_iter().map(|(_, event)| event.id));
            }
            let visible = history.0.iter().filter(|(_, from, _)| *from <= now).count();
            let unique: HashSet<_> = read.iter().collect();
            prop_assert_eq!(unique.len(), read.len());
            prop_assert!(read.len() + seen_at_start >= visible, "{} of {}", read.len() + seen_at_start, visible);
        }
    }
}
