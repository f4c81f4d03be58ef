//! The server around the routes: limits of the request head, and an end in bounded time.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;
use tower_http::add_extension::AddExtension;

use crate::limits::Client;

const MAX_HEAD_BYTES: usize = 32 * 1024;
pub(crate) const MAX_HEAD_FIELDS: usize = 100;
/// For the head of a request; hyper counts the wait for the next request of a connection as well.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Calls of gRPC on one connection.
const CALLS_AT_ONCE: u32 = 256;
const KEEPALIVE: Duration = Duration::from_secs(30);
/// For a connection of gRPC without calls.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// For a client that does not take what it has asked for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections of one socket: well below the 1,024 handles that a process has unless told otherwise.
const MAX_CONNECTIONS: usize = 512;
/// For requests that are under way when the server is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// What is spoken on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1.
    Http,
    /// HTTP/2, for gRPC.
    Grpc,
}

/// Serves until `stop` is ready; then finishes the requests under way, for 20 s at most.
pub async fn serve(listener: TcpListener, router: Router, speaks: Speaks, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut stop = pin!(stop);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = async {
            // More than that wait in the system's queue: database and issuer need handles as well.
            let place = Arc::clone(&places).acquire_owned().await;
            listener.accept().await.map(|accepted| (accepted, place))
        };
        tokio::select! {
            accepted = accepted => match accepted {
                Ok(((stream, peer), place)) => {
                    let _ = stream.set_nodelay(true);
                    let (service, watcher) = (AddExtension::new(router.clone(), Client(peer.ip())), graceful.watcher());
                    let mut stream = TimeoutStream::new(stream);
                    stream.set_write_timeout(Some(WRITE_TIMEOUT));
                    let stream = TokioIo::new(Box::pin(stream));
                    tokio::spawn(async move {
                        match speaks {
                            Speaks::Http => serve_requests(stream, service, watcher).await,
                            Speaks::Grpc => serve_calls(stream, service, watcher).await,
                        }
                        drop(place);
                    });
                }
                Err(error) => pause(&error).await,
            },
            () = &mut stop => break,
        }
    }
    drop(listener);
    tracing::info!(?speaks, "stopping: requests under way are finished");
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("stopped with requests under way that did not end in time");
    }
}

type Stream = TokioIo<Pin<Box<TimeoutStream<TcpStream>>>>;
type Served = AddExtension<Router, Client>;

async fn serve_requests(stream: Stream, service: Served, watcher: Watcher) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEAD_FIELDS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(2 * MAX_HEAD_BYTES)
        .serve_connection(stream, TowerToHyperService::new(service));
    tell(watcher.watch(connection).await);
}

async fn serve_calls(stream: Stream, service: Served, watcher: Watcher) {
    let calls = Calls::default();
    let service = AddExtension::new(service, calls.clone());
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(CALLS_AT_ONCE)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(KEEPALIVE))
        .serve_connection(stream, TowerToHyperService::new(service));
    tokio::select! {
        served = watcher.watch(connection) => tell(served),
        () = calls.idle() => {} // a client that comes again makes a new connection
    }
}

fn tell(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The calls on one connection: hyper itself waits for ever for the first, and between two.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Arc<watch::Sender<Count>>);

#[derive(Debug, Default)]
struct Count {
    begun: bool,
    under_way: usize,
}

/// A call that is under way until this is dropped.
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

    /// Ready when no first call has come in time, or none for long.
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

/// A client that went away costs nothing; without file handles it is better to wait a moment.
async fn pause(error: &io::Error) {
    let by_client = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    );
    if !by_client {
        tracing::warn!(%error, "no connection can be accepted");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
