//! Follows the issuer's events: polls, evicts what they end, and says until when all of them are known.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    clock::Now,
    error::{causes::causes, feed::FeedError, issuer::IssuerError},
    events::{
        event::{Event, Micros},
        table::{self, AGGREGATES, Effect, OF_CLAIMS, OF_PROJECTS, OF_USERS, REMOVED_KEY, Whose},
    },
    feed::{
        reader::{Brought, MOST_PER_PAGE, Query, Reader, Step},
        search::{Filter, Search},
    },
    stats::{FEED_EVENTS, FEED_FAILURES, FEED_LATE_EVENTS},
    verdict::{
        SOFT,
        engine::Engine,
        evict::{Evict, echoes},
        followed::Followed,
        memory::{DEPTH, Memory},
    },
};

/// How often what only changes claims is asked for.
const CLAIMS_INTERVAL: Duration = Duration::from_secs(5);
/// In seconds: so much of the past is read after each poll, until enough is known for JWTs.
const SLICE: i64 = 300;
/// Soft evictions of organizations come at most so often, and so many are told apart.
const SOFT_INTERVAL: Duration = Duration::from_secs(10);
const MOST_WAITING: usize = 100;
/// How often a round reads further back.
const DEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Between two polls, at least.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A history is another one when the newest event is missing for so long.
const OTHER_HISTORY_AFTER: Duration = Duration::from_secs(5);
/// A failure is logged at once, and then so often.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// The wall clock may run ahead of the monotonic one by so much between two polls; more is a machine that slept.
const MOST_CLOCK_JUMP: Duration = Duration::from_secs(5);
/// Evictions that wait to be repeated; beyond this, one that ends all verdicts waits in their place.
const MOST_ECHOES: usize = 10_000;
/// Look-ups in one poll; beyond this, more is evicted instead.
const MOST_LOOK_UPS: usize = 4;
/// So many grants are remembered with their users.
const MOST_GRANTS: usize = 10_000;

/// Follows the events for one engine, until the engine is gone.
pub(crate) struct Follower {
    engine: Weak<Engine>,
    search: Search,
    interval: Duration,
    streams: Vec<Stream>,
    echoes: VecDeque<(Instant, Vec<Evict>)>,
    soft: Soft,
    grants: Grants,
    deep_at: Option<Instant>,
    clocks: Option<(Instant, SystemTime)>,
    other_since: Option<Instant>,
    failures: u32,
    told_at: Option<Instant>,
}

/// The events of one search.
struct Stream {
    filter: Filter,
    reader: Reader,
    /// Only claims: asked for less often.
    is_of_claims: bool,
    /// When the first search of its newest complete round was sent.
    complete_at: Option<Instant>,
}

/// Soft evictions that wait: anybody who registers can cause those by organization, which renew many verdicts.
#[derive(Default)]
struct Soft {
    waiting: Vec<Evict>,
    done_at: Option<Instant>,
}

/// Whose grants they are.
#[derive(Default)]
struct Grants {
    users: HashMap<String, String>,
    order: VecDeque<String>,
}

impl Follower {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        search: Search,
        interval: Duration,
        follows_claims: bool,
    ) -> Self {
        let stream = |types, is_of_claims| Stream {
            filter: Filter { types, aggregates: &AGGREGATES },
            reader: Reader::new(),
            is_of_claims,
            complete_at: None,
        };
        let mut streams = vec![stream(&OF_USERS[..], false), stream(&OF_PROJECTS, false)];
        if follows_claims {
            streams.push(stream(&OF_CLAIMS, true));
        }
        Self {
            engine: Arc::downgrade(engine),
            search,
            interval,
            streams,
            echoes: VecDeque::new(),
            soft: Soft::default(),
            grants: Grants::default(),
            deep_at: None,
            clocks: None,
            other_since: None,
            failures: 0,
            told_at: None,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let began = Instant::now();
            let pause = {
                let Some(engine) = self.engine.upgrade() else { return };
                let outcome = self.poll(&engine).await;
                self.settle(&engine, outcome)
            };
            // From beginning to beginning, but never without a rest.
            tokio::time::sleep(pause.saturating_sub(began.elapsed()).max(SHORTEST_PAUSE)).await;
        }
    }

    /// One poll. What it brings is applied even if it fails at its end.
    async fn poll(&mut self, engine: &Arc<Engine>) -> Result<(), FeedError> {
        let began = engine.clock.now();
        self.watch_clocks(engine, began);
        let is_deep = self.deep_at.is_some_and(|at| began.instant >= at);
        if is_deep || self.deep_at.is_none() {
            self.deep_at = Some(began.instant + DEEP_INTERVAL);
        }
        // A search that finds out where to begin covers what happened shortly before its own answer, and no more: only the
        // next poll knows all that happened since it began.
        let is_first = self.streams.iter().any(|stream| stream.reader.newest().is_none());
        let mut outcome = Ok(());
        let mut look_ups = 0;
        for number in 0..self.streams.len() {
            if !self.streams[number].is_due(began.instant) {
                continue;
            }
            let mut brought = Brought::default();
            let round = self.round(number, is_deep, &mut brought).await;
            self.apply(engine, brought, &mut look_ups).await;
            match round {
                Ok(()) => self.streams[number].complete_at = Some(began.instant),
                Err(error) => outcome = Err(error),
            }
        }
        self.echo(engine, began.instant).await;
        outcome?;
        self.know_project(engine).await?;
        if is_first {
            return Ok(());
        }
        engine.fed.advance(self.known_until(began.instant));
        if let Some(feed) = &engine.feed {
            let now = self.streams[0].reader.newest().map(Micros::seconds).unwrap_or_default();
            feed.with_memory(|memory| memory.sweep(now));
        }
        self.catch_up(engine).await
    }

    async fn round(&mut self, number: usize, is_deep: bool, brought: &mut Brought) -> Result<(), FeedError> {
        let Stream { filter, reader, .. } = &mut self.streams[number];
        let mut query = reader.begin(is_deep);
        loop {
            match self.search.page(*filter, &query).await {
                Ok(page) => match reader.page(page, brought)? {
                    Step::More(next) => query = next,
                    Step::Complete => return Ok(()),
                },
                Err(error) if error.asks_for_less() => {
                    // The next poll, too, asks for less.
                    query = reader.ask_for_less().ok_or(error)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Evicts what the events end, all with one look at the cache.
    async fn apply(&mut self, engine: &Arc<Engine>, brought: Brought, look_ups: &mut usize) {
        if brought.has_forgotten {
            engine.fed.break_off();
        }
        let (mut ends, mut changes, mut echoes) = (Vec::new(), Vec::new(), Vec::new());
        if brought.has_lost_some {
            tracing::warn!("more events at once than can be read: all verdicts are evicted");
            ends.push(Evict::All);
        }
        if brought.late > 0 {
            tracing::warn!(events = brought.late, "events became visible late: they ended verdicts late");
            engine.labels.of_feed(FEED_LATE_EVENTS, None).increment(brought.late as u64);
        }
        for (created, event) in &brought.events {
            count_event(engine, event);
            let effect = self.effect(engine, event);
            if event.kind == REMOVED_KEY
                && let Some(local) = &engine.local
            {
                // A new set without the key: until then its JWTs are asked about, since the end of all is remembered.
                let _ = local.keys.fetch().await;
            }
            if effect.is_unknown {
                tracing::warn!(event_type = ?event.kind, "an event of an unknown type: all that it may concern is evicted");
            }
            let mut ended = effect.ends;
            if let Some(needed) = effect.needs {
                ended.extend(self.look_up(needed.what, needed.or, look_ups).await);
            }
            if effect.echoes {
                echoes.extend(ended.iter().cloned());
            }
            if let Some(feed) = engine.feed.as_ref().filter(|_| !effect.only_widens) {
                feed.remember(&ended, created.seconds());
            }
            ends.extend(ended);
            changes.extend(effect.changes);
        }
        let now = engine.clock.now().instant;
        let changes = self.soft.take(changes, now);
        evict(engine, ends, changes).await;
        self.remember(echoes, now);
    }

    fn effect(&mut self, engine: &Engine, event: &Event) -> Effect {
        self.grants.learn(event);
        table::effect(event, engine.feed.as_ref().and_then(Followed::project))
    }

    /// Reads one more stretch of the past, for JWTs that were issued before the start.
    async fn catch_up(&mut self, engine: &Engine) -> Result<(), FeedError> {
        let Some(feed) = &engine.feed else { return Ok(()) };
        let Some(known) = feed.with_memory(|memory| memory.known_from()) else { return Ok(()) };
        let newest = self.streams.iter().filter_map(|stream| stream.reader.newest()).max();
        let from = self.streams.iter().filter_map(|stream| stream.reader.from()).max();
        let (Some(newest), Some(from)) = (newest, from) else { return Ok(()) };
        let known = known.unwrap_or(from.seconds() + 1);
        if newest.seconds() - known >= DEPTH {
            return Ok(());
        }
        let (since, until) = (Micros::of_seconds(known - SLICE), Micros::of_seconds(known + 1));
        let mut look_ups = 0;
        for number in 0..self.streams.len() {
            if !self.streams[number].is_of_claims {
                self.read_past(engine, number, (since, until), &mut look_ups).await?;
            }
        }
        feed.with_memory(|memory| memory.know_from(known - SLICE));
        Ok(())
    }

    async fn read_past(
        &mut self,
        engine: &Engine,
        number: usize,
        (since, until): (Micros, Micros),
        look_ups: &mut usize,
    ) -> Result<(), FeedError> {
        let Some(feed) = &engine.feed else { return Ok(()) };
        let filter = self.streams[number].filter;
        let mut query = Query { since: Some(since), until: Some(until), limit: MOST_PER_PAGE };
        loop {
            let page = self.search.page(filter, &query).await?;
            let is_full = page.len() >= query.limit;
            let last = page.iter().map(|(created, _)| *created).max();
            for (created, event) in &page {
                let effect = self.effect(engine, event);
                if effect.only_widens {
                    continue;
                }
                feed.remember(&effect.ends, created.seconds());
                if let Some(needed) = effect.needs {
                    let ended = self.look_up(needed.what, needed.or, look_ups).await;
                    feed.remember(ended.as_slice(), created.seconds());
                }
            }
            let (true, Some(last)) = (is_full, last) else { return Ok(()) };
            // As in a round: the rest of a push would be lost behind its time.
            let next = last.before(1);
            if query.since.is_some_and(|since| since < next) {
                query.since = Some(next);
            } else {
                feed.remember(&[Evict::All], last.seconds());
                query.since = Some(last);
            }
        }
    }

    /// The user of a session or a grant.
    async fn look_up(&mut self, what: Whose, or: Evict, look_ups: &mut usize) -> Option<Evict> {
        if let Whose::Grant(id) = &what
            && let Some(user) = self.grants.users.get(id)
        {
            return Some(Evict::User(user.into()));
        }
        *look_ups += 1;
        if *look_ups > MOST_LOOK_UPS {
            return Some(or);
        }
        let (aggregate, id, types): (_, _, &[&str]) = match &what {
            Whose::Session(id) => ("session", id, &["session.added", "session.user.checked"]),
            Whose::Grant(id) => ("usergrant", id, &["user.grant.added"]),
        };
        let Ok(found) = self.search.of_aggregate(aggregate, id, types).await else { return Some(or) };
        let user = found.iter().find_map(|(_, event)| event.payload.user.clone());
        for (_, event) in &found {
            self.grants.learn(event);
        }
        match (user, found.is_empty()) {
            (Some(user), _) => Some(Evict::User(user.into())),
            // A session in which nobody has logged in has no tokens.
            (None, false) if matches!(what, Whose::Session(_)) => None,
            (None, _) => Some(or),
        }
    }

    fn remember(&mut self, evictions: Vec<Evict>, now: Instant) {
        if evictions.is_empty() {
            return;
        }
        let waiting: usize = self.echoes.iter().map(|(_, evictions)| evictions.len()).sum();
        let is_too_much = waiting + evictions.len() * 3 > MOST_ECHOES;
        let evictions = if is_too_much { vec![Evict::All] } else { evictions };
        for (after, due) in echoes(&evictions) {
            if due.is_empty() {
                continue;
            }
            let at = now + after;
            let place = self.echoes.partition_point(|(other, _)| *other <= at);
            self.echoes.insert(place, (at, due));
        }
        if is_too_much {
            self.echoes.truncate(MOST_ECHOES);
        }
    }

    async fn echo(&mut self, engine: &Arc<Engine>, now: Instant) {
        let mut due = Vec::new();
        while self.echoes.front().is_some_and(|(at, _)| *at <= now) {
            due.extend(self.echoes.pop_front().into_iter().flat_map(|(_, evictions)| evictions));
        }
        evict(engine, due, Vec::new()).await;
    }

    /// Our project, from the event that made our application.
    async fn know_project(&mut self, engine: &Engine) -> Result<(), FeedError> {
        let Some(feed) = &engine.feed else { return Ok(()) };
        if feed.project().is_none() {
            let made = self.search.newest("project", "project.application.config.api.added").await?;
            let is_ours = |event: &&Event| event.payload.client.as_deref() == Some(&*engine.labels.client_id);
            let ours = made.iter().map(|(_, event)| event).find(is_ours).filter(|event| !event.id.is_empty());
            feed.learn_project(ours.ok_or(FeedError::NoProject)?.id.as_str().into());
        }
        Ok(())
    }

    /// The least of what the searches know; what only changes claims may be known later by two of its intervals.
    fn known_until(&self, began: Instant) -> Instant {
        let claims = self.streams.iter().filter(|stream| stream.is_of_claims);
        let known = claims.map(|stream| stream.complete_at.map_or(began, |at| at + CLAIMS_INTERVAL * 2));
        known.min().map_or(began, |claims| claims.min(began))
    }

    /// A machine that slept has missed nothing, but its verdicts are older than the monotonic clock says.
    fn watch_clocks(&mut self, engine: &Engine, now: Now) {
        let wall_now = now.system_time();
        if let Some((before, wall_before)) = self.clocks.replace((now.instant, wall_now)) {
            let wall = wall_now.duration_since(wall_before);
            let monotonic = now.instant.saturating_duration_since(before);
            if wall.is_ok_and(|wall| wall > monotonic + MOST_CLOCK_JUMP) {
                tracing::warn!(
                    "the wall clock is ahead of the monotonic one: events prolong no verdict from before"
                );
                engine.fed.break_off();
            }
        }
    }

    /// Logs and counts the outcome of a poll. Gives the time until the next one.
    fn settle(&mut self, engine: &Engine, outcome: Result<(), FeedError>) -> Duration {
        let now = engine.clock.now().instant;
        let Some(feed) = &engine.feed else { return self.interval };
        let Err(error) = outcome else {
            if self.failures > 0 {
                tracing::info!("the event feed is current again");
            } else if self.told_at.is_none() {
                tracing::info!("the event feed is current");
            }
            (self.failures, self.told_at, self.other_since) = (0, Some(now), None);
            feed.settle(self.newest_event(), None);
            return self.interval;
        };
        engine.labels.of_feed(FEED_FAILURES, Some(("reason", error.label()))).increment(1);
        let is_due = |at: Instant| now.saturating_duration_since(at) >= TOLD_EVERY;
        if self.failures == 0 || self.told_at.is_none_or(is_due) {
            self.told_at = Some(now);
            let problem = causes(&error);
            tracing::warn!(problem, "the event feed is interrupted: verdicts lapse as without it");
        }
        self.failures = self.failures.saturating_add(1);
        if matches!(error, FeedError::OtherHistory) {
            let since = *self.other_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= OTHER_HISTORY_AFTER {
                self.start_anew(engine, now);
            }
        } else {
            self.other_since = None;
        }
        feed.settle(self.newest_event(), Some(error));
        let pause = self.interval.saturating_mul(1 << self.failures.min(8));
        pause.min(LONGEST_PAUSE.max(self.interval))
    }

    fn newest_event(&self) -> Option<SystemTime> {
        self.streams.iter().filter_map(|stream| stream.reader.newest()).max().map(Micros::to_time)
    }

    /// The instance has another history: nothing that was known counts.
    fn start_anew(&mut self, engine: &Engine, now: Instant) {
        tracing::error!("ZITADEL HAS ANOTHER HISTORY: its newest event is gone; all verdicts are evicted");
        engine.fed.break_off();
        for stream in &mut self.streams {
            stream.reader = Reader::new();
            stream.complete_at = None;
        }
        if let Some(feed) = &engine.feed {
            feed.with_memory(|memory| *memory = Memory::default());
        }
        engine.cache.evict(&[Evict::All], now);
        self.other_since = None;
    }
}

impl Stream {
    fn is_due(&self, now: Instant) -> bool {
        let rests = |at: Instant| self.is_of_claims && now.saturating_duration_since(at) < CLAIMS_INTERVAL;
        !self.complete_at.is_some_and(rests)
    }
}

impl Soft {
    /// Those of organizations at most once in a while, all others at once.
    fn take(&mut self, changes: Vec<Evict>, now: Instant) -> Vec<Evict> {
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

impl Grants {
    fn learn(&mut self, event: &Event) {
        let Some(user) = event.payload.user.as_ref().filter(|_| event.aggregate == "usergrant") else {
            return;
        };
        if event.id.is_empty() {
            return;
        }
        if self.users.insert(event.id.clone(), user.clone()).is_none() {
            self.order.push_back(event.id.clone());
        }
        if self.order.len() > MOST_GRANTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.users.remove(&oldest);
        }
    }
}

impl FeedError {
    /// Whether a smaller page may be answered.
    fn asks_for_less(&self) -> bool {
        matches!(self, Self::Issuer(IssuerError::TooLarge { .. }))
    }
}

/// Evicts on a thread of its own: it looks at each verdict, and the library's thread asks the issuer.
async fn evict(engine: &Arc<Engine>, ends: Vec<Evict>, changes: Vec<Evict>) {
    if ends.is_empty() && changes.is_empty() {
        return;
    }
    let (engine, now) = (Arc::clone(engine), engine.clock.now().instant);
    let evicting = tokio::task::spawn_blocking(move || {
        engine.cache.evict(&ends, now);
        engine.cache.evict_softly(&changes, SOFT, now);
    });
    evicting.await.expect("evicting does not panic, and the runtime outlives its tasks");
}

fn count_event(engine: &Engine, event: &Event) {
    // A fixed set of labels: whoever sends the events must not choose them.
    let known =
        [&OF_USERS[..], &OF_PROJECTS, &OF_CLAIMS].into_iter().flatten().find(|kind| **kind == event.kind);
    let kind = known.copied().unwrap_or("other");
    engine.labels.of_feed(FEED_EVENTS, Some(("event_type", kind))).increment(1);
}
