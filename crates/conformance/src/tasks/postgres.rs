use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;

use crate::report;

/// Where a PostgreSQL server can be found that tests may make databases on.
const SERVER: &str = "TASK_API_TEST_POSTGRES";

/// A PostgreSQL server.
#[derive(Debug, Clone)]
pub struct Postgres(Url);

impl Postgres {
    /// The server, or a line that says that a test was skipped.
    #[must_use]
    pub fn find() -> Option<Self> {
        let server = std::env::var(SERVER).ok();
        if server.is_none() {
            report(&format!(
                "SKIPPED: a test that needs PostgreSQL: set {SERVER} to postgres://<superuser>@<host>/postgres"
            ));
        }
        server.map(|url| Self(url.parse().unwrap()))
    }

    /// The address of a new database.
    pub async fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("task_api_{}_{number}", std::process::id());
        let mut server = PgConnection::connect(self.0.as_str()).await.unwrap();
        for statement in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut server).await.unwrap();
        }
        server.close().await.unwrap();
        let mut url = self.0.clone();
        url.set_path(&name);
        url.into()
    }
}
