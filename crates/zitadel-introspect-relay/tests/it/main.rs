//! The relay as a process, with two tasks servers, on a real shared server.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use conformance::{
    http::{bearer, request, request_with_body},
    tasks::{Server, spawn, within},
    valkey,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use zitadel_introspect_testkit::{Issuer, Project, RoleGrant, Token, User};

const RELAY: &str = env!("CARGO_BIN_EXE_zitadel-introspect-relay");

/// An issuer, a shared server, and the files of all programs.
struct World {
    issuer: Issuer,
    project: Project,
    shared: valkey::Server,
    folder: TempDir,
}

impl World {
    async fn new() -> Option<Self> {
        let shared =
            valkey::Server::start(&["--appendonly", "yes", "--maxmemory-policy", "noeviction"]).await?;
        let issuer = Issuer::start().await;
        let project = issuer.project("tasks");
        project.add_roles(["admin", "viewer"]);
        let folder = tempfile::tempdir().unwrap();
        project.api("task-api").write_key_file(folder.path().join("key.json")).unwrap();
        let reader = issuer.service_user("reader");
        reader.set_instance_role("IAM_OWNER_VIEWER");
        reader.pat().write_file(folder.path().join("events-token")).unwrap();
        let world = Self { issuer, project, shared, folder };
        world.write("secret", &"ab".repeat(32));
        Some(world)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn shared(&self) -> Vec<String> {
        ["--shared", &format!("redis://{}", self.shared.address()), "--shared-secret", &self.file("secret")]
            .map(str::to_owned)
            .to_vec()
    }

    fn relay_arguments(&self) -> Vec<String> {
        let own = ["--domain", &self.issuer.url(), "--event-feed-token-file", &self.file("events-token")];
        let own = own.into_iter().chain(["--metrics-address", "127.0.0.1:0"]).map(str::to_owned);
        own.chain(self.shared()).collect()
    }

    /// A relay that runs, and where its metrics are.
    async fn relay(&self) -> (Child, SocketAddr) {
        let (child, mut lines) = spawn(Path::new(RELAY), &self.relay_arguments(), "info");
        let mut metrics = None;
        while let Some(line) = within(lines.recv()).await {
            if let Some((_, addr)) = line.split_once("metrics at /metrics addr=") {
                metrics = Some(addr.parse().unwrap());
            }
            if line.contains("the relay runs") {
                break;
            }
        }
        (child, metrics.unwrap())
    }

    async fn tasks(&self, name: &str) -> Option<Server> {
        let binary = task_api()?;
        let database = format!("sqlite://{}", self.file(&format!("{name}.db")));
        let own = [
            "--domain",
            &self.issuer.url(),
            "--key",
            &self.file("key.json"),
            "--project",
            &self.project.id(),
        ];
        let own = own.into_iter().chain([
            "--database",
            &database,
            "--metrics-address",
            "127.0.0.1:0",
            "--port",
            "0",
        ]);
        let arguments: Vec<_> = own.map(str::to_owned).chain(self.shared()).collect();
        Some(Server::start(&binary, &arguments).await)
    }

    fn user(&self, number: usize) -> (User, RoleGrant) {
        let user = self.issuer.service_user(&format!("user-{number}"));
        let grant = user.grant(&self.project, ["admin"]);
        (user, grant)
    }
}

/// The tasks server beside this program; `None`, and a line that says so, if it was not built.
fn task_api() -> Option<PathBuf> {
    let binary = Path::new(RELAY).with_file_name("task-api");
    if !binary.exists() {
        conformance::report("SKIPPED: a test with tasks servers: task-api is not built");
        return None;
    }
    Some(binary)
}

async fn add(server: &Server, token: &str) -> u16 {
    let headers = [bearer(token), "content-type: application/x-www-form-urlencoded".to_owned()];
    request_with_body(server.address, "POST /api/add-task", &headers, "task=x").await.status
}

async fn list(server: &Server, token: &str) -> u16 {
    request(server.address, "GET /api/tasks", &[bearer(token)]).await.status
}

async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(waiting).await;
}

/// What ends, and the status of an add afterwards.
type End = (u16, fn(User, &Token, RoleGrant));

const ENDS: [End; 6] = [
    (401, |_, token, _| token.revoke()),
    (401, |user, _, _| user.lock()),
    (401, |user, _, _| user.remove()),
    (403, |_, _, grant| grant.remove()),
    (403, |_, _, grant| grant.deactivate()),
    (403, |_, _, grant| grant.change(["viewer"])),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_is_refused_by_two_servers_within_a_second() {
    let Some(world) = World::new().await else { return };
    let rounds: usize = std::env::var("RELAY_ROUNDS").ok().and_then(|count| count.parse().ok()).unwrap_or(20);
    let (mut relay, metrics) = world.relay().await;
    let (Some(first), Some(second)) = (world.tasks("first").await, world.tasks("second").await) else {
        return;
    };
    until(|| async { request(metrics, "GET /readyz", &[]).await.status == 200 }).await;
    let mut took = Vec::new();
    for round in 0..rounds {
        let (expected, end) = ENDS[round % ENDS.len()];
        let (user, grant) = world.user(round);
        let token = user.pat();
        for server in [&first, &second] {
            // The events of making the user may evict once more.
            until(|| async { add(server, &token).await == 200 }).await;
        }
        end(user, &token, grant);
        let ended = Instant::now();
        for server in [&first, &second] {
            until(|| async { add(server, &token).await == expected }).await;
        }
        took.push(ended.elapsed());
    }
    took.sort_unstable();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    conformance::report(&format!(
        "refused by both servers after {median:?} (median), {worst:?} (worst of {rounds})"
    ));
    assert!(relay.try_wait().unwrap().is_none(), "the relay still runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_relay_takes_over_and_a_verdict_serves_both_servers() {
    let Some(world) = World::new().await else { return };
    let (Some(first), Some(second)) = (world.tasks("first").await, world.tasks("second").await) else {
        return;
    };
    let (mut relay, _) = world.relay().await;
    let (_standby, metrics) = world.relay().await;
    until(|| async { request(metrics, "GET /readyz", &[]).await.status == 200 }).await;
    let token = world.user(0).0.pat();
    let shared = async || world.shared.say(&["KEYS", "*:v:*"]).await;
    assert_eq!(list(&first, &token).await, 200);
    until(|| async { shared().await.starts_with("*1") }).await;
    let asked = world.issuer.introspections();
    assert_eq!(list(&second, &token).await, 200);
    assert_eq!(world.issuer.introspections(), asked, "one question for both");
    relay.kill().await.unwrap();
    token.revoke();
    for server in [&first, &second] {
        until(|| async { list(server, &token).await == 401 }).await;
    }
    assert_eq!(request(metrics, "GET /readyz", &[]).await.status, 200);
    let numbers = request(metrics, "GET /metrics", &[]).await.body;
    for name in ["zitadel_introspect_blind", "zitadel_introspect_feed_age_seconds"] {
        assert!(numbers.contains(name), "{numbers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_without_its_server_is_not_ready_and_ends_at_a_signal() {
    let Some(mut world) = World::new().await else { return };
    let (mut relay, metrics) = world.relay().await;
    let ready = async || request(metrics, "GET /readyz", &[]).await;
    until(|| async { ready().await.status == 200 }).await;
    assert_eq!(request(metrics, "GET /api/healthz", &[]).await.status, 200);
    world.shared.kill().await;
    until(|| async { ready().await.status == 503 }).await;
    until(|| async { ready().await.body.contains("\"shared\"") }).await;
    world.shared.start_again().await;
    until(|| async { ready().await.status == 200 }).await;
    let id = relay.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().await.unwrap().success());
    assert_eq!(within(relay.wait()).await.unwrap().code(), Some(0));
}

async fn end(arguments: &[String]) -> (Option<i32>, String) {
    let output = within(Command::new(RELAY).args(arguments).output()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_wrong() {
    let Some(world) = World::new().await else { return };
    let check = async |arguments: Vec<String>| end(&[vec!["check".to_owned()], arguments].concat()).await;
    let (code, said) = check(world.relay_arguments()).await;
    assert_eq!(code, Some(0), "{said}");
    for part in ["ok      shared", "ok      events"] {
        assert!(said.contains(part), "{said}");
    }
    world.shared.say(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let (code, said) = check(world.relay_arguments()).await;
    assert!(code == Some(0) && said.contains("warning shared") && said.contains("noeviction"), "{said}");
    // An entry that another secret has sealed.
    let (_relay, metrics) = world.relay().await;
    until(|| async { request(metrics, "GET /readyz", &[]).await.status == 200 }).await;
    world.write("secret", &"cd".repeat(32));
    let (code, said) = check(world.relay_arguments()).await;
    assert!(code == Some(2) && said.contains("--shared-secret") && said.contains("another secret"), "{said}");
    world.issuer.service_user("reader").remove_instance_role();
    world.write("secret", "no secret");
    let (code, said) = check(world.relay_arguments()).await;
    assert!(code == Some(2) && said.contains("--shared-secret") && !said.contains("no secret"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_end_the_start_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (token, secret) = (file("token", "a-token"), file("secret", &"ab".repeat(32)));
    let good = [
        "--domain",
        "issuer.example",
        "--event-feed-token-file",
        &token,
        "--shared",
        "rediss://cache",
        "--shared-secret",
        &secret,
    ];
    let without = |flag: &str| -> Vec<String> {
        good.chunks(2).filter(|pair| pair[0] != flag).flatten().map(|&word| word.to_owned()).collect()
    };
    let and =
        |more: &[&str]| -> Vec<String> { good.iter().chain(more).map(|&word| word.to_owned()).collect() };
    for (arguments, parts) in [
        (without("--domain"), &["--domain"][..]),
        (without("--event-feed-token-file"), &["--event-feed-token-file"]),
        (without("--shared"), &["--shared-secret", "--shared"]),
        (without("--shared-secret"), &["--shared-secret", "openssl rand"]),
        (and(&["--port", "0"]), &["--port", "--event-signing-keys"]),
        (and(&["--event-signing-keys", &token]), &["--event-signing-keys"]),
        (and(&["--key", "key.json"]), &["unexpected argument --key"]),
    ] {
        let (code, said) = end(&arguments).await;
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!((code, errors.len()), (Some(2), 1), "{arguments:?}: {said}");
        for part in parts {
            assert!(errors[0].contains(part), "{part} is not in {said}");
        }
    }
}

#[tokio::test]
async fn setup_makes_the_credential_of_a_relay() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    let admin = issuer.service_user("administrator");
    admin.set_instance_role("IAM_OWNER");
    admin.pat().write_file(folder.path().join("admin.token")).unwrap();
    let setup = async || {
        let mut command = Command::new(RELAY);
        command.current_dir(folder.path()).args(["setup", "events", "--feed", "--domain", &issuer.url()]);
        let output = command.args(["--admin-token-file", "admin.token"]).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = setup().await;
    assert!(said.contains("+ key           \"events-key.json\""), "{said}");
    assert!(said.contains("--event-feed-key events-key.json"), "{said}");
    assert!(setup().await.contains("= key           \"events-key.json\""));
}
