//! A server, for several instances.

use std::{fmt, fs, path::Path, str::FromStr, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    Kept, NewTask, OpenError, Store, StoreError,
    writer::{Commit, Writer},
};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

const READERS: u32 = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Under which instances take turns: "tasks", in ASCII.
const ORDER: i64 = 0x0074_6173_6b73;
/// An instance that is cut off from the server must not keep the others from their turn, and a server that is set
/// to acknowledge before it has flushed would break the promise.
const SESSION: [(&str, &str); 3] =
    [("lock_timeout", "5s"), ("statement_timeout", "6s"), ("idle_in_transaction_session_timeout", "10s")];
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') = 'off'";

pub(super) struct Postgres {
    writer: Writer,
    readers: PgPool,
    /// The tables are up to date.
    is_migrated: OnceCell<()>,
}

struct ServerWriter {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl Postgres {
    pub(super) async fn open(url: &str, password_file: Option<&Path>) -> Result<Self, OpenError> {
        let options = options(url, password_file)?;
        let readers = PgPoolOptions::new().max_connections(READERS).acquire_timeout(READ_TIMEOUT);
        let store = Self {
            writer: Writer::start(ServerWriter { options: options.clone(), connection: None }),
            readers: readers.connect_lazy_with(options),
            is_migrated: OnceCell::new(),
        };
        match store.migrated().await {
            Ok(()) => {}
            Err(StoreError::Database(error)) if says_no(&error) => return Err(explain(&error)),
            Err(error) => {
                tracing::warn!(error = ?error, "THE DATABASE CANNOT BE REACHED: tasks answer 503 until it can");
            }
        }
        Ok(store)
    }

    async fn migrated(&self) -> Result<(), StoreError> {
        let migrate = || async {
            let migrated = MIGRATIONS.run(&self.readers).await;
            migrated.map_err(|error| StoreError::from(sqlx::Error::Migrate(Box::new(error))))
        };
        self.is_migrated.get_or_try_init(migrate).await.copied()
    }
}

/// Whether the server lets us in.
pub(super) async fn probe(url: &str, password_file: Option<&Path>) -> Result<String, OpenError> {
    let look = async {
        let mut connection = connect(&options(url, password_file)?).await.map_err(|error| explain(&error))?;
        let tables = sqlx::query_scalar("SELECT to_regclass('tasks') IS NOT NULL").fetch_one(&mut connection);
        let exists: bool = tables.await.map_err(|error| explain(&error))?;
        Ok(exists)
    };
    let exists = look.await?;
    let tables = if exists { "has the table of tasks" } else { "has no tables yet" };
    Ok(format!("the server lets us in, and the database {tables}"))
}

fn options(url: &str, password_file: Option<&Path>) -> Result<PgConnectOptions, OpenError> {
    let example = "write postgres://<user>@<host>/<database>";
    let mut options =
        PgConnectOptions::from_str(url).map_err(|error| OpenError(format!("{error}; {example}")))?;
    if let Some(path) = password_file {
        let password = fs::read_to_string(path);
        let password = password.map_err(|error| OpenError(format!("{}: {error}", path.display())))?;
        options = options.password(password.trim_end_matches(['\r', '\n']));
    }
    Ok(options.application_name("task-api").options(SESSION))
}

fn explain(error: &dyn std::error::Error) -> OpenError {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    OpenError(format!("{error}{cause}; mend the address, the rights or the database"))
}

/// Without the options, which hold the password.
impl fmt::Debug for Postgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Postgres").finish_non_exhaustive()
    }
}

/// Whether there is a server, and it refuses: nothing that time heals.
fn says_no(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Migrate(error) => match error.as_ref() {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => says_no(error),
            _ => true,
        },
        // 57P03: it starts or stops. 53300: it has too many clients.
        sqlx::Error::Database(error) => !matches!(error.code().as_deref(), Some("57P03" | "53300")),
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
            self.migrated().await?;
            self.writer.add(tasks).await
        })
    }

    fn page(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        Box::pin(async move {
            self.migrated().await?;
            let page = sqlx::query_as(
                "SELECT position, task FROM tasks WHERE position > $1 ORDER BY position LIMIT $2",
            );
            let page = page.bind(after).bind(i64::from(limit)).fetch_all(&self.readers);
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
            self.readers.close().await;
            self.writer.close().await;
        })
    }
}

impl ServerWriter {
    async fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        // Nothing was sent yet: a connection that has died since the last batch may be replaced.
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
        sqlx::query(insert).bind(texts).bind(users).bind(organizations).execute(&mut *transaction).await?;
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
