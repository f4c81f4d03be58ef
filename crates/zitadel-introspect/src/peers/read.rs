//! Reads the log, and does here what the other instances have done.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant, UNIX_EPOCH},
};

use crate::{
    clock::Now,
    peers::{
        apply::{Evictions, ours},
        waiting::Soft,
    },
    seal::{Sealed, Unopened},
    stats::SHARED_UNOPENED,
    store::{Page, StoreError},
    verdict::{
        engine::Engine,
        memory::Memory,
        shared::{Peers, heartbeat::Times, item::Heartbeat, log::Brought, random_id},
    },
};

/// How often the log is read.
const INTERVAL: Duration = Duration::from_millis(100);
/// A state that lasts is logged at once, and then so often.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Reads the log for one engine, until the engine is gone.
pub(crate) struct Reader {
    engine: Weak<Engine>,
    /// Anybody who registers can cause those by organization.
    soft: Soft,
    told: Told,
}

/// What was logged last.
#[derive(Default)]
struct Told {
    is_blind: bool,
    at: Option<Instant>,
    foreign_at: Option<Instant>,
    stuck_at: Option<Instant>,
}

impl Reader {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        Self { engine: Arc::downgrade(engine), soft: Soft::default(), told: Told::default() }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let Some(engine) = self.engine.upgrade() else { return };
            let Some(peers) = &engine.peers else { return };
            let began = Instant::now();
            let outcome = self.read(&engine, peers).await;
            self.told.tell(&engine, peers, outcome.as_ref().err());
            match outcome {
                Ok(true) => {
                    let rest = INTERVAL.saturating_sub(began.elapsed());
                    let _ = tokio::time::timeout(rest, peers.to_read.notified()).await;
                }
                // The next page at once.
                Ok(false) => {}
                Err(_) => tokio::time::sleep(INTERVAL).await,
            }
        }
    }

    /// One read. True if it came to the end of the log.
    async fn read(&mut self, engine: &Arc<Engine>, peers: &Peers) -> Result<bool, StoreError> {
        let now = engine.clock.now();
        let behind = peers.log().place();
        let log = peers.seals.log_id();
        let page = peers.within(peers.store.read(log, random_id(), behind)).await?;
        compare_clocks(peers, now, &page);
        let ours = ours(engine);
        let evicts = |item: &_| Evictions::of(std::slice::from_ref(item), ours).all();
        let brought = peers.log().read(&page, &peers.seals, evicts);
        let is_end = brought.is_end;
        let (is_broken, starts_anew) = (brought.is_broken, brought.starts_anew);
        self.apply(engine, peers, brought).await;
        if is_broken {
            if starts_anew {
                tracing::error!("the history of the shared log was changed: a new one begins");
            }
            peers.within(peers.store.begin_anew(log, page.end.epoch, random_id())).await?;
            return Ok(false);
        }
        if is_end {
            peers.log().caught_up(now.instant);
            peers.has_read.notify_waiters();
            hear(engine, peers, &page, now).await?;
        }
        Ok(is_end)
    }

    /// Does what the other instances have done.
    async fn apply(&mut self, engine: &Arc<Engine>, peers: &Peers, brought: Brought) {
        if brought.unopened.is_some() {
            engine.labels.counter(SHARED_UNOPENED).increment(1);
            // What it says is not known: no event prolongs what was asked before.
            break_off(engine);
        }
        if brought.starts_anew {
            break_off(engine);
            Evictions::everything().apply(engine).await;
        }
        let ours = ours(engine);
        let mut evictions = Evictions::of(&brought.items, ours);
        evictions.changes = self.soft.take(evictions.changes, engine.clock.now().instant);
        evictions.apply(engine).await;
        if !peers.log().outbox.has_published_all() {
            peers.to_publish.notify_one();
        }
    }
}

/// Nothing that was asked before is prolonged, and of JWTs that were issued before nothing is known.
fn break_off(engine: &Engine) {
    engine.fed.break_off(engine.clock.now().instant);
    if let Some(feed) = &engine.feed {
        feed.with_memory(Memory::doubt);
    }
}

/// Takes the newest heartbeat of who reads the issuer's events.
async fn hear(engine: &Arc<Engine>, peers: &Peers, page: &Page, sent: Now) -> Result<(), StoreError> {
    let Some(sealed) = &page.heartbeat else { return Ok(()) };
    let opened = peers.seals.open(Sealed::Heartbeat, sealed);
    let beat = opened.ok().and_then(|text| serde_json::from_slice::<Heartbeat>(&text).ok());
    let Some(beat) = beat else {
        if peers.see_foreign(sealed, sent.instant) {
            engine.labels.counter(SHARED_UNOPENED).increment(1);
        }
        return Ok(());
    };
    let wall = sent.system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
    let times = Times { sent: sent.instant, wall, store: page.time };
    let heard = peers.log().hear(&beat, times, peers.needs_claims);
    match heard {
        Ok(None) => {}
        Ok(Some(known)) => {
            if known.is_new_stretch {
                break_off(engine);
            }
            if let Some(feed) = &engine.feed {
                feed.with_memory(|memory| {
                    if memory.known_from().is_none() {
                        memory.know_from(known.since);
                    }
                });
            }
            engine.fed.advance(known.until);
        }
        Err(_) => {
            tracing::error!("a heartbeat of another history: a new one begins");
            break_off(engine);
            Evictions::everything().apply(engine).await;
            let log = peers.seals.log_id();
            peers.within(peers.store.begin_anew(log, page.end.epoch, random_id())).await?;
        }
    }
    Ok(())
}

fn compare_clocks(peers: &Peers, sent: Now, page: &Page) {
    let wall = sent.system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
    let differ = Peers::are_apart(wall, sent.instant.elapsed(), page.time);
    if differ && !peers.set_clocks_differ(true) {
        let apart = humantime::format_duration(Duration::from_secs(wall.abs_diff(page.time).as_secs()));
        tracing::error!(apart = %apart, "our clock and the store's differ: no verdicts are shared; set the clocks");
    } else if !differ && peers.set_clocks_differ(false) {
        tracing::info!("our clock and the store's agree again");
    }
}

fn explain(problem: Unopened) -> String {
    match problem {
        Unopened::OtherSecret(id) => {
            format!(
                "its newest entry is sealed with a secret that is not ours ({:08x})",
                u32::from_be_bytes(id)
            )
        }
        Unopened::Broken => "its newest entry was changed: it does not open".to_owned(),
    }
}

impl Told {
    fn tell(&mut self, engine: &Engine, peers: &Peers, failure: Option<&StoreError>) {
        let now = engine.clock.now().instant;
        let (is_blind, unopened) = {
            let log = peers.log();
            (log.is_blind(now), log.unopened())
        };
        let is_due = self.at.is_none_or(|at| now.saturating_duration_since(at) >= TOLD_EVERY);
        // Before the first read to the end it is always blind, for a moment.
        let problem = unopened.map(explain).or(failure.map(ToString::to_string));
        if is_blind && ((!self.is_blind && self.at.is_some()) || (is_due && problem.is_some())) {
            let problem = problem.unwrap_or_else(|| "it cannot be read to its end".to_owned());
            tracing::error!(problem, "the shared log is not known: verdicts lapse as without it");
            self.at = Some(now);
        } else if !is_blind && (self.is_blind || self.at.is_none()) {
            tracing::info!("the shared log is current");
            self.at = Some(now);
        }
        let waits = peers.log().outbox.waits_for(now);
        if waits > TOLD_EVERY / 60
            && self.stuck_at.is_none_or(|at| now.saturating_duration_since(at) >= TOLD_EVERY)
        {
            let problem = peers.unpublished().map_or_else(String::new, |error| error.to_string());
            tracing::error!(
                problem,
                "evictions cannot be told to the other instances: there they count later"
            );
            self.stuck_at = Some(now);
        }
        if peers.is_foreign(now)
            && self.foreign_at.is_none_or(|at| now.saturating_duration_since(at) >= TOLD_EVERY)
        {
            tracing::error!(
                "another instance reads the events with a secret that is not ours: its secret or ours is wrong"
            );
            self.foreign_at = Some(now);
        }
        self.is_blind = is_blind;
    }
}
