//! Reads the past, for JWTs that were issued before the start.

use crate::{
    error::feed::FeedError,
    events::event::Micros,
    feed::{
        follow::Follower,
        reader::{MOST_PER_PAGE, Query},
    },
    verdict::{engine::Engine, evict::Evict, memory::DEPTH},
};

/// In seconds: so much of the past is read after each poll, until enough is known for JWTs.
const SLICE: i64 = 300;

impl Follower {
    /// Reads one more stretch of the past, for JWTs that were issued before the start.
    pub(super) async fn catch_up(&mut self, engine: &Engine) -> Result<(), FeedError> {
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
        let filter = self.streams[number].filter.clone();
        let mut query = Query { since: Some(since), until: Some(until), limit: MOST_PER_PAGE };
        loop {
            let page = self.search.page(&filter, &query).await?;
            let is_full = page.len() >= query.limit;
            let last = page.iter().map(|(created, _)| *created).max();
            for (created, event) in &page {
                let effect = self.effect(engine, event);
                if effect.only_widens {
                    continue;
                }
                feed.remember(&effect.ends, created.seconds());
                if let Some(needed) = effect.needs {
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
    }
}
