//! Follows the issuer's events: polls, evicts what they end, and says until when all of them are known.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    clock::Now,
    error::{causes::causes, feed::FeedError, issuer::IssuerError},
    events::{
        event::Micros,
        table::{OF_CLAIMS, OF_PROJECTS, OF_USERS},
    },
    feed::{
        reader::{Brought, Reader, Step},
        search::{Filter, Search},
        state::{CLAIMS_INTERVAL, Past, Stream, Types},
        users::Users,
    },
    peers::{
        apply::{evict, pending},
        lead::{Lead, Term, Turn},
        waiting::{Echoes, Soft},
    },
    stats::FEED_FAILURES,
    verdict::{engine::Engine, evict::Evict, memory::Memory},
};

/// How often a round reads further back.
const DEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Between two polls, at least.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The pages of one round: more events than are remembered.
pub(super) const MOST_PAGES: usize = 300;
/// A history is another one when the newest event is missing for so long.
const OTHER_HISTORY_AFTER: Duration = Duration::from_secs(5);
/// A failure is logged at once, and then so often.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// The wall clock may run ahead of the monotonic one by so much between two polls; more is a machine that slept.
const MOST_CLOCK_JUMP: Duration = Duration::from_secs(5);

/// Follows the events for one engine, until the engine is gone.
pub(crate) struct Follower {
    engine: Weak<Engine>,
    pub(super) search: Search,
    interval: Duration,
    pub(super) streams: Vec<Stream>,
    pub(super) echoes: Echoes,
    pub(super) soft_echoes: Echoes,
    pub(super) soft: Soft,
    pub(super) users: Users,
    pub(super) types: Types,
    pub(super) past: Past,
    pub(super) lead: Lead,
    /// When a search last showed that this instance could take over.
    pub(super) tried_at: Option<Instant>,
    /// Whether the organization of our project was looked for.
    pub(super) has_looked: bool,
    /// What a predecessor may have missed is read again from there on.
    pub(super) gap: Option<Micros>,
    deep_at: Option<Instant>,
    clocks: Option<(Instant, SystemTime)>,
    other_since: Option<Instant>,
    failures: u32,
    told_at: Option<Instant>,
}

impl Follower {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        search: Search,
        interval: Duration,
        follows_claims: bool,
    ) -> Self {
        let mut streams =
            vec![Stream::new(Filter::new(OF_USERS), false), Stream::new(Filter::new(OF_PROJECTS), false)];
        if follows_claims {
            streams.push(Stream::new(Filter::new(OF_CLAIMS), true));
        }
        Self {
            engine: Arc::downgrade(engine),
            search,
            interval,
            streams,
            echoes: Echoes::default(),
            soft_echoes: Echoes::default(),
            soft: Soft::default(),
            users: Users::default(),
            types: Types::default(),
            past: Past::default(),
            lead: Lead::default(),
            tried_at: None,
            has_looked: false,
            gap: None,
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
                match self.lead.turn(&engine, self.interval).await {
                    Turn::Waits => {
                        self.stand_by(&engine).await;
                        self.interval
                    }
                    Turn::Fails(error) => {
                        // The store is asked again soon: it costs ZITADEL nothing.
                        self.settle(&engine, Err(FeedError::Store(error)));
                        self.interval
                    }
                    Turn::Alone => {
                        let outcome = self.poll(&engine, None).await;
                        self.settle(&engine, outcome)
                    }
                    Turn::Leads(term) => {
                        let outcome = self.poll_for_all(&engine, &term).await;
                        self.settle(&engine, outcome)
                    }
                }
            };
            // From beginning to beginning, but never without a rest.
            tokio::time::sleep(pause.saturating_sub(began.elapsed()).max(SHORTEST_PAUSE)).await;
        }
    }

    /// One poll. What it brings is applied even if it fails at its end. False if it only found out where to begin.
    pub(super) async fn poll(
        &mut self,
        engine: &Arc<Engine>,
        term: Option<&Term>,
    ) -> Result<bool, FeedError> {
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
            match self.round(engine, number, is_deep, &mut look_ups).await {
                Ok(()) => self.streams[number].complete_at = Some(began.instant),
                Err(error) => outcome = Err(error),
            }
        }
        let again = self.soft_echoes.due(began.instant);
        let again = self.soft.take(again, began.instant);
        let due = self.echoes.due(began.instant);
        let told: Vec<_> = pending(&due, false, None).chain(pending(&again, true, None)).collect();
        evict(engine, due, again, told).await;
        outcome?;
        self.know_project(engine).await?;
        if is_first {
            return Ok(false);
        }
        self.fill_gap(engine).await?;
        match term {
            None => engine.fed.advance(self.known_until(began.instant)),
            // Read by this engine as by all others.
            Some(term) => self.tell(engine, term, began.instant).await?,
        }
        if let Some(feed) = &engine.feed {
            let now = self.streams[0].reader.newest().map(Micros::seconds).unwrap_or_default();
            feed.with_memory(|memory| memory.sweep(now));
        }
        self.learn_types(engine, began.instant).await;
        self.catch_up(engine, began.instant).await;
        Ok(true)
    }

    /// Reads a stream up to its newest event, and applies each page.
    async fn round(
        &mut self,
        engine: &Arc<Engine>,
        number: usize,
        is_deep: bool,
        look_ups: &mut usize,
    ) -> Result<(), FeedError> {
        let mut query = self.streams[number].reader.begin(is_deep);
        for page in 0..MOST_PAGES {
            let Stream { filter, reader, .. } = &mut self.streams[number];
            match self.search.page(filter, &query, page == 0).await {
                Ok(page) => {
                    let mut brought = Brought::default();
                    let step = reader.page(page, &mut brought);
                    self.apply(engine, brought, look_ups).await;
                    match step? {
                        Step::More(next) => query = next,
                        Step::Complete => return Ok(()),
                    }
                }
                Err(error @ FeedError::Issuer(IssuerError::TooLarge { .. })) => {
                    query = reader.ask_for_less().ok_or(error)?;
                }
                Err(error) => {
                    if matches!(error, FeedError::Issuer(IssuerError::TimedOut)) {
                        // The next poll asks for less.
                        reader.has_timed_out();
                    }
                    return Err(error);
                }
            }
        }
        Err(FeedError::Issuer(IssuerError::Unusable { problem: "its pages do not end" }))
    }

    /// The least of what the searches know; what only changes claims may be known later by two of its intervals.
    pub(super) fn known_until(&self, began: Instant) -> Instant {
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
                self.break_off(engine);
            }
        }
    }

    pub(super) fn break_off(&mut self, engine: &Engine) {
        engine.fed.break_off(engine.clock.now().instant);
        self.lead.break_off();
    }

    pub(super) fn forget_streams(&mut self) {
        for stream in &mut self.streams {
            stream.reader = Reader::new();
            stream.complete_at = None;
        }
    }

    /// Logs and counts the outcome of a poll. Gives the time until the next one.
    fn settle(&mut self, engine: &Engine, outcome: Result<bool, FeedError>) -> Duration {
        let now = engine.clock.now().instant;
        let Some(feed) = &engine.feed else { return self.interval };
        let error = match outcome {
            Ok(true) => None,
            // Nothing is known yet.
            Ok(false) => return self.interval,
            Err(error) => Some(error),
        };
        let Some(error) = error else {
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
                self.start_anew(engine);
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
    pub(super) fn start_anew(&mut self, engine: &Engine) {
        tracing::error!("ZITADEL HAS ANOTHER HISTORY: its newest event is gone; all verdicts are evicted");
        self.break_off(engine);
        self.gap = None;
        self.forget_streams();
        if let Some(feed) = &engine.feed {
            feed.with_memory(|memory| *memory = Memory::default());
            self.past = Past::default();
        }
        engine.evict(&[Evict::All]);
        self.other_since = None;
    }
}
