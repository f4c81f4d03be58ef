//! An exhaustive check of the rule: all orders of questions, answers, revocations, polls, late events, lost histories and
//! requests within bounds, over the very code of reader, table, ledger, cache, clock and freshness. Each fault that is
//! planted in the order of steps must be found.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    claims::Claims,
    clock::Clock,
    events::{
        event::{Event, Micros, Payload},
        table,
    },
    feed::reader::{Brought, Query, Reader, Step},
    requirement::Ages,
    verdict::{
        Active, Sent,
        cache::{Cache, CacheSettings},
        evict::Evict,
        fed::{Fed, FedClock},
        freshness::{Asker, Lifetimes, Obtained},
    },
};

const SECOND: Duration = Duration::from_secs(1);
/// A late event is visible so many seconds after it was created.
const LATE: u64 = 3;
const TOKENS: usize = 2;
/// The issuer's clock when the model begins.
const START: i64 = 1_000_000_000_000;

/// A step of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The token is revoked; its event is visible at once or late.
    Revoke {
        token: usize,
        late: bool,
    },
    /// A question is sent; the issuer decides now.
    Ask(usize),
    /// Its answer arrives.
    Answer(usize),
    /// The feed takes its next step: begins a poll, has its answer, evicts, says until when it knows.
    Feed,
    /// The poll fails.
    Fail,
    /// A request takes its next step: reads until when events are known, looks the verdict up.
    Request(usize),
    /// The instance is restored to its first event, and token 0 is not known to it.
    Restore,
    Tick,
    /// The clock moves by nearly the time that a verdict answers, between two polls.
    Jump,
}

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// Evictions are done after the clock of the feed has moved.
    EvictLast,
    /// The feed knows until the moment of the answer, not of the question.
    UntilAnswer,
    /// A failed poll counts.
    FailedCounts,
    /// A break of the history is not a break of the stretch.
    NoBreak,
    /// A request reads until when events are known after it has looked the verdict up.
    ReadLast,
    /// A question counts as sent when its answer comes.
    SentLate,
    /// A verdict is held whatever was evicted meanwhile.
    NoFence,
    /// Each round begins at the newest event, without an overlap.
    NoOverlap,
    /// The poll that finds out where to begin counts as one that knows everything.
    FirstCounts,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Feeding {
    Idle,
    Begun(u64),
    Read { began: u64, ends: Vec<usize>, is_other: bool, is_first: bool },
    Evicted { began: u64, ends: Vec<usize>, is_first: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Requesting {
    Idle,
    HasFed,
    HasVerdict,
}

/// The world, made anew for each sequence of actions.
struct World {
    planted: Planted,
    base: Instant,
    now: u64,
    ticks: usize,
    dead_since: [Option<u64>; TOKENS],
    /// Created, visible from, token (none: the first event of the instance).
    events: Vec<(u64, u64, Option<usize>)>,
    restored: bool,
    cache: Cache,
    fed: FedClock,
    reader: Reader,
    feeding: Feeding,
    flights: [Option<(Sent, bool)>; TOKENS],
    asked: [usize; TOKENS],
    requests: [(Requesting, Option<Fed>, Option<Arc<Active>>); TOKENS],
    polls: usize,
    bounds: Bounds,
}

/// How much happens in one run.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    asks: usize,
    polls: usize,
    ticks: usize,
    /// Beside those that the run begins with.
    steps: usize,
}

impl World {
    fn new(planted: Planted, base: Instant, bounds: Bounds) -> Self {
        Self {
            planted,
            base,
            now: 0,
            ticks: 0,
            dead_since: [None; TOKENS],
            events: vec![(0, 0, None)],
            restored: false,
            cache: Cache::new(CacheSettings {
                capacity: 4,
                bytes: 64 * 1024,
                largest: 16 * 1024,
                refused_ttl: SECOND,
                refused_capacity: 4,
                distrusts: false,
            }),
            fed: FedClock::new(base.checked_sub(SECOND).expect("the machine runs for longer")),
            reader: Reader::new(),
            feeding: Feeding::Idle,
            flights: [None, None],
            asked: [0; TOKENS],
            requests: [(Requesting::Idle, None, None), (Requesting::Idle, None, None)],
            polls: 0,
            bounds,
        }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.base + SECOND * u32::try_from(seconds).unwrap()
    }

    fn token(index: usize) -> crate::AccessToken {
        format!("token-{index}").parse().unwrap()
    }

    fn sent(&self) -> Sent {
        Sent { at: self.at(self.now), position: self.cache.ledger.position() }
    }

    /// Whether the action can be taken now, within the bounds of the model.
    fn allows(&self, action: Action) -> bool {
        match action {
            Action::Revoke { token, .. } => self.dead_since[token].is_none(),
            Action::Ask(token) => self.flights[token].is_none() && self.asked[token] < self.bounds.asks,
            Action::Answer(token) => self.flights[token].is_some(),
            Action::Feed => self.feeding != Feeding::Idle || self.polls < self.bounds.polls,
            Action::Fail => matches!(self.feeding, Feeding::Begun(_)),
            Action::Request(token) => self.asked[token] > 0,
            // Only where it can be noticed: the newest event that was read is gone.
            Action::Restore => !self.restored && self.reader.newest().is_some_and(|newest| newest.0 > START),
            Action::Tick => self.ticks < self.bounds.ticks,
            Action::Jump => self.feeding == Feeding::Idle,
        }
    }

    /// Takes the action. An error tells which promise was broken.
    fn take(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Revoke { token, late } => {
                self.now += 1;
                let visible = if late { self.now + LATE } else { self.now };
                self.dead_since[token] = Some(visible);
                self.events.push((self.now, visible, Some(token)));
            }
            Action::Ask(token) => {
                self.asked[token] += 1;
                self.flights[token] = Some((self.sent(), self.dead_since[token].is_none()));
            }
            Action::Answer(token) => self.answer(token),
            Action::Feed => self.feed(),
            Action::Fail => {
                if self.planted == Planted::FailedCounts
                    && let Feeding::Begun(began) = self.feeding
                {
                    self.fed.advance(self.at(began));
                }
                self.feeding = Feeding::Idle;
            }
            Action::Request(token) => return self.request(token),
            Action::Restore => {
                self.restored = true;
                self.events.truncate(1);
                self.dead_since[0].get_or_insert(self.now);
            }
            Action::Tick => {
                self.ticks += 1;
                self.now += 1;
            }
            Action::Jump => self.now += 50,
        }
        Ok(())
    }

    fn answer(&mut self, token: usize) {
        let Some((sent, is_active)) = self.flights[token].take() else { return };
        if !is_active {
            return;
        }
        let sent = match self.planted {
            Planted::SentLate => self.sent(),
            Planted::NoFence => Sent { position: self.cache.ledger.position(), ..sent },
            _ => sent,
        };
        let document = json!({"active": true, "sub": token.to_string(), "jti": token.to_string()});
        let claims = Claims::from_introspection(document.to_string(), None).unwrap().unwrap();
        let key = self.cache.key(&Self::token(token));
        self.cache.keep(key, &Arc::new(Active::answered(claims, sent, &key, false).told_by_events(true)));
    }

    fn feed(&mut self) {
        self.feeding = match std::mem::replace(&mut self.feeding, Feeding::Idle) {
            Feeding::Idle => {
                self.polls += 1;
                Feeding::Begun(self.now)
            }
            Feeding::Begun(began) => {
                let is_first = self.reader.newest().is_none() && self.planted != Planted::FirstCounts;
                let (ends, is_other) = self.read();
                Feeding::Read { began, ends, is_other, is_first }
            }
            Feeding::Read { began, ends, is_other, is_first } => {
                if is_other {
                    if self.planted != Planted::NoBreak {
                        self.fed.break_off(self.at(self.now));
                        self.cache.evict(&[Evict::All], self.at(self.now));
                    }
                    self.reader = Reader::new();
                    self.feeding = Feeding::Idle;
                    return;
                }
                if self.planted != Planted::EvictLast {
                    self.evict(&ends);
                } else if !is_first {
                    self.fed.advance(self.at(began));
                }
                Feeding::Evicted { began, ends, is_first }
            }
            Feeding::Evicted { began, ends, is_first } => {
                let until = if self.planted == Planted::UntilAnswer { self.now } else { began };
                if self.planted == Planted::EvictLast {
                    self.evict(&ends);
                } else if !is_first {
                    self.fed.advance(self.at(until));
                }
                Feeding::Idle
            }
        };
    }

    fn evict(&self, tokens: &[usize]) {
        let ours = "7".into();
        let evictions: Vec<Evict> = tokens
            .iter()
            .flat_map(|token| {
                let payload = Payload { token: Some(token.to_string()), ..Payload::default() };
                let (kind, aggregate) = ("user.pat.removed".to_owned(), "user".to_owned());
                table::effect(&Event { kind, aggregate, payload, ..Event::default() }, Some(&ours)).ends
            })
            .collect();
        self.cache.evict(&evictions, self.at(self.now));
    }

    /// Reads what is visible now, by the reader's own rounds.
    fn read(&mut self) -> (Vec<usize>, bool) {
        let mut brought = Brought::default();
        let mut query = self.reader.begin(false);
        loop {
            let page = self.visible(&query);
            match self.reader.page(page, &mut brought) {
                Ok(Step::More(next)) => query = next,
                Ok(Step::Complete) => break,
                Err(_) => return (Vec::new(), true),
            }
        }
        (brought.events.iter().filter_map(|(_, event)| event.id.parse().ok()).collect(), false)
    }

    fn visible(&self, query: &Query) -> Vec<(Micros, Event)> {
        let micros = |seconds: u64| START + i64::try_from(seconds).unwrap() * 1_000_000;
        let mut visible: Vec<_> = self.events.iter().filter(|(_, from, _)| *from <= self.now).collect();
        visible.sort_by_key(|(created, ..)| *created);
        let event = |(created, _, token): &(u64, u64, Option<usize>)| {
            let id = token.map_or_else(|| "first".to_owned(), |token| token.to_string());
            (Micros(micros(*created)), Event { id, ..Event::default() })
        };
        match query.since {
            None => visible.last().map(|found| event(found)).into_iter().collect(),
            Some(mut since) => {
                if self.planted == Planted::NoOverlap {
                    since = since.max(self.reader.newest().map_or(since, |newest| newest.before(1)));
                }
                let younger = visible.into_iter().filter(|(created, ..)| micros(*created) > since.0);
                younger.map(event).collect()
            }
        }
    }

    fn request(&mut self, token: usize) -> Result<(), String> {
        let key = self.cache.key(&Self::token(token));
        let (step, fed, active) = &mut self.requests[token];
        match step {
            Requesting::Idle => {
                (*step, *fed, *active) = if self.planted == Planted::ReadLast {
                    (Requesting::HasVerdict, None, self.cache.active(&key))
                } else {
                    (Requesting::HasFed, Some(self.fed.read()), None)
                };
                Ok(())
            }
            Requesting::HasFed | Requesting::HasVerdict => {
                let fed = fed.take().unwrap_or_else(|| self.fed.read());
                let active = active.take().or_else(|| self.cache.active(&key));
                *step = Requesting::Idle;
                match active {
                    Some(active) => self.judge(token, &active, fed),
                    None => Ok(()),
                }
            }
        }
    }

    /// What a request that is let in must not have been.
    fn judge(&self, token: usize, active: &Active, fed: Fed) -> Result<(), String> {
        let lifetimes = Lifetimes {
            ttl: SECOND * 60,
            longest_hold: SECOND * 3600,
            unfed_after: SECOND * 15,
            refresh_ahead: None,
            stale_for: Duration::ZERO,
            confirm_within: None,
        };
        let asker = Asker { ages: Ages::default(), obtained: Obtained::FromCache, fed };
        let now = Clock::default().now().at(self.at(self.now));
        if !lifetimes.judge(active, asker, now).serves() {
            return Ok(());
        }
        // From this moment on the feed could know.
        let Some(dead) = self.dead_since[token] else { return Ok(()) };
        let as_of = active.as_of(fed).saturating_duration_since(self.base).as_secs();
        if as_of > dead {
            return Err(format!("token {token} ended at {dead} s, and its verdict counts as of {as_of} s"));
        }
        Ok(())
    }

    /// All that decides what can happen next, in times relative to now.
    fn key(&self) -> String {
        let verdicts: Vec<_> = (0..TOKENS)
            .map(|token| {
                let active = self.cache.peek(&self.cache.key(&Self::token(token)));
                active.map(|active| (active.asked_at - self.base, active.position))
            })
            .collect();
        let flights: Vec<_> = self
            .flights
            .iter()
            .map(|flight| flight.map(|(sent, ok)| (sent.at - self.base, sent.position, ok)))
            .collect();
        let requests: Vec<_> = self
            .requests
            .iter()
            .map(|(step, fed, active)| {
                (
                    *step,
                    fed.map(|fed| format!("{fed:?}")),
                    active.as_ref().map(|active| active.asked_at - self.base),
                )
            })
            .collect();
        format!(
            "{} {} {:?} {:?} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {}",
            self.now,
            self.ticks,
            self.dead_since,
            self.events,
            self.restored,
            verdicts,
            self.fed.read(),
            self.reader.newest(),
            self.feeding,
            flights,
            self.asked,
            requests,
            self.polls
        ) + &format!("{:?}", self.cache.ledger.position())
    }
}

/// Explores all sequences of actions within bounds, each reachable state once. Gives the number of states, or the shortest
/// sequence that breaks a promise.
fn explore(planted: Planted, (begin, actions, bounds): &Run) -> Result<usize, (Vec<Action>, String)> {
    let base = Instant::now();
    let replay = |sequence: &[Action]| -> Result<World, String> {
        let mut world = World::new(planted, base, *bounds);
        sequence.iter().try_for_each(|action| world.take(*action))?;
        Ok(world)
    };
    let mut known = HashSet::new();
    let mut waiting = VecDeque::from([begin.clone()]);
    while let Some(sequence) = waiting.pop_front() {
        let world = replay(&sequence).map_err(|broken| (sequence.clone(), broken))?;
        if !known.insert(world.key()) || sequence.len() == begin.len() + bounds.steps {
            continue;
        }
        for action in actions.iter().filter(|action| world.allows(**action)) {
            let mut next = sequence.clone();
            next.push(*action);
            waiting.push_back(next);
        }
    }
    Ok(known.len())
}

/// What a run begins with, the actions to choose from, and how many.
type Run = (Vec<Action>, Vec<Action>, Bounds);

/// One token and its prompt event.
fn prompt() -> Run {
    let actions = vec![
        Action::Ask(0),
        Action::Answer(0),
        Action::Feed,
        Action::Revoke { token: 0, late: false },
        Action::Request(0),
        Action::Fail,
        Action::Tick,
    ];
    (Vec::new(), actions, Bounds { asks: 1, polls: 3, ticks: 1, steps: 20 })
}

/// Two tokens: the event about one becomes visible after that about the other. One token is held, the feed is current.
fn late() -> Run {
    let begin = [&[Action::Feed; 8][..], &[Action::Ask(0), Action::Answer(0)]].concat();
    (begin, of_two(), Bounds { asks: 1, polls: 4, ticks: 4, steps: 15 })
}

/// As [`late`], but the feed begins only now.
fn beginning() -> Run {
    (
        vec![Action::Ask(0), Action::Answer(0), Action::Feed],
        of_two(),
        Bounds { asks: 1, polls: 3, ticks: 3, steps: 14 },
    )
}

fn of_two() -> Vec<Action> {
    vec![
        Action::Feed,
        Action::Revoke { token: 0, late: true },
        Action::Revoke { token: 1, late: false },
        Action::Request(0),
        Action::Tick,
    ]
}

/// Another history, after an event of this one was read.
fn restored() -> Run {
    let begin = [
        &[Action::Feed; 8][..],
        &[Action::Ask(0), Action::Answer(0), Action::Revoke { token: 1, late: false }],
        &[Action::Feed; 4],
    ];
    let actions = vec![Action::Feed, Action::Restore, Action::Request(0), Action::Tick, Action::Fail];
    (begin.concat(), actions, Bounds { asks: 1, polls: 6, ticks: 2, steps: 16 })
}

#[test]
fn no_order_of_steps_lets_a_revoked_token_count_as_true_after_its_end() {
    for (name, run) in
        [("prompt", prompt()), ("late", late()), ("beginning", beginning()), ("restored", restored())]
    {
        let states = explore(Planted::Nothing, &run);
        assert!(states.as_ref().is_ok_and(|states| *states > 500), "{name}: {states:?}");
    }
}

#[test]
fn each_planted_fault_is_found() {
    for (planted, run) in [
        (Planted::EvictLast, prompt()),
        (Planted::UntilAnswer, prompt()),
        (Planted::FailedCounts, prompt()),
        (Planted::ReadLast, prompt()),
        (Planted::SentLate, prompt()),
        (Planted::NoFence, prompt()),
        (Planted::NoOverlap, late()),
        (Planted::FirstCounts, beginning()),
        (Planted::NoBreak, restored()),
    ] {
        let found = explore(planted, &run);
        assert!(found.is_err(), "{planted:?} is not found");
    }
}

/// 100,000 steps in random order, with a clock that jumps.
#[test]
fn random_walks_let_no_revoked_token_count_as_true_after_its_end() {
    const ACTIONS: [Action; 11] = [
        Action::Ask(0),
        Action::Ask(1),
        Action::Answer(0),
        Action::Answer(1),
        Action::Feed,
        Action::Fail,
        Action::Request(0),
        Action::Request(1),
        Action::Tick,
        Action::Jump,
        Action::Revoke { token: 0, late: true },
    ];
    let most = usize::MAX;
    let bounds = Bounds { asks: most, polls: most, ticks: most, steps: most };
    for walk in 0..1000 {
        let mut world = World::new(Planted::Nothing, Instant::now(), bounds);
        let mut taken = Vec::new();
        for step in 0..100 {
            let index = usize::try_from(crate::random::u64() % ACTIONS.len() as u64).unwrap();
            // One token ends early, the other late.
            let revoke = Action::Revoke { token: 1, late: false };
            let action = if step == walk % 100 { revoke } else { ACTIONS[index] };
            // A poll takes less than the overlap: its steps follow each other.
            let action =
                if world.feeding == Feeding::Idle || action != Action::Tick { action } else { Action::Feed };
            if !world.allows(action) {
                continue;
            }
            taken.push(action);
            if let Err(broken) = world.take(action) {
                panic!("{broken}: {taken:?}");
            }
        }
    }
}
