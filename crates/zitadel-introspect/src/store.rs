//! For writers of stores: what several instances of an API reach together.
//!
//! A [`SharedStore`] carries a log of evictions and sealed verdicts. It sees neither tokens nor claims: everything that it
//! holds is sealed, and whatever it answers can only make verdicts older. `zitadel-introspect-valkey` is such a store, for
//! Valkey and Redis.

#[cfg(feature = "test-util")]
pub(crate) mod memory;

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

#[cfg(feature = "test-util")]
pub use self::memory::{MemoryStore, Snapshot};

/// The answer of a store, to be waited for.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A random number that names an epoch of the log, one of its entries, or an instance.
pub type Id = [u8; 16];

/// Names the log of one issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub(crate) [u8; 8]);

/// In hexadecimal, 16 characters.
impl fmt::Display for LogId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A place in the log: all entries up to `number` have been read.
///
/// The log counts its entries from 1. It has an epoch, which the store makes with the first entry or read; where the
/// contents of the store were lost there is another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "writers of stores make and read them")]
pub struct Place {
    /// The epoch.
    pub epoch: Id,
    /// The number of the last entry; 0 before the first one.
    pub number: u64,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "as above")]
pub struct LogEntry {
    /// Its number: one more than that of the entry before.
    pub number: u64,
    /// The id of the entry before; for the first entry, the epoch.
    pub before: Id,
    /// Its own id.
    pub id: Id,
    /// What it says, sealed.
    pub sealed: Vec<u8>,
}

/// What a read of the log brings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "as above")]
pub struct Page {
    /// The epoch, and the number of the newest entry.
    pub end: Place,
    /// The id of the newest entry; the epoch if there is none.
    pub tail: Id,
    /// The newest heartbeat, sealed.
    pub heartbeat: Option<Vec<u8>>,
    /// The entries behind the place that was asked for, at most [`MOST_ENTRIES`]; none if the epoch is another one.
    pub entries: Vec<LogEntry>,
    /// The time since 1970 by the clock of the store.
    pub time: Duration,
}

/// At most so many entries come with one read.
pub const MOST_ENTRIES: usize = 64;
/// The log keeps at least so many of its newest entries.
pub const LEAST_KEPT: usize = 10_000;
/// Nothing that is put into a store is larger, in bytes.
pub const MOST_BYTES: usize = 64 * 1024;

/// An instance that wants to be the one that reads the issuer's events, or goes on being it.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "as above")]
pub struct Bid {
    /// The instance.
    pub who: Id,
    /// How long it leads after this bid, unless it bids again.
    pub lasts: Duration,
}

/// What all instances reach.
///
/// Every operation is one step: no other instance sees half of it. No operation may take longer than 300 ms; one that
/// fails may have been done nevertheless.
pub trait SharedStore: fmt::Debug + Send + Sync + 'static {
    /// Appends an entry with this id and gives its place. Where there is no epoch, `fresh` becomes it.
    fn append<'a>(&'a self, log: LogId, fresh: Id, id: Id, sealed: &'a [u8]) -> StoreFuture<'a, Place>;

    /// Reads the entries behind a place. Where there is no epoch, `fresh` becomes it.
    fn read(&self, log: LogId, fresh: Id, behind: Place) -> StoreFuture<'_, Page>;

    /// Begins a new epoch with an empty log, if `old` still is the epoch.
    fn begin_anew(&self, log: LogId, old: Id, fresh: Id) -> StoreFuture<'_, ()>;

    /// Leads, or goes on leading, if nobody else does. Gives the time since 1970 by the clock of the store; `None` if
    /// somebody else leads.
    fn lead(&self, log: LogId, bid: Bid) -> StoreFuture<'_, Option<Duration>>;

    /// Stops leading, if `who` leads.
    fn resign(&self, log: LogId, who: Id) -> StoreFuture<'_, ()>;

    /// Puts a heartbeat, if `who` leads, `place` lies in this epoch, and its entry has the id `tail` (the epoch, where
    /// `place` lies before the first entry). Says whether it did.
    fn put_heartbeat<'a>(
        &'a self,
        log: LogId,
        who: Id,
        place: Place,
        tail: Id,
        sealed: &'a [u8],
    ) -> StoreFuture<'a, bool>;

    /// The verdict of that name.
    fn take<'a>(&'a self, log: LogId, name: &'a [u8; 32]) -> StoreFuture<'a, Option<Vec<u8>>>;

    /// Puts a verdict under a name, to be forgotten after a time.
    fn put<'a>(
        &'a self,
        log: LogId,
        name: &'a [u8; 32],
        sealed: &'a [u8],
        lifetime: Duration,
    ) -> StoreFuture<'a, ()>;

    /// What an operator should change, one line each. For a check before the start.
    fn advise(&self) -> StoreFuture<'_, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Why a store did not answer. Its text carries no secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(Arc<str>);

impl StoreError {
    /// An error with this text, which must carry no secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }
}
