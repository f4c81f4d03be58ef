//! Reads the events for all instances.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::{causes::causes, feed::FeedError},
    events::table::ANCHOR,
    feed::{
        follow::{Follower, MOST_PAGES},
        reader::{Brought, MOST_PER_PAGE, Query},
    },
    peers::lead::Term,
    verdict::{engine::Engine, memory::Memory},
};

/// The streams that every leader has: the first ones.
const BUILT_IN: usize = 2;
/// An instance on standby tries its own credential so often.
const TRIED_EVERY: Duration = Duration::from_secs(60);
/// A successor evicts again what happened so shortly before the newest event that its predecessor knew, in microseconds.
const AGAIN: i64 = 75_000_000;

impl Follower {
    /// One poll of the leader.
    pub(super) async fn poll_for_all(
        &mut self,
        engine: &Arc<Engine>,
        term: &Term,
    ) -> Result<bool, FeedError> {
        if term.begins {
            self.gap = term.predecessor;
            self.forget_streams();
            if term.predecessor.is_none()
                && let Some(feed) = &engine.feed
            {
                // What happened before is not read again.
                feed.with_memory(Memory::doubt);
            }
        }
        let outcome = self.poll(engine, Some(term)).await;
        // Another history is one for every instance: the next leader must not take it for its own. And who cannot reach the
        // store does not lead any more.
        let is_ours = |error: &FeedError| !matches!(error, FeedError::OtherHistory | FeedError::Store(_));
        if outcome.as_ref().is_err_and(is_ours) {
            self.lead.failed(engine).await;
        }
        outcome
    }

    /// While another instance reads the events, this one tries whether it could take over.
    pub(super) async fn stand_by(&mut self, engine: &Engine) {
        let Some(feed) = &engine.feed else { return };
        let now = engine.clock.now().instant;
        if self.tried_at.is_some_and(|at| now.saturating_duration_since(at) < TRIED_EVERY) {
            return;
        }
        self.tried_at = Some(now);
        match self.search.newest("instance", ANCHOR).await {
            Ok(newest) => {
                let at = newest.iter().map(|(created, _)| created.to_time()).max();
                feed.settle(at, None);
            }
            Err(error) => {
                let problem = causes(&error);
                tracing::warn!(problem, "this instance could not take over to read the events");
                feed.settle(None, Some(error));
            }
        }
    }

    /// Tells the other instances how much is known. What only changes claims may be known later: it must not be told as
    /// known before.
    pub(super) async fn tell(
        &mut self,
        engine: &Arc<Engine>,
        term: &Term,
        began: Instant,
    ) -> Result<(), FeedError> {
        // Of what every leader reads.
        let streams = self.streams.iter().take(BUILT_IN);
        let cursor = streams.filter_map(|stream| stream.reader.newest()).max();
        let Some(cursor) = cursor.filter(|_| self.known_until(began) >= began) else { return Ok(()) };
        let follows_claims = self.streams.iter().any(|stream| stream.is_of_claims);
        self.lead.tell(engine, term, cursor, follows_claims).await
    }

    /// Evicts again what a predecessor may not have published. Its newest event must be there: otherwise this is another
    /// history.
    pub(super) async fn fill_gap(&mut self, engine: &Arc<Engine>) -> Result<(), FeedError> {
        let Some(cursor) = self.gap else { return Ok(()) };
        let since = cursor.before(AGAIN);
        let mut is_there = false;
        for number in 0..self.streams.len() {
            let filter = self.streams[number].filter.clone();
            let mut query = Query { since: Some(since), until: None, limit: MOST_PER_PAGE };
            for page in 0.. {
                if page == MOST_PAGES {
                    // Too much was missed: who asked before is asked about again.
                    self.break_off(engine);
                    break;
                }
                let events = self.search.page(&filter, &query, false).await?;
                let (is_full, last) = (events.len() >= query.limit, events.iter().map(|(at, _)| *at).max());
                is_there |= events.iter().any(|(at, _)| *at == cursor);
                let mut look_ups = 0;
                self.apply(engine, Brought { events, ..Brought::default() }, &mut look_ups).await;
                let (true, Some(last)) = (is_full, last) else { break };
                // All events of one push have one time.
                let next = last.before(1);
                query.since = Some(if query.since.is_some_and(|since| since < next) { next } else { last });
            }
        }
        if !is_there {
            // Looked for again: it may only be late.
            return Err(FeedError::OtherHistory);
        }
        self.gap = None;
        Ok(())
    }
}
