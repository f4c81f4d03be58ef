use std::fmt::Write;

use super::{FORM, Subject, Tasks};
use crate::http::{bearer, request};

const JSON: Option<&str> = Some("application/json");
const MULTIPART: Option<&str> = Some("multipart/form-data; boundary=xxx");
const PART: &str = "--xxx\r\nContent-Disposition: form-data; name=\"task\"\r\n\r\npart\r\n--xxx--\r\n";

const EMPTY: (u16, &str) = (400, "\"task must not be empty\"");

fn shown(answer: &crate::http::Answer) -> (u16, &str) {
    (answer.status, &answer.body)
}

pub(super) async fn a_task_is_read_from_the_body_else_from_the_query(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let admin = tasks.token(&["admin"]);
    for (query, media_type, body, answer) in [
        ("", FORM, "task=from+the%20body", "\"task `from the body` added\""),
        ("?task=query", FORM, "task=body", "\"task `body` added\""),
        ("?task=query", FORM, "other=1", "\"task `query` added\""),
        ("?task=query", None, "", "\"task `query` added\""),
        ("", FORM, "task=first&task=second", "\"task `first` added\""),
        ("", FORM, "task=%20%09trimmed%0A", "\"task `trimmed` added\""),
        ("", Some("application/x-www-form-urlencoded; charset=UTF-8"), "task=a", "\"task `a` added\""),
        ("?task=query", JSON, r#"{"task": " json\u00e9 "}"#, "\"task `jsoné` added\""),
        ("?task=query", JSON, "{}", "\"task `query` added\""),
        ("?task=query", MULTIPART, PART, "\"task `part` added\""),
        ("?task=query", MULTIPART, "--xxx--\r\n", "\"task `query` added\""),
    ] {
        let added = tasks.add(&admin, query, media_type, body).await;
        assert_eq!(shown(&added), (200, answer), "{query} {body}");
    }
}

pub(super) async fn a_missing_task_is_a_json_string(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let admin = tasks.token(&["admin"]);
    for (query, media_type, body) in [
        ("", None, ""),
        ("", FORM, ""),
        ("", FORM, "task="),
        ("?task=query", FORM, "task=%20"),
        ("?task=", None, ""),
        ("", JSON, "{}"),
        ("?task=query", JSON, r#"{"task": "\n"}"#),
        ("", MULTIPART, "--xxx--\r\n"),
    ] {
        let answer = tasks.add(&admin, query, media_type, body).await;
        assert_eq!(shown(&answer), EMPTY);
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert_eq!(tasks.get("/api/tasks", &tasks.token(&[])).await.body, "{}");
}

pub(super) async fn broken_forms_and_other_types_are_refused(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let admin = tasks.token(&["admin"]);
    let malformed = (400, "bad request: malformed form\n");
    let malformed_json = (400, "bad request: malformed json\n");
    let nul = (400, "bad request: task must not contain U+0000\n");
    let unsupported = (415, "unsupported media type\n");
    for (query, media_type, body, answer) in [
        ("", FORM, "task=%zz", malformed),
        ("", FORM, "task=%ff", malformed),
        ("?task=%", None, "", malformed),
        ("", MULTIPART, "--xxx\r\n", malformed),
        ("", Some("multipart/form-data"), PART, malformed),
        ("", JSON, "{", malformed_json),
        ("", JSON, "", malformed_json),
        ("", JSON, r#"{"task": 1}"#, malformed_json),
        ("", FORM, "task=a%00", nul),
        ("", JSON, r#"{"task": "\u0000"}"#, nul),
        ("?task=%00a", None, "", nul),
        ("", Some("text/csv"), "task=a", unsupported),
        ("", Some("application/xml"), "<task/>", unsupported),
        ("", None, "task=a", unsupported),
    ] {
        assert_eq!(shown(&tasks.add(&admin, query, media_type, body).await), answer, "{query} {body}");
    }
    assert_eq!(tasks.get("/api/tasks", &tasks.token(&[])).await.body, "{}");
}

pub(super) async fn a_body_over_the_limit_is_refused(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let admin = tasks.token(&["admin"]);
    let body = |length: usize| format!("task={}", "a".repeat(length - 5));
    assert_eq!(tasks.add(&admin, "", FORM, &body(64 * 1024)).await.status, 200);
    let refused = tasks.add(&admin, "", FORM, &body(64 * 1024 + 1)).await;
    assert_eq!(shown(&refused), (413, "payload too large\n"));
}

pub(super) async fn any_text_survives_the_round_trip(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let admin = tasks.token(&["admin"]);
    let texts = [
        "äöü🎉",
        "\"quoted\" \\ back",
        "line\nbreak\ttab",
        "\u{1}\u{7f}\u{85}x",
        "<>&'",
        "`tick`",
        "\u{202e}rtl",
    ];
    for text in texts {
        let mut body = "task=".to_owned();
        for byte in text.bytes() {
            write!(body, "%{byte:02X}").unwrap();
        }
        let answer = tasks.add(&admin, "", FORM, &body).await;
        let said: String = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(said, format!("task `{text}` added"));
    }
    let listed = tasks.get("/api/tasks", &tasks.token(&[])).await;
    let listed: serde_json::Value = serde_json::from_str(&listed.body).unwrap();
    assert_eq!(listed["tasks"], serde_json::json!(texts));
}

pub(super) async fn the_hint_is_for_admins_alone(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let (admin, viewer) = (tasks.token(&["admin"]), tasks.token(&["viewer"]));
    let hint = r#"{"tasks":["create a new task on /api/add-task"]}"#;
    for _ in 0..2 {
        assert_eq!(shown(&tasks.get("/api/tasks", &admin).await), (200, hint), "also when nothing is stored");
        assert_eq!(shown(&tasks.get("/api/tasks", &viewer).await), (200, "{}"));
    }
}

pub(super) async fn authorization_comes_before_the_method(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let (admin, viewer) = (tasks.token(&["admin"]), tasks.token(&["viewer"]));
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let line = format!("{method} /api/add-task?task=x");
        let answer = async |headers: &[String]| request(tasks.server.address, &line, headers).await;
        assert_eq!(answer(&[]).await.status, 401, "{method}");
        assert_eq!(answer(&[bearer(&viewer)]).await.status, 403, "{method}");
        let told = answer(&[bearer(&admin)]).await;
        assert_eq!((told.status, told.header("allow")), (405, Some("POST")), "{method}");
    }
    assert_eq!(tasks.get("/api/tasks", &viewer).await.body, "{}", "no method but POST has added");
}

pub(super) async fn unknown_paths_and_methods_are_told(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let viewer = tasks.token(&[]);
    let address = tasks.server.address;
    let unknown = request(address, "GET /api/nothing", &[]).await;
    assert_eq!(shown(&unknown), (404, "not found\n"));
    let wrong = request(address, "POST /api/healthz", &[]).await;
    assert_eq!(shown(&wrong), (405, "method not allowed\n"));
    let allowed = wrong.header("allow").unwrap().replace(", ", ",");
    assert_eq!(allowed, "GET,HEAD");
    assert_eq!(request(address, "DELETE /api/tasks", &[]).await.status, 401);
    assert_eq!(request(address, "DELETE /api/tasks", &[bearer(&viewer)]).await.status, 405);
    for path in ["/api/healthz", "/api/tasks"] {
        let head = request(address, &format!("HEAD {path}"), &[bearer(&viewer)]).await;
        let get = request(address, &format!("GET {path}"), &[bearer(&viewer)]).await;
        assert_eq!((head.status, head.header("content-length")), (200, get.header("content-length")));
    }
}

pub(super) async fn private_answers_are_not_kept(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let admin = tasks.token(&["admin"]);
    for answer in [tasks.add(&admin, "", FORM, "task=a").await, tasks.get("/api/tasks", &admin).await] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

pub(super) async fn two_adds_at_once_lose_nothing(subject: Subject) {
    let tasks = std::sync::Arc::new(Tasks::start(&subject).await);
    let admin = tasks.token(&["admin"]).to_string();
    let adding: Vec<_> = (0..100)
        .map(|number| {
            let (tasks, admin) = (std::sync::Arc::clone(&tasks), admin.clone());
            tokio::spawn(
                async move { tasks.add(&admin, "", FORM, &format!("task=number-{number}")).await.status },
            )
        })
        .collect();
    for added in adding {
        assert_eq!(added.await.unwrap(), 200);
    }
    let listed: serde_json::Value =
        serde_json::from_str(&tasks.get("/api/tasks", &admin).await.body).unwrap();
    let mut numbers: Vec<_> =
        listed["tasks"].as_array().unwrap().iter().filter_map(|task| task.as_str()).collect();
    numbers.pop();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 100);
}

pub(super) async fn healthz_needs_no_issuer(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    tasks.issuer.stop().await;
    let answer = request(tasks.server.address, "GET /api/healthz", &[bearer("a,b")]).await;
    assert_eq!(shown(&answer), (200, "\"OK\""));
    assert_eq!(tasks.get("/api/tasks", "any").await.status, 503);
}

pub(super) async fn no_token_reaches_the_log(subject: Subject) {
    // Everything that the libraries might say about a request is said.
    let tasks = Tasks::start_logging(&subject, "trace").await;
    let (admin, viewer) = (tasks.token(&["admin"]).to_string(), tasks.token(&["viewer"]).to_string());
    tasks.add(&admin, "?task=a", None, "").await;
    tasks.get("/api/add-task", &viewer).await;
    tasks.get("/api/tasks", "dead-token-of-nobody").await;
    tasks.issuer.stop().await;
    tasks.get("/api/tasks", "unlucky-token-of-nobody").await;
    let Tasks { server, api, .. } = tasks;
    let mut log = server.start.clone();
    log.extend(server.rest().await);
    let log = log.join("\n");
    assert!(log.contains("request refused") && log.contains("no verdict"), "refusals are logged");
    let key: serde_json::Value = serde_json::from_str(&api.key_json()).unwrap();
    let key = key["key"].as_str().unwrap().lines().nth(1).unwrap();
    for secret in
        [&admin, &viewer, "dead-token-of-nobody", "unlucky-token-of-nobody", key, "client_assertion=", "eyJ"]
    {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

pub(super) async fn a_list_is_read_in_pages(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let (admin, viewer) = (tasks.token(&["admin"]), tasks.token(&[]));
    for number in 1..=5 {
        tasks.add(&admin, &format!("?task={number}"), None, "").await;
    }
    let mut path = "/api/tasks?limit=2".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = tasks.get(&path, &admin).await;
        assert_eq!((page.status, page.header("cache-control")), (200, Some("no-store")));
        pages.push(page.body.clone());
        let Some(link) = page.header("link") else { break };
        let next = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap();
        next.clone_into(&mut path);
    }
    assert_eq!(pages, [r#"{"tasks":["1","2"]}"#, r#"{"tasks":["3","4"]}"#, r#"{"tasks":["5"]}"#], "no hint");
    tasks.add(&admin, "?task=6", None, "").await;
    assert_eq!(tasks.get(&path, &viewer).await.body, r#"{"tasks":["5","6"]}"#, "the last page grows");
    assert_eq!(tasks.get("/api/tasks?after=999", &viewer).await.body, "{}");
    assert_eq!(tasks.get("/api/tasks?limit=6", &viewer).await.header("link"), None);
    let (limit, after) =
        ("limit must be a number from 1 to 1000", "after must be a position from a Link header");
    for (query, reason) in [
        ("limit=0", limit),
        ("limit=1001", limit),
        ("limit=x", limit),
        ("limit=1&limit=2", limit),
        ("after=-1", after),
    ] {
        let refused = tasks.get(&format!("/api/tasks?{query}"), &viewer).await;
        assert_eq!(shown(&refused), (400, &*format!("bad request: {reason}\n")), "{query}");
    }
    assert_eq!(tasks.get("/api/tasks?limit=0", "dead").await.status, 401, "who may not read is told nothing");
}

pub(super) async fn a_long_list_comes_whole_and_in_order(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let (admin, viewer) = (tasks.token(&["admin"]), tasks.token(&[]));
    for count in [127, 128, 300] {
        let have = read(&tasks, &viewer).await.len();
        for number in have..count {
            tasks.add(&admin, &format!("?task={number}"), None, "").await;
        }
        let mut expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
        assert_eq!(read(&tasks, &viewer).await, expected);
        expected.push("create a new task on /api/add-task".to_owned());
        assert_eq!(read(&tasks, &admin).await, expected);
    }
}

async fn read(tasks: &Tasks, token: &str) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(&tasks.get("/api/tasks", token).await.body).unwrap();
    let list = list["tasks"].as_array().cloned().unwrap_or_default();
    list.iter().map(|task| task.as_str().unwrap().to_owned()).collect()
}

pub(super) async fn readiness_says_what_is_missing(subject: Subject) {
    let tasks = Tasks::start(&subject).await;
    let ready = async || request(tasks.server.address, "GET /readyz", &[]).await;
    assert_eq!(shown(&ready().await), (200, r#"{"ready":true,"missing":[]}"#));
    tasks.issuer.stop().await;
    let missing = async { while ready().await.status == 200 {} };
    super::within(missing).await;
    assert!(ready().await.body.starts_with(r#"{"ready":false,"missing":["issuer""#));
    tasks.issuer.resume().await;
    super::within(async { while ready().await.status != 200 {} }).await;
}
