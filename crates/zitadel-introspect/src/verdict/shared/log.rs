//! What an instance knows of the log that all instances share.
//!
//! A state machine without input and output: what the time is, and what a read has brought, the caller says.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    seal::{Name, Sealed, Seals, Unopened},
    store::{Id, Page, Place},
    verdict::{
        Active,
        cache::bounded::Key,
        ends::Ends,
        evict::Evict,
        shared::{
            item::{Hash, Item, decode, hash},
            outbox::Outbox,
        },
    },
};

/// An instance is blind after so long without a read to the end of the log.
const BLIND_AFTER: Duration = Duration::from_millis(700);
/// So many hashes are remembered: a heartbeat may be some entries older than what was read.
const MOST_HASHES: usize = 4096;

#[derive(Default)]
pub(crate) struct Log {
    /// Until where the log is read; `None` before the first read.
    pub(super) place: Option<Place>,
    /// The id of the entry there; `None` where it is not known.
    tail: Option<Id>,
    /// For the newest entries, the hash of the epoch and all ids up to them; the last one is that of `place`. Empty if
    /// it is not known.
    pub(super) hashes: VecDeque<Hash>,
    /// Where that is not known: the newest ids that were read since.
    pub(super) unhashed: VecDeque<Id>,
    /// The epoch whose history was changed: all verdicts are gone since, and a new epoch must begin.
    pub(super) broken: Option<Id>,
    /// What lies before that entry is not known.
    pub(super) low: u64,
    /// What was evicted, by the number of the entry.
    ends: Ends,
    /// When the last read was sent that came to the end, and whose evictions are done.
    caught_up_at: Option<Instant>,
    /// Why the newest entry could not be opened.
    pub(super) unopened: Option<Unopened>,
    /// The newest heartbeat that counted.
    pub(super) heard: Option<Heard>,
    /// The counter of the newest heartbeat of this epoch, whether it counted or not.
    pub(super) counter: u64,
    /// What we publish.
    pub(crate) outbox: Outbox,
}

/// A heartbeat that counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) from: u64,
    pub(super) since: i64,
    pub(super) cursor: i64,
}

/// What a read has brought.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    /// What other instances have published, to be applied now.
    pub(crate) items: Vec<Item>,
    /// The end of the log is reached.
    pub(crate) is_end: bool,
    /// What was known of the log does not count any more: every verdict must go.
    pub(crate) starts_anew: bool,
    /// Nobody may rely on this history: a new epoch must begin.
    pub(crate) is_broken: bool,
    /// Something could not be opened.
    pub(crate) unopened: Option<Unopened>,
}

impl Log {
    /// Until where the log is read. A question notes it before it is sent.
    pub(crate) fn place(&self) -> Place {
        self.place.unwrap_or_default()
    }

    /// The id of the entry there.
    pub(crate) fn tail(&self) -> Option<Id> {
        self.tail
    }

    /// Takes what a read has brought. `evicts` says what an item evicts here.
    pub(crate) fn read(
        &mut self,
        page: &Page,
        seals: &Seals,
        evicts: impl Fn(&Item) -> Vec<Evict>,
    ) -> Brought {
        let Some(place) = self.place.filter(|place| place.epoch == page.end.epoch) else {
            let starts_anew = self.place.is_some();
            self.begin(page.end.epoch);
            // The entries come with the next read: this one asked for another epoch.
            return Brought { starts_anew, ..Brought::default() };
        };
        let is_other_tail =
            page.end.number == place.number && self.tail.is_some_and(|tail| tail != page.tail);
        if self.broken.is_some() || page.end.number < place.number || is_other_tail {
            return self.broken(place.epoch);
        }
        let mut brought = Brought::default();
        for (index, entry) in page.entries.iter().enumerate() {
            let place = self.place();
            if entry.number > place.number + 1 && index == 0 {
                // The log keeps its newest entries only.
                self.skip_to(Place { number: entry.number - 1, ..place }, None);
                brought.starts_anew = true;
            } else if entry.number != place.number + 1 || self.tail.is_some_and(|tail| tail != entry.before) {
                return self.broken(place.epoch);
            }
            self.advance(entry.number, entry.id);
            match seals.open(Sealed::Entry(entry.id), &entry.sealed) {
                Ok(text) => {
                    self.unopened = None;
                    let items = decode(&text);
                    for what in items.iter().flat_map(&evicts) {
                        self.record(&what, number(entry.number));
                    }
                    if !self.outbox.has_read(&entry.id) {
                        brought.items.extend(items);
                    }
                }
                Err(problem) => {
                    // Anything may have been evicted.
                    self.low = entry.number;
                    self.unopened = Some(problem);
                    brought.unopened = Some(problem);
                }
            }
        }
        if page.entries.is_empty() && page.end.number > self.place().number {
            // The store has dropped the entries themselves.
            self.skip_to(page.end, Some(page.tail));
            brought.starts_anew = true;
        }
        brought.is_end = self.place().number >= page.end.number;
        brought
    }

    /// The end of the log was reached by a read that was sent then, and all that it has brought is done.
    pub(crate) fn caught_up(&mut self, sent: Instant) {
        self.caught_up_at = self.caught_up_at.max(Some(sent));
        self.outbox.look_after(sent);
    }

    /// Whether the log is not known well enough to rely on it.
    pub(crate) fn is_blind(&self, now: Instant) -> bool {
        self.unopened.is_some() || self.is_behind(now)
    }

    /// Why the newest entry could not be opened.
    pub(crate) fn unopened(&self) -> Option<Unopened> {
        self.unopened
    }

    /// Whether the end of the log was not reached for a while.
    pub(crate) fn is_behind(&self, now: Instant) -> bool {
        let is_old = |at: Instant| now.saturating_duration_since(at) > BLIND_AFTER;
        self.caught_up_at.is_none_or(is_old)
    }

    /// A verdict of another instance, which was asked for there, if it is still true as far as the log tells. `breaks` was
    /// read before.
    pub(crate) fn vouch(
        &self,
        active: Active,
        place: Place,
        key: &Key,
        breaks: u64,
        now: Instant,
    ) -> Option<Active> {
        let forgotten = self.ends.lost_until().is_some_and(|lost| number(place.number) < lost);
        let is_known = self.place.is_some_and(|own| own.epoch == place.epoch) && place.number >= self.low;
        if !is_known || forgotten || self.is_blind(now) {
            return None;
        }
        let is_match = |what: &Evict| what.may_concern(key, &active);
        if self.ends.any_behind(number(place.number), &active.claims, active.name(), is_match)
            || self.outbox.pending().any(|pending| pending.evicts.iter().any(is_match))
        {
            return None;
        }
        let is_within =
            active.is_told_by_events() && self.heard.is_some_and(|heard| place.number >= heard.from);
        Some(active.vouched_for(is_within.then_some(breaks)))
    }

    /// Whether a token of that name was evicted by name.
    pub(crate) fn has_ended(&self, name: &Name) -> bool {
        self.ends.has_name(name)
    }

    pub(crate) fn has_names(&self) -> bool {
        self.ends.has_names()
    }

    fn advance(&mut self, number: u64, id: Id) {
        if let Some(place) = &mut self.place {
            place.number = number;
        }
        self.tail = Some(id);
        match self.hashes.back() {
            Some(before) => self.hashes.push_back(hash(&[before, &id])),
            None => self.unhashed.push_back(id),
        }
        if self.hashes.len() > MOST_HASHES {
            self.hashes.pop_front();
        }
        if self.unhashed.len() > MOST_HASHES {
            self.unhashed.pop_front();
        }
    }

    fn record(&mut self, what: &Evict, at: i64) {
        let displaced = self.ends.record(what, at);
        // Entries are in no order of events: who was displaced once may come again, and is ended all the same.
        if let (Evict::Predecessors(newest), Some(before)) = (what, displaced) {
            self.ends.record(&Evict::TokenId(newest.clone()), before);
        }
    }

    /// Another epoch: nothing is known of it.
    fn begin(&mut self, epoch: Id) {
        let place = Place { epoch, number: 0 };
        self.skip_to(place, Some(epoch));
        self.hashes.push_back(hash(&[&epoch]));
        self.broken = None;
        self.outbox.publish_again();
    }

    fn skip_to(&mut self, place: Place, tail: Option<Id>) {
        (self.place, self.tail, self.low) = (Some(place), tail, place.number);
        self.hashes.clear();
        self.unhashed.clear();
        self.ends = Ends::default();
        (self.caught_up_at, self.heard, self.unopened, self.counter) = (None, None, None, 0);
    }

    /// The history was changed behind our back. Verdicts are evicted once, however long a new epoch takes to begin.
    fn broken(&mut self, epoch: Id) -> Brought {
        self.caught_up_at = None;
        let starts_anew = self.broken.replace(epoch) != Some(epoch);
        Brought { is_broken: true, starts_anew, ..Brought::default() }
    }
}

/// Faults that the model plants.
#[cfg(test)]
impl Log {
    /// Takes another history for the same one.
    pub(super) fn forget_chain(&mut self, page: &Page) {
        let is_other = self.place.is_some_and(|place| place.epoch != page.end.epoch);
        let is_back = self.place.is_some_and(|place| place.number > page.end.number);
        if is_other || is_back {
            self.place = Some(page.end);
            self.tail = None;
        }
        self.tail = None;
    }

    /// The same knowledge without what is not published yet.
    pub(super) fn without_pending(&self) -> Self {
        Self {
            place: self.place,
            low: self.low,
            ends: self.ends.clone(),
            caught_up_at: self.caught_up_at,
            heard: self.heard,
            ..Self::default()
        }
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        issuer::name::Issuer,
        seal::SharedSecrets,
        store::LogEntry,
        verdict::shared::{
            heartbeat::{OtherHistory, Poll, Stretch, Times},
            item::{Heartbeat, encode},
            outbox::Pending,
        },
    };

    const EPOCH: Id = [7; 16];

    fn seals() -> Seals {
        let secrets = SharedSecrets::from_text(&"a7".repeat(32)).unwrap();
        Seals::new(&secrets, &Issuer::parse("https://issuer.example").unwrap(), "api")
    }

    /// A store that shows whatever it likes.
    struct Shown {
        seals: Seals,
        entries: Vec<LogEntry>,
    }

    impl Shown {
        fn new() -> Self {
            Self { seals: seals(), entries: Vec::new() }
        }

        fn entry(&self, id: u8, what: &Evict) -> LogEntry {
            let (id, text) = ([id; 16], [b"[", &encode(&Item::evict(what.clone()))[..], b"]"].concat());
            let sealed = self.seals.seal(Sealed::Entry(id), &text).unwrap();
            LogEntry { number: 0, before: EPOCH, id, sealed }
        }

        /// Shows an entry as the next one.
        fn show(&mut self, entry: LogEntry) {
            let before = self.entries.last().map_or(EPOCH, |last| last.id);
            let number = self.entries.last().map_or(0, |last| last.number) + 1;
            self.entries.push(LogEntry { number, before, ..entry });
        }

        fn page(&self, behind: u64) -> Page {
            let last = self.entries.last();
            Page {
                end: Place { epoch: EPOCH, number: last.map_or(0, |last| last.number) },
                tail: last.map_or(EPOCH, |last| last.id),
                heartbeat: None,
                entries: self.entries.iter().filter(|entry| entry.number > behind).cloned().collect(),
                time: Duration::ZERO,
            }
        }

        fn read(&self, log: &mut Log) -> Brought {
            let evicts = |item: &Item| match item {
                Item::Evict { what, .. } => vec![what.clone()],
                _ => Vec::new(),
            };
            let mut brought = log.read(&self.page(log.place().number), &self.seals, evicts);
            if log.place().number == 0 {
                brought = log.read(&self.page(0), &self.seals, evicts);
            }
            brought
        }
    }

    fn poll() -> Poll {
        Poll { wall: Duration::ZERO, store: Duration::ZERO, cursor: 5_000_000, follows_claims: true }
    }

    fn beat(log: &Log) -> Heartbeat {
        log.compose(Some(Stretch { epoch: EPOCH, from: 0, since: 3 }), poll()).unwrap()
    }

    fn times() -> Times {
        Times { sent: Instant::now(), wall: Duration::ZERO, store: Duration::ZERO }
    }

    #[test]
    fn a_store_that_shows_one_thing_to_one_and_another_to_another_is_found_out() {
        let (mut to_leader, mut to_other) = (Shown::new(), Shown::new());
        let user = |name: &str| Evict::User(name.into());
        let (old, hidden) = (to_leader.entry(1, &user("1")), to_leader.entry(2, &user("2")));
        for shown in [&mut to_leader, &mut to_other] {
            shown.show(old.clone());
        }
        to_leader.show(hidden);
        // What opens, but was there before.
        to_other.show(old.clone());
        for _ in 0..3000 {
            to_leader.show(old.clone());
            to_other.show(old.clone());
        }
        let (mut leader, mut other) = (Log::default(), Log::default());
        assert!(to_leader.read(&mut leader).is_end && to_other.read(&mut other).is_end);
        assert_eq!(leader.hear(&beat(&leader), times(), true).map(|heard| heard.is_some()), Ok(true));
        assert_eq!(other.hear(&beat(&leader), times(), true), Err(OtherHistory));
        // Until there is a new epoch, all verdicts are evicted once.
        let brought = to_other.read(&mut other);
        assert!(brought.is_broken && !brought.starts_anew);
    }

    #[test]
    fn a_history_that_was_changed_ends_verdicts_once_however_long_it_stays() {
        let mut shown = Shown::new();
        shown.show(shown.entry(1, &Evict::Groups));
        shown.show(shown.entry(2, &Evict::Groups));
        let mut log = Log::default();
        assert!(shown.read(&mut log).is_end);
        shown.entries.pop();
        let [first, second] = [shown.read(&mut log), shown.read(&mut log)];
        assert!(first.is_broken && first.starts_anew);
        assert!(second.is_broken && !second.starts_anew);
    }

    #[test]
    fn who_has_not_read_the_beginning_knows_what_comes_after_the_first_heartbeat() {
        let mut shown = Shown::new();
        for id in 1..=5 {
            shown.show(shown.entry(id, &Evict::Groups));
        }
        let (mut leader, mut late) = (Log::default(), Log::default());
        shown.read(&mut leader);
        shown.entries.drain(..3);
        assert!(shown.read(&mut late).is_end);
        assert!(late.is_headless() && late.compose(None, poll()).is_none(), "it cannot tell anything");
        let too_old = Heartbeat { number: 2, ..beat(&leader) };
        assert_eq!(late.hear(&too_old, times(), true), Ok(None), "what came after it is not known");
        // Two more entries come after the heartbeat and before it is heard.
        let heartbeat = beat(&leader);
        for id in [6, 7] {
            shown.show(shown.entry(id, &Evict::Groups));
        }
        for log in [&mut leader, &mut late] {
            shown.read(log);
        }
        let known = late.hear(&heartbeat, times(), true).unwrap().unwrap();
        assert_eq!((known.since, late.stretch().unwrap().from), (5, 5), "not before it");
        assert!(!late.is_headless() && late.compose(None, poll()).is_some());
        leader.counter += 1;
        assert!(late.hear(&beat(&leader), times(), true).unwrap().is_some());
        assert_eq!(late.stretch().unwrap().from, 5);
    }

    #[test]
    fn a_heartbeat_from_before_an_entry_that_does_not_open_tells_nothing() {
        let mut shown = Shown::new();
        shown.show(shown.entry(1, &Evict::Groups));
        let (mut leader, mut log) = (Log::default(), Log::default());
        shown.read(&mut leader);
        let old = beat(&leader);
        shown.show(shown.entry(2, &Evict::Groups));
        shown.read(&mut leader);
        *shown.entries[1].sealed.last_mut().unwrap() ^= 1;
        assert!(shown.read(&mut log).unopened.is_some());
        log.caught_up(Instant::now());
        assert!(log.is_blind(Instant::now()) && !log.is_behind(Instant::now()));
        assert_eq!(log.hear(&old, times(), true), Ok(None));
        leader.counter += 1;
        let known = log.hear(&beat(&leader), times(), true).unwrap().unwrap();
        assert!(!log.is_blind(Instant::now()));
        assert_eq!((known.since, log.stretch().unwrap().from), (5, 2), "not before that entry");
    }

    #[test]
    fn a_heartbeat_counts_once_and_only_if_it_tells_enough() {
        let mut shown = Shown::new();
        shown.show(shown.entry(1, &Evict::Groups));
        let mut log = Log::default();
        shown.read(&mut log);
        let own = beat(&log);
        let without_claims = Heartbeat { follows_claims: false, ..own.clone() };
        assert_eq!(log.hear(&without_claims, times(), true), Ok(None));
        let next = Heartbeat { counter: own.counter + 1, ..own.clone() };
        let sent = Instant::now();
        let times = |wall: u64, store: u64| Times {
            sent,
            wall: Duration::from_secs(wall),
            store: Duration::from_secs(store),
        };
        // The older one of two clocks counts.
        let known = log.hear(&next, times(3, 5), true).unwrap().unwrap();
        assert_eq!(sent - known.until, Duration::from_secs(5));
        assert_eq!(log.hear(&next, times(0, 0), true), Ok(None), "a second time");
        let last = Heartbeat { counter: next.counter + 1, ..next };
        assert_eq!(sent - log.hear(&last, times(7, 0), true).unwrap().unwrap().until, Duration::from_secs(7));
    }

    #[test]
    fn a_replaced_token_that_comes_again_late_is_ended_all_the_same() {
        let mut shown = Shown::new();
        let newest = |token: &str| Evict::Predecessors(format!("V2_1-at_{token}").as_str().into());
        for (id, token) in [(1, "2"), (2, "3"), (3, "2")] {
            shown.show(shown.entry(id, &newest(token)));
        }
        let mut log = Log::default();
        shown.read(&mut log);
        log.caught_up(Instant::now());
        let vouches = |token: &str, number: u64| {
            let document = serde_json::json!({"active": true, "sub": "1", "jti": format!("V2_1-at_{token}")});
            let claims =
                crate::claims::Claims::from_introspection(document.to_string(), None).unwrap().unwrap();
            let key = crate::verdict::cache::bounded::Keyer::new().key(b"token");
            let sent = crate::verdict::Sent {
                at: Instant::now(),
                position: crate::verdict::ledger::Position::default(),
            };
            let active = Active::answered(claims, sent, &key, false);
            log.vouch(active, Place { epoch: EPOCH, number }, &key, 0, Instant::now()).is_some()
        };
        assert!(!vouches("2", 1), "the third one replaced it");
        assert!(!vouches("3", 2), "it may be older than what was told last");
        assert!(vouches("3", 3) && vouches("2", 3), "asked about since");
    }

    #[test]
    fn what_we_publish_is_bounded_in_bytes_and_in_number() {
        let user = |name: String| {
            let what = Evict::User(name.as_str().into());
            Pending {
                item: Item::Evict { what: what.clone(), is_soft: false, at: Some(7) },
                evicts: vec![what],
            }
        };
        let (mut log, now, seals) = (Log::default(), Instant::now(), seals());
        log.outbox.publish((0..2000).map(|number| user(format!("{number:0100}"))));
        let (mut entries, mut items) = (0, 0);
        while let Some(text) = log.outbox.next_entry([entries; 16], now) {
            items += decode(&text).len();
            assert!(text.len() <= 16 * 1024 + 200 && seals.seal(Sealed::Heartbeat, &text).is_some());
            entries += 1;
        }
        assert_eq!(items, 2000);
        assert!(!decode(b"").is_empty() && !log.outbox.has_published_all());
        // One that is too large, and too many of them.
        for too_much in [vec![user("x".repeat(70_000))], (0..10_001).map(|n| user(n.to_string())).collect()] {
            let mut log = Log::default();
            log.outbox.publish(too_much);
            let text = log.outbox.next_entry([1; 16], now).unwrap();
            assert_eq!(decode(&text), [Item::Evict { what: Evict::All, is_soft: false, at: Some(7) }]);
        }
        let mut log = Log::default();
        log.outbox.publish((0..10_000).map(|n| user(n.to_string())));
        assert_eq!(log.outbox.waiting(), 10_000);
        // One that is large comes by itself, as it is.
        let (mut log, large) = (Log::default(), user("x".repeat(60_000)));
        log.outbox.publish([user("1".to_owned()), large.clone(), user("2".to_owned())]);
        let texts: Vec<_> = std::iter::from_fn(|| log.outbox.next_entry([1; 16], now)).collect();
        assert_eq!(texts.iter().map(|text| decode(text).len()).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(decode(&texts[1]), [large.item]);
        assert!(texts.iter().all(|text| seals.seal(Sealed::Heartbeat, text).is_some()));
    }

    #[test]
    fn an_entry_that_is_lost_is_published_again() {
        let mut log = Log::default();
        let now = Instant::now();
        let number = log.outbox.publish([Pending { item: Item::Nothing, evicts: Vec::new() }]);
        let first = log.outbox.next_entry([1; 16], now).unwrap();
        log.outbox.failed(&[1; 16]);
        assert_eq!(log.outbox.next_entry([2; 16], now), Some(first.clone()));
        // It was acknowledged, but never comes.
        log.caught_up(now + Duration::from_secs(1));
        assert_eq!(log.outbox.next_entry([3; 16], now), None);
        assert!(!log.outbox.has_published(number));
        log.caught_up(now + Duration::from_secs(3));
        assert_eq!(log.outbox.next_entry([4; 16], now), Some(first));
        assert!(log.outbox.has_read(&[4; 16]) && log.outbox.has_published(number));
    }

    #[test]
    fn what_was_published_later_says_nothing_of_what_came_before() {
        let (mut log, now) = (Log::default(), Instant::now());
        let nothing = || Pending { item: Item::Nothing, evicts: Vec::new() };
        let first = log.outbox.publish([nothing()]);
        assert!(log.outbox.next_entry([1; 16], now).is_some());
        let second = log.outbox.publish([nothing()]);
        assert!(log.outbox.next_entry([2; 16], now).is_some());
        assert!(log.outbox.has_read(&[2; 16]));
        assert!(!log.outbox.has_published(first) && !log.outbox.has_published(second));
        assert_eq!(log.outbox.waits_for(now + Duration::from_secs(3)), Duration::from_secs(3));
        assert!(log.outbox.has_read(&[1; 16]));
        assert!(log.outbox.has_published(second) && log.outbox.waits_for(now).is_zero());
        // One that evicts all is none of those that it replaced, but the first.
        let before = log.outbox.publish([nothing()]);
        log.outbox.publish((0..10_000).map(|_| nothing()));
        assert_eq!((log.outbox.waiting(), log.outbox.has_published(before)), (1, false));
    }
}
