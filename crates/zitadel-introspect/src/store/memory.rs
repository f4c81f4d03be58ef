//! A store in memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::store::{
    Bid, Id, LEAST_KEPT, LogEntry, LogId, MOST_ENTRIES, Page, Place, SharedStore, StoreError, StoreFuture,
};

/// A store in memory, for tests: verifiers of one process that share it behave as instances that share an engine.
///
/// A test can make it fail: [`go_away`](Self::go_away), [`come_back`](Self::come_back), [`wipe`](Self::wipe), and
/// [`snapshot`](Self::snapshot) with [`restore`](Self::restore).
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<State>);

/// What a [`MemoryStore`] held at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot(HashMap<LogId, Log>, HashMap<(LogId, [u8; 32]), Vec<u8>>);

#[derive(Debug, Default)]
struct State {
    logs: HashMap<LogId, Log>,
    verdicts: HashMap<(LogId, [u8; 32]), Vec<u8>>,
    is_away: bool,
    is_read_only: bool,
    ahead: Duration,
}

#[derive(Debug, Clone)]
struct Log {
    end: Place,
    tail: Id,
    entries: VecDeque<LogEntry>,
    heartbeat: Option<Vec<u8>>,
    leader: Option<(Id, Instant)>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on every operation fails.
    pub fn go_away(&self) {
        self.state().is_away = true;
    }

    /// Operations work again.
    pub fn come_back(&self) {
        self.state().is_away = false;
    }

    /// Forgets everything.
    pub fn wipe(&self) {
        let mut state = self.state();
        state.logs.clear();
        state.verdicts.clear();
    }

    /// What the store holds now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        Snapshot(state.logs.clone(), state.verdicts.clone())
    }

    /// The store holds what it held then, as after a failover that lost its newest writes.
    pub fn restore(&self, snapshot: Snapshot) {
        let mut state = self.state();
        (state.logs, state.verdicts) = (snapshot.0, snapshot.1);
    }

    /// Keeps only so many of the newest entries of each log.
    pub fn trim(&self, keep: usize) {
        for log in self.state().logs.values_mut() {
            log.entries.drain(..log.entries.len().saturating_sub(keep));
        }
    }

    /// From now on nothing can be written, as with a full memory or a replica; or it can again.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.state().is_read_only = is_read_only;
    }

    /// Moves the clock of the store forward.
    pub fn set_ahead(&self, ahead: Duration) {
        self.state().ahead = ahead;
    }

    /// Changes every verdict that is held.
    pub fn change_verdicts(&self, change: impl FnMut(&mut Vec<u8>)) {
        self.state().verdicts.values_mut().for_each(change);
    }

    /// Changes the newest entry of each log.
    pub fn change_newest_entries(&self, mut change: impl FnMut(&mut LogEntry)) {
        self.state().logs.values_mut().filter_map(|log| log.entries.back_mut()).for_each(&mut change);
    }

    /// How many verdicts are held.
    #[must_use]
    pub fn verdicts(&self) -> usize {
        self.state().verdicts.len()
    }

    /// Suppresses the newest entry, as a hostile store may, and keeps the heartbeat.
    #[cfg(test)]
    pub(crate) fn suppress_newest(&self, log: LogId) {
        if let Some(log) = self.state().logs.get_mut(&log)
            && log.entries.pop_back().is_some()
        {
            log.end.number -= 1;
            log.tail = log.entries.back().map_or(log.end.epoch, |entry| entry.id);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<'a, T: Send + 'a>(&self, work: impl FnOnce(&mut State) -> T) -> StoreFuture<'a, T> {
        if self.state().is_read_only {
            return Box::pin(async { Err(StoreError::new("the store cannot be written")) });
        }
        self.answer(work)
    }

    fn answer<'a, T: Send + 'a>(&self, work: impl FnOnce(&mut State) -> T) -> StoreFuture<'a, T> {
        let mut state = self.state();
        let answer =
            if state.is_away { Err(StoreError::new("the store is away")) } else { Ok(work(&mut state)) };
        Box::pin(async { answer })
    }
}

impl State {
    fn log(&mut self, log: LogId, fresh: Id) -> &mut Log {
        self.logs.entry(log).or_insert_with(|| Log::new(fresh))
    }

    fn time(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + self.ahead
    }
}

impl Log {
    fn new(epoch: Id) -> Self {
        Self {
            end: Place { epoch, number: 0 },
            tail: epoch,
            entries: VecDeque::new(),
            heartbeat: None,
            leader: None,
        }
    }

    fn leader(&self) -> Option<Id> {
        self.leader.filter(|(_, until)| *until > Instant::now()).map(|(who, _)| who)
    }
}

impl SharedStore for MemoryStore {
    fn append<'a>(&'a self, log: LogId, fresh: Id, id: Id, sealed: &'a [u8]) -> StoreFuture<'a, Place> {
        self.write(|state| {
            let log = state.log(log, fresh);
            log.end.number += 1;
            let entry = LogEntry { number: log.end.number, before: log.tail, id, sealed: sealed.to_vec() };
            log.entries.push_back(entry);
            log.tail = id;
            if log.entries.len() > LEAST_KEPT {
                log.entries.pop_front();
            }
            log.end
        })
    }

    fn read(&self, log: LogId, fresh: Id, behind: Place) -> StoreFuture<'_, Page> {
        self.answer(|state| {
            let time = state.time();
            let log = state.log(log, fresh);
            let is_same = behind.epoch == log.end.epoch;
            let wanted = log.entries.iter().filter(|entry| is_same && entry.number > behind.number);
            let entries = wanted.take(MOST_ENTRIES).cloned().collect();
            Page { end: log.end, tail: log.tail, heartbeat: log.heartbeat.clone(), entries, time }
        })
    }

    fn begin_anew(&self, log: LogId, old: Id, fresh: Id) -> StoreFuture<'_, ()> {
        self.write(|state| {
            let log = state.log(log, fresh);
            if log.end.epoch == old {
                *log = Log { leader: log.leader, ..Log::new(fresh) };
            }
        })
    }

    fn lead(&self, log: LogId, bid: Bid) -> StoreFuture<'_, Option<Duration>> {
        self.write(|state| {
            let time = state.time();
            // A leader needs no log yet.
            let log = state.log(log, bid.who);
            if log.leader().is_some_and(|leader| leader != bid.who) {
                return None;
            }
            log.leader = Some((bid.who, Instant::now() + bid.lasts));
            Some(time)
        })
    }

    fn resign(&self, log: LogId, who: Id) -> StoreFuture<'_, ()> {
        self.write(|state| {
            let log = state.log(log, who);
            log.leader = log.leader.filter(|(leader, _)| *leader != who);
        })
    }

    fn put_heartbeat<'a>(
        &'a self,
        log: LogId,
        who: Id,
        place: Place,
        tail: Id,
        sealed: &'a [u8],
    ) -> StoreFuture<'a, bool> {
        self.write(|state| {
            let log = state.log(log, who);
            let is_there = if place.number == 0 {
                place.epoch == tail
            } else {
                log.entries.iter().any(|entry| entry.number == place.number && entry.id == tail)
            };
            let may = log.leader() == Some(who) && log.end.epoch == place.epoch && is_there;
            if may {
                log.heartbeat = Some(sealed.to_vec());
            }
            may
        })
    }

    fn take<'a>(&'a self, log: LogId, name: &'a [u8; 32]) -> StoreFuture<'a, Option<Vec<u8>>> {
        self.answer(|state| state.verdicts.get(&(log, *name)).cloned())
    }

    fn put<'a>(
        &'a self,
        log: LogId,
        name: &'a [u8; 32],
        sealed: &'a [u8],
        _lifetime: Duration,
    ) -> StoreFuture<'a, ()> {
        self.write(|state| {
            state.verdicts.insert((log, *name), sealed.to_vec());
        })
    }
}
