//! The listening socket, on a separate thread, so that it works with any runtime of the tests.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    answer::Answer,
    body::AnswerBody,
    connection::{Connection, Cut, CutSwitch},
    endpoints::{self, Endpoint, Question},
    events::{Delivery, deliver},
    faults::Kind,
    form::Form,
    head::header_text,
    request::Request as Kept,
    search,
    shared::Shared,
};

const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The beginnings of the paths of ZITADEL's own APIs. Unknown ones are answered in JSON.
const OF_APIS: [&str; 6] = ["/admin/", "/auth/", "/management/", "/v2/", "/v2beta/", "/zitadel."];
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

pub(crate) enum Command {
    /// Refuse new connections, and abort open connections.
    Stop(oneshot::Sender<()>),
    /// Listen again on the same port.
    Resume(oneshot::Sender<io::Result<()>>),
}

/// The channels of the server's thread.
pub(crate) struct Channels {
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) deliveries: mpsc::UnboundedReceiver<Delivery>,
    pub(crate) ready: oneshot::Sender<()>,
}

/// Listens on a separate thread until the sender of commands is dropped.
pub(crate) fn start(
    listener: TcpListener,
    shared: Arc<Shared>,
    channels: Channels,
) -> io::Result<thread::JoinHandle<()>> {
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name = "zitadel-testkit".to_owned();
    thread::Builder::new().name(name).spawn(move || {
        runtime.spawn(deliver_in_order(channels.deliveries));
        let _ = channels.ready.send(());
        runtime.block_on(serve(listener, address, shared, channels.commands));
        runtime.shutdown_timeout(Duration::ZERO);
    })
}

async fn deliver_in_order(mut deliveries: mpsc::UnboundedReceiver<Delivery>) {
    while let Some(delivery) = deliveries.recv().await {
        deliver(delivery).await;
    }
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let mut listening = listen(listener).ok();
    // While stopped: a socket that is bound and does not listen. Connections are refused, and nobody else takes the port.
    let mut kept = None;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = accept(listening.as_ref()) => {
                connections.spawn(serve_connection(stream, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
            command = commands.recv() => match command {
                Some(Command::Stop(done)) => {
                    listening = None;
                    kept = keep_port(address).ok();
                    connections.shutdown().await;
                    let _ = done.send(());
                }
                Some(Command::Resume(done)) => {
                    let socket = kept.take().map_or_else(|| keep_port(address), Ok);
                    let resumed = socket.and_then(|socket| socket.listen(BACKLOG));
                    let _ = done.send(resumed.map(|listener| listening = Some(listener)));
                }
                None => return,
            },
        }
    }
}

fn keep_port(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

async fn accept(listener: Option<&tokio::net::TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            return stream;
        }
        // Out of file handles: wait a moment, so that open connections can end.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let switch = CutSwitch::default();
    let connection = Connection::new(stream, switch.clone());
    let service = service_fn(move |request| handle(request, Arc::clone(&shared), switch.clone()));
    let _ = http1::Builder::new().serve_connection(connection, service).await;
}

async fn handle(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    switch: CutSwitch,
) -> Result<Response<AnswerBody>, Infallible> {
    let (answer, fault) = match read(request, &shared).await {
        Ok(question) => {
            shared.count(question.endpoint);
            let fault = shared.take_fault(question.endpoint, question.token(), &question.path);
            wait(fault.as_ref()).await;
            if matches!(fault, Some(Kind::Refuse)) {
                (Answer::plain(StatusCode::OK, "text/plain", ""), fault)
            } else {
                (shared.change(|state| endpoints::answer(state, &question)), fault)
            }
        }
        Err(answer) => (answer, None),
    };
    let mut response = send(answer, fault.as_ref(), &switch);
    let now = u64::try_from(shared.change(|state| state.now())).unwrap_or_default();
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
    response.headers_mut().extend(HeaderValue::try_from(date).ok().map(|date| (header::DATE, date)));
    Ok(response)
}

/// What a fault does before the answer is made.
async fn wait(fault: Option<&Kind>) {
    match fault {
        Some(Kind::Latency(latency)) => tokio::time::sleep(*latency).await,
        Some(Kind::HangBeforeHead) => std::future::pending().await,
        Some(Kind::Hold(released)) => {
            let _ = released.clone().wait_for(|released| *released).await;
        }
        _ => {}
    }
}

/// What a fault does to the answer.
fn send(answer: Answer, fault: Option<&Kind>, switch: &CutSwitch) -> Response<AnswerBody> {
    let answer = match fault {
        Some(Kind::Answer(other)) => other.clone(),
        Some(Kind::ContentType(other)) => answer.with_header(header::CONTENT_TYPE, other),
        Some(Kind::OtherIssuer(issuer)) => other_issuer(&answer, issuer),
        _ => answer,
    };
    match fault {
        Some(Kind::HangWithinHead) => switch.set(Cut::HangAfter(12)),
        Some(Kind::Reset | Kind::Refuse) => switch.set(Cut::Reset),
        _ => {}
    }
    let body = match fault {
        Some(Kind::Truncated) => AnswerBody::half(&answer.body, false),
        Some(Kind::HangWithinBody) => AnswerBody::half(&answer.body, true),
        Some(Kind::EndlessBody) => AnswerBody::Endless,
        _ => AnswerBody::Whole(Some(Bytes::from(answer.body)).filter(|bytes| !bytes.is_empty())),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

fn other_issuer(answer: &Answer, issuer: &str) -> Answer {
    let mut document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    document["issuer"] = issuer.into();
    Answer::json(answer.status, &document)
}

/// Reads a complete request; returns an error answer if host, path or body are wrong.
async fn read(request: Request<Incoming>, shared: &Shared) -> Result<Question, Answer> {
    let (head, body) = request.into_parts();
    let issuer = shared.issuer_of(&head.headers).ok_or_else(|| unknown_host(&head.headers))?;
    let text = "text/plain; charset=utf-8";
    let endpoint = Endpoint::of(head.uri.path());
    let endpoint = endpoint.ok_or_else(|| {
        if OF_APIS.iter().any(|prefix| head.uri.path().starts_with(prefix)) {
            search::not_found()
        } else {
            Answer::plain(StatusCode::NOT_FOUND, text, "404 page not found\n")
        }
    })?;
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let body =
        body.map_err(|_| Answer::oauth_error("invalid_request", Some("error parsing form")))?.to_bytes();
    shared.keep(Kept::new(endpoint, &head, &body));
    let is_form = header_text(&head.headers, "content-type")
        .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
    let form = std::str::from_utf8(&body).ok().filter(|_| is_form);
    Ok(Question {
        method: head.method,
        path: head.uri.path().to_owned(),
        endpoint,
        issuer,
        authorization: header_text(&head.headers, "authorization").map(str::to_owned),
        form: Form::read(form, head.uri.query()),
        headers: head.headers,
        body: body.clone(),
    })
}

fn unknown_host(headers: &HeaderMap) -> Answer {
    let host = header_text(headers, "host").unwrap_or_default();
    let body = format!("unable to set instance using origin {host}: Instance not found.\n");
    Answer::plain(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", body)
}
