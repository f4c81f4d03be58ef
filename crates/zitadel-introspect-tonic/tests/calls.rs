//! Calls of all four kinds, over sockets, with tonic's own client.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    convert::Infallible,
    fmt::Write,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, HeaderValue, uri::PathAndQuery};
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    client::Grpc as Client,
    metadata::MetadataMap,
    server::{Grpc, NamedService},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;
use tower::service_fn;
use tower_service::Service;
use zitadel_introspect::TestClock;
use zitadel_introspect_testkit::{Issuer, Project};
use zitadel_introspect_tonic::{
    Authorized, ClientAuth, Methods, RequireAuthorizationLayer, Requirement, Verifier, while_authorized,
};

type Codec = ProstCodec<String, String>;

const KINDS: [&str; 4] = ["Unary", "ServerStream", "ClientStream", "Bidirectional"];

/// A service with a method of each kind, and one that somebody has forgotten to name.
#[derive(Clone)]
struct Calls;

impl NamedService for Calls {
    const NAME: &'static str = "test.Calls";
}

impl Service<http::Request<Body>> for Calls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let mut grpc = Grpc::new(Codec::default());
        Box::pin(async move {
            Ok(match name.as_str() {
                "ServerStream" => grpc.server_streaming(service_fn(server_stream), request).await,
                "ClientStream" => grpc.client_streaming(service_fn(client_stream), request).await,
                "Bidirectional" => grpc.streaming(service_fn(bidirectional), request).await,
                "Patient" => grpc.streaming(service_fn(patient), request).await,
                _ => grpc.unary(service_fn(unary), request).await,
            })
        })
    }
}

async fn unary(request: Request<String>) -> Result<Response<String>, Status> {
    Authorized::of(&request)?;
    Ok(Response::new(request.into_inner()))
}

type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

async fn server_stream(request: Request<String>) -> Result<Response<Answers>, Status> {
    Authorized::of(&request)?;
    Ok(Response::new(stream::iter([Ok("a".to_owned()), Ok("b".to_owned())]).boxed()))
}

async fn client_stream(request: Request<Streaming<String>>) -> Result<Response<String>, Status> {
    Authorized::of(&request)?;
    let texts: Vec<_> = request.into_inner().collect().await;
    Ok(Response::new(texts.into_iter().collect::<Result<Vec<_>, _>>()?.concat()))
}

/// Answers each text with itself, for as long as the caller is authorized.
async fn bidirectional(request: Request<Streaming<String>>) -> Result<Response<Answers>, Status> {
    echo(request, Duration::from_millis(20))
}

/// Looks at the caller when the token expires, and hardly ever else.
async fn patient(request: Request<Streaming<String>>) -> Result<Response<Answers>, Status> {
    echo(request, Duration::from_secs(3600))
}

fn echo(request: Request<Streaming<String>>, every: Duration) -> Result<Response<Answers>, Status> {
    let Authorized(caller) = Authorized::of(&request)?;
    let admin = Requirement::role("admin");
    Ok(Response::new(while_authorized(request.into_inner(), &caller, admin, every).boxed()))
}

struct World {
    issuer: Issuer,
    project: Project,
    verifier: Verifier,
    clock: TestClock,
    channel: Channel,
    address: SocketAddr,
}

impl World {
    async fn new() -> Self {
        let issuer = Issuer::start().await;
        let project = issuer.project("calls");
        project.add_roles(["admin"]);
        let auth = ClientAuth::key_json(&project.api("api").key_json()).unwrap();
        let clock = TestClock::new();
        let name = zitadel_introspect_tonic::Issuer::parse(&issuer.url()).unwrap();
        let verifier = Verifier::builder(name, auth).clock(&clock).build().unwrap();
        let methods = KINDS.into_iter().fold(Methods::new(), |methods, kind| {
            methods.require(format!("/test.Calls/{kind}"), Requirement::role("admin"))
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let methods =
            methods.require("/test.Calls/Patient", Requirement::any_caller()).public("/test.Calls/Public");
        let layer = RequireAuthorizationLayer::new(verifier.clone(), methods).unwrap();
        let server = Server::builder().layer(layer).add_service(Calls);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { issuer, project, verifier, clock, channel, address }
    }

    fn token(&self, roles: &[&str]) -> String {
        let user = self.issuer.service_user("user");
        if !roles.is_empty() {
            user.grant(&self.project, roles);
        }
        user.pat().to_string()
    }

    fn advance(&self, seconds: u64) {
        self.issuer.advance(Duration::from_secs(seconds));
        self.clock.advance(Duration::from_secs(seconds));
    }

    async fn client(&self) -> Client<Channel> {
        let mut client = Client::new(self.channel.clone());
        client.ready().await.unwrap();
        client
    }

    /// All texts of an answer, or why there is none.
    async fn call(&self, kind: &str, tokens: &[&str]) -> Result<Vec<String>, Status> {
        let path: PathAndQuery = format!("/test.Calls/{kind}").parse().unwrap();
        let texts = || stream::iter(["a".to_owned(), "b".to_owned()]);
        let mut client = self.client().await;
        let answers = match kind {
            "ServerStream" => {
                let request = with_tokens("ab".to_owned(), tokens);
                client.server_streaming(request, path, Codec::default()).await?.into_inner()
            }
            "ClientStream" => {
                let request = with_tokens(texts(), tokens);
                let text = client.client_streaming(request, path, Codec::default()).await?.into_inner();
                return Ok(vec![text]);
            }
            "Bidirectional" => {
                client.streaming(with_tokens(texts(), tokens), path, Codec::default()).await?.into_inner()
            }
            _ => {
                let request = with_tokens("ab".to_owned(), tokens);
                return Ok(vec![client.unary(request, path, Codec::default()).await?.into_inner()]);
            }
        };
        answers.collect::<Vec<_>>().await.into_iter().collect()
    }
}

fn with_tokens<T>(message: T, tokens: &[&str]) -> Request<T> {
    let mut headers = HeaderMap::new();
    for token in tokens {
        headers.append("authorization", HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    }
    Request::from_parts(MetadataMap::from_headers(headers), http::Extensions::new(), message)
}

fn shown(refused: Result<Vec<String>, Status>) -> (Code, String, String) {
    let status = refused.unwrap_err();
    let details = status.get_error_details();
    let word = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    (status.code(), status.message().to_owned(), word)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_table_for_calls_of_every_kind() {
    let world = World::new().await;
    let (admin, viewer) = (world.token(&["admin"]), world.token(&[]));
    let expect = |code, text: &str, word: &str| (code, text.to_owned(), word.to_owned());
    for kind in KINDS {
        let texts = world.call(kind, &[&admin]).await.unwrap();
        assert_eq!(texts.concat(), "ab", "{kind}");
        let empty = expect(Code::Unauthenticated, "authorization header is empty", "MISSING_TOKEN");
        assert_eq!(shown(world.call(kind, &[]).await), empty, "{kind}");
        let malformed = expect(Code::Unauthenticated, "malformed token", "MALFORMED_TOKEN");
        assert_eq!(shown(world.call(kind, &["a,b"]).await), malformed, "{kind}");
        let dead = expect(Code::Unauthenticated, "invalid token", "INVALID_TOKEN");
        assert_eq!(shown(world.call(kind, &["dead"]).await), dead, "{kind}");
        let two = expect(Code::InvalidArgument, "more than one authorization header", "REPEATED_HEADER");
        assert_eq!(shown(world.call(kind, &[&admin, &admin]).await), two, "{kind}");
        let role = expect(Code::PermissionDenied, "missing required role: `admin`", "MISSING_ROLE");
        assert_eq!(shown(world.call(kind, &[&viewer]).await), role, "{kind}");
    }
    let miswired = expect(Code::Internal, "internal server error", "INTERNAL");
    assert_eq!(shown(world.call("Public", &[&admin]).await), miswired, "a public method has no caller");
    world.issuer.stop().await;
    for kind in KINDS {
        let status = world.call(kind, &["new"]).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "no verdict from the issuer"));
        let delay = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay).unwrap();
        assert!((1..=10).contains(&delay.as_secs()), "{delay:?}");
    }
}

/// What was logged as an error while it was in place.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Errors {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                let _ = write!(self.0, "{value:?} ");
            }
        }
        if *event.metadata().level() == tracing::Level::ERROR {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }
    }
}

#[tokio::test]
async fn a_method_that_nobody_named_is_denied_and_logged_once() {
    use tracing_subscriber::layer::SubscriberExt;
    let errors = Errors::default();
    // On the one thread that also serves.
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(errors.clone()));
    let world = World::new().await;
    let admin = world.token(&["admin"]);
    let denied = (Code::PermissionDenied, "no requirement is set".to_owned(), "NOTHING_REQUIRED".to_owned());
    for method in ["Forgotten", "Forgotten", "Unary%20", "%55nary", "unary", "Public/"] {
        assert_eq!(shown(world.call(method, &[&admin]).await), denied, "{method}");
        assert_eq!(shown(world.call(method, &[]).await), denied, "{method}");
    }
    assert_eq!(world.issuer.introspections(), 0);
    let errors = errors.0.lock().unwrap();
    let lines: Vec<_> = errors.iter().filter(|line| line.contains("test.Calls/Forgotten")).collect();
    assert_eq!(lines.len(), 1, "{errors:?}");
    assert!(
        lines[0].contains("NOBODY IS LET IN") && lines[0].contains(".require(\"/test.Calls/Forgotten\", …)")
    );
}

#[test]
fn a_name_that_can_never_match_or_comes_twice_is_told() {
    let verifier = zitadel_introspect::TestTokens::new().verifier();
    let told = |methods| {
        let outcome = RequireAuthorizationLayer::new(verifier.clone(), methods);
        outcome.map_or_else(|error| error.to_string(), |_| String::new())
    };
    for name in ["test.Calls/Unary", "/test.Calls", "/test.Calls/", "/a/b/c"] {
        let said = told(Methods::new().public(name).public("/test.Calls/Unary"));
        assert!(said.contains(&format!("{name:?} is no full name")), "{said}");
    }
    let twice =
        Methods::new().public("/test.Calls/Unary").require("/test.Calls/Unary", Requirement::role("admin"));
    assert!(told(twice).contains("/test.Calls/Unary is named twice"));
    assert_eq!(told(Methods::new().public("/test.Calls/Unary").public_health_and_reflection()), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_service_can_be_guarded_by_itself() {
    let issuer = Issuer::start().await;
    let auth = ClientAuth::key_json(&issuer.project("calls").api("api").key_json()).unwrap();
    let name = zitadel_introspect_tonic::Issuer::parse(&issuer.url()).unwrap();
    let verifier = Verifier::builder(name, auth).build().unwrap();
    let methods = Methods::new().require("/test.Calls/Unary", Requirement::any_caller());
    let guarded =
        tower_layer::Layer::layer(&RequireAuthorizationLayer::new(verifier, methods).unwrap(), Calls);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(guarded);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let call = async |tokens: &[&str]| {
        let mut client = Client::new(channel.clone());
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/test.Calls/Unary");
        client.unary(with_tokens("a".to_owned(), tokens), path, Codec::default()).await
    };
    assert_eq!(call(&[&issuer.service_user("user").pat()]).await.unwrap().into_inner(), "a");
    assert_eq!(call(&[]).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_refusal_has_no_body_and_does_not_wait_for_one() {
    let world = World::new().await;
    let stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/test.Calls/ClientStream", world.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    // A body of which nothing ever comes.
    let body = http_body_util::StreamBody::new(stream::pending::<
        Result<hyper::body::Frame<&'static [u8]>, Infallible>,
    >());
    let answer = sender.send_request(request.body(body).unwrap());
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.unwrap().unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["grpc-status"]),
        (200, &HeaderValue::from_static("16"))
    );
    assert_eq!(answer.headers()["grpc-message"], "authorization%20header%20is%20empty");
    assert!(hyper::body::Body::is_end_stream(answer.body()), "trailers only");
}

struct Open {
    send: tokio::sync::mpsc::UnboundedSender<String>,
    answers: Streaming<String>,
}

impl Open {
    async fn new(world: &World, token: &str) -> Self {
        Self::of(world, token, "Bidirectional").await
    }

    async fn of(world: &World, token: &str, method: &str) -> Self {
        let (send, mut texts) = tokio::sync::mpsc::unbounded_channel();
        let outbound = stream::poll_fn(move |cx| texts.poll_recv(cx));
        let request = with_tokens(outbound, &[token]);
        let path: PathAndQuery = format!("/test.Calls/{method}").parse().unwrap();
        let answers = world.client().await.streaming(request, path, Codec::default()).await;
        let mut open = Self { send, answers: answers.unwrap().into_inner() };
        open.echoes().await;
        open
    }

    async fn echoes(&mut self) {
        self.send.send("still here".to_owned()).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(10), self.answers.message()).await.unwrap();
        assert_eq!(answer.unwrap().as_deref(), Some("still here"));
    }

    async fn end(mut self) -> Status {
        let end = async {
            loop {
                match self.answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("ended without a status"),
                    Err(status) => return status,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), end).await.expect("an end")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_token_expires() {
    let world = World::new().await;
    let user = world.issuer.service_user("user");
    user.grant(&world.project, ["admin"]);
    let token = user.access_token().for_project(&world.project).lifetime(Duration::from_secs(3600)).issue();
    let mut open = Open::new(&world, &token).await;
    world.advance(1800);
    open.echoes().await;
    world.advance(1801);
    assert_eq!(open.end().await.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_the_very_end_of_its_token_however_seldom_it_looks() {
    let world = World::new().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let user = world.issuer.service_user("user");
    user.grant(&world.project, ["admin"]);
    let token = user.pat_until(i64::try_from(now).unwrap() + 3);
    let open = Open::of(&world, &token, "Patient").await;
    assert_eq!(open.end().await.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_caller_loses_the_role() {
    let world = World::new().await;
    let user = world.issuer.service_user("user");
    let grant = user.grant(&world.project, ["admin"]);
    let open = Open::new(&world, &user.pat()).await;
    grant.remove();
    world.verifier.evict_user(&user.id().into());
    world.advance(2);
    let end = open.end().await;
    assert_eq!((end.code(), end.message()), (Code::PermissionDenied, "missing required role: `admin`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_verdict_is_evicted_and_not_renewed() {
    let world = World::new().await;
    let user = world.issuer.service_user("user");
    user.grant(&world.project, ["admin"]);
    let (token, other) = (user.pat(), world.token(&["admin"]));
    let open = Open::new(&world, &token).await;
    let mut stays = Open::new(&world, &other).await;
    token.revoke();
    world.verifier.evict_user(&user.id().into());
    world.advance(2);
    assert_eq!(open.end().await.code(), Code::Unauthenticated);
    stays.echoes().await;
    world.verifier.evict_all();
    world.advance(2);
    stays.echoes().await;
    // Nor does it outlive a verdict that cannot be renewed.
    world.issuer.stop().await;
    world.advance(61);
    assert_eq!(stays.end().await.code(), Code::Unavailable);
}

/// What stands inside of the guard may answer with a body of its own.
#[tokio::test]
async fn the_layer_goes_around_other_layers() {
    let issuer = Issuer::start().await;
    let project = issuer.project("calls");
    let token = issuer.service_user("ada").pat();
    let auth = ClientAuth::key_json(&project.api("api").key_json()).unwrap();
    let name = zitadel_introspect_tonic::Issuer::parse(&issuer.url()).unwrap();
    let verifier = Verifier::builder(name, auth).build().unwrap();
    let guard =
        RequireAuthorizationLayer::new(verifier, Methods::new().require("/a.B/C", Requirement::any_caller()))
            .unwrap();
    let inner = service_fn(async |_: http::Request<String>| {
        Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::new(bytes::Bytes::from(
            "inner",
        ))))
    });
    let stack = tower::ServiceBuilder::new()
        .layer(tower_http::cors::CorsLayer::new())
        .layer(guard)
        .layer(tower_http::trace::TraceLayer::new_for_grpc())
        .layer(tower_http::compression::CompressionLayer::new())
        .service(inner);
    for (token, status) in [(&*token, None), ("dead", Some("16"))] {
        let request =
            http::Request::builder().uri("/a.B/C").header("authorization", format!("Bearer {token}"));
        let answer =
            tower::ServiceExt::oneshot(stack.clone(), request.body(String::new()).unwrap()).await.unwrap();
        let told = answer.headers().get("grpc-status").map(|status| status.to_str().unwrap());
        assert_eq!(told, status);
    }
}

#[test]
fn methods_are_checked_against_the_definition() {
    use prost::Message;
    use prost_types::{
        FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
    };
    use zitadel_introspect_tonic::MethodsError;

    let method = |name: &str| MethodDescriptorProto { name: Some(name.to_owned()), ..Default::default() };
    let service = |name: &str, methods: &[&str]| ServiceDescriptorProto {
        name: Some(name.to_owned()),
        method: methods.iter().map(|name| method(name)).collect(),
        ..Default::default()
    };
    let file = |package: Option<&str>, services| FileDescriptorProto {
        package: package.map(str::to_owned),
        service: services,
        ..Default::default()
    };
    let set = FileDescriptorSet {
        file: vec![
            file(Some("notes.v1"), vec![service("Notes", &["List", "Add"])]),
            file(None, vec![service("Bare", &["Ping"])]),
        ],
    };
    let set = set.encode_to_vec();
    let all = || {
        Methods::new()
            .require("/notes.v1.Notes/List", Requirement::any_caller())
            .public("/Bare/Ping")
            .public_health_and_reflection()
    };
    all().require("/notes.v1.Notes/Add", Requirement::any_caller()).checked_against(&set).unwrap();
    let error =
        all().require("/notes.v1.Notes/Ad", Requirement::any_caller()).checked_against(&set).unwrap_err();
    let MethodsError::Differ { unknown, forgotten, .. } = &error else { panic!("{error}") };
    assert_eq!(
        (unknown, forgotten),
        (&vec!["/notes.v1.Notes/Ad".to_owned()], &vec!["/notes.v1.Notes/Add".to_owned()])
    );
    assert!(
        error.to_string().contains("/notes.v1.Notes/Ad; in the definition and not named here"),
        "{error}"
    );
    assert_eq!(all().checked_against(b"nonsense").unwrap_err(), MethodsError::Malformed);
}
