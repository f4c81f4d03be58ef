//! Reads the events for all instances.

use std::{sync::Arc, time::Instant};

use crate::{
    error::feed::FeedError,
    feed::{
        follow::{Follower, MOST_PAGES},
        reader::{Brought, MOST_PER_PAGE, Query},
    },
    peers::lead::Term,
    verdict::engine::Engine,
};

impl Follower {
    /// One poll of the leader.
    pub(super) async fn poll_for_all(&mut self, engine: &Arc<Engine>, term: &Term) -> Result<(), FeedError> {
        if term.begins {
            self.gap = term.again_from;
            self.forget_streams();
        }
        let outcome = self.poll(engine, Some(term)).await;
        if outcome.is_err() {
            self.lead.failed(engine).await;
        }
        outcome
    }

    /// Tells the other instances how much is known. What only changes claims may be known later: it must not be told as
    /// known before.
    pub(super) async fn tell(
        &mut self,
        engine: &Arc<Engine>,
        term: &Term,
        began: Instant,
    ) -> Result<(), FeedError> {
        let cursor = self.streams.iter().filter_map(|stream| stream.reader.newest()).max();
        let Some(cursor) = cursor.filter(|_| self.known_until(began) >= began) else { return Ok(()) };
        let follows_claims = self.streams.iter().any(|stream| stream.is_of_claims);
        self.lead.tell(engine, term, cursor, follows_claims).await
    }

    /// Evicts again what a predecessor may not have published.
    pub(super) async fn fill_gap(&mut self, engine: &Arc<Engine>) -> Result<(), FeedError> {
        let Some(since) = self.gap else { return Ok(()) };
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
                let mut look_ups = 0;
                self.apply(engine, Brought { events, ..Brought::default() }, &mut look_ups).await;
                let (true, Some(last)) = (is_full, last) else { break };
                // All events of one push have one time.
                let next = last.before(1);
                query.since = Some(if query.since.is_some_and(|since| since < next) { next } else { last });
            }
        }
        self.gap = None;
        Ok(())
    }
}
