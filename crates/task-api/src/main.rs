//! The tasks server on axum: start, serve, stop.

use std::{error::Error, io, process::ExitCode, sync::Arc};

use futures_util::FutureExt;
use task_api::{
    grpc,
    routes::{self, AppState},
    serve::{self, Speaks},
    start::{self, Serves, Started},
    stop::stop_signal,
};
use tokio::net::TcpListener;
use zitadel_introspect::Verifier;

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
    reload_key_at_hangup(started.verifier.clone())?;
    started.announce();
    let Started { verifier, store, readiness, limits, options, listener, grpc, .. } = started;
    let calls = async {
        match grpc {
            Some(listener) => {
                let (verifier, store) = (verifier.clone(), Arc::clone(&store));
                grpc::serve(listener, verifier, store, &limits, &options, stop.clone()).await
            }
            None => Ok(()),
        }
    };
    let state = AppState { verifier: verifier.clone(), store: Arc::clone(&store), readiness };
    let router = routes::router(state, &limits, &options);
    let requests = async {
        let listener = TcpListener::from_std(listener)?;
        serve::serve(listener, router, Speaks::Http, limits.clone(), stop.clone()).await;
        Ok(())
    };
    tokio::try_join!(requests, calls)?;
    start::close(store.as_ref()).await;
    Ok(())
}

/// SIGHUP does not end the process: it makes the process read the key file again.
#[cfg(unix)]
fn reload_key_at_hangup(verifier: Verifier) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match verifier.reload_key().await {
                Ok(()) => tracing::info!("SIGHUP: the key file was read again"),
                Err(error) => {
                    let cause = error.source().map(ToString::to_string);
                    tracing::error!(%error, cause, "SIGHUP: THE KEY WAS NOT TAKEN UP");
                }
            }
        }
    });
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on the other platform")]
fn reload_key_at_hangup(_: Verifier) -> io::Result<()> {
    Ok(())
}
