//! Stores tasks: one interface, and a folder of migrations for each database.

mod postgres;
mod sqlite;
mod writer;

use std::{fmt::Debug, path::Path, sync::Arc};

use futures_util::future::BoxFuture;

use self::{postgres::Postgres, sqlite::Sqlite};

/// A task to store, and who adds it. The database adds the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// The task: any text without U+0000.
    pub task: String,
    /// `sub` of the caller.
    pub user_id: Option<String>,
    /// The organization that the caller belongs to.
    pub organization_id: Option<String>,
}

/// A stored task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The position in the list: it grows with each commit, leaves gaps, and is never used twice.
    pub position: i64,
    /// The task.
    pub task: String,
}

/// The list of tasks.
pub trait Store: Debug + Send + Sync {
    /// Appends tasks, in their order: all of them or none.
    ///
    /// `Ok` means that the tasks are flushed to disk. After an error, the tasks may have been stored nevertheless if
    /// the database did not answer; the store does not retry.
    fn add(&self, tasks: Vec<NewTask>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The tasks after a position (0 for the first), oldest first, at most `limit`.
    ///
    /// Positions appear in their order, so a reader who goes on from the last position misses nothing.
    fn page(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>>;

    /// Whether the database can be reached.
    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Finishes pending work and closes the database.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Why the store failed. For the log; a caller learns only that the store is unavailable.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database returned an error, or did not answer.
    #[error("the database failed")]
    Database(#[source] Arc<sqlx::Error>),
    /// No answer in time. It is unknown whether a task was stored.
    #[error("the database did not answer in time")]
    TimedOut,
    /// The file was moved or removed: tasks written to it would be lost.
    #[error("the database file was moved or removed")]
    Moved,
    /// The database cannot store tasks.
    #[error("{0}")]
    Unsuitable(&'static str),
    /// Too many tasks wait to be stored.
    #[error("too many tasks wait to be kept")]
    Overloaded,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(String);

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

/// Opens `sqlite://<path>` or `postgres://…`, and brings its tables up to date.
///
/// A PostgreSQL server that cannot be reached is only a warning: the store opens when the server can be reached.
///
/// # Errors
///
/// [`OpenError`] says what is wrong with the address or the database, and what to do.
pub async fn open(url: &str, password_file: Option<&Path>) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match Kind::of(url)? {
        Kind::Sqlite => Arc::new(Sqlite::open(url).await?),
        Kind::Postgres => Arc::new(Postgres::open(url, password_file).await?),
    })
}

/// Checks a database without changing it, and returns a description.
///
/// # Errors
///
/// [`OpenError`] says what is wrong, and what to do.
pub async fn probe(url: &str, password_file: Option<&Path>) -> Result<String, OpenError> {
    match Kind::of(url)? {
        Kind::Sqlite => sqlite::probe(url).await,
        Kind::Postgres => postgres::probe(url, password_file).await,
    }
}

/// How many tasks are read at first, when their length is unknown, and how many at most.
const FIRST: usize = 32;
const MOST: usize = 1024;

/// Reads the tasks after a position until a limit is reached: `tasks`, or `bytes` (the last page may exceed `bytes`).
/// The flag is true at the end of the list.
pub(crate) async fn read(
    store: &dyn Store,
    after: i64,
    tasks: usize,
    bytes: usize,
) -> Result<(Vec<Kept>, bool), StoreError> {
    let (mut kept, mut weight) = (Vec::<Kept>::new(), 0);
    loop {
        // The number of tasks that fit into the remaining bytes, if their average length stays the same.
        let fitting = ((bytes - weight) * kept.len()).checked_div(weight).unwrap_or(FIRST);
        let wanted = fitting.clamp(1, MOST).min(tasks - kept.len());
        let position = kept.last().map_or(after, |last| last.position);
        let page = store.page(position, u32::try_from(wanted).unwrap_or(u32::MAX)).await?;
        let is_all = page.len() < wanted;
        weight += page.iter().map(|kept| kept.task.len()).sum::<usize>();
        kept.extend(page);
        if is_all || kept.len() >= tasks || weight >= bytes {
            return Ok((kept, is_all));
        }
    }
}

enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    fn of(url: &str) -> Result<Self, OpenError> {
        match url.split_once(':') {
            Some(("sqlite", _)) => Ok(Self::Sqlite),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres),
            _ => Err(OpenError(
                "it is neither sqlite://<path> nor postgres://<user>@<host>/<database>".to_owned(),
            )),
        }
    }
}

impl From<(i64, String)> for Kept {
    fn from((position, task): (i64, String)) -> Self {
        Self { position, task }
    }
}
