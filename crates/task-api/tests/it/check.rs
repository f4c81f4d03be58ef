//! `task-api check`: what it says, and with which status it ends.

use std::time::Duration;

use conformance::tasks::{Subject, Tasks};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use zitadel_introspect_testkit::{Api, Issuer, Project};

struct World {
    issuer: Issuer,
    project: Project,
    api: Api,
    folder: TempDir,
    arguments: Vec<String>,
}

impl World {
    async fn new() -> Self {
        let (issuer, project, api, folder) = Tasks::issuer().await;
        let subject = Subject { binary: env!("CARGO_BIN_EXE_task-api").into(), postgres: None };
        let arguments = subject.arguments(&issuer, &folder).await;
        Self { issuer, project, api, folder, arguments }
    }

    async fn check(&self, more: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_task-api"));
        let is_replaced = |flag: &&[String]| !more.contains(&flag[0].as_str());
        let given = self.arguments.chunks(2).filter(is_replaced).flatten();
        let output = command.arg("check").args(given).args(more).output();
        let output = tokio::time::timeout(Duration::from_secs(30), output).await.unwrap().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    }

    async fn explain(&self, token: &str) -> (Option<i32>, String) {
        let file = self.folder.path().join("token");
        std::fs::write(&file, format!("{token}\n")).unwrap();
        let (status, said) = self.check(&["--token-file", &file.to_string_lossy()]).await;
        assert!(!said.contains(token), "{said}");
        (status, said)
    }
}

#[track_caller]
fn expect((status, said): (Option<i32>, String), wanted: i32, parts: &[&str]) {
    assert_eq!(status, Some(wanted), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[tokio::test]
async fn a_good_configuration_is_told_and_nothing_is_changed() {
    let world = World::new().await;
    let parts = ["ok      domain", "ok      key", "ok      clock", "ok      database", "can be made"];
    expect(world.check(&[]).await, 0, &parts);
    assert!(!world.folder.path().join("tasks.db").exists());
}

#[tokio::test]
async fn what_is_wrong_is_said_in_words() {
    let world = World::new().await;
    world.issuer.set_clock_ahead(-90);
    expect(world.check(&[]).await, 2, &["FAILED  clock", "90 s ahead of", "NTP"]);
    world.issuer.set_clock_ahead(0);
    let text = world.folder.path().join("text.db");
    std::fs::write(&text, "no database, but some text that is long enough to be read").unwrap();
    let text = format!("sqlite://{}", text.display());
    expect(
        world.check(&["--database", &text]).await,
        2,
        &["FAILED  database", "not a database", "ok      key"],
    );
    world.api.remove_key(&world.api.key());
    expect(world.check(&[]).await, 2, &["ok      domain", "FAILED  key", "removed or expired"]);
    world.issuer.stop().await;
    expect(
        world.check(&[]).await,
        2,
        &["FAILED  domain", "nothing listens there", "skipped key", "ok      database"],
    );
    expect(
        world.check(&["--domain", "https://no-such-host.invalid"]).await,
        2,
        &["FAILED  domain", "the name is not known here", "`--connect-to`"],
    );
    expect(
        world.check(&["--key", "missing.json"]).await,
        2,
        &["FAILED  key", "missing.json", "skipped issuer"],
    );
}

#[tokio::test]
async fn an_active_token_is_described() {
    let world = World::new().await;
    let user = world.issuer.service_user("robot");
    user.grant(&world.project, ["admin"]);
    let organization = world.issuer.default_organization().id();
    let role = format!("\"admin\" from organization {organization:?}");
    let parts = ["token   active", &user.id(), "robot", &role, "until     it is revoked"];
    expect(world.explain(&user.pat()).await, 0, &parts);
    let plain = world.issuer.service_user("plain");
    let in_an_hour =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3600;
    let token = plain.pat_until(i64::try_from(in_an_hour).unwrap());
    expect(world.explain(&token).await, 0, &["none in the project", "until     20"]);
}

#[tokio::test]
async fn an_impersonation_is_shown() {
    let world = World::new().await;
    let user = world.issuer.service_user("robot");
    let token = user.access_token().for_project(&world.project).actor("400000000000000042").issue();
    let parts = ["token   active", "ACTOR", "\"400000000000000042\" acts as this user", "impersonation"];
    expect(world.explain(&token).await, 0, &parts);
    let (_, said) = world.explain(&user.pat()).await;
    assert!(!said.contains("ACTOR"), "{said}");
}

#[tokio::test]
async fn a_readable_key_and_a_taken_port_are_warnings() {
    let world = World::new().await;
    let key = world.folder.path().join("key.json");
    #[cfg(unix)]
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = world.check(&["--port", &port]).await;
    #[cfg(unix)]
    assert!(said.1.contains("warning key") && said.1.contains("0600"), "{}", said.1);
    expect(said, 0, &["warning ports", &port, "unless it is this server"]);
}

#[tokio::test]
async fn a_host_without_an_instance_is_told_what_to_use() {
    let world = World::new().await;
    let body = "unable to set instance using origin x: Message=Instance not found.";
    let fault = zitadel_introspect_testkit::Fault::answer(404, "text/plain", body);
    world.issuer.inject(fault.on(zitadel_introspect_testkit::Endpoint::Discovery));
    expect(world.check(&[]).await, 2, &["FAILED  domain", "no ZITADEL instance", "skipped key"]);
}

#[tokio::test]
async fn a_token_that_is_not_active_is_explained() {
    let world = World::new().await;
    let token = world.issuer.service_user("robot").pat();
    token.revoke();
    expect(
        world.explain(&token).await,
        1,
        &["refused   the issuer says inactive", "opaque", ":aud with the id", "revoked"],
    );
    let long = "a".repeat(16 * 1024 + 1);
    expect(world.explain(&long).await, 1, &["refused   malformed token", "longer than 16384 bytes"]);
    expect(world.explain("two words").await, 1, &["refused   malformed token", "no token"]);
    let forge = |claims| world.issuer.forge(&json!({"alg": "RS256", "typ": "JWT", "kid": "1"}), &claims);
    let (issuer, client) = (world.issuer.url(), world.api.client_id());
    let later = 4_000_000_000_u64;
    for (claims, part) in [
        (
            json!({"iss": "https://other.example", "aud": [client], "jti": "1", "exp": later}),
            "another issuer",
        ),
        (json!({"iss": issuer, "aud": [client], "jti": "1", "exp": 1000}), "it expired"),
        (json!({"iss": issuer, "aud": [client], "jti": "1", "exp": later, "nbf": later}), "clock wrong"),
        (json!({"iss": issuer, "aud": [client], "azp": client, "exp": later}), "an ID token"),
        (
            json!({"iss": issuer, "aud": ["other"], "jti": "1", "exp": later}),
            "urn:zitadel:iam:org:project:id:{projectId}:aud",
        ),
        (json!({"iss": issuer, "aud": [client], "jti": "1", "exp": later}), "it looks right"),
    ] {
        expect(world.explain(&forge(claims)).await, 1, &["inactive", part]);
    }
}
