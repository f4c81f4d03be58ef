//! One instance reads the issuer's events for all, and says until when it knows them.

use std::{
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use crate::{
    error::feed::FeedError,
    events::event::Micros,
    peers::publish::settled,
    seal::Sealed,
    store::{Bid, Id, Place, StoreError},
    verdict::{
        engine::Engine,
        shared::{
            Peers,
            item::{Heartbeat, Item},
            log::{Pending, VERSION},
        },
    },
};

/// An instance leads for so long after its last bid, at least.
const LEAST_TERM: Duration = Duration::from_secs(3);
/// After so many failed polls another instance may try.
const MOST_FAILURES: u32 = 3;
const REST: Duration = Duration::from_secs(10);
/// A successor evicts again what happened so shortly before the newest event that its predecessor knew.
const AGAIN: i64 = 75_000_000;

/// Whether this instance reads the events.
pub(crate) enum Turn {
    /// It does, and no other instance needs to be told.
    Alone,
    /// It does, for all.
    Leads(Term),
    /// Another instance does, or nobody may now.
    Waits,
}

/// One poll of the leader.
pub(crate) struct Term {
    /// Another instance may have led before.
    pub(crate) begins: bool,
    /// Events from there on are read again: those that the predecessor may not have told.
    pub(crate) again_from: Option<Micros>,
    /// When the poll began, since 1970 by the store's clock and by ours.
    time: Duration,
    wall: Duration,
}

/// What the instance knows of its lead.
#[derive(Default)]
pub(crate) struct Lead {
    is_leader: bool,
    failures: u32,
    rests_until: Option<Instant>,
    /// The stretch that the heartbeats tell of: the epoch, the number of its first entry, and its time.
    stretch: Option<(Id, u64, i64)>,
}

impl Lead {
    pub(crate) async fn turn(&mut self, engine: &Engine, interval: Duration) -> Turn {
        let Some(peers) = &engine.peers else { return Turn::Alone };
        let now = engine.clock.now();
        let rests = self.rests_until.is_some_and(|until| now.instant < until);
        if rests || peers.log().is_behind(now.instant) {
            self.is_leader = false;
            return Turn::Waits;
        }
        let bid = Bid { who: peers.who, lasts: LEAST_TERM.max(interval * 4) };
        let Ok(Some(time)) = peers.within(peers.store.lead(peers.seals.log_id(), bid)).await else {
            self.is_leader = false;
            return Turn::Waits;
        };
        let begins = !self.is_leader;
        let again_from = if begins { self.begin(peers) } else { None };
        self.is_leader = true;
        let wall = now.system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
        Turn::Leads(Term { begins, again_from, time, wall })
    }

    /// Goes on where the predecessor was, if that is known.
    fn begin(&mut self, peers: &Peers) -> Option<Micros> {
        let log = peers.log();
        let heard = log.heard();
        self.stretch = heard.map(|heard| (log.place().epoch, heard.from, heard.since));
        tracing::info!("this instance reads the events for all");
        heard.map(|heard| Micros(heard.cursor).before(AGAIN))
    }

    /// Events may have been missed: nothing that was asked before is prolonged.
    pub(crate) fn break_off(&mut self) {
        self.stretch = None;
    }

    /// A poll has failed: perhaps another instance reaches the issuer.
    pub(crate) async fn failed(&mut self, engine: &Engine) {
        self.failures += 1;
        let Some(peers) = engine.peers.as_ref().filter(|_| self.failures >= MOST_FAILURES) else { return };
        self.failures = 0;
        self.is_leader = false;
        self.rests_until = engine.clock.now().instant.checked_add(REST);
        let _ = peers.within(peers.store.resign(peers.seals.log_id(), peers.who)).await;
    }

    /// Tells the other instances that all events up to this poll are known, once all that they end is in the log.
    pub(crate) async fn tell(
        &mut self,
        engine: &Arc<Engine>,
        term: &Term,
        cursor: Micros,
        follows_claims: bool,
    ) -> Result<(), FeedError> {
        let Some(peers) = &engine.peers else { return Ok(()) };
        let epoch = peers.log().place().epoch;
        let stretch = self.stretch.filter(|(known, ..)| *known == epoch);
        if stretch.is_none() {
            // A verdict belongs to the stretch if its question was sent after this entry was read.
            peers.publish([Pending { item: Item::Nothing, evicts: Vec::new() }]);
        }
        settled(peers).await.map_err(FeedError::Store)?;
        let (beat, place, tail) = {
            let log = peers.log();
            let (place, tail) = (log.place(), log.tail());
            let began_here = (place.epoch, place.number, cursor.seconds());
            let stretch = stretch.unwrap_or(began_here);
            let (Some(tail), Some(hash), true) = (tail, log.hash(place.number), stretch.0 == place.epoch)
            else {
                return Err(FeedError::Store(StoreError::new("the shared log has begun anew")));
            };
            self.stretch = Some(stretch);
            let beat = Heartbeat {
                epoch: place.epoch,
                number: place.number,
                hash,
                counter: log.next_counter(),
                version: VERSION,
                follows_claims,
                cursor: cursor.0,
                from: stretch.1,
                since: stretch.2,
                wall: millis(term.wall),
                time: millis(term.time),
            };
            (beat, place, tail)
        };
        put(peers, &beat, place, tail).await?;
        self.failures = 0;
        peers.to_read.notify_one();
        Ok(())
    }
}

async fn put(peers: &Peers, beat: &Heartbeat, place: Place, tail: Id) -> Result<(), FeedError> {
    let text = serde_json::to_vec(beat).expect("numbers can be written");
    let sealed = peers.seals.seal(Sealed::Heartbeat, &text).expect("a heartbeat is small");
    let putting = peers.store.put_heartbeat(peers.seals.log_id(), peers.who, place, tail, &sealed);
    if peers.within(putting).await.map_err(FeedError::Store)? {
        return Ok(());
    }
    Err(FeedError::Store(StoreError::new("another instance leads, or the shared log has changed")))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
