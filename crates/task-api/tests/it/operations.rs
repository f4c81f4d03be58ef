//! What an operator sets and sees.

use std::{fs, path::PathBuf, process::Stdio};

use conformance::{
    http::{Answer, bearer, request},
    tasks::{Server, Subject, Tasks, spawn, within},
};
use serde_json::Value;
use tokio::process::Command;
use zitadel_introspect_testkit::Endpoint;

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_task-api").into()
}

async fn tasks_with(more: &[&str]) -> Tasks {
    let subject = Subject { binary: binary(), postgres: None };
    let (issuer, project, api, folder) = Tasks::issuer().await;
    let mut arguments = subject.arguments(&issuer, &folder).await;
    let database = arguments[1].clone();
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    let server = Server::start(&subject.binary, &arguments).await;
    Tasks { issuer, project, api, folder, database, server }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_served_on_an_address_of_their_own() {
    let tasks = tasks_with(&[]).await;
    let line = tasks.server.start.iter().find(|line| line.contains("metrics at /metrics")).unwrap();
    let address = line.split_once("addr=").unwrap().1.parse().unwrap();
    tasks.add(&tasks.token(&["admin"]), "?task=a", None, "").await;
    request(tasks.server.address, "BREW /api/nothing", &[]).await;
    let numbers = request(address, "GET /metrics", &[]).await;
    assert_eq!(numbers.status, 200);
    for line in [
        "task_api_requests_total{method=\"POST\",route=\"/api/add-task\",status=\"200\"} 1",
        "task_api_requests_total{method=\"other\",route=\"other\",status=\"404\"} 1",
        "task_api_request_seconds_count{route=\"/api/add-task\"} 1",
        "# TYPE zitadel_introspect_upstream_seconds histogram",
    ] {
        assert!(numbers.body.contains(line), "{line} is not in\n{}", numbers.body);
    }
    assert_eq!(request(tasks.server.address, "GET /metrics", &[]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_database_issuer_and_breaker() {
    let tasks = tasks_with(&[]).await;
    let says = async |missing: &str| {
        let body = format!("{{\"ready\":{},\"missing\":[{missing}]}}", missing.is_empty());
        within(async { while request(tasks.server.address, "GET /readyz", &[]).await.body != body {} }).await;
    };
    says("").await;
    let (file, moved) = (tasks.folder.path().join("tasks.db"), tasks.folder.path().join("moved.db"));
    fs::rename(&file, &moved).unwrap();
    says("\"database\"").await;
    fs::rename(&moved, &file).unwrap();
    says("").await;
    tasks.issuer.stop().await;
    for number in 0..6 {
        tasks.get("/api/tasks", &format!("token-{number}")).await;
    }
    says("\"issuer\",\"breaker\"").await;
    tasks.issuer.resume().await;
    says("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_says_whose_request_was_answered() {
    let subject = Subject { binary: binary(), postgres: None };
    let (issuer, project, _api, folder) = Tasks::issuer().await;
    let mut arguments = subject.arguments(&issuer, &folder).await;
    arguments.extend(["--log-format", "json"].map(str::to_owned));
    let (_child, mut lines) = spawn(&subject.binary, &arguments, "info");
    let mut next = async || -> Value {
        let line = within(lines.recv()).await.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let address = loop {
        let line = next().await;
        if line["message"].as_str().unwrap().starts_with("server listening") {
            let address = line["addr"].as_str().unwrap().replace("http://localhost", "127.0.0.1");
            break address.parse().unwrap();
        }
    };
    let user = issuer.service_user("robot");
    user.grant(&project, ["viewer"]);
    let token = user.pat();
    let ask = async |id: &str| -> Answer {
        request(address, "GET /api/tasks?secret=1", &[bearer(&token), format!("x-request-id: {id}")]).await
    };
    assert_eq!(ask("from-a-proxy.1").await.header("x-request-id"), Some("from-a-proxy.1"));
    let line = next().await;
    assert_eq!(
        (line["message"].as_str(), line["status"].as_str()),
        (Some("answered"), Some("200")),
        "{line}"
    );
    let span = &line["span"];
    assert_eq!(span["request_id"], "from-a-proxy.1");
    assert_eq!((&span["method"], &span["path"]), (&"GET".into(), &"/api/tasks".into()));
    assert_eq!((span["user_id"].as_str(), span["organization_id"].is_string()), (Some(&*user.id()), true));
    assert!(!line.to_string().contains("secret") && !line.to_string().contains(&*token), "{line}");
    let actor = "400000000000000042";
    let exchanged = user.access_token().for_project(&project).actor(actor).issue();
    let answer = request(address, "GET /api/tasks", &[bearer(&exchanged)]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(next().await["span"]["actor_id"].as_str(), Some(actor), "an impersonation shows");
    for forged in ["two words", "a\"b", &"x".repeat(65)] {
        let answer = ask(forged).await;
        let id = answer.header("x-request-id").unwrap();
        assert!(id != forged && id.len() < 40, "{id}");
    }
    let refused = request(address, "GET /api/add-task", &[bearer(&token)]).await;
    let line = loop {
        let line = next().await;
        if line["message"] == "request refused" {
            break line;
        }
    };
    assert_eq!(line["span"]["request_id"].as_str(), refused.header("x-request-id"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_of_one_client_can_be_limited() {
    let tasks = tasks_with(&["--requests-per-second", "2"]).await;
    let token = tasks.token(&[]);
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(tasks.get("/api/tasks", &token).await);
    }
    let refused = answers.iter().find(|answer| answer.status == 429).expect("more than two in a second");
    assert_eq!((refused.body.as_str(), refused.header("retry-after")), ("too many requests\n", Some("1")));
    assert!(answers.iter().filter(|answer| answer.status == 200).count() >= 2);
    for _ in 0..8 {
        assert_eq!(request(tasks.server.address, "GET /api/healthz", &[]).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_at_once_than_may_be_are_told_to_come_back() {
    let tasks = tasks_with(&["--requests-at-once", "1"]).await;
    let token = tasks.token(&[]).to_string();
    let asked = tasks.issuer.introspections();
    let held = tasks.issuer.hold(Endpoint::Introspection);
    let address = tasks.server.address;
    let first = tokio::spawn({
        let token = token.clone();
        async move { request(address, "GET /api/tasks", &[bearer(&token)]).await.status }
    });
    tasks.issuer.asked(Endpoint::Introspection, asked + 1).await;
    let second = tasks.get("/api/tasks", &token).await;
    let shown = (second.status, second.body.as_str(), second.header("retry-after"));
    assert_eq!(shown, (503, "unavailable: too many requests at once\n", Some("1")));
    assert_eq!(request(address, "GET /api/healthz", &[]).await.status, 200);
    drop(held);
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(tasks.get("/api/tasks", &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_counts_before_the_environment_and_both_before_the_file() {
    let (issuer, _, _, folder) = Tasks::issuer().await;
    let file = folder.path().join("task-api.toml");
    let database = folder.path().join("from-file.db");
    let text = format!(
        "domain = \"{}\"\nkey = \"key.json\"\nport = 1\nmetrics_address = \"127.0.0.1:0\"\ndatabase = \"sqlite://{}\"\n",
        issuer.url(),
        database.display()
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new(binary());
    command.args(["check", "--config"]).arg(&file).env("TASK_API_DATABASE", "sqlite:///nowhere/tasks.db");
    let said = |output: std::process::Output| String::from_utf8(output.stdout).unwrap();
    let by_environment = said(command.output().await.unwrap());
    assert!(
        by_environment.contains("ok      key") && by_environment.contains("/nowhere"),
        "{by_environment}"
    );
    let flag = format!("sqlite://{}", folder.path().join("from-flag.db").display());
    let by_flag = said(command.args(["--database", &flag]).output().await.unwrap());
    assert!(by_flag.contains("from-flag.db"), "{by_flag}");
    let arguments = ["--config", &file.to_string_lossy(), "--port", "0"].map(str::to_owned);
    let server = Server::start(&binary(), &arguments).await;
    assert_eq!(request(server.address, "GET /api/healthz", &[]).await.status, 200);
    assert!(database.exists());
}

async fn ends_with(arguments: &[&str], parts: &[&str]) -> String {
    let output = Command::new(binary()).args(arguments).stdin(Stdio::null()).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
    said
}

#[tokio::test]
async fn a_bad_file_or_a_secret_on_the_command_line_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("task-api.toml");
    let config = file.to_string_lossy().into_owned();
    ends_with(&["--config", &config], &["--config", "task-api.toml", "cannot be read"]).await;
    for (text, part) in [
        ("domain = \"a\"\nprot = 1\n", "line 2: unknown field `prot`"),
        ("\nport = \"x\"\n", "line 2: invalid type"),
        ("port = 70000\n", "line 1: invalid value"),
        ("port = \n", "line 1"),
    ] {
        fs::write(&file, text).unwrap();
        ends_with(&["--config", &config], &["--config", "task-api.toml", part]).await;
    }
    for url in ["postgres://me:hunter2@localhost/db", "postgres://localhost/db?password=hunter2"] {
        let said =
            ends_with(&["--demo", "--database", url], &["--database", "--database-password-file"]).await;
        assert!(!said.contains("hunter2"), "{said}");
    }
    ends_with(&["--demo", "--metrics-address", "nowhere"], &["--metrics-address", "--help"]).await;
    ends_with(&["--demo", "--requests-at-once", "0"], &["--requests-at-once", "--help"]).await;
}

#[tokio::test]
async fn the_table_of_settings_is_complete() {
    let help = Command::new(binary()).arg("--help").output().await.unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let page = fs::read_to_string("../../docs/configuration.md").unwrap();
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `--")).collect();
    let flags = help.lines().map(str::trim).filter(|line| line.starts_with("--"));
    let mut count = 0;
    for flag in flags.filter_map(|line| line.split_whitespace().next()) {
        count += 1;
        let row = rows
            .iter()
            .find(|row| row.starts_with(&format!("| `{flag}`")))
            .unwrap_or_else(|| panic!("{flag}"));
        let name = flag.trim_start_matches("--").replace('-', "_");
        let variable = format!("TASK_API_{}", name.to_uppercase());
        if help.contains(&format!("[env: {variable}")) {
            assert!(row.contains(&variable), "{row}");
        }
        if !["demo", "config"].contains(&&*name) {
            assert!(row.contains(&format!("`{name}`")), "{row}");
        }
    }
    assert_eq!(count, rows.len(), "no row without its flag");
}

#[tokio::test]
async fn the_deployment_names_settings_that_exist() {
    let help = Command::new(binary()).arg("--help").output().await.unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for file in ["Dockerfile", "compose.yaml"] {
        let text = fs::read_to_string(format!("../../deploy/{file}")).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<_> = words.filter(|word| word.starts_with("TASK_API_")).collect();
        assert!(names.len() >= 4, "{file}");
        for name in names {
            assert!(help.contains(&format!("[env: {name}")), "{name} in {file}");
        }
    }
}
