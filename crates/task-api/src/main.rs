//! Arguments, start and stop.

mod arguments;
mod demo;

use std::{io::IsTerminal, process::ExitCode, sync::Arc};

use arguments::Arguments;
use task_api::{routes, serve, store::Store};
use tokio::{net::TcpListener, signal};
use tracing_subscriber::EnvFilter;
use zitadel_introspect_axum::{ClientAuth, Issuer, IssuerError, Verifier};

use crate::demo::Demo;

/// Bad arguments, a bad key, a port that is taken.
const BAD_CONFIGURATION: u8 = 2;

type StartError = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    log_to_stderr();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), StartError> {
    let demo = if arguments.demo { Some(Demo::start().await?) } else { None };
    let verifier = match &demo {
        Some(demo) => demo.verifier()?,
        None => verifier(&arguments)?,
    };
    let listener = bind(&arguments).await?;
    check(&verifier).await?;
    let addr = arguments.public_address(listener.local_addr()?);
    if let Some(demo) = &demo {
        demo.print_guide(&addr);
    }
    let stop = stop_signal()?;
    let router = routes::router(verifier, Arc::new(Store::default()));
    tracing::info!(%addr, "server listening, press ctrl+c to stop");
    serve::serve(listener, router, stop).await;
    Ok(())
}

fn verifier(arguments: &Arguments) -> Result<Verifier, StartError> {
    let (domain, key) = arguments.issuer_and_key();
    Ok(Verifier::builder(Issuer::parse(domain)?, ClientAuth::key_file(key)?).build()?)
}

async fn bind(arguments: &Arguments) -> Result<TcpListener, StartError> {
    let (bind, port) = (arguments.bind, arguments.port);
    let bound = TcpListener::bind((bind, port)).await;
    let remedy = "choose another with --port or --bind";
    bound.map_err(|error| format!("--port: cannot listen on {bind} port {port} ({error}); {remedy}").into())
}

/// A refusal of our own credentials ends the start; an issuer that cannot be asked does not.
async fn check(verifier: &Verifier) -> Result<(), StartError> {
    match verifier.check().await {
        Ok(()) => Ok(()),
        Err(error @ IssuerError::Refused { .. }) => Err(format!("--key: {error}").into()),
        Err(error @ IssuerError::OtherIssuer { .. }) => Err(format!("--domain: {error}").into()),
        Err(error) => {
            let issuer = verifier.issuer().as_str();
            tracing::warn!(
                issuer,
                %error,
                "THE ISSUER CANNOT BE ASKED: protected routes answer 503 until it can"
            );
            Ok(())
        }
    }
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

/// Ready at ctrl+c or SIGTERM. The handlers are in place when this returns.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
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
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = signal::ctrl_c().await;
    })
}
