//! `task-api setup`: from an instance without anything to a server that hears of revocations, by its commands alone.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use conformance::{
    http::{bearer, request},
    tasks::Server,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, process::Command};
use zitadel_introspect_testkit::{Endpoint, Fault, Issuer};

const BINARY: &str = env!("CARGO_BIN_EXE_task-api");

/// An instance with an administrator, and a folder in which the commands run.
struct World {
    issuer: Issuer,
    folder: TempDir,
    token: String,
}

impl World {
    async fn new() -> Self {
        let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
        let admin = issuer.service_user("administrator");
        admin.set_instance_role("IAM_OWNER");
        let token = admin.pat();
        token.write_file(folder.path().join("admin.token")).unwrap();
        Self { issuer, folder, token: token.to_string() }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.current_dir(self.folder.path()).args(["setup"]).args(arguments.split_whitespace());
        command.args(["--domain", &self.issuer.url()]);
        command
    }

    /// The exit status and what was said. The administrator's token is never said.
    async fn setup(&self, arguments: &str) -> (Option<i32>, String) {
        self.end(self.command(&format!("{arguments} --admin-token-file admin.token")).output()).await
    }

    async fn end(&self, running: impl Future<Output = std::io::Result<Output>>) -> (Option<i32>, String) {
        let output = tokio::time::timeout(Duration::from_mins(1), running).await.unwrap().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains(&self.token), "{said}");
        (output.status.code(), said)
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap().trim().to_owned()
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    async fn server(&self, more: &[&str]) -> Server {
        let (domain, database) = (self.issuer.url(), format!("sqlite://{}", self.path("tasks.db")));
        let arguments = [
            "--domain",
            &domain,
            "--key",
            &self.path("key.json"),
            "--port",
            "0",
            "--metrics-address",
            "127.0.0.1:0",
            "--database",
            &database,
        ];
        let arguments: Vec<_> = arguments.iter().chain(more).map(ToString::to_string).collect();
        Server::start(&PathBuf::from(BINARY), &arguments).await
    }
}

const API: &str = "api --project tasks --role admin --robot viewer --robot boss=admin";

#[track_caller]
fn expect((status, said): &(Option<i32>, String), wanted: i32, parts: &[&str]) {
    assert_eq!(*status, Some(wanted), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[tokio::test]
async fn from_nothing_to_the_guide_of_zitadel() {
    let world = World::new().await;
    let made = world.setup(API).await;
    expect(
        &made,
        0,
        &[
            "+ project       \"tasks\"",
            "+ authorization \"boss\"  admin",
            "+ token         \"viewer\"  in viewer.token",
            "warning setup     the administrator's token has IAM_OWNER on the whole instance",
            "start the server:\n  task-api --domain http://127.0.0.1:",
            "--key key.json --project ",
            "Bearer $(cat boss.token)",
            "ok      key       accepted, for client ",
        ],
    );
    for file in ["viewer.token", "boss.token"] {
        assert!(!made.1.contains(&world.text(file)), "{}", made.1);
    }
    let server = world.server(&[]).await;
    for (file, expected) in [("viewer.token", [200, 403]), ("boss.token", [200, 400])] {
        let token = bearer(&world.text(file));
        for (line, expected) in ["GET /api/tasks", "POST /api/add-task"].into_iter().zip(expected) {
            let answer = request(server.address, line, std::slice::from_ref(&token)).await;
            assert_eq!(answer.status, expected, "{file} {line}");
        }
    }
    let again = world.setup(API).await;
    expect(&again, 0, &["= project       \"tasks\"", "= token         \"boss\"  in boss.token"]);
    assert!(!again.1.contains("\n+ "), "{}", again.1);
}

#[tokio::test]
async fn a_plan_and_a_report_for_programs() {
    let world = World::new().await;
    let events = world.issuer.events().len();
    let plan = world.setup(&format!("{API} --dry-run")).await;
    expect(&plan, 0, &["+ project       \"tasks\"", "this is a plan: nothing was changed"]);
    assert!(!plan.1.contains("start the server"), "{}", plan.1);
    assert_eq!(world.issuer.events().len(), events);

    let (status, report) = world.setup(&format!("{API} --json")).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((status, report["steps"].as_array().unwrap().len()), (Some(0), 9));
    assert_eq!((&report["steps"][0]["sign"], &report["steps"][0]["what"]), (&"+".into(), &"project".into()));
    assert_eq!(report["is_plan"], false);

    let (status, report) = world.setup("api --json --project tasks --robot x=nothing").await;
    let error: Value = serde_json::from_str(report.lines().next().unwrap()).unwrap();
    assert_eq!(status, Some(2));
    assert!(error["error"].as_str().unwrap().starts_with("--robot: \"x\" is to get the role"), "{report}");
}

#[tokio::test]
async fn a_report_of_a_failure_says_what_was_made() {
    let world = World::new().await;
    let key = "ApplicationService/CreateApplicationKey";
    world.issuer.inject(Fault::reset().on(Endpoint::Management).for_call(key));
    let (status, report) = world.setup(&format!("{API} --json")).await;
    let report: Value = serde_json::from_str(report.lines().next().unwrap()).unwrap();
    let made: Vec<_> = report["steps"].as_array().unwrap().iter().map(|step| step["what"].clone()).collect();
    assert_eq!((status, made), (Some(2), vec!["project".into(), "role".into(), "application".into()]));
    assert!(report["error"].as_str().unwrap().contains("goes on from there"), "{report}");
}

#[tokio::test]
async fn what_differs_is_left_and_told_by_the_exit_status() {
    let world = World::new().await;
    expect(&world.setup("api --project tasks --role admin --role editor --robot boss=admin").await, 0, &[]);
    let wider = "api --project tasks --role admin --role editor --robot boss=admin,editor";
    let left = "~ authorization \"boss\"  lacks editor  (left as it is: --update changes it)";
    expect(&world.setup(wider).await, 2, &[left]);
    expect(
        &world.setup(&format!("{wider} --update")).await,
        0,
        &["~ authorization \"boss\"  was given editor"],
    );
}

#[tokio::test]
async fn the_token_of_the_administrator_comes_from_a_pipe_as_well() {
    let world = World::new().await;
    let mut command = world.command(&format!("{API} --dry-run --admin-token-file /dev/stdin"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{}\n", world.token).as_bytes()).await.unwrap();
    expect(&world.end(child.wait_with_output()).await, 0, &["this is a plan"]);
}

#[tokio::test]
async fn mistakes_are_one_line_that_names_the_flag() {
    let world = World::new().await;
    std::fs::write(world.folder.path().join("empty"), "\n").unwrap();
    let nobody = world.issuer.service_user("nobody").pat();
    nobody.write_file(world.folder.path().join("nobody.token")).unwrap();
    let long = format!("api --project tasks --admin-token-file {}", world.token);
    for (arguments, parts) in [
        ("api --admin-token-file admin.token", vec!["--project is missing"]),
        ("api --project tasks", vec!["--admin-token-file"]),
        ("api --project 400949520696937510 --admin-token-file admin.token", vec!["--project: this is an id"]),
        ("api --project tasks --admin-token-file missing", vec!["--admin-token-file", "cannot be read"]),
        ("api --project tasks --admin-token-file empty", vec!["--admin-token-file", "holds no token"]),
        (&*long, vec!["--admin-token-file", "not shown"]),
        ("api --project tasks --admin-token-file nobody.token", vec!["lacks the permission", "ORG_OWNER"]),
        ("events --admin-token-file admin.token", vec!["--feed, --url or --prove"]),
        ("events --admin-token-file admin.token --url x --signing-keys keys", vec!["--url: is no address"]),
        ("events --admin-token-file admin.token --url http://localhost/", vec!["--signing-keys"]),
        ("events --admin-token-file admin.token --feed --reader ../x", vec!["--reader: "]),
    ] {
        let said = world.end(world.command(arguments).output()).await;
        expect(&said, 2, &parts);
        assert_eq!(said.1.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", said.1);
    }
    let secret = world.setup("api --project tasks --proxy http://me:s3cret@proxy.example").await;
    expect(&secret, 2, &["--proxy"]);
    assert!(!secret.1.contains("s3cret"), "{}", secret.1);
}

#[tokio::test]
async fn an_instance_that_is_away_in_the_middle_is_told() {
    let world = World::new().await;
    world.issuer.stop().await;
    expect(&world.setup(API).await, 2, &["nothing listens there", "the same command goes on from there"]);
}

/// How many of the things that these events tell are there: what was made less what was removed.
fn live(issuer: &Issuer, made: &str, removed: &str) -> usize {
    let count = |kind: &str| issuer.events().iter().filter(|event| event.event_type == kind).count();
    count(made) - count(removed)
}

#[tokio::test]
async fn a_process_that_is_killed_at_any_call_goes_on_from_there() {
    let (mut call, mut is_whole) = (0, false);
    while !is_whole {
        call += 1;
        let world = World::new().await;
        let late = Fault::latency(Duration::from_millis(20)).on(Endpoint::Management);
        world.issuer.inject(late.after(call - 1));
        let mut command = world.command(&format!("{API} --json --admin-token-file admin.token"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::select! {
            ended = child.wait() => is_whole = ended.unwrap().success(),
            () = world.issuer.asked(Endpoint::Management, call) => child.kill().await.unwrap(),
        }
        world.issuer.heal();
        expect(&world.setup(&format!("{API} --json")).await, 0, &[]);
        for (made, removed, expected) in [
            ("project.added", "project.removed", 1),
            ("project.role.added", "project.role.removed", 1),
            ("project.application.added", "project.application.removed", 1),
            ("project.application.oidc.key.added", "project.application.oidc.key.removed", 1),
            ("user.machine.added", "user.removed", 3),
            // That of the administrator among them.
            ("user.pat.added", "user.pat.removed", 3),
            ("user.grant.added", "user.grant.removed", 1),
        ] {
            assert_eq!(live(&world.issuer, made, removed), expected, "{made}, killed at call {call}");
        }
        let files = std::fs::read_dir(world.folder.path()).unwrap().count();
        assert_eq!(files, 4, "killed at call {call}");
    }
    assert!(call > 20, "it was killed at each of its calls: {call}");
}

#[tokio::test]
async fn the_feed_is_set_up_and_proven() {
    let world = World::new().await;
    expect(&world.setup(API).await, 0, &[]);
    let feed = world.setup("events --feed").await;
    let parts =
        ["+ instance role \"introspect-events\"  IAM_OWNER_VIEWER", "--event-feed-key events-key.json"];
    expect(&feed, 0, &parts);
    let server = world.server(&["--event-feed-key", &world.path("events-key.json")]).await;
    let users = world.issuer.events().len();
    let prove = format!("events --prove http://{}/api/tasks", server.address);
    let proven = world.setup(&prove).await;
    expect(&proven, 0, &["ok      proof     a token was refused "]);
    let kinds: Vec<_> = world.issuer.events()[users..].iter().map(|event| event.event_type).collect();
    assert_eq!(kinds, ["user.machine.added", "user.pat.added", "user.pat.removed", "user.removed"]);
    let (_, report) = world.setup(&format!("{prove} --json")).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["refused_after_ms"].as_u64().unwrap() < 20_000, "{report}");
    expect(&world.setup("events --feed --remove").await, 0, &["- service user  \"introspect-events\""]);
}

#[tokio::test]
async fn a_server_that_hears_nothing_proves_nothing() {
    let world = World::new().await;
    expect(&world.setup(API).await, 0, &[]);
    let server = world.server(&[]).await;
    let prove = format!("events --prove http://{}/api/tasks", server.address);
    expect(&world.setup(&prove).await, 2, &["still lets a token in", "no event has reached the server"]);
    let last = world.issuer.events().last().unwrap().event_type;
    assert_eq!(last, "user.removed", "the service user is removed in any case");
    let healthz = format!("events --prove http://{}/api/nothing", server.address);
    expect(&world.setup(&healthz).await, 2, &["answers with status 404"]);
}

#[tokio::test]
async fn webhooks_are_set_up_and_proven() {
    let world = World::new().await;
    expect(&world.setup(API).await, 0, &[]);
    let target = "events --target-name tasks --signing-keys signing-keys --url";
    let made = world.setup(&format!("{target} http://127.0.0.1:9/zitadel/events")).await;
    expect(
        &made,
        0,
        &["+ target", "+ execution     \"user.pat.removed\"", "--event-signing-keys signing-keys"],
    );
    assert!(!made.1.contains(&world.text("signing-keys")), "{}", made.1);
    let keys = world.path("signing-keys");
    let server = world.server(&["--event-signing-keys", &keys]).await;
    let url = format!("http://{}/zitadel/events", server.address);
    expect(&world.setup(&format!("{target} {url}")).await, 2, &["~ target"]);
    expect(&world.setup(&format!("{target} {url} --update")).await, 0, &["~ target", "= execution"]);
    let prove = format!("events --prove http://{}/api/tasks", server.address);
    expect(&world.setup(&prove).await, 0, &["ok      proof     a token was refused "]);

    // A new key: the server that knows both keys hears of every event before, between and after.
    let change = format!("{target} {url} --change-signing-key");
    expect(&world.setup(&change).await, 0, &["waits with a new signing key", "restart the servers"]);
    drop(server);
    let server = world.server(&["--event-signing-keys", &keys]).await;
    let url = format!("http://{}/zitadel/events", server.address);
    let change = format!("{target} {url} --change-signing-key");
    expect(&world.setup(&change).await, 0, &["~ execution", "- target"]);
    // The second target has the old address.
    expect(&world.setup(&format!("{target} {url} --update")).await, 0, &["~ target"]);
    let prove = format!("events --prove http://{}/api/tasks", server.address);
    expect(&world.setup(&prove).await, 0, &["ok      proof     a token was refused "]);
    expect(&world.setup(&format!("{target} {url} --remove")).await, 0, &["- execution", "- target"]);
}
