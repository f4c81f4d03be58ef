//! Reads the past, for JWTs that were issued before the start.

use std::time::{Duration, Instant};

use crate::{
    error::{feed::FeedError, issuer::IssuerError},
    events::event::Micros,
    feed::{
        follow::{Follower, MOST_PAGES},
        reader::{MOST_PER_PAGE, Query},
        state::Stream,
    },
    verdict::{engine::Engine, evict::Evict, memory::DEPTH},
};

/// In seconds: so much of the past is read after each poll, until enough is known for JWTs.
const SLICE: i64 = 300;
/// After a failure, before the next attempt.
const REST: Duration = Duration::from_secs(30);

impl Follower {
    /// Reads one more stretch of the past. A failure delays no poll.
    pub(super) async fn catch_up(&mut self, engine: &Engine, now: Instant) {
        if self.past.rests_until.is_some_and(|until| now < until) {
            return;
        }
        self.past.rests_until = match self.read_slice(engine).await {
            Ok(()) => None,
            Err(_) => now.checked_add(REST),
        };
    }

    async fn read_slice(&mut self, engine: &Engine) -> Result<(), FeedError> {
        let Some(feed) = &engine.feed else { return Ok(()) };
        let Some((known, has_lost)) = feed.with_memory(|memory| (memory.known_from(), memory.has_lost()))
        else {
            return Ok(());
        };
        let newest = self.streams.iter().filter_map(|stream| stream.reader.newest()).max();
        let from = self.streams.iter().filter_map(|stream| stream.reader.from()).max();
        let (Some(newest), Some(from)) = (newest, from) else { return Ok(()) };
        let known = known.unwrap_or(from.seconds() + 1);
        let oldest = self.oldest().await?;
        if has_lost || newest.seconds() - known >= DEPTH || known <= oldest {
            return Ok(());
        }
        let since = oldest.max(known.saturating_sub(SLICE));
        let range = (Micros::of_seconds(since - 1), Micros::of_seconds(known + 1));
        let mut look_ups = 0;
        for number in 0..self.streams.len() {
            if !self.streams[number].is_of_claims {
                self.read_past(engine, number, range, &mut look_ups).await?;
            }
        }
        feed.with_memory(|memory| memory.know_from(since));
        Ok(())
    }

    /// The oldest event that all searches still show, in Unix seconds. Where the instance's first event is shown, nothing
    /// is missing.
    async fn oldest(&mut self) -> Result<i64, FeedError> {
        if let Some(oldest) = self.past.oldest {
            return Ok(oldest);
        }
        let first = self.search.newest("instance", "instance.added").await?;
        let mut oldest = i64::MIN;
        for number in 0..self.streams.len() {
            let Stream { filter, is_of_claims, .. } = &self.streams[number];
            if first.is_empty() && !is_of_claims {
                let first = self.search.oldest(filter).await?;
                oldest = oldest.max(first.map_or(i64::MAX, Micros::seconds));
            }
        }
        self.past.oldest = Some(oldest);
        Ok(oldest)
    }

    async fn read_past(
        &mut self,
        engine: &Engine,
        number: usize,
        (since, until): (Micros, Micros),
        look_ups: &mut usize,
    ) -> Result<(), FeedError> {
        let Some(feed) = &engine.feed else { return Ok(()) };
        let filter = self.streams[number].filter.clone();
        let mut query = Query { since: Some(since), until: Some(until), limit: MOST_PER_PAGE };
        for _ in 0..MOST_PAGES {
            let page = self.search.page(&filter, &query, false).await?;
            let is_full = page.len() >= query.limit;
            let last = page.iter().map(|(created, _)| *created).max();
            for (created, event) in &page {
                let effect = self.effect(engine, event);
                feed.remember(&effect.remembered(event), created.seconds());
                if let Some(needed) = effect.needs.filter(|_| !effect.only_widens) {
                    let ended = self.users.look_up(&mut self.search, needed, look_ups).await;
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
        Err(FeedError::Issuer(IssuerError::Unusable { problem: "its pages do not end" }))
    }
}
