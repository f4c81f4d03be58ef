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
            heartbeat::{Poll, Stretch},
            item::{Heartbeat, Item},
            outbox::Pending,
            random_id,
        },
    },
};

/// An instance leads for so long after its last bid, at least.
const LEAST_TERM: Duration = Duration::from_secs(3);
/// After so many failed polls another instance may try.
const MOST_FAILURES: u32 = 3;
/// After such failures this instance does not try to lead for so long.
const REST: Duration = Duration::from_secs(10);

/// Whether this instance reads the events.
pub(crate) enum Turn {
    /// It does, and no other instance needs to be told.
    Alone,
    /// It does, for all.
    Leads(Term),
    /// Another instance does, or nobody may now.
    Waits,
    /// Whether another one does cannot be found out.
    Fails(StoreError),
}

/// One poll of the leader.
pub(crate) struct Term {
    /// Another instance may have led before.
    pub(crate) begins: bool,
    /// The newest event that the predecessor knew, if that is known.
    pub(crate) predecessor: Option<Micros>,
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
    /// The stretch that the heartbeats tell of.
    stretch: Option<Stretch>,
}

impl Lead {
    pub(crate) async fn turn(&mut self, engine: &Engine, interval: Duration) -> Turn {
        let Some(peers) = &engine.peers else { return Turn::Alone };
        let now = engine.clock.now();
        let rests = self.rests_until.is_some_and(|until| now.instant < until);
        // Another secret: this instance cannot open the heartbeats of the others, and they could not open its own.
        if rests || peers.log().is_behind(now.instant) || peers.is_foreign(now.instant) {
            self.is_leader = false;
            return Turn::Waits;
        }
        let bid = Bid { who: peers.who, lasts: LEAST_TERM.max(interval * 4) };
        let time = match peers.within(peers.store.lead(peers.seals.log_id(), bid)).await {
            Ok(Some(time)) => time,
            Ok(None) => {
                self.is_leader = false;
                return Turn::Waits;
            }
            Err(error) => {
                self.is_leader = false;
                return Turn::Fails(error);
            }
        };
        let begins = !self.is_leader;
        let predecessor = if begins { self.begin(peers) } else { None };
        self.is_leader = true;
        let wall = now.system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
        Turn::Leads(Term { begins, predecessor, time, wall })
    }

    /// Goes on where the predecessor was, if that is known.
    fn begin(&mut self, peers: &Peers) -> Option<Micros> {
        let log = peers.log();
        self.stretch = log.stretch();
        tracing::info!("this instance reads the events for all");
        log.cursor().map(Micros)
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
        if peers.log().is_headless() {
            return begin_anew(peers).await.map_err(FeedError::Store);
        }
        let epoch = peers.log().place().epoch;
        let stretch = self.stretch.filter(|stretch| stretch.epoch == epoch);
        // A verdict belongs to a new stretch if its question was sent after this entry was read.
        let mark = Pending { item: Item::Nothing, evicts: Vec::new() };
        let number = peers.publish(stretch.is_none().then_some(mark));
        settled(peers, number).await.map_err(FeedError::Store)?;
        let poll = Poll { wall: term.wall, store: term.time, cursor: cursor.0, follows_claims };
        let composed = {
            let log = peers.log();
            log.compose(stretch, poll).zip(log.tail())
        };
        let (beat, tail) =
            composed.ok_or_else(|| FeedError::Store(StoreError::new("the shared log has begun anew")))?;
        self.stretch = Some(Stretch { epoch: beat.epoch, from: beat.from, since: beat.since });
        put(peers, &beat, tail).await?;
        self.failures = 0;
        peers.to_read.notify_one();
        Ok(())
    }
}

/// The log keeps its newest entries only, and nobody has told anything that they could be compared with.
async fn begin_anew(peers: &Peers) -> Result<(), StoreError> {
    let (log, epoch) = (peers.seals.log_id(), peers.log().place().epoch);
    tracing::warn!("the beginning of the shared log is lost, and so is its last heartbeat: a new log begins");
    peers.within(peers.store.begin_anew(log, epoch, random_id())).await?;
    Err(StoreError::new("the shared log has begun anew"))
}

async fn put(peers: &Peers, beat: &Heartbeat, tail: Id) -> Result<(), FeedError> {
    let text = serde_json::to_vec(beat).expect("numbers can be written");
    let sealed = peers.seals.seal(Sealed::Heartbeat, &text).expect("a heartbeat is small");
    let place = Place { epoch: beat.epoch, number: beat.number };
    let putting = peers.store.put_heartbeat(peers.seals.log_id(), peers.who, place, tail, &sealed);
    if peers.within(putting).await.map_err(FeedError::Store)? {
        return Ok(());
    }
    Err(FeedError::Store(StoreError::new("another instance leads, or the shared log has changed")))
}
