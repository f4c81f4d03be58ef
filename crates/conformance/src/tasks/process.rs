use std::{fs, path::Path, time::Duration};

use super::{Server, Subject, Tasks, spawn, within};
use zitadel_introspect_testkit::Fault;

/// Runs the binary until it ends by itself: its status and what it said on standard error and output.
async fn end(binary: &Path, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let (mut child, mut lines) = spawn(binary, &arguments, "info");
    let status = tokio::time::timeout(Duration::from_secs(10), child.wait()).await.expect("an end").unwrap();
    let mut said = Vec::new();
    while let Some(line) = within(lines.recv()).await {
        said.push(line);
    }
    (status.code(), said)
}

/// Expects status 2 and one line of an error that contains all of `parts`.
async fn expect_error(binary: &Path, arguments: &[&str], parts: &[&str]) {
    let (code, said) = end(binary, arguments).await;
    let errors: Vec<_> = said.iter().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((code, errors.len()), (Some(2), 1), "{arguments:?}: {said:?}");
    let last = said.last().unwrap();
    assert!(last.starts_with("error: "), "{said:?}");
    for part in parts {
        assert!(last.contains(part), "{part:?} is not in {last:?}");
    }
}

pub(super) async fn bad_arguments_end_with_one_line_and_status_2(subject: Subject) {
    let (issuer, _, _, folder) = Tasks::issuer().await;
    let key = folder.path().join("key.json").to_string_lossy().into_owned();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let domain = issuer.url();
    let service_user = path("user.json", r#"{"type":"serviceaccount","keyId":"1","key":"x","userId":"2"}"#);
    let broken = path("broken.json", "{");
    let missing = folder.path().join("missing.json").to_string_lossy().into_owned();
    for (arguments, parts) in [
        (vec![], vec!["--domain", "--key"]),
        (vec!["--domain", &domain], vec!["--key"]),
        (vec!["--domain", "https://host.example/path", "--key", &key], vec!["--domain", "leave off"]),
        (vec!["--domain", "http://host.example", "--key", &key], vec!["plain http", "https"]),
        (vec!["--domain", &domain, "--key", &missing], vec!["--key", "missing.json", "cannot be read"]),
        (vec!["--domain", &domain, "--key", &broken], vec!["--key", "broken.json", "not a JSON object"]),
        (vec!["--domain", &domain, "--key", &service_user], vec!["--key", "service user", "download"]),
        (vec!["--domain", &domain, "--key", &key, "--port", "no"], vec!["--port", "--help"]),
        (vec!["--domain", &domain, "--key", &key, "--port", "70000"], vec!["--port", "--help"]),
        (vec!["--domain", &domain, "--key", &key, "--bind", "nowhere"], vec!["--bind", "--help"]),
        (vec!["--domain", &domain, "--key", &key, "--unknown"], vec!["--unknown", "--help"]),
    ] {
        expect_error(&subject.binary, &arguments, &parts).await;
    }
}

pub(super) async fn a_key_that_the_issuer_refuses_ends_the_start(subject: Subject) {
    let (issuer, _, api, folder) = Tasks::issuer().await;
    api.remove_key(&api.key());
    let arguments = subject.arguments(&issuer, &folder).await;
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    expect_error(&subject.binary, &arguments, &["--key", "refuses", "removed or expired", "clock"]).await;
}

pub(super) async fn another_issuer_ends_the_start(subject: Subject) {
    let (issuer, _, _, folder) = Tasks::issuer().await;
    issuer.inject(Fault::other_issuer("https://other.example"));
    let arguments = subject.arguments(&issuer, &folder).await;
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    expect_error(&subject.binary, &arguments, &["--domain", "https://other.example", &issuer.url()]).await;
}

pub(super) async fn a_port_in_use_ends_the_start(subject: Subject) {
    let (issuer, _, _, folder) = Tasks::issuer().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut arguments = subject.arguments(&issuer, &folder).await;
    arguments.last_mut().unwrap().clone_from(&port);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    expect_error(&subject.binary, &arguments, &["--port", &port, "choose another"]).await;
}

pub(super) async fn an_issuer_that_is_away_is_a_warning_and_heals(subject: Subject) {
    let (issuer, project, api, folder) = Tasks::issuer().await;
    issuer.stop().await;
    let arguments = subject.arguments(&issuer, &folder).await;
    let server = Server::start(&subject.binary, &arguments).await;
    let warned = server.start.iter().any(|line| line.contains("WARN") && line.contains("CANNOT BE ASKED"));
    assert!(warned, "{:?}", server.start);
    let tasks = Tasks { issuer, project, api, folder, database: arguments[1].clone(), server };
    let token = tasks.token(&[]);
    assert_eq!(tasks.get("/api/tasks", &token).await.status, 503);
    tasks.issuer.resume().await;
    let healed = async { while tasks.get("/api/tasks", &token).await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), healed).await.expect("within 10 s");
}
