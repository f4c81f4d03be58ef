//! Each setting, tried through the process.

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use conformance::{
    http::{bearer, request},
    tasks::{Server, Subject, Tasks, within},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
};
use zitadel_introspect_testkit::{Api, Endpoint, Fault, Issuer, Project};

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_task-api").into()
}

/// An issuer under a name of its own, and the flags of a server that is told nothing of it yet.
struct World {
    issuer: Issuer,
    project: Project,
    api: Api,
    folder: TempDir,
}

impl World {
    async fn new(public_origin: Option<&str>) -> Self {
        let builder = Issuer::builder();
        let builder = match public_origin {
            Some(origin) => builder.public_origin(origin),
            None => builder,
        };
        let issuer = builder.start().await.unwrap();
        let project = issuer.project("tasks");
        project.add_roles(["admin", "viewer"]);
        let api = project.api("task-api");
        let folder = tempfile::tempdir().unwrap();
        api.write_key_file(folder.path().join("key.json")).unwrap();
        Self { issuer, project, api, folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    async fn arguments(&self, more: &[&str]) -> Vec<String> {
        let subject = Subject { binary: binary(), postgres: None };
        let mut arguments = subject.arguments(&self.issuer, &self.folder).await;
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        arguments
    }

    async fn serve(self, more: &[&str]) -> Tasks {
        let arguments = self.arguments(more).await;
        let server = Server::start(&binary(), &arguments).await;
        let Self { issuer, project, api, folder } = self;
        Tasks { issuer, project, api, folder, database: arguments[1].clone(), server }
    }

    /// Runs until the end, which must be the start's: what was said.
    async fn refused(&self, more: &[&str]) -> String {
        let arguments = self.arguments(more).await;
        let output = Command::new(binary()).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
        refusal(within(output).await.unwrap())
    }
}

fn refusal(output: Output) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    said
}

async fn with(more: &[&str]) -> Tasks {
    World::new(None).await.serve(more).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_of_the_issuer() {
    let world = World::new(Some("http://issuer.example")).await;
    let address = format!("http://{}", world.issuer.address());
    let said = world.refused(&["--connect-to", &address]).await;
    assert!(said.contains("--domain") && said.contains("`--dangerous-allow-http`"), "{said}");
    let tasks = world.serve(&["--connect-to", &address, "--dangerous-allow-http"]).await;
    let asked = tasks.get("/api/tasks", &tasks.token(&[])).await;
    assert_eq!(asked.status, 200, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_and_a_header_on_the_way() {
    let world = World::new(Some("http://issuer.example")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let (to, connections) = (world.issuer.address(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut inner = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut stream, &mut inner).await });
        }
    });
    let said = world.refused(&["--proxy", "http://me:hunter2@127.0.0.1:1"]).await;
    assert!(said.contains("--proxy") && !said.contains("hunter2"), "{said}");
    let said = world.refused(&["--dangerous-allow-http", "--header", "no colon, hunter2"]).await;
    assert!(said.contains("--header") && !said.contains("hunter2"), "{said}");
    let more =
        ["--proxy", &proxy, "--dangerous-allow-http", "--header", "X-Gateway: open", "--header", "X-Two: 2"];
    let tasks = world.serve(&more).await;
    assert_eq!(tasks.get("/api/tasks", &tasks.token(&[])).await.status, 200);
    assert!(connections.load(Ordering::SeqCst) > 0);
    for request in tasks.issuer.requests() {
        assert_eq!((request.header("x-gateway"), request.header("x-two")), (Some("open"), Some("2")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_are_not_used() {
    let world = World::new(None).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let mut command = Command::new(binary());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, &proxy);
    }
    // A name that only a proxy could know.
    command.args(["check", "--domain", "http://issuer.invalid", "--dangerous-allow-http"]);
    command.args([
        "--key",
        &world.file("key.json"),
        "--database",
        &format!("sqlite://{}", world.file("x.db")),
    ]);
    let said = String::from_utf8(within(command.output()).await.unwrap().stdout).unwrap();
    assert!(said.contains("the name is not known here"), "{said}");
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody came");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_others_can_read_is_a_warning() {
    for (mode, is_warned) in [(0o600, false), (0o640, true), (0o604, true), (0o400, false)] {
        let world = World::new(None).await;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(world.file("key.json"), permissions).unwrap();
        let tasks = world.serve(&[]).await;
        let warned = tasks.server.start.iter().any(|line| line.contains("others can read the key file"));
        assert_eq!(warned, is_warned, "{mode:o}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_ones_own_authority() {
    let tls = crate::tls::Tls::start();
    let world = World::new(Some(&tls.origin)).await;
    tls.pass_on_to(world.issuer.address());
    let pem = world.file("root.pem");
    fs::write(&pem, "no certificate").unwrap();
    let said = world.refused(&["--root-certificates", &pem]).await;
    assert!(said.contains("--root-certificates: holds no certificate"), "{said}");
    let said = world.refused(&["--root-certificates", "missing.pem"]).await;
    assert!(said.contains("--root-certificates") && said.contains("cannot be read"), "{said}");
    let arguments = world.arguments(&[]).await;
    let server = Server::start(&binary(), &arguments).await;
    let warned = server.start.iter().find(|line| line.contains("CANNOT BE ASKED")).unwrap();
    assert!(warned.contains("not signed by an authority that is trusted here"), "{warned}");
    fs::write(&pem, &tls.root).unwrap();
    let tasks = world.serve(&["--root-certificates", &pem]).await;
    assert_eq!(tasks.get("/api/tasks", &tasks.token(&[])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_the_issuer_is_waited_for_and_what_it_may_answer() {
    let tasks =
        with(&["--timeout", "400ms", "--connect-timeout", "300ms", "--max-answer-bytes", "65536"]).await;
    tasks.issuer.inject(Fault::hang_before_head().times(2));
    let began = Instant::now();
    assert_eq!(tasks.get("/api/tasks", "slow").await.status, 503);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let long = format!("{{\"active\":true,\"x\":\"{}\"}}", "x".repeat(70_000));
    tasks.issuer.inject(Fault::answer(200, "application/json", long).for_token("long"));
    assert_eq!(tasks.get("/api/tasks", "long").await.status, 503);
    let lines = tasks.server.rest().await;
    assert!(lines.iter().any(|line| line.contains("65536 bytes")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_for_each_question_and_an_audience() {
    let world = World::new(None).await;
    let project = world.project.id();
    let tasks = world.serve(&["--fresh-assertions", "--audience", &project]).await;
    for _ in 0..3 {
        let token = tasks.issuer.service_user("robot").access_token().for_project(&tasks.project).issue();
        assert_eq!(tasks.get("/api/tasks", &token).await.status, 200);
    }
    let mut assertions: Vec<_> =
        tasks.issuer.requests().iter().filter_map(|request| request.form("client_assertion")).collect();
    let count = assertions.len();
    assertions.sort_unstable();
    assertions.dedup();
    assert_eq!(assertions.len(), count);
    let other = with(&["--audience", "400000000000000099"]).await;
    let token = other.issuer.service_user("robot").access_token().for_project(&other.project).issue();
    assert_eq!(other.get("/api/tasks", &token).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_and_how_many_verdicts_are_held() {
    let tasks = with(&["--cache-ttl", "200ms", "--negative-cache-ttl", "200ms"]).await;
    let token = tasks.token(&[]);
    assert_eq!(tasks.get("/api/tasks", &token).await.status, 200);
    assert_eq!(tasks.get("/api/tasks", "never-was").await.status, 401);
    token.revoke();
    let lapsed = async { while tasks.get("/api/tasks", &token).await.status != 401 {} };
    tokio::time::timeout(Duration::from_secs(10), lapsed).await.expect("long before a minute");
    let asked = tasks.issuer.introspections();
    let lapsed = async {
        while tasks.issuer.introspections() == asked {
            tasks.get("/api/tasks", "never-was").await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), lapsed).await.expect("before 5 s");
    let few = ["--cache-capacity", "1", "--cache-bytes", "16777216", "--negative-cache-capacity", "1"];
    let tasks = with(&few).await;
    let tokens = [tasks.token(&[]), tasks.token(&[])];
    let asked = tasks.issuer.introspections();
    for _ in 0..5 {
        for token in &tokens {
            assert_eq!(tasks.get("/api/tasks", token).await.status, 200);
        }
    }
    assert!(tasks.issuer.introspections() - asked > 2, "not both are held");
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_can_ask_for_a_fresh_verdict() {
    let tasks = with(&["--add-fresh-within", "0s"]).await;
    let token = tasks.token(&["admin"]);
    for _ in 0..3 {
        assert_eq!(tasks.get("/api/tasks", &token).await.status, 200);
    }
    let asked = tasks.issuer.introspections();
    for more in 1..=3 {
        assert_eq!(tasks.add(&token, "?task=a", None, "").await.status, 200);
        assert_eq!(tasks.issuer.introspections(), asked + more);
    }
    token.revoke();
    assert_eq!(tasks.add(&token, "?task=a", None, "").await.status, 401, "at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn jwts_can_be_read_here() {
    let world = World::new(None).await;
    let project = world.project.id();
    let local = ["--verify-jwts-locally-without-revocation", &*project];
    let confirmed = [local[0], local[1], "--confirm-local-verdicts-within", "5s"];
    let said = world.refused(&["--confirm-local-verdicts-within", "5s"]).await;
    assert!(said.contains("`--verify-jwts-locally-without-revocation`"), "{said}");
    let tasks = world.serve(&local).await;
    let user = tasks.issuer.service_user("robot");
    let jwt = || user.access_token().for_project(&tasks.project).jwt().issue();
    let asked = tasks.issuer.introspections();
    assert_eq!(tasks.get("/api/tasks", &jwt()).await.status, 200);
    assert_eq!(tasks.issuer.introspections(), asked);
    let arguments =
        Subject { binary: binary(), postgres: None }.arguments(&tasks.issuer, &tasks.folder).await;
    let arguments: Vec<_> = arguments.into_iter().chain(confirmed.map(str::to_owned)).collect();
    let server = Server::start(&binary(), &arguments).await;
    let asked = tasks.issuer.introspections();
    assert_eq!(request(server.address, "GET /api/tasks", &[bearer(&jwt())]).await.status, 200);
    within(tasks.issuer.asked(Endpoint::Introspection, asked + 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_some_origins_may_call_the_api() {
    let app = "https://app.example.com";
    let tasks = with(&["--cors-origin", app, "--cors-origin", "http://localhost:5173"]).await;
    let origin = |origin: &str| format!("origin: {origin}");
    let wish = ["access-control-request-method: POST", "access-control-request-headers: authorization"];
    let wish = wish.map(str::to_owned);
    let preflight = request(
        tasks.server.address,
        "OPTIONS /api/add-task",
        &[origin(app), wish[0].clone(), wish[1].clone()],
    )
    .await;
    assert_eq!(preflight.status, 200, "asked without credentials: {preflight:?}");
    assert_eq!(preflight.header("access-control-allow-origin"), Some(app));
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("authorization"));
    let refused = request(tasks.server.address, "GET /api/tasks", &[origin("http://localhost:5173")]).await;
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (401, Some("http://localhost:5173"))
    );
    let exposed = refused.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("www-authenticate") && exposed.contains("retry-after"), "{exposed}");
    let foreign = request(tasks.server.address, "GET /api/tasks", &[origin("https://evil.example")]).await;
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    let closed = with(&[]).await;
    let silent = request(closed.server.address, "GET /api/tasks", &[origin(app)]).await;
    assert_eq!(silent.header("access-control-allow-origin"), None, "off unless asked for");
    let world = World::new(None).await;
    for wrong in ["app.example.com", "https://app.example.com/", "*", "https://app.example.com:443"] {
        assert!(world.refused(&["--cors-origin", wrong]).await.contains("--cors-origin"), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_out_of_bounds_are_named_as_flags() {
    let world = World::new(None).await;
    for (flag, value) in [
        ("--timeout", "11s"),
        ("--timeout", "5"),
        ("--connect-timeout", "6s"),
        ("--max-answer-bytes", "1"),
        ("--cache-ttl", "2h"),
        ("--cache-capacity", "0"),
        ("--cache-bytes", "1"),
        ("--negative-cache-ttl", "11s"),
        ("--negative-cache-capacity", "0"),
        ("--connections-per-client", "0"),
        ("--connect-to", "nonsense/"),
        ("--proxy", "http://"),
    ] {
        let said = world.refused(&[flag, value]).await;
        assert!(said.contains(flag) && !said.contains('_'), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_comes_as_text_or_through_a_pipe_as_well() {
    let world = World::new(None).await;
    let key = world.api.key_json();
    fs::remove_file(world.file("key.json")).unwrap();
    let database = format!("sqlite://{}", world.file("tasks.db"));
    let command = |more: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["check", "--database", &database, "--domain", &world.issuer.url()]).args(more);
        command.args(["--port", "0", "--metrics-address", "127.0.0.1:0"]).kill_on_drop(true);
        command
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    for text in [key.clone(), STANDARD.encode(&key), format!("{}\n", STANDARD.encode(&key))] {
        let output = within(command(&[]).env("TASK_API_KEY_JSON", &text).output()).await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    let both =
        within(command(&["--key", "/dev/stdin"]).env("TASK_API_KEY_JSON", &key).output()).await.unwrap();
    assert!(said(&both).contains("TASK_API_KEY_JSON are both given"), "{}", said(&both));
    let mut child =
        command(&["--key", "/dev/stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(key.as_bytes()).await.unwrap();
    let output = within(child.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // A pipe to which nobody writes ends the wait, and one that never ends the reading.
    let silent =
        command(&["--key", "/dev/stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut silent = silent;
    let _open = silent.stdin.take();
    let output = within(silent.wait_with_output()).await.unwrap();
    assert!(said(&output).contains("did not end within 5 s"), "{}", said(&output));
    let output = within(command(&["--key", "/dev/zero"]).output()).await.unwrap();
    assert!(said(&output).contains("larger than 64 KiB"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_put_in_the_place_of_another_setting_is_not_printed() {
    let world = World::new(None).await;
    let json = world.api.key_json();
    let pem: serde_json::Value = serde_json::from_str(&json).unwrap();
    let pem = pem["key"].as_str().unwrap().to_owned();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let (line, token) = (body[64..128].to_owned(), TOKEN.to_owned());
    let material = [&body[100..120], &STANDARD.encode(&json)[200..240], &line[10..30], &token[10..30]]
        .map(str::to_owned);
    let variables = [
        "KEY",
        "DOMAIN",
        "CONNECT_TO",
        "PROXY",
        "ROOT_CERTIFICATES",
        "HEADER",
        "TIMEOUT",
        "AUDIENCE",
        "CACHE_TTL",
        "CACHE_CAPACITY",
        "PORT",
        "BIND",
        "GRPC_PORT",
        "CORS_ORIGIN",
        "CONNECTIONS_PER_CLIENT",
        "DATABASE",
        "DATABASE_PASSWORD_FILE",
        "METRICS_ADDRESS",
        "LOG_FORMAT",
        "CONFIG",
        "DANGEROUS_ALLOW_HTTP",
        "VERIFY_JWTS_LOCALLY_WITHOUT_REVOCATION",
        "KEY_JSON",
    ];
    for text in [&json, &pem, &body, &STANDARD.encode(&json), &STANDARD.encode(&pem), &line, &token] {
        for variable in variables {
            // With a good key in its own place the server would start.
            let is_check = [&["check"][..]];
            let commands = if variable == "KEY_JSON" { &is_check[..] } else { &[&["check"][..], &[]] };
            for command in commands {
                let mut program = Command::new(binary());
                program.args(*command).env(format!("TASK_API_{variable}"), text).stdin(Stdio::null());
                program.env("RUST_LOG", "trace").kill_on_drop(true);
                if variable != "DOMAIN" {
                    program.args(["--domain", "http://127.0.0.1:1"]);
                }
                if !["KEY", "KEY_JSON"].contains(&variable) {
                    program.args(["--key", &world.file("missing.json")]);
                }
                if variable != "DATABASE" {
                    program.args(["--database", &format!("sqlite://{}", world.file("tasks.db"))]);
                }
                let output = within(program.output()).await.unwrap();
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                assert_eq!(output.status.code(), Some(2), "{variable}: {said}");
                for material in &material {
                    assert!(!said.to_lowercase().contains(&material.to_lowercase()), "{variable}: {said}");
                }
                if variable == "KEY" && ![&body, &line, &token].contains(&text) {
                    let is_told = said.contains("looks like the key itself");
                    assert!(is_told && said.contains("TASK_API_KEY_JSON"), "{variable}: {said}");
                }
            }
        }
    }
    // A client secret looks like nothing.
    for variable in ["KEY", "CONFIG", "ROOT_CERTIFICATES", "DATABASE_PASSWORD_FILE"] {
        let secret = "s3cr3t9876543210abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV";
        let mut program = Command::new(binary());
        program.args(["check", "--domain", "http://127.0.0.1:1", "--database", "postgres://127.0.0.1:1/x"]);
        let output = within(program.env(format!("TASK_API_{variable}"), secret).output()).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&said).contains(secret), "{variable}");
    }
}

const TOKEN: &str = "dEnbe7rTdsbyRd3n8aOfYzkdgjGLRkmIhgD8sGDMVeMZcbZuVL0aYb2Ax9FHPIUl5oJxrJM";

#[tokio::test]
async fn a_token_that_was_put_in_the_place_of_its_file_is_not_printed() {
    let output = Command::new(binary()).args(["check", "--token-file", TOKEN]).output();
    let output = within(output).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains(TOKEN));
}

#[tokio::test]
async fn an_unknown_variable_ends_the_start() {
    let run = async |name: &str| {
        let output = Command::new(binary()).env(name, "x").stdin(Stdio::null()).output();
        String::from_utf8(within(output).await.unwrap().stderr).unwrap()
    };
    let said = run("TASK_API_DOMIAN").await;
    assert!(said.contains("TASK_API_DOMIAN") && said.contains("did you mean TASK_API_DOMAIN?"), "{said}");
    for of_kubernetes in ["TASK_API_SERVICE_HOST", "TASK_API_PORT_8089_TCP_ADDR"] {
        assert!(!run(of_kubernetes).await.contains(of_kubernetes));
    }
    let said = run("TASK_API_PORT").await;
    assert!(said.contains("--port") && said.contains("enableServiceLinks"), "{said}");
    let output = within(Command::new(binary()).arg("--prot").output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("unexpected argument --prot; did you mean --port?"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relative_database_in_a_file_starts_at_its_folder() {
    let world = World::new(None).await;
    let config = world.file("task-api.toml");
    let text = "key = \"key.json\"\ndatabase = \"sqlite://inside.db\"\ntimeout = \"4s\"\n";
    fs::write(&config, format!("domain = \"{}\"\n{text}", world.issuer.url())).unwrap();
    let arguments =
        ["--config", &config, "--port", "0", "--metrics-address", "127.0.0.1:0"].map(str::to_owned);
    let _server = Server::start(&binary(), &arguments).await;
    assert!(world.folder.path().join("inside.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_usual_address_of_metrics_fails_no_start() {
    let world = World::new(None).await;
    let usual = "127.0.0.1:9464";
    // Perhaps another process has it: then it is taken as well.
    let _taken = std::net::TcpListener::bind(usual);
    let mut arguments = world.arguments(&[]).await;
    let at = arguments.iter().position(|argument| argument == "--metrics-address").unwrap();
    arguments.drain(at..at + 2);
    let server = Server::start(&binary(), &arguments).await;
    assert!(server.start.iter().any(|line| line.contains("THERE ARE NO METRICS")), "{:?}", server.start);
    assert_eq!(request(server.address, "GET /api/healthz", &[]).await.status, 200);
    let said = world.refused(&["--metrics-address", usual]).await;
    assert!(said.contains("--metrics-address"), "asked for: {said}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_the_key_again_and_ends_nothing() {
    let mut tasks = with(&[]).await;
    let path = tasks.folder.path().join("key.json");
    let hang_up = async |tasks: &Tasks| {
        let pid = tasks.server.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", "HUP", &pid]).status().await.unwrap().success());
    };
    let heard = async |tasks: &mut Tasks, text: &str| {
        while !within(tasks.server.lines.recv()).await.expect("the server goes on").contains(text) {}
    };
    fs::write(&path, "{").unwrap();
    hang_up(&tasks).await;
    heard(&mut tasks, "NOT TAKEN UP").await;
    let old = tasks.api.key();
    fs::write(&path, tasks.api.add_key().json()).unwrap();
    hang_up(&tasks).await;
    heard(&mut tasks, "the key file was read again").await;
    tasks.api.remove_key(&old);
    assert_eq!(tasks.get("/api/tasks", &tasks.token(&[])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_end_a_revoked_token_and_are_told_by_check_and_readiness() {
    let world = World::new(None).await;
    let reader = world.issuer.service_user("reader");
    reader.set_instance_role("IAM_OWNER_VIEWER");
    let (token, key, project) = (world.file("events"), world.file("service-user.json"), world.project.id());
    reader.pat().write_file(&token).unwrap();
    reader.add_key().write_file(&key).unwrap();
    let check = async |more: &[&str]| {
        let mut arguments = world.arguments(more).await;
        arguments.insert(0, "check".to_owned());
        let output = Command::new(binary()).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = within(output).await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for credentials in [["--event-feed-token-file", &token], ["--event-feed-key", &key]] {
        let (status, said) = check(&credentials).await;
        assert!(status == Some(0) && said.contains("events    can be read; the newest one is"), "{said}");
    }
    reader.set_instance_role("ORG_OWNER");
    let (status, said) = check(&["--event-feed-token-file", &token]).await;
    assert!(status == Some(2) && said.contains("`events.read`"), "{said}");
    reader.set_instance_role("IAM_OWNER_VIEWER");
    let said = world.refused(&["--event-feed-token-file", &token, "--event-feed-key", &key]).await;
    assert!(said.contains("are both given"), "{said}");
    let said = world.refused(&["--longest-hold", "2h"]).await;
    assert!(said.contains("--longest-hold: has no effect without `--event-feed-token-file`"), "{said}");
    let said = world.refused(&["--event-feed-interval", "1s"]).await;
    assert!(said.contains("--event-feed-interval: has no effect"), "{said}");
    let said = world.refused(&["--event-feed-token-file", &token, "--event-feed-interval", "99ms"]).await;
    assert!(said.contains("not within 100ms and 10s"), "{said}");
    let feed = ["--event-feed-token-file", &token, "--event-feed-interval", "100ms", "--longest-hold", "2h"];
    let tasks = world.serve(&[&feed[..], &["--project", &project]].concat()).await;
    let ready = async |event_feed: &str| {
        let body = format!("{{\"ready\":true,\"missing\":[],\"event_feed\":\"{event_feed}\"}}");
        let asking = async { while request(tasks.server.address, "GET /readyz", &[]).await.body != body {} };
        within(asking).await;
    };
    ready("current").await;
    let viewer = tasks.token(&[]);
    assert_eq!(tasks.get("/api/tasks", &viewer).await.status, 200);
    viewer.revoke();
    within(async { while tasks.get("/api/tasks", &viewer).await.status != 401 {} }).await;
    tasks.issuer.inject(Fault::status(500).on(Endpoint::EventSearch));
    ready("interrupted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shared_server_is_told_by_check_and_readiness() {
    let Some(mut shared) = conformance::valkey::Server::start(&["--appendonly", "yes"]).await else { return };
    let world = World::new(None).await;
    let secret = world.file("shared-secret");
    std::fs::write(&secret, "ab".repeat(32)).unwrap();
    let url = format!("redis://{}", shared.address());
    let reached = ["--shared", &url, "--shared-secret", &secret];
    for (more, parts) in [
        (&["--shared", &url][..], &["--shared-secret is missing", "openssl rand -hex 32"][..]),
        (&["--shared-secret", &secret], &["--shared-secret: has no effect without --shared"]),
        (&["--shared-evictions-only"], &["--shared-evictions-only: has no effect without --shared"]),
        (
            &["--shared", "redis://cache", "--shared-secret", &secret],
            &["--shared: ", "not encrypted", "`--shared-dangerous"],
        ),
        (
            &["--shared", "redis://:hunter2@127.0.0.1", "--shared-secret", &secret],
            &["--shared: ", "--shared-password-file"],
        ),
        (&["--shared", &url, "--shared-secret", "/nowhere"], &["--shared-secret: ", "cannot be read"]),
        (
            &[&reached[..], &["--shared-password-file", "/nowhere"]].concat(),
            &["--shared-password-file: ", "cannot be read"],
        ),
    ] {
        let said = world.refused(more).await;
        assert!(parts.iter().all(|part| said.contains(part)) && !said.contains("hunter2"), "{said}");
    }
    let mut arguments = world.arguments(&reached).await;
    arguments.insert(0, "check".to_owned());
    let check = async || {
        let output = Command::new(binary()).args(&arguments).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = within(output).await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, said) = check().await;
    assert!(status == Some(0) && said.contains("ok      shared    reached"), "{said}");
    assert!(said.contains("warning events    nobody reads them: run a relay"), "{said}");
    let tasks = world.serve(&reached).await;
    let ready = async |more: &str| {
        let body = format!("{{\"ready\":true,\"missing\":[]{more}}}");
        let asking = async { while request(tasks.server.address, "GET /readyz", &[]).await.body != body {} };
        within(asking).await;
    };
    ready("").await;
    let viewer = tasks.token(&[]);
    assert_eq!(tasks.get("/api/tasks", &viewer).await.status, 200);
    shared.kill().await;
    ready(",\"degraded\":[\"shared\"]").await;
    assert_eq!(tasks.get("/api/tasks", &viewer).await.status, 200);
    assert_eq!(tasks.get("/api/tasks", &tasks.token(&[])).await.status, 200, "a miss asks the issuer");
    let (status, said) = check().await;
    assert!(status == Some(2) && said.contains("FAILED  shared    --shared: "), "{said}");
    shared.start_again().await;
    ready("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_end_a_revoked_token_beside_the_api_or_on_an_address_of_their_own() {
    for is_apart in [false, true] {
        let world = World::new(None).await;
        // The address is known once the server runs: the key comes from a target that is set before.
        let key = world.issuer.set_target("http://127.0.0.1:1/zitadel/events");
        let keys = world.file("signing-keys");
        std::fs::write(&keys, format!("an older key, still sent\n{key}\n")).unwrap();
        let apart = ["--events-address", "127.0.0.1:0"];
        let more = ["--event-signing-keys", &keys];
        let tasks = world.serve(&[&more[..], if is_apart { &apart } else { &[] }].concat()).await;
        let address = if is_apart {
            let line = tasks.server.start.iter().find(|line| line.contains("webhooks at /zitadel/events"));
            line.unwrap().split_once("addr=").unwrap().1.parse().unwrap()
        } else {
            tasks.server.address
        };
        tasks.issuer.move_target(&format!("http://{address}/zitadel/events"));
        let viewer = tasks.token(&[]);
        assert_eq!(tasks.get("/api/tasks", &viewer).await.status, 200);
        viewer.revoke();
        within(async { while tasks.get("/api/tasks", &viewer).await.status != 401 {} }).await;
        assert_eq!(request(address, "POST /zitadel/events", &[]).await.status, 401, "unsigned");
        let on_api = request(tasks.server.address, "POST /zitadel/events", &[]).await.status;
        assert_eq!(on_api, if is_apart { 404 } else { 401 });
    }
    let world = World::new(None).await;
    let said = world.refused(&["--events-address", "127.0.0.1:0"]).await;
    assert!(said.contains("--events-address: has no effect"), "{said}");
    let keys = world.file("signing-keys");
    std::fs::write(&keys, "short\n").unwrap();
    let said = world.refused(&["--event-signing-keys", &keys]).await;
    assert!(
        said.contains("--event-signing-keys: a signing key has fewer") && !said.contains("short"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_running_server_names_flags() {
    let tasks = with(&[]).await;
    let answer = Fault::answer(200, "application/json", " ".repeat(2 << 20)).on(Endpoint::Introspection);
    tasks.issuer.inject(answer);
    assert_eq!(tasks.get("/api/tasks", &tasks.token(&[])).await.status, 503);
    let log = tasks.server.rest().await.join("\n");
    assert!(log.contains("raise `--max-answer-bytes`") && !log.contains("`max_answer_bytes`"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_an_instance_ends_the_start() {
    let world = World::new(None).await;
    let body = "unable to set instance using origin x: Message=Instance not found.";
    world.issuer.inject(Fault::answer(404, "text/plain", body).on(Endpoint::Discovery));
    let said = world.refused(&[]).await;
    let parts = ["--domain", "no ZITADEL instance", "external domain", "`--connect-to`"];
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
}
