//! The tasks server on axum: start, serve, stop.

use std::{io, process::ExitCode, sync::Arc};

use futures_util::FutureExt;
use task_api::{
    grpc,
    routes::{self, AppState},
    serve::{self, Speaks},
    start::{self, Serves, Started},
};
use tokio::{net::TcpListener, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let stop = match stop_signal() {
        Ok(stop) => stop.shared(),
        Err(error) => return start::fail(&error),
    };
    let started = tokio::select! {
        started = start::start(Serves::HttpAndGrpc) => started,
        () = stop.clone() => return ExitCode::SUCCESS,
    };
    match started {
        Ok(started) => {
            run(started, stop).await.map_or_else(|error| start::fail(&error), |()| ExitCode::SUCCESS)
        }
        Err(code) => code,
    }
}

async fn run(
    started: Started,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) -> io::Result<()> {
    started.announce();
    let Started { verifier, store, limits, listener, grpc, .. } = started;
    let calls = async {
        match grpc {
            Some(listener) => {
                grpc::serve(listener, verifier.clone(), Arc::clone(&store), &limits, stop.clone()).await
            }
            None => Ok(()),
        }
    };
    let router = routes::router(AppState::new(verifier.clone(), Arc::clone(&store)), &limits);
    let requests = async {
        serve::serve(TcpListener::from_std(listener)?, router, Speaks::Http, stop.clone()).await;
        Ok(())
    };
    tokio::try_join!(requests, calls)?;
    start::close(store.as_ref()).await;
    Ok(())
}

/// Ready at ctrl+c or SIGTERM. The handlers are in place when this returns.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on the other platform")]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = signal::ctrl_c().await;
    })
}
