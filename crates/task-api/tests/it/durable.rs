//! What was answered with 200 is there, whatever happens to the process, the disk or the database.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use conformance::{
    http::{Connection, bearer},
    tasks::{Postgres, Server, Subject, Tasks, within},
};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use tokio::{process::Command, sync::watch};

fn subject(postgres: Option<Postgres>) -> Subject {
    Subject { binary: PathBuf::from(env!("CARGO_BIN_EXE_task-api")), postgres }
}

/// Adds tasks one after the other until the server is gone; those that were answered with 200.
async fn add_until_the_end(
    address: std::net::SocketAddr,
    token: Arc<str>,
    name: String,
    count: watch::Sender<usize>,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    // The process may be killed before this client has connected.
    let Ok(mut connection) = Connection::try_open(address).await else { return acknowledged };
    for number in 0.. {
        let task = format!("{name}-{number}");
        let head =
            format!("POST /api/add-task?task={task} HTTP/1.1\r\nhost: localhost\r\n{}", bearer(&token));
        connection.send(format!("{head}\r\ncontent-length: 0\r\n\r\n")).await;
        match connection.answer(false).await {
            Some(answer) => assert_eq!(answer.status, 200, "{answer:?}"),
            None => break,
        }
        acknowledged.push(task);
        count.send_modify(|count| *count += 1);
    }
    acknowledged
}

async fn list(address: std::net::SocketAddr, token: &str) -> Vec<String> {
    let list = conformance::http::request(address, "GET /api/tasks", &[bearer(token)]).await;
    let list: serde_json::Value = serde_json::from_str(&list.body).unwrap();
    let list = list["tasks"].as_array().cloned().unwrap_or_default();
    list.into_iter().map(|task| task.as_str().unwrap().to_owned()).collect()
}

/// Kills the process so often, each time at another moment of 32 clients that add; `long` rounds wait for a thousand
/// acknowledgements first. Gives how many were acknowledged in all.
async fn kill_and_count(subject: &Subject, rounds: usize, long: usize) -> usize {
    let (issuer, project, _api, folder) = Tasks::issuer().await;
    let arguments = subject.arguments(&issuer, &folder).await;
    let user = issuer.service_user("admin");
    user.grant(&project, ["admin"]);
    let token: Arc<str> = Arc::from(&*user.pat());
    let viewer = issuer.service_user("viewer").pat();
    let mut acknowledged: Vec<Vec<String>> = Vec::new();
    for round in 0..=rounds {
        let mut server = Server::start(&subject.binary, &arguments).await;
        check(&list(server.address, &viewer).await, &acknowledged);
        if round == rounds {
            break;
        }
        let (count, mut counted) = watch::channel(0);
        let adding: Vec<_> = (0..32)
            .map(|client| {
                let name = format!("{round}-{client}");
                tokio::spawn(add_until_the_end(server.address, Arc::clone(&token), name, count.clone()))
            })
            .collect();
        if round < long {
            within(counted.wait_for(|count| *count >= 1000)).await.unwrap();
        }
        // Not a wait for anything: the kill comes at any moment, not only at those that have an event.
        let moment = RandomState::new().hash_one(round) % 120;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        server.child.kill().await.unwrap();
        for added in adding {
            acknowledged.push(added.await.unwrap());
        }
    }
    acknowledged.iter().map(Vec::len).sum()
}

/// Each acknowledged task is there once, those of one client in their order, and nothing is there twice.
fn check(list: &[String], acknowledged: &[Vec<String>]) {
    let mut places = HashMap::new();
    for (place, task) in list.iter().enumerate() {
        assert!(places.insert(task.as_str(), place).is_none(), "{task} is doubled");
    }
    for tasks in acknowledged {
        let places: Vec<_> = tasks
            .iter()
            .map(|task| *places.get(task.as_str()).unwrap_or_else(|| panic!("{task} is lost")))
            .collect();
        assert!(places.is_sorted(), "{tasks:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_task_is_lost_or_doubled_when_the_process_is_killed() {
    let acknowledged = kill_and_count(&subject(None), 50, 3).await;
    conformance::report(&format!("SQLite: 50 kills, {acknowledged} acknowledged tasks, 0 lost, 0 doubled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_task_is_lost_or_doubled_on_postgres() {
    let Some(postgres) = Postgres::find() else { return };
    let acknowledged = kill_and_count(&subject(Some(postgres)), 50, 3).await;
    conformance::report(&format!(
        "PostgreSQL: 50 kills, {acknowledged} acknowledged tasks, 0 lost, 0 doubled"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_server_serve_one_list() {
    let Some(postgres) = Postgres::find() else { return };
    two_processes_serve_one_list(subject(Some(postgres))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_file_serve_one_list() {
    two_processes_serve_one_list(subject(None)).await;
}

async fn two_processes_serve_one_list(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let mut arguments = subject.arguments(&tasks.issuer, &tasks.folder).await;
    arguments[1].clone_from(&tasks.database);
    let second = Server::start(&subject.binary, &arguments).await;
    let (admin, viewer) = (tasks.token(&["admin"]).to_string(), tasks.token(&[]));
    let adding: Vec<_> = [tasks.server.address, second.address]
        .into_iter()
        .cycle()
        .take(40)
        .enumerate()
        .map(|(number, address)| {
            let (line, headers) = (format!("POST /api/add-task?task={number}"), [bearer(&admin)]);
            tokio::spawn(async move { conformance::http::request(address, &line, &headers).await.status })
        })
        .collect();
    for added in adding {
        assert_eq!(added.await.unwrap(), 200);
    }
    let mut seen = list(second.address, &viewer).await;
    assert_eq!(seen, list(tasks.server.address, &viewer).await);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 40);
}

/// A limit on the size of files stands for a full disk: writing fails, reading does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_loses_nothing_and_heals() {
    let subject = subject(None);
    let (issuer, project, _api, folder) = Tasks::issuer().await;
    let arguments = subject.arguments(&issuer, &folder).await;
    let shell = folder.path().join("limited");
    let script =
        format!("#!/bin/sh\ntrap '' XFSZ\nulimit -S -f 400\nexec {} \"$@\"\n", subject.binary.display());
    std::fs::write(&shell, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&shell, executable).unwrap();
    let server = Server::start(&shell, &arguments).await;
    let user = issuer.service_user("admin");
    user.grant(&project, ["admin"]);
    let (token, viewer) = (user.pat(), issuer.service_user("viewer").pat());
    let add = async |number: usize| {
        let body = format!("task={number:05}-{}", "x".repeat(10_000));
        let form = "content-type: application/x-www-form-urlencoded".to_owned();
        let headers = [bearer(&token), form];
        conformance::http::request_with_body(server.address, "POST /api/add-task", &headers, &body).await
    };
    let mut kept = 0;
    let refused = loop {
        let answer = add(kept).await;
        if answer.status != 200 {
            break answer;
        }
        kept += 1;
        assert!(kept < 1000, "the limit does not bite");
    };
    assert_eq!((refused.status, refused.body.as_str()), (503, "unavailable: task store\n"));
    assert_eq!(list(server.address, &viewer).await.len(), kept, "what was kept stays readable");
    let healthz = conformance::http::request(server.address, "GET /api/healthz", &[]).await;
    assert_eq!(healthz.status, 200);
    let pid = server.child.id().unwrap().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().await;
    assert!(status.unwrap().success());
    let healed = async { while add(kept).await.status != 200 {} };
    within(healed).await;
    let listed = list(server.address, &viewer).await;
    let numbers: Vec<usize> = listed.iter().map(|task| task[..5].parse().unwrap()).collect();
    assert_eq!(numbers, (0..=kept).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_tasks_and_readers_who_do_not_read_stall_nobody() {
    let subject = subject(None);
    let tasks = Tasks::start(&subject).await;
    let fill = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000) \
        INSERT INTO tasks (task) SELECT n || ' "
        .to_owned()
        + &"x".repeat(90)
        + "' FROM n";
    let mut database = SqliteConnection::connect(&tasks.database).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut database).await.unwrap();
    let (admin, viewer) = (tasks.token(&["admin"]).to_string(), tasks.token(&[]).to_string());
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", tasks.server.child.id().unwrap()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    assert_eq!(list(tasks.server.address, &viewer).await.len(), 100_000);
    // And long ones behind them, which a reader who stops half-way holds.
    let long = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 300) \
        INSERT INTO tasks (task) SELECT n || '"
        .to_owned()
        + &"x".repeat(60_000)
        + "' FROM n";
    sqlx::raw_sql(AssertSqlSafe(long)).execute(&mut database).await.unwrap();
    let before = resident();
    let mut stuck = Vec::new();
    for _ in 0..32 {
        let mut connection = Connection::open(tasks.server.address).await;
        connection
            .send(format!("GET /api/tasks HTTP/1.1\r\nhost: localhost\r\n{}\r\n\r\n", bearer(&viewer)))
            .await;
        stuck.push(connection);
    }
    let reading = tokio::spawn({
        let (address, viewer) = (tasks.server.address, viewer.clone());
        async move { list(address, &viewer).await.len() }
    });
    for number in 0..20 {
        assert_eq!(tasks.add(&admin, &format!("?task=more-{number}"), None, "").await.status, 200);
        assert_eq!(tasks.get("/api/tasks?limit=10", &viewer).await.status, 200);
    }
    assert!(reading.await.unwrap() >= 100_000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 64, "{grown} MiB for 33 readers");
    drop(stuck);
}
