//! SQLite: one file, for one machine.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use sqlx::{
    Connection, QueryBuilder, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::timeout;

use super::{
    Kept, NewTask, OpenError, Store, StoreError,
    writer::{Commit, Writer},
};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// The rows of one statement, which may bind 32,766 values.
const ROWS: usize = 1000;
const READERS: u32 = 4;
/// How long to wait while another process writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Sqlite {
    writer: Writer,
    file: Arc<File>,
    /// The readers, and the file that they have opened.
    readers: Mutex<(FileId, SqlitePool)>,
}

/// A database file, by its name.
#[derive(Debug)]
struct File {
    path: PathBuf,
    options: SqliteConnectOptions,
}

/// The identity of the file at the path. If the file is moved, later writes go to the moved file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

struct FileWriter {
    file: Arc<File>,
    connection: Option<(FileId, SqliteConnection)>,
    /// The write-ahead log, as it was at the first commit of this connection.
    log: Option<FileId>,
}

impl Sqlite {
    pub(super) async fn open(url: &str) -> Result<Self, OpenError> {
        let (file, options) = File::new(url)?;
        let explain = |error: &dyn std::fmt::Display| OpenError(file.explain(error));
        migrate(options.create_if_missing(true)).await.map_err(|error| match error {
            MigrateError::VersionMissing(_) => explain(&"it was written by a newer version of task-api"),
            error => explain(&error),
        })?;
        let id = file.id().map_err(|error| explain(&error))?;
        let readers = Mutex::new((id, file.readers()));
        let file = Arc::new(file);
        let writer = Writer::start(FileWriter { file: Arc::clone(&file), connection: None, log: None });
        Ok(Self { writer, file, readers })
    }

    /// Readers of the file that is at the path now.
    fn readers(&self) -> Result<SqlitePool, StoreError> {
        let id = self.file.id().map_err(|_| StoreError::Moved)?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.0 != id {
            *readers = (id, self.file.readers());
        }
        Ok(readers.1.clone())
    }
}

/// Whether the file can be written or, if it does not exist, created in its folder.
pub(super) async fn probe(url: &str) -> Result<String, OpenError> {
    let (file, _) = File::new(url)?;
    let explain = |error: &dyn std::fmt::Display| OpenError(file.explain(error));
    let shown = file.path.display();
    if !file.path.exists() {
        let folder = file.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).map_err(|error| explain(&error))?;
        return Ok(format!("{shown} does not exist yet and can be made"));
    }
    let look = async {
        // Opens the file without changing its settings: a probe must not change the file.
        let options = SqliteConnectOptions::new().filename(&file.path).busy_timeout(BUSY_TIMEOUT);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        connection.begin_with("BEGIN IMMEDIATE").await?.rollback().await?;
        connection.close().await
    };
    look.await.map_err(|error| explain(&error))?;
    Ok(format!("{shown} can be read and written"))
}

impl Store for Sqlite {
    fn add(&self, tasks: Vec<NewTask>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.writer.add(tasks))
    }

    fn page(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        Box::pin(async move {
            let readers = self.readers()?;
            let page = sqlx::query_as(
                "SELECT position, task FROM tasks WHERE position > ? ORDER BY position LIMIT ?",
            );
            let page = page.bind(after).bind(limit).fetch_all(&readers);
            let rows: Vec<(i64, String)> =
                timeout(READ_TIMEOUT, page).await.map_err(|_| StoreError::TimedOut)??;
            Ok(rows.into_iter().map(Kept::from).collect())
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.page(i64::MAX, 1).await.map(|_| ()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
            readers.close().await;
            self.writer.close().await;
        })
    }
}

impl File {
    fn new(url: &str) -> Result<(Self, SqliteConnectOptions), OpenError> {
        let example = "write sqlite://<path>, as in sqlite://tasks.db or sqlite:///var/lib/task-api/tasks.db";
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(OpenError(format!("tasks in memory would not last; {example}")));
        }
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| OpenError(format!("{error}; {example}")))?
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let path = options.get_filename().to_owned();
        if path.as_os_str().is_empty() {
            return Err(OpenError(format!("it names no file; {example}")));
        }
        Ok((Self { path, options: options.clone().create_if_missing(false) }, options))
    }

    fn explain(&self, problem: &dyn std::fmt::Display) -> String {
        format!(
            "{} cannot be used ({problem}); choose a database of task-api, or a new file in a folder that exists and \
            can be written to",
            self.path.display()
        )
    }

    fn id(&self) -> io::Result<FileId> {
        file_id(&self.path)
    }

    /// The write-ahead log beside the file.
    fn log_id(&self) -> io::Result<FileId> {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        file_id(Path::new(&path))
    }

    fn readers(&self) -> SqlitePool {
        let options = self.options.clone().pragma("query_only", "ON");
        SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(READ_TIMEOUT)
            .connect_lazy_with(options)
    }
}

async fn migrate(options: SqliteConnectOptions) -> Result<(), MigrateError> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    MIGRATIONS.run(&pool).await?;
    pool.close().await;
    Ok(())
}

#[cfg(unix)]
fn file_id(path: &Path) -> io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    let file = fs::metadata(path)?;
    Ok(FileId(file.dev(), file.ino()))
}

/// Other systems do not allow moving an open file.
#[cfg(not(unix))]
fn file_id(path: &Path) -> io::Result<FileId> {
    fs::metadata(path).map(|_| FileId(0, 0))
}

impl FileWriter {
    async fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        let id = self.file.id().map_err(|_| StoreError::Moved)?;
        if self.connection.as_ref().is_none_or(|(opened, _)| *opened != id) {
            self.connection = None;
            let migrated = migrate(self.file.options.clone()).await;
            migrated.map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
            self.connection = Some((id, SqliteConnection::connect_with(&self.file.options).await?));
        }
        let connection = self.connection.as_mut().map(|(_, connection)| connection);
        connection.ok_or(StoreError::Closed)
    }

    /// Writes to files that have lost their names are lost with them.
    fn still_there(&mut self) -> Result<(), StoreError> {
        let file = self.file.id().map_err(|_| StoreError::Moved)?;
        let log = self.file.log_id().map_err(|_| StoreError::Moved)?;
        let is_same = self.connection.as_ref().is_some_and(|(opened, _)| *opened == file);
        if is_same && *self.log.get_or_insert(log) == log { Ok(()) } else { Err(StoreError::Moved) }
    }
}

impl Commit for FileWriter {
    async fn commit(&mut self, tasks: Vec<NewTask>) -> Result<(), StoreError> {
        let mut transaction = self.connection().await?.begin_with("BEGIN IMMEDIATE").await?;
        for tasks in tasks.chunks(ROWS) {
            let mut insert = QueryBuilder::new("INSERT INTO tasks (task, user_id, organization_id) ");
            insert.push_values(tasks, |mut row, task| {
                row.push_bind(&task.task).push_bind(&task.user_id).push_bind(&task.organization_id);
            });
            insert.build().execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        self.still_there()
    }

    fn abandon(&mut self) {
        (self.connection, self.log) = (None, None);
    }

    async fn close(self) {
        if let Some((_, connection)) = self.connection {
            let _ = connection.close().await;
        }
    }
}
