use super::{Demo, Server, Subject, Tasks, within};
use crate::http::{Answer, bearer, request, request_with_body};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Status, type, length and body as the guide shows them.
fn check(answer: &Answer, status: u16, content_type: &str, length: usize, body: &str) {
    let shown =
        (answer.status, answer.header("content-type"), answer.header("content-length"), answer.body.as_str());
    assert_eq!(shown, (status, Some(content_type), Some(&*length.to_string()), body));
    if content_type == TEXT {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

pub(super) async fn the_guide_byte_for_byte(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    replay(&tasks.server, &tasks.token(&[]), &tasks.token(&["admin"])).await;
}

async fn replay(server: &Server, token: &str, admin: &str) {
    let address = server.address;
    let get = async |path: &str, token: Option<&str>| {
        let headers: Vec<_> = token.map(bearer).into_iter().collect();
        request(address, &format!("GET {path}"), &headers).await
    };
    check(&get("/api/healthz", None).await, 200, JSON, 4, "\"OK\"");
    let no_header = "unauthorized: authorization header is empty\n";
    check(&get("/api/tasks", None).await, 401, TEXT, 44, no_header);
    check(&get("/api/tasks", Some(token)).await, 200, JSON, 2, "{}");
    let no_role = "permission denied: missing required role: `admin`\n";
    check(&get("/api/add-task", Some(token)).await, 403, TEXT, 50, no_role);
    let form = "content-type: application/x-www-form-urlencoded".to_owned();
    let added =
        request_with_body(address, "POST /api/add-task", &[bearer(admin), form], "task=My new task").await;
    check(&added, 200, JSON, 26, "\"task `My new task` added\"");
    let all = r#"{"tasks":["My new task","create a new task on /api/add-task"]}"#;
    check(&get("/api/tasks", Some(admin)).await, 200, JSON, 62, all);
}

pub(super) async fn the_demo_replays_the_guide(subject: Subject) {
    let demo = Demo::start(&subject.binary).await;
    let said = &demo.server.start;
    assert_eq!(said.iter().filter(|line| line.starts_with("curl -i ")).count(), 8);
    assert!(said.iter().any(|line| line.contains("WARN") && line.contains("never for production")));
    replay(&demo.server, &demo.viewer, &demo.admin).await;
    revoke_as_printed(&demo).await;
}

/// The viewer's token is held, is revoked at the embedded issuer by the command that was printed, and is refused.
async fn revoke_as_printed(demo: &Demo) {
    let line = demo.server.start.iter().find(|line| line.contains("/oauth/v2/revoke")).unwrap();
    let (address, rest) =
        line.strip_prefix("curl -i http://").unwrap().split_once("/oauth/v2/revoke --data ").unwrap();
    let client = rest.split_once(" --data token=$VIEWER").unwrap().0;
    let form = "content-type: application/x-www-form-urlencoded".to_owned();
    let body = format!("{client}&token={}", demo.viewer);
    let revoked = request_with_body(address.parse().unwrap(), "POST /oauth/v2/revoke", &[form], &body).await;
    assert_eq!(revoked.status, 200);
    let viewer = bearer(&demo.viewer);
    let ended = async {
        while request(demo.server.address, "GET /api/tasks", std::slice::from_ref(&viewer)).await.status
            != 401
        {}
    };
    within(ended).await;
}
