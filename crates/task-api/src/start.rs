//! From the command line to a listening socket: finds everything that is wrong before the server starts.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use zitadel_introspect::{EventTarget, IssuerError, Verifier};

use crate::{
    arguments::{Arguments, Command, Setup},
    check,
    demo::Demo,
    exit::StartError,
    limits::Limits,
    log::{log_panics, log_to_stderr},
    metrics,
    open::{listen, options, store},
    options::Options,
    readiness::Readiness,
    routes,
    serve::{self, Speaks},
    settings::Settings,
    setup::{self, Instance},
    store::{self, Store},
    verifier, words,
};

pub use crate::exit::fail;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that a server needs to serve.
#[derive(Debug)]
pub struct Started {
    /// Verifies tokens.
    pub verifier: Verifier,
    /// Stores tasks.
    pub store: Arc<dyn Store>,
    /// Checks whether this instance is ready.
    pub readiness: Arc<Readiness>,
    /// The limits of requests and connections.
    pub limits: Limits,
    /// Options of the API that the guide does not have.
    pub options: Options,
    /// The socket for HTTP, already listening.
    pub listener: TcpListener,
    /// The socket for gRPC, already listening, if gRPC is requested.
    pub grpc: Option<TcpListener>,
    addr: String,
    grpc_addr: Option<String>,
    demo: Option<Demo>,
}

impl Started {
    /// Prints what to try (demo only), and logs where the server listens.
    pub fn announce(&self) {
        if let Some(demo) = &self.demo {
            demo.print_guide(&self.addr, self.grpc_addr.as_deref());
        }
        if let Some(addr) = &self.grpc_addr {
            tracing::info!(addr, "gRPC");
        }
        tracing::info!(addr = %self.addr, "server listening, press ctrl+c to stop");
    }
}

/// What a server can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// HTTP alone.
    Http,
    /// Both.
    HttpAndGrpc,
}

/// Reads the arguments, checks everything that can be checked, and listens.
///
/// # Errors
///
/// The exit code if the server cannot start; standard error has the reason in one line.
pub async fn start(serves: Serves) -> Result<Started, ExitCode> {
    let arguments = Arguments::read()?;
    // `check` prints its results itself.
    let level = if arguments.command.is_some() { "off" } else { "info" };
    log_to_stderr(arguments.settings.log_format(), level);
    log_panics();
    match &arguments.command {
        Some(Command::Check { token_file }) => {
            Err(check::run(&arguments.settings, token_file.as_deref()).await)
        }
        Some(Command::Setup(setup)) => Err(set_up(&arguments.settings, setup).await),
        None => prepare(&arguments, serves).await.map_err(|error| fail(error.as_ref())),
    }
}

/// After an API was set up, its settings are checked as those of the server that will use it.
async fn set_up(settings: &Settings, setup: &Setup) -> ExitCode {
    let issuer = verifier::issuer(settings);
    let instance = Instance { issuer, network: settings.of_network() };
    let made = match setup {
        Setup::Api(arguments) => setup::api(instance, settings.project.as_deref(), arguments).await,
        Setup::Events(arguments) => return setup::events(instance, arguments).await,
    };
    match made {
        Ok(Some(made)) => {
            let own =
                Settings { key: Some(made.key_file), project: Some(made.project), ..Settings::default() };
            check::run(&own.or(settings.clone()), None).await
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

/// Closes the database, after the last request.
pub async fn close(store: &dyn Store) {
    if tokio::time::timeout(CLOSE_TIMEOUT, store.close()).await.is_err() {
        tracing::warn!("the database was not closed in time; what was acknowledged is on disk");
    }
}

async fn prepare(arguments: &Arguments, serves: Serves) -> Result<Started, StartError> {
    let settings = &arguments.settings;
    let mut options = options(settings)?;
    let demo = if arguments.demo { Some(Demo::start().await?) } else { None };
    let verifier = match &demo {
        Some(demo) => demo.verifier(settings)?,
        None => own_verifier(settings)?,
    };
    let listener = listen(settings.address(), "--port", "--port or --bind")?;
    let grpc = grpc_address(settings, serves, demo.is_some())?;
    let grpc = grpc.map(|address| listen(address, "--grpc-port", "--grpc-port or --bind")).transpose()?;
    let grpc_addr = grpc.as_ref().map(TcpListener::local_addr).transpose()?;
    let grpc_addr = grpc_addr.map(|bound| public_address(bound).replace("http://", ""));
    let metrics = metrics_listener(settings)?;
    let store = match &demo {
        Some(demo) if settings.database.is_none() => store::open(&demo.database(), None).await?,
        _ => store(settings).await?,
    };
    check(&verifier).await?;
    let readiness = Arc::new(Readiness::new(verifier.clone(), Arc::clone(&store)));
    let limits = settings.limits();
    if let Some(metrics) = metrics {
        tracing::info!(addr = %metrics.local_addr()?, "metrics at /metrics");
        metrics::serve(metrics, routes::health(Arc::clone(&readiness)), &limits)?;
    }
    if let Some(target) = verifier::event_target(settings, &verifier)? {
        match settings.events_address {
            Some(address) => serve_events(address, target, &limits)?,
            None => options.event_target = Some(target),
        }
    }
    let addr = public_address(listener.local_addr()?);
    Ok(Started { verifier, store, readiness, limits, options, listener, grpc, addr, grpc_addr, demo })
}

fn own_verifier(settings: &Settings) -> Result<Verifier, StartError> {
    let auth = verifier::client_auth(settings);
    if let (Err(domain), Err(key)) = (settings.domain(), &auth) {
        return Err(format!("{domain}; {key}; or try --demo, which needs neither").into());
    }
    Ok(verifier::verifier(settings, verifier::issuer(settings)?, auth?)?)
}

/// Takes webhooks on an address of their own, where callers of the API cannot reach it.
fn serve_events(address: SocketAddr, target: EventTarget, limits: &Limits) -> Result<(), StartError> {
    let listener = listen(address, "--events-address", "--events-address")?;
    tracing::info!(addr = %listener.local_addr()?, "webhooks at /zitadel/events");
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = routes::events(target);
    tokio::spawn(serve::serve(listener, router, Speaks::Http, limits.clone(), std::future::pending()));
    Ok(())
}

/// If the default address is in use, the server starts without metrics. A configured address in use is an error.
fn metrics_listener(settings: &Settings) -> Result<Option<TcpListener>, StartError> {
    let (address, is_asked_for) = settings.metrics_address();
    match listen(address, "--metrics-address", "--metrics-address") {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if is_asked_for => Err(error),
        Err(error) => {
            tracing::warn!(%error, "THERE ARE NO METRICS: their usual address is taken");
            Ok(None)
        }
    }
}

/// The address of gRPC. A demo always serves gRPC.
fn grpc_address(
    settings: &Settings,
    serves: Serves,
    is_demo: bool,
) -> Result<Option<SocketAddr>, StartError> {
    let any_port = is_demo.then(|| SocketAddr::new(settings.address().ip(), 0));
    match (serves, settings.grpc_address()) {
        (Serves::HttpAndGrpc, address) => Ok(address.or(any_port)),
        (Serves::Http, None) => Ok(None),
        (Serves::Http, Some(_)) => Err("--grpc-port: this server speaks HTTP alone; leave it out".into()),
    }
}

/// The URL of the server, for a person on this machine.
fn public_address(bound: SocketAddr) -> String {
    if bound.ip() == IpAddr::from([127, 0, 0, 1]) {
        format!("http://localhost:{}", bound.port())
    } else {
        format!("http://{bound}")
    }
}

/// If the issuer refuses our credentials or is the wrong issuer, the start fails. After any other error the server
/// starts with a warning.
async fn check(verifier: &Verifier) -> Result<(), StartError> {
    match verifier.check().await {
        Ok(()) => Ok(()),
        Err(error @ IssuerError::Refused { .. }) => Err(format!("--key: {}", words::explain(&error)).into()),
        Err(
            error @ (IssuerError::OtherIssuer { .. }
            | IssuerError::AlwaysActive
            | IssuerError::NoInstance { is_said: true, .. }),
        ) => Err(format!("--domain: {}", words::explain(&error)).into()),
        Err(error) => {
            let issuer = verifier.issuer().as_str();
            tracing::warn!(
                issuer,
                error = words::explain(&error),
                "THE ISSUER CANNOT BE ASKED: protected routes answer 503 until it can"
            );
            Ok(())
        }
    }
}
