//! The server around the routes: limits of the request head, and an end in bounded time.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tower_http::add_extension::AddExtension;

use crate::limits::Client;

const MAX_HEAD_BYTES: usize = 32 * 1024;
const MAX_HEAD_FIELDS: usize = 100;
/// For the head of a request; hyper counts the wait for the next request of a connection as well.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// For requests that are under way when the server is told to stop.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves until `stop` is ready; then finishes the requests under way, for 20 s at most.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let connection = serve_connection(stream, peer, router.clone(), graceful.watcher());
                    tokio::spawn(connection);
                }
                Err(error) => pause(&error).await,
            },
            () = &mut stop => break,
        }
    }
    drop(listener);
    tracing::info!("stopping: requests under way are finished");
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("stopped with requests under way that did not end in time");
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, router: Router, watcher: Watcher) {
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(AddExtension::new(router, Client(peer.ip())));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEAD_FIELDS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(2 * MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
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
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
