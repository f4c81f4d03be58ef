//! PostgreSQL: a server, for several instances.

use std::{
    fmt, fs,
    path::Path,
    str::FromStr,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::BoxFuture;
use sqlx::{
    Connection, PgConnection, PgPool,
    error::DatabaseError,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{sync::watch, time::timeout};
use url::Url;

use super::{
    Kept, NewTask, OpenError, Store, StoreError,
    writer::{Commit, Writer},
};
use crate::shown::shown;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

const READERS: u32 = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause between two attempts to migrate the tables.
const MIGRATION_PAUSE: Duration = Duration::from_secs(1);
const UNDEFINED_TABLE: &str = "42P01";
const PARAMETERS: [&str; 11] = [
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "statement-cache-capacity",
];
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The advisory lock that orders the commits of all instances: "tasks", in ASCII.
const ORDER: i64 = 0x0074_6173_6b73;
/// Timeouts: an instance that loses its connection to the server must not block the writes of the other instances.
/// `DURABLE`: a server that acknowledges before it flushes would break the promise that a 200 means "on disk".
const SESSION: [(&str, &str); 3] =
    [("lock_timeout", "5s"), ("statement_timeout", "6s"), ("idle_in_transaction_session_timeout", "10s")];
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') = 'off'";

pub(super) struct Postgres {
    writer: Writer,
    readers: PgPool,
    tables: Tables,
}

/// Whether the tables are up to date. A separate task runs the migrations, so that a caller who disconnects cannot stop
/// a migration half-way while it holds the lock.
#[derive(Clone)]
struct Tables(Arc<watch::Sender<Result<(), StoreError>>>);

struct ServerWriter {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    tables: Tables,
}

impl Postgres {
    pub(super) async fn open(url: &str, password_file: Option<&Path>) -> Result<Self, OpenError> {
        let options = options(url, password_file)?;
        let first = migrate(&options).await;
        match &first {
            Ok(()) => {}
            Err(StoreError::Database(error)) if says_no(error) => return Err(explain(error)),
            Err(StoreError::Unsuitable(problem)) => return Err(OpenError((*problem).to_owned())),
            Err(error) => {
                tracing::warn!(error = ?error, "THE DATABASE CANNOT BE REACHED: tasks answer 503 until it can");
            }
        }
        let tables = Tables(Arc::new(watch::channel(first).0));
        tokio::spawn(keep_migrated(options.clone(), Arc::downgrade(&tables.0)));
        let options = options.options(SESSION);
        let readers = PgPoolOptions::new().max_connections(READERS).acquire_timeout(READ_TIMEOUT);
        let writer = ServerWriter { options: options.clone(), connection: None, tables: tables.clone() };
        let (writer, readers) = (Writer::start(writer), readers.connect_lazy_with(options));
        Ok(Self { writer, readers, tables })
    }
}

impl Tables {
    /// The reason why the tables are missing, if they are.
    fn check(&self) -> Result<(), StoreError> {
        self.0.borrow().clone()
    }

    /// Notices that the tables are missing (for example in a recreated database), so that they are created again.
    fn learn(&self, error: StoreError) -> StoreError {
        if let StoreError::Database(cause) = &error
            && cause.as_database_error().and_then(DatabaseError::code).as_deref() == Some(UNDEFINED_TABLE)
        {
            let _ = self.0.send_replace(Err(error.clone()));
        }
        error
    }
}

/// Migrates until it succeeds, and again whenever tables are missing. Ends when the store is dropped.
async fn keep_migrated(options: PgConnectOptions, tables: Weak<watch::Sender<Result<(), StoreError>>>) {
    loop {
        let Some(state) = tables.upgrade() else { return };
        if state.borrow().is_err() {
            let outcome = migrate(&options).await;
            let _ = state.send_replace(outcome);
        }
        drop(state);
        tokio::time::sleep(MIGRATION_PAUSE).await;
    }
}

/// Uses a separate connection, and closes it in every case.
async fn migrate(options: &PgConnectOptions) -> Result<(), StoreError> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT);
    let pool = pool.connect_with(options.clone()).await?;
    let migrated = async {
        let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(&pool).await?;
        if encoding != "UTF8" {
            let problem =
                "the database's encoding is not UTF8, so that it cannot keep every text; make one with it";
            return Err(StoreError::Unsuitable(problem));
        }
        let migrated = MIGRATIONS.run(&pool).await;
        migrated.map_err(|error| sqlx::Error::Migrate(Box::new(error)).into())
    };
    let migrated = migrated.await;
    pool.close().await;
    migrated
}

/// Whether the server accepts us, and has the tables or lets us create them.
pub(super) async fn probe(url: &str, password_file: Option<&Path>) -> Result<String, OpenError> {
    let mut connection =
        connect(&options(url, password_file)?).await.map_err(|error| explain_store(&error))?;
    let look = "SELECT current_setting('server_encoding') = 'UTF8', to_regclass('tasks') IS NOT NULL, \
        has_schema_privilege(current_schema(), 'CREATE'), pg_is_in_recovery()";
    let look = sqlx::query_as(look).fetch_one(&mut connection).await;
    let (is_utf8, exists, may_make, is_standby): (bool, bool, bool, bool) =
        look.map_err(|error| explain(&error))?;
    let problem = match (is_utf8, exists || may_make, is_standby) {
        (false, ..) => Some("its encoding is not UTF8, so that it cannot keep every text; make one with it"),
        (_, false, _) => Some("the user may not make tables; GRANT CREATE ON SCHEMA public TO the user"),
        (.., true) => Some("it is a standby and cannot be written to; name the primary"),
        _ => None,
    };
    match problem {
        Some(problem) => Err(OpenError(format!("the server lets us in, but of the database: {problem}"))),
        None if exists => Ok("the server lets us in, and the database has the table of tasks".to_owned()),
        None => Ok("the server lets us in, and the database has no tables yet".to_owned()),
    }
}

fn options(url: &str, password_file: Option<&Path>) -> Result<PgConnectOptions, OpenError> {
    let example = "write postgres://<user>@<host>/<database>";
    // sqlx would ignore a parameter that it does not know, and log its value.
    let unknown = Url::parse(url).ok().and_then(|url| {
        let mut names = url.query_pairs().map(|(name, _)| name.into_owned());
        names.find(|name| !PARAMETERS.contains(&name.as_str()))
    });
    if let Some(name) = unknown {
        let known = PARAMETERS.join(", ");
        return Err(OpenError(format!("it has a parameter {name:?} that is not known; there are {known}")));
    }
    let mut options =
        PgConnectOptions::from_str(url).map_err(|error| OpenError(format!("{error}; {example}")))?;
    if let Some(path) = password_file {
        let password = fs::read_to_string(path).map_err(|error| {
            let path = shown(path);
            OpenError(format!(
                "--database-password-file: {path} cannot be read ({error}); check path and rights"
            ))
        })?;
        options = options.password(password.trim_end_matches(['\r', '\n']));
    }
    Ok(options.application_name("task-api"))
}

fn explain(error: &sqlx::Error) -> OpenError {
    if let sqlx::Error::Migrate(cause) = error
        && let MigrateError::VersionMissing(_) = cause.as_ref()
    {
        return OpenError("its tables were made by a newer version of task-api".to_owned());
    }
    let said = database_error(error).map_or_else(|| error.to_string(), |error| error.message().to_owned());
    OpenError(format!("the server says: {said}; mend the address, the rights or the database"))
}

fn explain_store(error: &StoreError) -> OpenError {
    match error {
        StoreError::Database(error) => explain(error),
        error => OpenError(format!("{error}; check the address, and that the server runs")),
    }
}

/// The message of the server itself, wherever it stands in the error.
fn database_error(error: &sqlx::Error) -> Option<&dyn DatabaseError> {
    match error {
        sqlx::Error::Database(error) => Some(error.as_ref()),
        sqlx::Error::Migrate(error) => match error.as_ref() {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => database_error(error),
            _ => None,
        },
        _ => None,
    }
}

/// Without the options, which hold the password.
impl fmt::Debug for Postgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Postgres").finish_non_exhaustive()
    }
}

/// Whether the error is permanent: the server answers and refuses, so that a retry cannot help.
fn says_no(error: &sqlx::Error) -> bool {
    if let Some(error) = database_error(error) {
        // Our login, the database's name, our permissions.
        let code = error.code().unwrap_or_default();
        return code.starts_with("28") || matches!(&*code, "3D000" | "42501" | "42P07");
    }
    match error {
        sqlx::Error::Migrate(error) => {
            matches!(**error, MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_))
        }
        sqlx::Error::Configuration(_) => true,
        _ => false,
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let connecting = timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await;
    Ok(connecting.map_err(|_| StoreError::TimedOut)??)
}

impl Store for Postgres {
    fn add(&self, tasks: Vec<NewTask>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.tables.check()?;
            self.writer.add(tasks).await
        })
    }

    fn page(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        Box::pin(async move {
            self.tables.check()?;
            let page = sqlx::query_as(
                "SELECT position, task FROM tasks WHERE position > $1 ORDER BY position LIMIT $2",
            );
            let page = page.bind(after).bind(i64::from(limit)).fetch_all(&self.readers);
            let rows: Vec<(i64, String)> = timeout(READ_TIMEOUT, page)
                .await
                .map_err(|_| StoreError::TimedOut)?
                .map_err(|error| self.tables.learn(error.into()))?;
            Ok(rows.into_iter().map(Kept::from).collect())
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.page(i64::MAX, 1).await.map(|_| ()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.readers.close().await;
            self.writer.close().await;
        })
    }
}

impl ServerWriter {
    async fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        // Nothing was sent yet: replace a connection that has ended since the last batch.
        if let Some(connection) = &mut self.connection
            && connection.ping().await.is_err()
        {
            self.connection = None;
        }
        if self.connection.is_none() {
            let mut connection = connect(&self.options).await?;
            sqlx::query(DURABLE).execute(&mut connection).await?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(StoreError::Closed)
    }
}

impl Commit for ServerWriter {
    async fn commit(&mut self, tasks: Vec<NewTask>) -> Result<(), StoreError> {
        let mut transaction = self.connection().await?.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(ORDER).execute(&mut *transaction).await?;
        let (mut texts, mut users, mut organizations) = (Vec::new(), Vec::new(), Vec::new());
        for task in tasks {
            texts.push(task.task);
            users.push(task.user_id);
            organizations.push(task.organization_id);
        }
        let insert = "INSERT INTO tasks (task, user_id, organization_id) \
            SELECT task, user_id, organization_id \
            FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS new (task, user_id, organization_id, n) \
            ORDER BY n";
        let inserted =
            sqlx::query(insert).bind(texts).bind(users).bind(organizations).execute(&mut *transaction).await;
        if let Err(error) = inserted {
            drop(transaction);
            return Err(self.tables.learn(error.into()));
        }
        transaction.commit().await?;
        Ok(())
    }

    fn abandon(&mut self) {
        self.connection = None;
    }

    async fn close(self) {
        if let Some(connection) = self.connection {
            let _ = connection.close().await;
        }
    }
}
