//! The server around the routes: limits the request head, and stops in bounded time.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    response::Response,
};
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::{
    connections::{Busy, Connection, Connections, MAX_CONNECTIONS},
    limits::{Client, Limits, network},
};

const MAX_HEAD_BYTES: usize = 32 * 1024;
pub(crate) const MAX_HEAD_FIELDS: usize = 100;
/// The time for the head of a request; hyper also counts the idle time before the next request of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// gRPC calls in flight on one connection.
const CALLS_AT_ONCE: u32 = 256;
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long a gRPC connection may have no calls.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// How long a client may leave its response unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// The time for the rest of a request's head, after the connection was asked to close.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// The time for requests in flight when the server is asked to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// The protocol of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1.
    Http,
    /// HTTP/2, for gRPC.
    Grpc,
}

/// Serves until `stop` is ready; then finishes the requests in flight, for 20 s at most.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    speaks: Speaks,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let mut stop = pin!(stop);
    let (stopping, stopped) = watch::channel(false);
    // Each connection holds a sender; when the last sender is dropped, all connections have ended.
    let (alive, mut ended) = mpsc::channel::<Infallible>(1);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = Connections::new(limits.per_client());
    loop {
        let accepted = async {
            // Further connections wait in the system's queue: database and issuer need file handles as well.
            let place = Arc::clone(&places).acquire_owned().await;
            listener.accept().await.map(|accepted| (accepted, place))
        };
        tokio::select! {
            accepted = accepted => match accepted {
                Ok(((stream, peer), place)) => {
                    let client = peer.ip();
                    let Some(connection) = connections.enter(network(client)) else {
                        tracing::debug!(%client, "a client holds its share of the connections");
                        continue;
                    };
                    let served = Served { router: router.clone(), client: Client(client), connection, stopped: stopped.clone() };
                    let alive = alive.clone();
                    tokio::spawn(async move {
                        served.serve(stream, speaks).await;
                        drop((place, alive));
                    });
                }
                Err(error) => pause(&error).await,
            },
            () = &mut stop => break,
        }
    }
    drop((listener, alive));
    stopping.send_replace(true);
    tracing::info!(?speaks, "stopping: requests under way are finished");
    if timeout(DRAIN_TIMEOUT, ended.recv()).await.is_err() {
        tracing::warn!("stopped with requests under way that did not end in time");
    }
}

type Stream = TokioIo<Pin<Box<TimeoutStream<TcpStream>>>>;

/// One connection, and what is served on it.
struct Served {
    router: Router,
    client: Client,
    connection: Connection,
    stopped: watch::Receiver<bool>,
}

impl Served {
    async fn serve(self, stream: TcpStream, speaks: Speaks) {
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let stream = TokioIo::new(Box::pin(stream));
        match speaks {
            Speaks::Http => self.requests(stream).await,
            Speaks::Grpc => self.calls(stream).await,
        }
    }

    async fn requests(&self, stream: Stream) {
        let service = service_fn(|request| self.answer(request, None));
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(MAX_HEAD_FIELDS)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(2 * MAX_HEAD_BYTES)
            .serve_connection(stream, service);
        self.until_the_end(pin!(serving)).await;
    }

    async fn calls(&self, stream: Stream) {
        let calls = Calls::default();
        // The service needs its own copy: hyper runs the calls in tasks beside the connection.
        let served = Arc::new(Self {
            router: self.router.clone(),
            client: self.client,
            connection: self.connection.clone(),
            stopped: self.stopped.clone(),
        });
        let own = calls.clone();
        let service = service_fn(move |request| {
            let (served, calls) = (Arc::clone(&served), own.clone());
            async move { served.answer(request, Some(calls)).await }
        });
        let serving = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(CALLS_AT_ONCE)
            .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
            .keep_alive_interval(Some(KEEPALIVE))
            .serve_connection(stream, service);
        let serving = pin!(serving);
        tokio::select! {
            () = self.until_the_end(serving) => {}
            () = calls.idle() => {} // the client can open a new connection
        }
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        calls: Option<Calls>,
    ) -> Result<Response, Infallible> {
        let busy = self.connection.busy();
        request.extensions_mut().insert(self.client);
        if let Some(calls) = calls {
            request.extensions_mut().insert(calls);
        }
        let answer = self.router.clone().oneshot(request).await?;
        Ok(answer.map(|inner| Body::new(Answer { inner, _busy: busy })))
    }

    /// Serves until the connection ends. If the server stops or the connection is asked to close, finishes the requests
    /// in flight.
    async fn until_the_end<C: GracefulConnection<Error = hyper::Error>>(&self, mut serving: Pin<&mut C>) {
        let mut stopped = self.stopped.clone();
        let is_told = tokio::select! {
            served = serving.as_mut() => return tell(served),
            _ = stopped.wait_for(|stopped| *stopped) => false,
            () = self.connection.ended() => true,
        };
        serving.as_mut().graceful_shutdown();
        loop {
            match timeout(END_TIMEOUT, serving.as_mut()).await {
                Ok(served) => return tell(served),
                // Do not wait for a request whose head is incomplete.
                Err(_) if is_told && self.connection.is_idle() => return,
                Err(_) => {}
            }
        }
    }
}

/// The body of an answer: its connection is not idle until the whole body is sent.
struct Answer {
    inner: Body,
    _busy: Busy,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn tell(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The calls on one connection. hyper has no timeout for the first call or between two calls.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Arc<watch::Sender<Count>>);

#[derive(Debug, Default)]
struct Count {
    begun: bool,
    under_way: usize,
}

/// A call in flight, until this value is dropped.
#[derive(Debug)]
pub(crate) struct Call(Calls);

impl Default for Calls {
    fn default() -> Self {
        Self(Arc::new(watch::channel(Count::default()).0))
    }
}

impl Calls {
    pub(crate) fn begin(&self) -> Call {
        self.0.send_modify(|count| {
            count.begun = true;
            count.under_way += 1;
        });
        Call(self.clone())
    }

    /// Ready when the first call does not come in time, or when there is no call for `IDLE_TIMEOUT`.
    async fn idle(&self) {
        let mut count = self.0.subscribe();
        if timeout(HEAD_TIMEOUT, count.wait_for(|count| count.begun)).await.is_err() {
            return;
        }
        loop {
            let _ = count.wait_for(|count| count.under_way == 0).await;
            if timeout(IDLE_TIMEOUT, count.wait_for(|count| count.under_way > 0)).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| count.under_way -= 1);
    }
}

/// After an accept error that the client caused, continues at once; after any other (no file handles left), waits 1 s.
async fn pause(error: &io::Error) {
    let by_client = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    );
    if !by_client {
        tracing::warn!(%error, "no connection can be accepted");
        sleep(Duration::from_secs(1)).await;
    }
}
