//! Random runs of two instances, a store and an issuer, over the very code of log, ledger, cache, clock and freshness:
//! questions, answers, revocations, reads, publications, polls and requests in any order, while the store is wiped, rolled
//! back, away or slow, instances crash, and clocks jump. Each fault that is planted must be found. (A store that shows different entries to different instances is
//! in the tests of `log.rs`.)

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use serde_json::json;

use crate::{
    claims::Claims,
    clock::Clock,
    issuer::name::Issuer,
    requirement::Ages,
    seal::{Name, Sealed, Seals, SharedSecrets},
    store::{Bid, Id, LogId, MemoryStore, Page, Place, SharedStore, memory::Snapshot},
    verdict::{
        Active, Sent,
        cache::{Cache, CacheSettings, bounded::Key},
        evict::Evict,
        fed::FedClock,
        freshness::{Asker, Lifetimes, Obtained},
        shared::{
            Peers, asked_at,
            heartbeat::{Poll, Stretch, Times},
            item::{Heartbeat, Item, SharedVerdict},
            log::Log,
            outbox::Pending,
        },
    },
};

const TOKENS: usize = 2;
const INSTANCES: usize = 2;
const TTL: Duration = Duration::from_secs(60);
/// The wall clocks when a run begins, in milliseconds since 1970.
const START: u64 = 1_800_000_000_000;
/// From the append of an eviction to its effect everywhere.
const BOUND: u64 = 1000;

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// A heartbeat counts as of its telling, not of its poll.
    ToldLate,
    /// A successor goes on in the stretch of its predecessor, and reads only what comes.
    NoGap,
    /// A stretch begins without an entry of its own.
    NoMark,
    /// A history that was changed is taken for the same one.
    NoChain,
    /// Only the store's clock says how old a heartbeat is.
    StoreTime,
    /// An instance knows the log as of the answer, not of the question.
    CaughtUpLate,
    /// The position of a question is noted when its answer comes.
    SentLate,
    /// A verdict is held whatever was evicted meanwhile.
    NoFence,
    /// A shared verdict is compared with evictions when it is found, and not when it is held.
    KeptUnchecked,
    /// A heartbeat is told before its evictions are in the log.
    BeatAhead,
    /// A shared verdict is taken whatever was evicted since its question.
    NoVouching,
    /// Our own evictions do not count before they are in the log.
    NoPending,
}

impl Planted {
    /// The troubles that bring the fault to light, no other comes; and how rare they are.
    fn troubles(self) -> (&'static [usize], usize) {
        match self {
            Self::NoGap => (&[55, 55, 64, 61], 8),
            Self::StoreTime => (&[55, 62], 4),
            Self::ToldLate | Self::BeatAhead | Self::CaughtUpLate => (&[55], 16),
            Self::NoPending | Self::SentLate => (&[56], 4),
            Self::NoMark => (&[55, 55, 61], 2),
            _ => (&[54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64], 1),
        }
    }
}

/// A xorshift generator: a run is known by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn id(&mut self) -> Id {
        let mut id = [0; 16];
        for byte in &mut id {
            *byte = u8::try_from(self.below(256)).unwrap();
        }
        id
    }
}

struct Flight {
    sent: Sent,
    place: Place,
    wall: Duration,
    sent_at: u64,
    is_active: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Polling {
    Idle,
    Begun { wall: Duration, store: Duration },
    Read { wall: Duration, store: Duration },
}

#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own")]
struct Instance {
    who: Id,
    log: Log,
    cache: Cache,
    fed: FedClock,
    flights: [Option<Flight>; TOKENS],
    /// Shared verdicts that were found and are not held yet.
    found: [Option<Active>; TOKENS],
    reading: Option<(Page, u64)>,
    wall_ahead: i64,
    clocks_differ: bool,
    is_leader: bool,
    stretch: Option<Stretch>,
    /// The events that the leader has read.
    read: usize,
    /// The first poll without a predecessor knows nothing yet.
    is_first: bool,
    has_marked: bool,
    polling: Polling,
}

struct World {
    planted: Planted,
    random: Random,
    base: Instant,
    /// In milliseconds.
    now: u64,
    store: MemoryStore,
    is_away: bool,
    store_ahead: i64,
    snapshots: Vec<Snapshot>,
    seals: Seals,
    keys: [Key; TOKENS],
    dead_since: [Option<u64>; TOKENS],
    /// Whether an event tells of it.
    is_told: [bool; TOKENS],
    /// When, and of which token.
    events: Vec<(u64, usize)>,
    /// When an instance has evicted a token itself.
    evicted: [[Option<u64>; TOKENS]; INSTANCES],
    /// Evictions in the log: when, and of which token.
    appended: Vec<(u64, usize)>,
    instances: [Instance; INSTANCES],
    lifetimes: Lifetimes,
}

impl World {
    fn new(planted: Planted, seed: u64, base: Instant) -> Self {
        let secrets = SharedSecrets::from_text(&"a7".repeat(32)).unwrap();
        let seals = Seals::new(&secrets, &Issuer::parse("https://issuer.example").unwrap(), "api");
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let instances = [(); INSTANCES].map(|()| Instance::new(&mut random, base));
        let key = |token: usize| instances[0].cache.key(&format!("token-{token}").parse().unwrap());
        Self {
            planted,
            base,
            now: 1,
            store: MemoryStore::new(),
            is_away: false,
            store_ahead: 0,
            snapshots: Vec::new(),
            seals,
            keys: [key(0), key(1)],
            dead_since: [None; TOKENS],
            is_told: [false; TOKENS],
            events: Vec::new(),
            evicted: [[None; TOKENS]; INSTANCES],
            appended: Vec::new(),
            random,
            instances,
            lifetimes: Lifetimes {
                ttl: TTL,
                longest_hold: TTL * 60,
                unfed_after: TTL / 4,
                refresh_ahead: None,
                stale_for: Duration::ZERO,
                confirm_within: None,
            },
        }
    }

    fn at(&self, millis: u64) -> Instant {
        self.base + Duration::from_millis(millis)
    }

    fn wall(&self, ahead: i64) -> Duration {
        Duration::from_millis((START + self.now).saturating_add_signed(ahead))
    }

    fn name(&self, token: usize) -> Name {
        self.seals.name(format!("token-{token}").as_bytes())
    }

    fn log(&self) -> LogId {
        self.seals.log_id()
    }

    /// The rules that hold for every request that is let in.
    fn serve(&self, index: usize, token: usize) -> Result<(), String> {
        let own = &self.instances[index];
        let fed = own.fed.read();
        let Some(active) = own.cache.active(&self.keys[token]) else { return Ok(()) };
        let asker = Asker { ages: Ages::default(), obtained: Obtained::FromCache, fed };
        let now = Clock::default().now().at(self.at(self.now));
        if !self.lifetimes.judge(&active, asker, now).serves() {
            return Ok(());
        }
        let Some(dead) = self.dead_since[token] else { return Ok(()) };
        let age = self.lifetimes.verdict_age(&active, asker, now.instant);
        let as_of = self.at(self.now).checked_sub(age).unwrap();
        if self.is_told[token] && as_of > self.at(dead) {
            return Err(format!("instance {index} holds token {token} for true after its end"));
        }
        let sent_at = sent_at(&active);
        if self.evicted[index][token].is_some_and(|at| at > sent_at) {
            return Err(format!("instance {index} takes back token {token}, which it has evicted itself"));
        }
        let is_late = |(at, of): &&(u64, usize)| *of == token && *at > sent_at && at + BOUND < self.now;
        if !own.log.is_blind(self.at(self.now)) && self.appended.iter().any(|known| is_late(&known)) {
            return Err(format!("instance {index} lets token {token} in a second after its eviction"));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let (index, token) = (self.random.below(INSTANCES), self.random.below(TOKENS));
        let (troubles, rarely) = self.planted.troubles();
        let action = match self.random.below(65) {
            usual @ 0..54 => usual,
            _ if self.random.below(rarely) > 0 => 44,
            _ => troubles[self.random.below(troubles.len())],
        };
        match action {
            0..=3 => self.ask(index, token),
            4..=8 => self.answer(index, token),
            9..=20 => self.read(index),
            21..=24 => self.publish(index),
            25..=34 => self.poll(index),
            35..=38 => self.take(index, token),
            39..=43 => self.serve(index, token)?,
            44..=53 => self.now += [50, 100, 300, 650][self.random.below(4)],
            54 => self.now += [5_000, 30_000][self.random.below(2)],
            55 => self.revoke(token, true, index),
            56 => self.revoke(token, false, index),
            // What the store has lost does not count as appended: its publisher appends it again.
            57 => {
                self.store.wipe();
                self.appended.clear();
            }
            58 => self.snapshots.push(self.store.snapshot()),
            59 => {
                if let Some(snapshot) = self.snapshots.pop() {
                    self.store.restore(snapshot);
                    self.appended.clear();
                }
            }
            60 => {
                self.is_away = !self.is_away;
                if self.is_away { self.store.go_away() } else { self.store.come_back() }
            }
            61 => {
                // Its time as the leader is over after a while.
                let who = self.instances[index].who;
                let _ = self.store.resign(self.log(), who).now_or_never();
                self.instances[index] = Instance::new(&mut self.random, self.base);
                self.evicted[index] = [None; TOKENS];
            }
            62 => self.jump(index),
            63 => {
                self.store.suppress_newest(self.log());
                self.appended.clear();
            }
            _ => {
                let who = self.instances[index].who;
                let _ = self.store.resign(self.log(), who).now_or_never();
            }
        }
        Ok(())
    }

    fn ask(&mut self, index: usize, token: usize) {
        let wall = self.wall(self.instances[index].wall_ahead);
        let at = self.at(self.now);
        let own = &mut self.instances[index];
        if own.flights[token].is_none() {
            let sent = Sent { at, position: own.cache.ledger.position() };
            let is_active = self.dead_since[token].is_none();
            let flight = Flight { sent, place: own.log.place(), wall, sent_at: self.now, is_active };
            own.flights[token] = Some(flight);
        }
    }

    fn answer(&mut self, index: usize, token: usize) {
        let (now, name, key) = (self.at(self.now), self.name(token), self.keys[token]);
        let Some(flight) = self.instances[index].flights[token].take() else { return };
        if !flight.is_active {
            self.instances[index].cache.evict_token(&key, None, now);
            return;
        }
        let own = &self.instances[index];
        let late = Sent { position: own.cache.ledger.position(), ..flight.sent };
        let sent = if self.planted == Planted::NoFence { late } else { flight.sent };
        let active = Active::answered(claims(token, flight.sent_at), sent, &key, false);
        let active = Arc::new(active.named(Some(name)).told_by_events(true));
        own.cache.keep(key, &active);
        if own.log.is_blind(now) || own.clocks_differ {
            return;
        }
        let place = if self.planted == Planted::SentLate { own.log.place() } else { flight.place };
        let shared = SharedVerdict {
            asked_at: flight.wall,
            place,
            is_told_by_events: true,
            answer: active.claims.document().to_owned(),
        };
        let sealed = self.seals.seal(Sealed::Verdict(name), &shared.encode()).unwrap();
        let _ = self.store.put(self.log(), &name.0, &sealed, TTL).now_or_never();
    }

    /// Taking a verdict has two steps: it is found, and it is held.
    fn take(&mut self, index: usize, token: usize) {
        let (now, name, key) = (self.at(self.now), self.name(token), self.keys[token]);
        if let Some(mut active) = self.instances[index].found[token].take() {
            let own = &self.instances[index];
            if self.planted == Planted::KeptUnchecked {
                active.position = own.cache.ledger.position();
            }
            return own.cache.keep(key, &Arc::new(active));
        }
        let own = &self.instances[index];
        if own.log.is_blind(now) || own.clocks_differ {
            return;
        }
        let (position, breaks) = (own.cache.ledger.position(), own.fed.breaks());
        let Some(Ok(Some(sealed))) = self.store.take(self.log(), &name.0).now_or_never() else { return };
        let text = self.seals.open(Sealed::Verdict(name), &sealed).unwrap();
        let shared = SharedVerdict::decode(&text).unwrap();
        let Some(at) = asked_at(shared.asked_at, now, self.wall(own.wall_ahead)) else { return };
        let claims = Claims::from_introspection(shared.answer, None).unwrap().unwrap();
        let active = Active::answered(claims, Sent { at, position }, &key, false).named(Some(name));
        let active = active.told_by_events(shared.is_told_by_events);
        let active = match self.planted {
            Planted::NoVouching => Some(active.vouched_for(Some(breaks))),
            Planted::NoPending => own.log.without_pending().vouch(active, shared.place, &key, breaks, now),
            _ => own.log.vouch(active, shared.place, &key, breaks, now),
        };
        self.instances[index].found[token] = active;
    }

    /// A read has two steps: the store answers, and the answer arrives.
    fn read(&mut self, index: usize) {
        let fresh = self.random.id();
        let log = self.log();
        let store_time = self.wall(self.store_ahead);
        let now = self.now;
        let own = &mut self.instances[index];
        let Some((page, sent)) = own.reading.take() else {
            let behind = own.log.place();
            if let Some(Ok(page)) = self.store.read(log, fresh, behind).now_or_never() {
                own.reading = Some((Page { time: store_time, ..page }, now));
            }
            return;
        };
        let wall = Duration::from_millis((START + sent).saturating_add_signed(own.wall_ahead));
        own.clocks_differ = Peers::are_apart(wall, Duration::from_millis(now - sent), page.time);
        if self.planted == Planted::NoChain {
            own.log.forget_chain(&page);
        }
        let (at, sent) = (self.base + Duration::from_millis(now), self.base + Duration::from_millis(sent));
        let brought = own.log.read(&page, &self.seals, evicts);
        if brought.unopened.is_some() || brought.starts_anew {
            own.fed.break_off(at);
        }
        let ends = if brought.starts_anew { vec![Evict::All] } else { Vec::new() };
        let ends = [ends, brought.items.iter().flat_map(evicts).collect()].concat();
        own.cache.evict(&ends, at);
        if brought.is_broken {
            let _ = self.store.begin_anew(log, page.end.epoch, fresh).now_or_never();
            return;
        }
        if !brought.is_end {
            return;
        }
        own.log.caught_up(if self.planted == Planted::CaughtUpLate { at } else { sent });
        let Some(sealed) = &page.heartbeat else { return };
        let text = self.seals.open(Sealed::Heartbeat, sealed).unwrap();
        let beat: Heartbeat = serde_json::from_slice(&text).unwrap();
        let wall = if self.planted == Planted::StoreTime { Duration::from_millis(beat.wall) } else { wall };
        match own.log.hear(&beat, Times { sent, wall, store: page.time }, false) {
            Ok(Some(known)) => {
                if known.is_new_stretch {
                    own.fed.break_off(at);
                }
                own.fed.advance(known.until);
            }
            Ok(None) => {}
            Err(_) => {
                own.fed.break_off(at);
                own.cache.evict(&[Evict::All], at);
                let _ = self.store.begin_anew(log, page.end.epoch, fresh).now_or_never();
            }
        }
    }

    fn publish(&mut self, index: usize) {
        let (id, fresh) = (self.random.id(), self.random.id());
        let (now, log) = (self.at(self.now), self.log());
        let is_lost = self.random.below(8) == 0;
        let own = &mut self.instances[index];
        let Some(text) = own.log.outbox.next_entry(id, now) else { return };
        let sealed = self.seals.seal(Sealed::Entry(id), &text).unwrap();
        let outcome = self.store.append(log, fresh, id, &sealed).now_or_never();
        if matches!(outcome, Some(Ok(_))) {
            let items = crate::verdict::shared::item::decode(&text);
            let of = |what: &Evict| (0..TOKENS).find(|token| *what == user(*token));
            self.appended.extend(
                items.iter().flat_map(evicts).filter_map(|what| of(&what)).map(|token| (self.now, token)),
            );
        }
        if is_lost || !matches!(outcome, Some(Ok(_))) {
            own.log.outbox.failed(&id);
        }
    }

    /// The next step of a poll: it begins, its answer is applied, it is told.
    fn poll(&mut self, index: usize) {
        match self.instances[index].polling {
            Polling::Idle => self.begin_poll(index),
            Polling::Begun { wall, store } => {
                let now = self.at(self.now);
                let own = &mut self.instances[index];
                own.polling = Polling::Read { wall, store };
                if own.is_first {
                    own.read = self.events.len();
                    own.polling = Polling::Idle;
                    own.is_first = false;
                    return;
                }
                let new: Vec<Evict> = self.events[own.read..].iter().map(|(_, token)| user(*token)).collect();
                own.read = self.events.len();
                own.cache.evict(&new, now);
                own.log.outbox.publish(new.into_iter().map(Pending::evicting));
            }
            Polling::Read { wall, store } => self.tell(index, wall, store),
        }
    }

    fn begin_poll(&mut self, index: usize) {
        let (now, log) = (self.at(self.now), self.log());
        let (wall, store) = (self.wall(self.instances[index].wall_ahead), self.wall(self.store_ahead));
        let bid = Bid { who: self.instances[index].who, lasts: TTL };
        let own = &mut self.instances[index];
        if own.log.is_behind(now) {
            own.is_leader = false;
            return;
        }
        if !matches!(self.store.lead(log, bid).now_or_never(), Some(Ok(Some(_)))) {
            own.is_leader = false;
            return;
        }
        if !own.is_leader {
            own.stretch = own.log.stretch();
            own.has_marked = false;
            let again = own.log.cursor().filter(|_| self.planted != Planted::NoGap);
            let from = again.map(|cursor| u64::try_from(cursor / 1000).unwrap().saturating_sub(75_000));
            own.is_first = from.is_none() && self.planted != Planted::NoGap;
            own.read =
                from.map_or(self.events.len(), |from| self.events.partition_point(|(at, _)| *at < from));
        }
        own.is_leader = true;
        own.polling = Polling::Begun { wall, store };
    }

    fn tell(&mut self, index: usize, wall: Duration, store: Duration) {
        let log = self.log();
        let now = (self.wall(self.instances[index].wall_ahead), self.wall(self.store_ahead));
        let newest = self.instances[index].read.checked_sub(1).map_or(0, |last| self.events[last].0);
        let own = &mut self.instances[index];
        let epoch = own.log.place().epoch;
        let stretch = own.stretch.filter(|stretch| stretch.epoch == epoch);
        if stretch.is_none() && !own.has_marked && self.planted != Planted::NoMark {
            own.has_marked = true;
            own.log.outbox.publish([Pending { item: Item::Nothing, evicts: Vec::new() }]);
        }
        if !own.log.outbox.has_published_all() && self.planted != Planted::BeatAhead {
            return;
        }
        own.polling = Polling::Idle;
        own.has_marked = false;
        let cursor = i64::try_from(newest * 1000).unwrap();
        let (wall, store) = if self.planted == Planted::ToldLate { now } else { (wall, store) };
        let poll = Poll { wall, store, cursor, follows_claims: true };
        let Some((beat, tail)) = own.log.compose(stretch, poll).zip(own.log.tail()) else { return };
        own.stretch = Some(Stretch { epoch: beat.epoch, from: beat.from, since: beat.since });
        let sealed = self.seals.seal(Sealed::Heartbeat, &serde_json::to_vec(&beat).unwrap()).unwrap();
        let place = Place { epoch: beat.epoch, number: beat.number };
        let put = self.store.put_heartbeat(log, own.who, place, tail, &sealed).now_or_never();
        if !matches!(put, Some(Ok(true))) {
            own.is_leader = false;
        }
    }

    /// A token ends. Either an event tells of it, or an instance is told by its own caller.
    fn revoke(&mut self, token: usize, is_told: bool, index: usize) {
        if self.dead_since[token].is_some() {
            return;
        }
        self.now += 1;
        self.dead_since[token] = Some(self.now);
        self.is_told[token] = is_told;
        self.now += 1;
        if is_told {
            self.events.push((self.now - 1, token));
        } else {
            let now = self.at(self.now);
            let own = &mut self.instances[index];
            self.evicted[index][token] = Some(self.now);
            own.cache.evict(&[user(token)], now);
            own.log.outbox.publish([Pending::evicting(user(token))]);
        }
    }

    /// A clock jumps, and comes back later.
    fn jump(&mut self, index: usize) {
        let far = [-10_000, 10_000][self.random.below(2)];
        let store_ahead = self.store_ahead;
        if self.random.below(3) == 0 {
            self.store_ahead = if store_ahead == 0 { far } else { 0 };
        } else {
            let own = &mut self.instances[index];
            own.wall_ahead = if own.wall_ahead == 0 { far } else { 0 };
            // The next read would find it out; questions in between are not shared.
            own.clocks_differ = own.wall_ahead != store_ahead;
        }
    }
}

impl Instance {
    fn new(random: &mut Random, base: Instant) -> Self {
        let base = base.checked_sub(Duration::from_secs(1)).expect("the machine runs for longer");
        let cache = CacheSettings {
            capacity: 4,
            bytes: 64 * 1024,
            largest: 16 * 1024,
            refused_ttl: Duration::from_secs(1),
            refused_capacity: 4,
            distrusts: false,
        };
        Self {
            who: random.id(),
            log: Log::default(),
            cache: Cache::new(cache),
            fed: FedClock::new(base),
            flights: [None, None],
            found: [None, None],
            reading: None,
            wall_ahead: 0,
            clocks_differ: false,
            is_leader: false,
            stretch: None,
            read: 0,
            is_first: false,
            has_marked: false,
            polling: Polling::Idle,
        }
    }
}

fn user(token: usize) -> Evict {
    Evict::User(format!("user-{token}").into())
}

fn evicts(item: &Item) -> Vec<Evict> {
    match item {
        Item::Evict { what, .. } => vec![what.clone()],
        _ => Vec::new(),
    }
}

fn claims(token: usize, sent_at: u64) -> Claims {
    let document =
        json!({"active": true, "sub": format!("user-{token}"), "jti": format!("{token}"), "sent": sent_at});
    Claims::from_introspection(document.to_string(), None).unwrap().unwrap()
}

/// When the question was sent in truth, in milliseconds.
fn sent_at(active: &Active) -> u64 {
    active.claims.get("sent").and_then(|sent| sent.as_u64()).unwrap()
}

/// The first run in which a rule is broken.
fn first_broken(planted: Planted, runs: u64, steps: usize) -> Option<(u64, String)> {
    let base = Instant::now();
    (1..=runs).find_map(|seed| {
        let mut world = World::new(planted, seed, base);
        (0..steps).find_map(|_| world.step().err()).map(|broken| (seed, broken))
    })
}

#[test]
fn no_rule_is_broken() {
    assert_eq!(first_broken(Planted::Nothing, 3_000, 400), None);
}

#[test]
fn each_planted_fault_is_found() {
    for planted in [
        Planted::ToldLate,
        Planted::NoGap,
        Planted::NoMark,
        Planted::NoChain,
        Planted::StoreTime,
        Planted::CaughtUpLate,
        Planted::SentLate,
        Planted::NoFence,
        Planted::KeptUnchecked,
        Planted::BeatAhead,
        Planted::NoVouching,
        Planted::NoPending,
    ] {
        assert!(first_broken(planted, 20_000, 400).is_some(), "{planted:?} is not found");
    }
}
