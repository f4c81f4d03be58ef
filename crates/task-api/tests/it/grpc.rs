//! The tasks service over gRPC: with tonic's client, and with one that is not ours.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use conformance::{
    http::{bearer, request},
    tasks::{Demo, Server, Subject, Tasks, within},
};
use futures_util::{StreamExt, stream};
use http::uri::PathAndQuery;
use http_body_util::{BodyExt, Full};
use prost::Message;
use tokio::process::Command;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use zitadel_introspect_testkit::Endpoint as Asked;

const SERVICE: &str = "zitadel.go.example.api.v3alpha.ExampleService";

/// One text in field 1: most messages of the service are that.
#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    texts: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Count {
    #[prost(uint32, tag = "1")]
    count: u32,
}

struct World {
    tasks: Tasks,
    address: String,
    channel: Channel,
}

/// A connection on which anything can be said.
struct Raw(hyper::client::conn::http2::SendRequest<Sending>, String);

type Sending = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

impl Raw {
    async fn open(world: &World) -> Self {
        let stream = tokio::net::TcpStream::connect(&world.address).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        Self(sender, world.address.clone())
    }

    fn request(&self, http_method: &str, method: &str, token: &str) -> http::request::Builder {
        http::Request::builder()
            .method(http_method)
            .uri(format!("http://{}/{SERVICE}/{method}", self.1))
            .header("authorization", format!("Bearer {token}"))
            .header("te", "trailers")
    }

    async fn call(
        &mut self,
        http_method: &str,
        method: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> http::Response<hyper::body::Incoming> {
        let mut request = self.request(http_method, method, token);
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(body).map_err(|error| match error {}).boxed_unsync();
        within(self.0.send_request(request.body(body).unwrap())).await.unwrap()
    }
}

/// One message on the wire.
fn message(text: &str) -> Bytes {
    let text = Text { text: text.to_owned() }.encode_to_vec();
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &text].concat().into()
}

impl World {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(more: &[&str]) -> Self {
        let subject = Subject { binary: env!("CARGO_BIN_EXE_task-api").into(), postgres: None };
        let (issuer, project, api, folder) = Tasks::issuer().await;
        let mut arguments = subject.arguments(&issuer, &folder).await;
        let database = arguments[1].clone();
        arguments.extend(["--grpc-port", "0"].into_iter().chain(more.iter().copied()).map(str::to_owned));
        let server = Server::start(&subject.binary, &arguments).await;
        let line = server.start.iter().find(|line| line.contains("gRPC addr=")).unwrap();
        let address = line.split_once("addr=").unwrap().1.trim_matches('"').replace("localhost", "127.0.0.1");
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { tasks: Tasks { issuer, project, api, folder, database, server }, address, channel }
    }

    async fn client(&self) -> Grpc<Channel> {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        client
    }

    async fn call<M, A>(&self, method: &str, token: &str, message: M) -> Result<A, Status>
    where
        M: Message + 'static,
        A: Message + Default + 'static,
    {
        let path: PathAndQuery = format!("/{SERVICE}/{method}").parse().unwrap();
        let codec = ProstCodec::<M, A>::default();
        Ok(self.client().await.unary(with_token(message, token), path, codec).await?.into_inner())
    }

    async fn list(&self, token: &str) -> Result<Vec<String>, Status> {
        Ok(self.call::<Text, Texts>("ListTasks", token, Text::default()).await?.texts)
    }

    async fn add(&self, token: &str, task: &str) -> Result<String, Status> {
        Ok(self.call::<_, Text>("AddTask", token, Text { text: task.to_owned() }).await?.text)
    }

    async fn add_all(&self, token: &str, tasks: Vec<String>) -> Result<u32, Status> {
        let path: PathAndQuery = format!("/{SERVICE}/AddTasks").parse().unwrap();
        let texts = stream::iter(tasks.into_iter().map(|text| Text { text }));
        let codec = ProstCodec::<Text, Count>::default();
        let answer = self.client().await.client_streaming(with_token(texts, token), path, codec).await?;
        Ok(answer.into_inner().count)
    }
}

fn with_token<M>(message: M, token: &str) -> Request<M> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

fn shown<T: std::fmt::Debug>(refused: Result<T, Status>) -> (Code, String) {
    let status = refused.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_answers_like_the_official_example() {
    let world = World::new().await;
    let (admin, viewer) = (world.tasks.token(&["admin"]).to_string(), world.tasks.token(&[]).to_string());
    let health = world.call::<_, Text>("Healthz", "", Text::default()).await.unwrap();
    assert_eq!(health.text, "OK");
    let empty = (Code::Unauthenticated, "authorization header is empty".to_owned());
    assert_eq!(shown(world.list("").await), empty);
    assert_eq!(world.list(&viewer).await.unwrap(), texts(&[]));
    let role = (Code::PermissionDenied, "missing required role: `admin`".to_owned());
    assert_eq!(shown(world.add(&viewer, "x").await), role);
    assert_eq!(shown(world.add_all(&viewer, texts(&["x"])).await), role);
    assert_eq!(world.add(&admin, " My new task ").await.unwrap(), "task `My new task` added");
    assert_eq!(world.add_all(&admin, texts(&["one", " ", "two"])).await.unwrap(), 2);
    assert_eq!(world.list(&viewer).await.unwrap(), ["My new task", "one", "two"]);
    let hint = "create a new task with `AddTask`";
    assert_eq!(world.list(&admin).await.unwrap(), ["My new task", "one", "two", hint]);
    let invalid = |text: &str| (Code::InvalidArgument, text.to_owned());
    assert_eq!(shown(world.add(&admin, "\n").await), invalid("task must not be empty"));
    assert_eq!(shown(world.add(&admin, "a\0").await), invalid("task must not contain U+0000"));
    assert_eq!(shown(world.add_all(&admin, texts(&[])).await), invalid("no task provided"));
    assert_eq!(shown(world.add_all(&admin, texts(&["", " "])).await), invalid("no task provided"));
    let over_http = request(world.tasks.server.address, "GET /api/tasks", &[bearer(&viewer)]).await;
    assert_eq!(over_http.body, r#"{"tasks":["My new task","one","two"]}"#, "one list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_kept_whole_or_not_at_all_within_limits() {
    let world = World::new().await;
    let admin = world.tasks.token(&["admin"]).to_string();
    assert_eq!(shown(world.add_all(&admin, texts(&["a", "b", "\0"])).await).0, Code::InvalidArgument);
    let too_many = vec!["x".to_owned(); 10_001];
    let exhausted = (Code::ResourceExhausted, "too many tasks in one stream".to_owned());
    assert_eq!(shown(world.add_all(&admin, too_many).await), exhausted);
    let too_long = vec!["x".repeat(60_000); 18];
    assert_eq!(shown(world.add_all(&admin, too_long).await), exhausted);
    let oversized = shown(world.add(&admin, &"x".repeat(64 * 1024)).await);
    assert_eq!(oversized, (Code::ResourceExhausted, "message too large".to_owned()));
    assert_eq!(world.list(&admin).await.unwrap().len(), 1, "nothing but the hint");
    assert_eq!(world.add_all(&admin, vec!["x".to_owned(); 10_000]).await.unwrap(), 10_000);
    assert_eq!(world.list(&admin).await.unwrap().len(), 10_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_cut_is_no_stream_that_has_ended() {
    let world = World::new().await;
    let admin = world.tasks.token(&["admin"]).to_string();
    assert_eq!(world.list(&admin).await.unwrap().len(), 1);
    for number in 0..200 {
        // hyper takes few resets on one connection.
        let stream = tokio::net::TcpStream::connect(&world.address).await.unwrap();
        let (calls, mut connection) = h2::client::handshake(stream).await.unwrap();
        let mut pings = connection.ping_pong().unwrap();
        tokio::spawn(connection);
        let mut calls = calls.ready().await.unwrap();
        let request = http::Request::post(format!("http://{}/{SERVICE}/AddTasks", world.address))
            .header("authorization", format!("Bearer {admin}"))
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let (answer, mut body) = calls.send_request(request, false).unwrap();
        body.send_data(message("cut"), false).unwrap();
        // A reset takes with it what was not sent yet: the server must have had the message.
        for _ in 0..=number % 5 {
            pings.ping(h2::Ping::opaque()).await.unwrap();
        }
        body.send_reset(h2::Reason::CANCEL);
        assert!(within(answer).await.is_err());
    }
    let whole = world.add_all(&admin, texts(&["whole"])).await;
    assert_eq!(whole.unwrap(), 1);
    assert_eq!(world.list(&admin).await.unwrap()[..1], ["whole"], "nothing of what was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_call_of_grpc_is_a_call() {
    let world = World::new().await;
    let admin = world.tasks.token(&["admin"]).to_string();
    let mut raw = Raw::open(&world).await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let answer = raw.call(method, "AddTask", &admin, &[], message("x")).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["allow"]),
            (405, &"POST".parse().unwrap()),
            "{method}"
        );
    }
    for media_type in ["text/plain", "application/json", "application/grpc-web+proto", ""] {
        let answer = raw.call("POST", "AddTask", &admin, &[("content-type", media_type)], message("x")).await;
        assert_eq!(answer.status(), 415, "{media_type:?}");
    }
    let names: Vec<_> = (0..100).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "a")).collect();
    assert_eq!(raw.call("POST", "AddTask", &admin, &many, message("x")).await.status(), 431);
    let not_text: Bytes = [&[0, 0, 0, 0, 4, 10, 2][..], &[0xff, 0xfe]].concat().into();
    let answer = raw.call("POST", "AddTask", &admin, &[], not_text).await;
    let shown = (&answer.headers()["grpc-status"], &answer.headers()["grpc-message"]);
    assert_eq!(shown, (&"3".parse().unwrap(), &"malformed%20message".parse().unwrap()));
    assert_eq!(world.list(&admin).await.unwrap().len(), 1, "nothing but the hint");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_numbers_count_for_calls_as_well() {
    let world = World::with(&["--requests-per-second", "2"]).await;
    let token = world.tasks.token(&[]).to_string();
    let mut refused = Vec::new();
    for _ in 0..20 {
        refused.extend(world.list(&token).await.err());
    }
    let first = refused.first().expect("more than two in a second");
    assert_eq!((first.code(), first.message()), (Code::ResourceExhausted, "too many requests"));
    let line = world.tasks.server.start.iter().find(|line| line.contains("metrics at /metrics")).unwrap();
    let metrics = line.split_once("addr=").unwrap().1.parse().unwrap();
    let numbers = request(metrics, "GET /metrics", &[]).await.body;
    for status in ["Ok", "ResourceExhausted"] {
        let line = format!(
            "task_api_requests_total{{method=\"POST\",route=\"/{SERVICE}/ListTasks\",status=\"{status}\"}}"
        );
        assert!(numbers.contains(&line), "{line} is not in\n{numbers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_counts_and_a_store_that_is_away_is_told() {
    let world = World::new().await;
    let admin = world.tasks.token(&["admin"]).to_string();
    let held = world.tasks.issuer.hold(Asked::Introspection);
    // On a raw connection: tonic's client ends a late call by itself.
    let mut raw = Raw::open(&world).await;
    let answer = raw.call("POST", "ListTasks", &admin, &[("grpc-timeout", "300m")], message("")).await;
    assert_eq!((answer.headers()["grpc-status"].to_str().unwrap(), answer.status().as_u16()), ("4", 200));
    drop(held);
    world.add(&admin, "kept").await.unwrap();
    let file = world.tasks.folder.path().join("tasks.db");
    std::fs::rename(&file, file.with_extension("moved")).unwrap();
    let away = (Code::Unavailable, "task store".to_owned());
    assert_eq!(shown(world.add(&admin, "lost").await), away);
    assert_eq!(shown(world.list(&admin).await), away);
    std::fs::rename(file.with_extension("moved"), &file).unwrap();
    within(async { while world.add(&admin, "healed").await.is_err() {} }).await;
    assert_eq!(world.list(&admin).await.unwrap()[..2], ["kept", "healed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_above_the_limit_is_refused_at_once() {
    let world = World::new().await;
    let admin = world.tasks.token(&["admin"]).to_string();
    let mut raw = Raw::open(&world).await;
    let pending = stream::pending::<Result<http_body::Frame<Bytes>, std::io::Error>>();
    let request = raw.request("POST", "AddTask", &admin).header("content-type", "application/grpc");
    let request = request.header("content-length", "10000000000");
    let body = http_body_util::StreamBody::new(pending).boxed_unsync();
    let answer = raw.0.send_request(request.body(body).unwrap());
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.expect("at once").unwrap();
    assert_eq!(answer.headers()["grpc-status"], "8");
    // A message that announces more than it may have, in its own five bytes.
    let mut raw = Raw::open(&world).await;
    let prefix = Bytes::from_static(&[0, 0x7f, 0xff, 0xff, 0xff]);
    let frames = stream::once(async move { Ok(http_body::Frame::data(prefix)) }).chain(stream::pending());
    let request = raw.request("POST", "AddTask", &admin).header("content-type", "application/grpc");
    let body = http_body_util::StreamBody::new(frames).boxed_unsync();
    let answer = raw.0.send_request(request.body(body).unwrap());
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.expect("at once").unwrap();
    assert_eq!(answer.headers()["grpc-status"], "8");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_never_ends_does_not_keep_the_server() {
    let mut world = World::new().await;
    let mut idle = Raw::open(&world).await;
    idle.call("POST", "Healthz", "", &[], message("")).await;
    let admin = world.tasks.token(&["admin"]).to_string();
    let asked = world.tasks.issuer.introspections();
    let path: PathAndQuery = format!("/{SERVICE}/AddTasks").parse().unwrap();
    let mut client = world.client().await;
    let call = tokio::spawn(async move {
        let codec = ProstCodec::<Text, Count>::default();
        client.client_streaming(with_token(stream::pending::<Text>(), &admin), path, codec).await
    });
    world.tasks.issuer.asked(Asked::Introspection, asked + 1).await;
    let pid = world.tasks.server.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().await.unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(30), world.tasks.server.child.wait()).await;
    assert_eq!(ended.expect("within 30 s").unwrap().code(), Some(0));
    assert!(call.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_demo_work_as_they_are_printed() {
    let found = std::process::Command::new("grpcurl").arg("-version").output();
    if found.is_err() {
        conformance::report("SKIPPED: a test with a client that is not ours: grpcurl is not installed");
        return;
    }
    let demo = Demo::start(Path::new(env!("CARGO_BIN_EXE_task-api"))).await;
    let commands: Vec<_> = demo.server.start.iter().filter(|line| line.starts_with("grpcurl ")).collect();
    assert_eq!(commands.len(), 6);
    let mut answers = Vec::new();
    for command in &commands {
        let output = run(&demo, command).await;
        answers.push(output);
    }
    assert!(answers[0].contains("\"health\": \"OK\""), "{answers:?}");
    assert_eq!(answers[1].trim(), "{}");
    assert!(answers[2].contains("PermissionDenied") && answers[2].contains("missing required role: `admin`"));
    assert!(answers[2].contains("MISSING_ROLE"), "the details are readable: {}", answers[2]);
    assert!(answers[3].contains("task `My new task` added"));
    assert!(
        answers[4].contains("\"My new task\"") && answers[4].contains("create a new task with `AddTask`")
    );
    assert!(answers[5].contains("\"added\": 2"), "{answers:?}");
    let address = commands[0].split_whitespace().nth(2).unwrap();
    let services = run(&demo, &format!("grpcurl -plaintext {address} list")).await;
    assert!(services.contains(SERVICE) && services.contains("grpc.health.v1.Health"), "{services}");
    let health = run(&demo, &format!("grpcurl -plaintext {address} grpc.health.v1.Health/Check")).await;
    assert!(health.contains("SERVING"), "{health}");
    let unnamed = run(&demo, &format!("grpcurl -plaintext {address} {SERVICE}/ListTasks")).await;
    assert!(unnamed.contains("Unauthenticated") && unnamed.contains("MISSING_TOKEN"), "{unnamed}");
}

/// What a command says, on both outputs.
async fn run(demo: &Demo, command: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("VIEWER", &demo.viewer).env("ADMIN", &demo.admin);
    let output = within(shell.output()).await.unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}
