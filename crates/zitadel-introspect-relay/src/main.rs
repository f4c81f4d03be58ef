//! Reads ZITADEL's events and tells the instances of all APIs what they end: it alone has the credential that reads every
//! event, and no API's key.

mod arguments;
mod check;
mod health;

use std::{net::TcpListener, process::ExitCode};

use axum::Router;
use task_api::{
    limits::Limits,
    program::{Instance, StartError, fail, listen, log_panics, log_to_stderr, serve_metrics, set_up_events},
    serve::{self, Speaks},
    stop::stop_signal,
};
use zitadel_introspect::Relay;

use self::arguments::{Arguments, Command, Setup};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    // `check` prints its results itself.
    let level = if arguments.command.is_some() { "off" } else { "info" };
    log_to_stderr(arguments.settings.log_format.unwrap_or_default(), level);
    log_panics();
    let settings = &arguments.settings;
    match &arguments.command {
        Some(Command::Check) => check::run(settings).await,
        Some(Command::Setup(Setup::Events(events))) => {
            let instance = Instance { issuer: settings.issuer(), network: settings.of_network() };
            set_up_events(instance, events).await
        }
        None => match run(&arguments).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error.as_ref()),
        },
    }
}

async fn run(arguments: &Arguments) -> Result<(), StartError> {
    let stop = stop_signal()?;
    let settings = &arguments.settings;
    let relay = settings.relay()?;
    let webhooks = webhooks(arguments, &relay)?;
    let limits = Limits::default();
    if let Some(address) = settings.metrics_address {
        let listener = listen(address, "--metrics-address", "--metrics-address")?;
        tracing::info!(addr = %listener.local_addr()?, "metrics at /metrics");
        serve_metrics(listener, health::routes(relay.clone()), &limits)?;
    }
    tracing::info!(issuer = relay.issuer().as_str(), "the relay runs, press ctrl+c to stop");
    match webhooks {
        Some((listener, router)) => {
            tracing::info!(addr = %listener.local_addr()?, "webhooks at /zitadel/events");
            let listener = tokio::net::TcpListener::from_std(listener)?;
            serve::serve(listener, router, Speaks::Http, limits, stop).await;
        }
        None => stop.await,
    }
    Ok(())
}

/// The socket and the route of ZITADEL's webhooks, where they are asked for.
fn webhooks(arguments: &Arguments, relay: &Relay) -> Result<Option<(TcpListener, Router)>, StartError> {
    let settings = &arguments.settings;
    let (Some(target), Some(address)) = (settings.event_target(relay)?, settings.address()?) else {
        return Ok(None);
    };
    let router = Router::new().route("/zitadel/events", zitadel_introspect_axum::event_target(target));
    Ok(Some((listen(address, "--port", "--port or --bind")?, router)))
}
