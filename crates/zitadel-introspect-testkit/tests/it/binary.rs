//! The binary: an instance out of a file, and again when the file changes.

use std::{fs, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::world::{basic, client, json_of};

const FILE: &str = r#"
organizations = ["Guests"]

[[projects]]
name = "tasks"
roles = ["admin", "viewer"]
granted_to = ["Guests"]
apis = [{ name = "task-api", key_file = "key.json" }, { name = "other" }]
apps = [{ name = "web", jwt = true }]

[[users]]
name = "robot"
instance_role = "IAM_OWNER_VIEWER"
metadata = { team = "blue" }
grants = [{ project = "tasks", roles = ["viewer"] }]
tokens = [{ name = "ROBOT", kind = "pat", file = "robot-token" }, { name = "SHORT", kind = "access", project = "tasks", lifetime_seconds = 60 }]

[[users]]
name = "ada"
organization = "Guests"
person = { given_name = "Ada", email = "ada@example.com" }
tokens = [{ name = "ADA", kind = "login", project = "tasks", app = "web", scopes = "openid email" }]
"#;

struct Running {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(file: &Path, further: &[&str]) -> Self {
        let mut child = command(file, further).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines }
    }

    /// What stands behind a beginning of a line that is still to come.
    async fn value(&mut self, beginning: &str) -> String {
        let found = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix(beginning) {
                    return rest.trim().to_owned();
                }
            }
            panic!("the process ended before {beginning:?}");
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.expect(beginning)
    }
}

fn command(file: &Path, further: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zitadel-introspect-testkit"));
    command.arg(file).args(["--port", "0"]).args(further);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_file_makes_an_instance_and_its_changes_keep_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("instance.toml");
    fs::write(&file, FILE).unwrap();
    let mut running = Running::start(&file, &[]);
    let issuer = running.value("issuer").await;
    let secret_api = running.value("api other client id").await;
    let (id, secret) = secret_api.split_once(" secret ").unwrap();
    let (robot, short, ada) = (
        running.value("token ROBOT").await,
        running.value("token SHORT").await,
        running.value("token ADA").await,
    );
    assert!(fs::read_to_string(folder.path().join("key.json")).unwrap().contains("\"application\""));

    let roles = async |token: &str| {
        let request = client().post(format!("{issuer}/oauth/v2/introspect")).form(&[("token", token)]);
        let answer = json_of(request.header("authorization", basic(id, secret)).send().await.unwrap()).await;
        assert_eq!(answer["active"], true, "{answer}");
        let roles = answer["urn:zitadel:iam:org:project:roles"].as_object().cloned().unwrap_or_default();
        roles.keys().cloned().collect::<Vec<_>>()
    };
    for (token, expected) in [(&robot, vec!["viewer"]), (&short, vec!["viewer"]), (&ada, vec![])] {
        assert_eq!(roles(token).await, expected);
    }

    assert_eq!(fs::read_to_string(folder.path().join("robot-token")).unwrap().trim(), robot);
    let reads_events = async || {
        let request = client().post(format!("{issuer}/admin/v1/events/_search")).body("{}");
        let request = request.header("authorization", format!("Bearer {robot}"));
        request.header("content-type", "application/json").send().await.unwrap().status() == 200
    };
    assert!(reads_events().await);
    let changed = FILE.replace("roles = [\"viewer\"] }]", "roles = [\"admin\"] }]");
    fs::write(&file, changed.replace("instance_role = \"IAM_OWNER_VIEWER\"\n", "")).unwrap();
    running.value("reloaded").await;
    assert!(!reads_events().await);
    assert_eq!(roles(&robot).await, ["admin"], "the same token, another role");
}

#[tokio::test]
async fn mistakes_are_told_in_one_line_with_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("instance.toml");
    fs::write(folder.path().join("key.json"), "mine").unwrap();
    for (text, part) in [
        ("nonsense = 1", "nonsense"),
        ("[[users]]\nname = \"a\"\ngrants = [{ project = \"none\", roles = [] }]", "no project `none`"),
        ("[[users]]\nname = \"a\"\norganization = \"none\"", "no organization `none`"),
        ("[[users]]\nname = \"a\"\ntokens = [{ name = \"T\", kind = \"login\" }]", "only a person logs in"),
        (FILE, "--overwrite-keys"),
    ] {
        fs::write(&file, text).unwrap();
        let output = command(&file, &[]).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!((output.status.code(), errors.len()), (Some(2), 1), "{said}");
        assert!(errors[0].contains(part), "{said}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("key.json")).unwrap(), "mine");
    let mut overwriting = Running::start(&file, &["--overwrite-keys"]);
    overwriting.value("key ").await;
}
