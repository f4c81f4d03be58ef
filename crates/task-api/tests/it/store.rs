//! What the store promises, on both databases.

use std::{path::Path, sync::Arc, time::Duration};

use conformance::{proxy::Proxy, tasks::Postgres};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use task_api::store::{self, NewTask, Store, StoreError};
use tempfile::TempDir;

type Opened = Arc<dyn Store>;

fn task(text: &str) -> Vec<NewTask> {
    vec![NewTask {
        task: text.to_owned(),
        user_id: Some("1".to_owned()),
        organization_id: Some("2".to_owned()),
    }]
}

fn sqlite_url(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("tasks.db").display())
}

async fn open(url: &str) -> Opened {
    store::open(url, None).await.unwrap()
}

async fn texts(store: &Opened) -> Vec<String> {
    let mut texts = Vec::new();
    let mut after = 0;
    loop {
        let page = store.page(after, 100).await.unwrap();
        let Some(last) = page.last() else { return texts };
        after = last.position;
        texts.extend(page.into_iter().map(|kept| kept.task));
    }
}

/// The addresses of an empty database of each kind.
async fn databases(folder: &TempDir) -> Vec<String> {
    let mut urls = vec![sqlite_url(folder.path())];
    if let Some(postgres) = Postgres::find() {
        urls.push(postgres.database().await);
    }
    urls
}

/// The same database behind a connection that can be cut.
async fn cuttable(url: &str) -> (Proxy, String) {
    let mut url: url::Url = url.parse().unwrap();
    let upstream = (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5432));
    let proxy = Proxy::start(upstream).await;
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(proxy.address().port())).unwrap();
    (proxy, url.into())
}

async fn heals(store: &Opened) {
    let healed = async {
        while store.add(task("healed")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), healed).await.expect("without a restart");
}

#[tokio::test]
async fn tasks_are_kept_in_order_with_who_added_them_and_when() {
    let folder = tempfile::tempdir().unwrap();
    for url in databases(&folder).await {
        let store = open(&url).await;
        let all = ["first", "äöü🎉\u{1}\u{202e}", "third"];
        for text in all {
            store.add(task(text)).await.unwrap();
        }
        assert_eq!(texts(&store).await, all);
        let first = store.page(0, 1).await.unwrap().remove(0);
        assert_eq!(store.page(first.position, 1).await.unwrap()[0].task, all[1]);
        store.close().await;
        assert!(matches!(store.add(task("x")).await, Err(StoreError::Closed)));
        assert_eq!(texts(&open(&url).await).await, all, "also after a restart");
        let query = "SELECT CAST(added_at AS TEXT) FROM tasks WHERE user_id = '1' AND organization_id = '2'";
        let times: Vec<(String,)> = if url.starts_with("sqlite") {
            sqlx::query_as(query)
                .fetch_all(&mut SqliteConnection::connect(&url).await.unwrap())
                .await
                .unwrap()
        } else {
            sqlx::query_as(query).fetch_all(&mut PgConnection::connect(&url).await.unwrap()).await.unwrap()
        };
        assert!(times.len() == 3 && times.iter().all(|(time,)| time.starts_with("20")), "{times:?}");
    }
}

#[tokio::test]
async fn two_stores_on_one_database_serve_one_list() {
    let folder = tempfile::tempdir().unwrap();
    for url in databases(&folder).await {
        let stores = [open(&url).await, open(&url).await];
        let adding: Vec<_> = (0..200)
            .map(|number| {
                let store = Arc::clone(&stores[number % 2]);
                tokio::spawn(async move { store.add(task(&number.to_string())).await })
            })
            .collect();
        // A reader who pages on while tasks are added misses none and sees none twice.
        let (mut after, mut seen) = (0, Vec::new());
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while seen.len() < 200 && tokio::time::Instant::now() < deadline {
            for kept in stores[0].page(after, 7).await.unwrap() {
                after = kept.position;
                seen.push(kept.task);
            }
        }
        for added in adding {
            added.await.unwrap().unwrap();
        }
        assert_eq!(seen, texts(&stores[1]).await);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 200);
    }
}

#[tokio::test]
async fn many_tasks_are_kept_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    for url in databases(&folder).await {
        let store = open(&url).await;
        let many = |count: usize| (0..count).flat_map(|number| task(&number.to_string())).collect::<Vec<_>>();
        store.add(many(2500)).await.unwrap();
        let expected: Vec<_> = (0..2500).map(|number| number.to_string()).collect();
        assert_eq!(texts(&store).await, expected);
        // PostgreSQL cannot keep it; with SQLite a trigger refuses the last of them.
        let mut torn = many(1500);
        torn.extend(task(if url.starts_with("sqlite") { "refused" } else { "refused\0" }));
        if url.starts_with("sqlite") {
            let mut database = SqliteConnection::connect(&url).await.unwrap();
            let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON tasks WHEN NEW.task = 'refused' \
                BEGIN SELECT RAISE(ABORT, 'no'); END";
            sqlx::query(trigger).execute(&mut database).await.unwrap();
        }
        assert!(store.add(torn).await.is_err());
        assert_eq!(texts(&store).await.len(), 2500);
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text"), "no database, but some text that is long enough to be read")
        .unwrap();
    let newer = sqlite_url(folder.path());
    open(&newer).await.close().await;
    let mut connection = SqliteConnection::connect(&newer).await.unwrap();
    let insert = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'later', TRUE, x'00', 0)";
    sqlx::query(insert).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let path = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    let mut cases = vec![
        (path("text"), "not a database"),
        (path("missing/tasks.db"), "a folder that exists"),
        (newer, "newer version"),
        ("sqlite::memory:".to_owned(), "would not last"),
        ("mysql://host/db".to_owned(), "postgres://"),
        ("tasks.db".to_owned(), "sqlite://<path>"),
    ];
    if let Some(postgres) = Postgres::find() {
        let good = postgres.database().await;
        cases.push((format!("{good}_missing"), "does not exist"));
        cases.push((format!("{good}?pasword=x"), "parameter \"pasword\""));
    }
    for (url, part) in cases {
        let error = store::open(&url, None).await.expect_err(&url).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_no_place_for_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let (url, file) = (sqlite_url(folder.path()), folder.path().join("tasks.db"));
    let store = open(&url).await;
    store.add(task("kept")).await.unwrap();
    let moved = folder.path().join("moved.db");
    for suffix in ["", "-wal", "-shm"] {
        let from = folder.path().join(format!("tasks.db{suffix}"));
        let _ = std::fs::rename(from, folder.path().join(format!("moved.db{suffix}")));
    }
    assert!(matches!(store.add(task("lost")).await, Err(StoreError::Moved)));
    assert!(matches!(store.page(0, 1).await, Err(StoreError::Moved)));
    assert!(store.check().await.is_err() && !file.exists(), "and no empty one takes its place");
    for suffix in ["", "-wal", "-shm"] {
        let _ =
            std::fs::rename(format!("{}{suffix}", moved.display()), format!("{}{suffix}", file.display()));
    }
    heals(&store).await;
    assert_eq!(texts(&store).await, ["kept", "healed"]);
}

#[tokio::test]
async fn a_log_that_is_gone_is_no_place_for_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&sqlite_url(folder.path())).await;
    store.add(task("kept")).await.unwrap();
    std::fs::remove_file(folder.path().join("tasks.db-wal")).unwrap();
    std::fs::remove_file(folder.path().join("tasks.db-shm")).unwrap();
    assert!(store.add(task("lost")).await.is_err());
    heals(&store).await;
}

#[tokio::test]
async fn a_database_that_was_made_anew_gets_its_tables_again() {
    let Some(postgres) = Postgres::find() else { return };
    let url = postgres.database().await;
    let store = open(&url).await;
    store.add(task("before")).await.unwrap();
    let mut database = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("DROP TABLE tasks, _sqlx_migrations").execute(&mut database).await.unwrap();
    assert!(store.page(0, 1).await.is_err());
    heals(&store).await;
    assert_eq!(texts(&store).await, ["healed"]);
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_no_lock() {
    let Some(postgres) = Postgres::find() else { return };
    let database = postgres.database().await;
    let (proxy, url) = cuttable(&database).await;
    proxy.cut();
    let store = open(&url).await;
    // The migration will have to wait, and nobody waits for it.
    let mut other = PgConnection::connect(&database).await.unwrap();
    sqlx::raw_sql("BEGIN; CREATE TABLE _sqlx_migrations (x INT)").execute(&mut other).await.unwrap();
    proxy.mend();
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let _ = tokio::time::timeout(Duration::from_millis(10), store.add(task("x"))).await;
        tokio::task::yield_now().await;
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    heals(&store).await;
    assert!(
        tokio::time::timeout(Duration::from_secs(10), open(&database)).await.is_ok(),
        "a second instance"
    );
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
        (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(sqlx::query_scalar::<_, i64>(locks).fetch_one(&mut other).await.unwrap(), 0);
}

#[tokio::test]
async fn a_server_that_is_away_is_told_and_heals() {
    let Some(postgres) = Postgres::find() else { return };
    let (proxy, url) = cuttable(&postgres.database().await).await;
    proxy.cut();
    let store = open(&url).await;
    assert!(store.check().await.is_err() && store.add(task("lost")).await.is_err());
    proxy.mend();
    heals(&store).await;
    proxy.cut();
    assert!(store.add(task("lost")).await.is_err() && store.page(0, 1).await.is_err());
    proxy.mend();
    heals(&store).await;
    assert_eq!(texts(&store).await, ["healed", "healed"]);
}

#[tokio::test]
async fn what_the_server_has_not_said_is_never_a_yes_and_never_tried_again() {
    let Some(postgres) = Postgres::find() else { return };
    let (proxy, url) = cuttable(&postgres.database().await).await;
    let store = open(&url).await;
    store.add(task("before")).await.unwrap();
    proxy.lose_answer_to("COMMIT");
    assert!(store.add(task("perhaps")).await.is_err());
    proxy.mend();
    heals(&store).await;
    assert_eq!(texts(&store).await, ["before", "perhaps", "healed"], "kept once, and not acknowledged");
}

#[tokio::test]
async fn the_order_of_the_list_is_the_order_of_commits() {
    let Some(postgres) = Postgres::find() else { return };
    let url = postgres.database().await;
    let store = open(&url).await;
    store.add(task("first")).await.unwrap();
    // Another instance that has its turn and is slow to commit.
    let mut slow = PgConnection::connect(&url).await.unwrap();
    let slow_insert = "BEGIN; SELECT pg_advisory_xact_lock(x'7461736b73'::bigint); \
        INSERT INTO tasks (task) VALUES ('slow')";
    sqlx::raw_sql(AssertSqlSafe(slow_insert)).execute(&mut slow).await.unwrap();
    let adding = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.add(task("fast")).await }
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let mut observer = PgConnection::connect(&url).await.unwrap();
    let waits =
        async { while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut observer).await.unwrap() == 0 {} };
    tokio::time::timeout(Duration::from_secs(10), waits).await.expect("the fast one waits for its turn");
    assert_eq!(texts(&store).await, ["first"], "nothing behind a gap that may still be filled");
    sqlx::query("COMMIT").execute(&mut slow).await.unwrap();
    adding.await.unwrap().unwrap();
    assert_eq!(texts(&store).await, ["first", "slow", "fast"]);
}
