//! The document and the page to try it: read by others, fuzzed by others, used by a browser.

use std::{env, fs, path::Path, process::Stdio, time::Duration};

use conformance::{
    http::request,
    tasks::{Demo, Subject, Tasks},
};
use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

async fn tasks() -> Tasks {
    Tasks::start(&Subject { binary: env!("CARGO_BIN_EXE_task-api").into(), postgres: None }).await
}

/// Whether a program can be started; else a line says what is not tested.
fn can_run(program: &str, what: &str) -> bool {
    let found = std::process::Command::new(program).arg("--version").stdout(Stdio::null()).status();
    let runs = found.is_ok_and(|status| status.success());
    if !runs {
        conformance::report(&format!("SKIPPED: {what}: {program} is not installed"));
    }
    runs
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_names_every_route_with_its_roles() {
    let tasks = tasks().await;
    let answer = request(tasks.server.address, "GET /api/openapi.json", &[]).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    let security = |path: &str, method: &str| document["paths"][path][method]["security"].clone();
    assert_eq!(security("/api/tasks", "get"), json!([{"bearer": []}]));
    assert_eq!(security("/api/add-task", "post"), json!([{"bearer": ["admin"]}]));
    assert_eq!(security("/api/healthz", "get"), Value::Null);
    let statuses = |path: &str, method: &str| {
        let responses = document["paths"][path][method]["responses"].as_object().unwrap();
        responses.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(statuses("/api/healthz", "get"), "200 431");
    assert_eq!(statuses("/readyz", "get"), "200 431 503");
    assert_eq!(statuses("/api/tasks", "get"), "200 400 401 429 431 500 503");
    assert_eq!(statuses("/api/add-task", "post"), "200 400 401 403 408 413 415 429 431 500 503");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fuzzer_finds_no_undocumented_status_and_no_failure() {
    let python = |program: &str| match env::var("TASK_API_TEST_PYTHON") {
        Ok(folder) => format!("{folder}/{program}"),
        Err(_) => program.to_owned(),
    };
    let (program, validator) = (python("schemathesis"), python("openapi-spec-validator"));
    if !can_run(&program, "a fuzzer that reads the OpenAPI document") {
        return;
    }
    let tasks = tasks().await;
    let address = format!("http://{}/api/openapi.json", tasks.server.address);
    let document = tasks.folder.path().join("openapi.json");
    fs::write(&document, request(tasks.server.address, "GET /api/openapi.json", &[]).await.body).unwrap();
    let valid = Command::new(&validator).arg(&document).output().await.unwrap();
    assert!(valid.status.success(), "{}", String::from_utf8_lossy(&valid.stdout));
    let tokens = [tasks.token(&["admin"]).to_string(), tasks.token(&[]).to_string(), "dead".to_owned()];
    for token in tokens {
        let checks = "not_a_server_error,status_code_conformance,content_type_conformance,\
            response_schema_conformance,response_headers_conformance";
        let fuzzing = Command::new(&program)
            .args(["run", &address, "--no-color", "--max-examples", "50", "--checks", checks])
            .args(["-H", &format!("Authorization: Bearer {token}")])
            .current_dir(tasks.folder.path())
            .output();
        let output = fuzzing.await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Starts the driver, and gives the port on which it listens.
///
/// The driver takes a free port of IPv4 and ends when another program holds the same port of IPv6: it is started again.
async fn driver() -> (Child, String) {
    let mut said = Vec::new();
    for _ in 0..10 {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                driver.stdout = Some(lines.into_inner().into_inner());
                return (driver, port.trim_end_matches('.').to_owned());
            }
            said.push(line);
        }
    }
    panic!("the driver does not start: {said:?}");
}

/// A browser, and the driver that ends with it.
struct Browser {
    client: Client,
    _driver: Child,
}

impl Browser {
    async fn start(profile: &Path) -> Self {
        let (driver, port) = driver().await;
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,1400",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let options = json!({"args": arguments});
        let capabilities = json!({"goog:chromeOptions": options}).as_object().unwrap().clone();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}")).await;
        Self { client: client.unwrap(), _driver: driver }
    }

    async fn find(&self, css: &str) -> Element {
        let wait = self.client.wait().at_most(Duration::from_secs(20));
        wait.for_element(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    async fn click(&self, css: &str) {
        let element = self.find(css).await;
        let scroll = "arguments[0].scrollIntoView({block: 'center'})";
        self.client.execute(scroll, vec![serde_json::to_value(&element).unwrap()]).await.unwrap();
        element.click().await.unwrap();
    }

    /// Opens an operation, sends it, and gives the status and body that the page shows.
    async fn send(&self, operation: &str) -> (String, String) {
        let block = format!("#operations-tasks-{operation}");
        self.click(&format!("{block} .opblock-summary-control")).await;
        self.click(&format!("{block} .execute")).await;
        let answer = format!("{block} .live-responses-table .response");
        let status = self.find(&format!("{answer} .response-col_status")).await.text().await.unwrap();
        let body = self.find(&format!("{answer} .highlight-code")).await.text().await.unwrap();
        (status, body)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_tries_the_api_in_a_browser() {
    if !can_run("chromedriver", "the page in a browser") {
        return;
    }
    let demo = Demo::start(Path::new(env!("CARGO_BIN_EXE_task-api"))).await;
    let profile = tempfile::tempdir().unwrap();
    let browser = Browser::start(profile.path()).await;
    let origin = format!("http://{}", demo.server.address);
    browser.client.goto(&format!("{origin}/docs")).await.unwrap();
    browser.click("button.authorize").await;
    browser.find(".auth-container input").await.send_keys(&demo.admin).await.unwrap();
    browser.click(".auth-btn-wrapper .authorize").await;
    browser.click(".auth-btn-wrapper .btn-done").await;
    let (status, body) = browser.send("addTask").await;
    assert_eq!(
        (status.lines().next(), body.contains("task `My new task` added")),
        (Some("200"), true),
        "{body}"
    );
    let (status, body) = browser.send("listTasks").await;
    assert_eq!(status.lines().next(), Some("200"));
    assert!(body.contains("My new task") && body.contains("create a new task on /api/add-task"), "{body}");
    let loaded = "return performance.getEntriesByType('resource').map(entry => entry.name)";
    let loaded = browser.client.execute(loaded, Vec::new()).await.unwrap();
    let loaded: Vec<String> = serde_json::from_value(loaded).unwrap();
    assert!(loaded.len() > 3 && loaded.iter().all(|address| address.starts_with(&origin)), "{loaded:?}");
    let picture = browser.client.screenshot().await.unwrap();
    if let Ok(path) = env::var("TASK_API_TEST_SCREENSHOT") {
        fs::write(path, picture).unwrap();
    }
    browser.client.clone().close().await.unwrap();
}
