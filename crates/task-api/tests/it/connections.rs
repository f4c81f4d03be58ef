//! One client and the connections of everybody.

use std::time::Duration;

use conformance::{
    http::{Connection, bearer, request},
    tasks::{Server, Subject, Tasks, within},
};
use zitadel_introspect_testkit::Endpoint;

async fn tasks_with(more: &[&str]) -> Tasks {
    let subject = Subject { binary: env!("CARGO_BIN_EXE_task-api").into(), postgres: None };
    let (issuer, project, api, folder) = Tasks::issuer().await;
    let mut arguments = subject.arguments(&issuer, &folder).await;
    let database = arguments[1].clone();
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    let server = Server::start(&subject.binary, &arguments).await;
    Tasks { issuer, project, api, folder, database, server }
}

const HEALTHZ: &str = "GET /api/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_holds_its_share_loses_the_longest_idle_and_liveness_answers_elsewhere() {
    let tasks = tasks_with(&["--connections-per-client", "4"]).await;
    let address = tasks.server.address;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open(address).await;
        connection.send(HEALTHZ).await;
        assert_eq!(connection.answer(false).await.unwrap().status, 200);
        held.push(connection);
    }
    assert_eq!(request(address, "GET /api/healthz", &[]).await.status, 200, "an idle one made room");
    assert!(within(held[0].is_closed()).await);
    // Now all are worked on: what is more is closed, and the metrics port answers.
    let token = tasks.token(&[]);
    let asked = tasks.issuer.introspections();
    let holding = tasks.issuer.hold(Endpoint::Introspection);
    let mut busy = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open(address).await;
        connection
            .send(format!("GET /api/tasks HTTP/1.1\r\nhost: localhost\r\n{}\r\n\r\n", bearer(&token)))
            .await;
        busy.push(connection);
    }
    tasks.issuer.asked(Endpoint::Introspection, asked + 1).await;
    let crowded = async {
        loop {
            let mut more = Connection::open(address).await;
            more.send(HEALTHZ).await;
            if more.answer(false).await.is_none() {
                break;
            }
        }
    };
    within(crowded).await;
    let line = tasks.server.start.iter().find(|line| line.contains("metrics at /metrics")).unwrap();
    let metrics = line.split_once("addr=").unwrap().1.parse().unwrap();
    assert_eq!(request(metrics, "GET /api/healthz", &[]).await.status, 200);
    drop(holding);
    let ready = async { while request(metrics, "GET /readyz", &[]).await.status != 200 {} };
    within(ready).await;
    for connection in &mut busy {
        if let Some(answer) = within(connection.answer(false)).await {
            assert_eq!(answer.status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_connections_of_one_client_starve_nobody() {
    let tasks = tasks_with(&["--connections-per-client", "512"]).await;
    let address = tasks.server.address;
    let mut held = Vec::new();
    for number in 0..600 {
        let mut connection = Connection::open(address).await;
        connection.send(HEALTHZ).await;
        let answer = tokio::time::timeout(Duration::from_secs(5), connection.answer(false)).await;
        assert_eq!(answer.expect("without waiting").unwrap().status, 200, "{number}");
        held.push(connection);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_above_the_limit_is_refused_at_once() {
    let tasks = tasks_with(&["--grpc-port", "0"]).await;
    let token = tasks.token(&["admin"]);
    for (length, status) in [(10_000_000_000_u64, 413), (64 * 1024 + 1, 413), (64 * 1024, 0)] {
        let mut connection = Connection::open(tasks.server.address).await;
        let form = "content-type: application/x-www-form-urlencoded";
        let head = format!("POST /api/add-task HTTP/1.1\r\nhost: localhost\r\n{}\r\n{form}", bearer(&token));
        connection.send(format!("{head}\r\ncontent-length: {length}\r\n\r\n")).await;
        let answer = tokio::time::timeout(Duration::from_secs(3), connection.answer(false)).await;
        match answer {
            Ok(answer) => assert_eq!(answer.unwrap().status, status, "{length}"),
            Err(_) => assert_eq!(status, 0, "{length} is not waited for"),
        }
    }
    let mut unknown = Connection::open(tasks.server.address).await;
    unknown
        .send("POST /api/add-task HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10000000000\r\n\r\n")
        .await;
    let answer = within(unknown.answer(false)).await.unwrap();
    assert_eq!(answer.status, 401, "the guard is first");
}
