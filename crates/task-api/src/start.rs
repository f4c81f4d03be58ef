//! From the command line to a listening socket: everything that can be wrong is found out here.

use std::{
    error::Error,
    io::{self, IsTerminal},
    net::TcpListener,
    process::ExitCode,
    sync::Arc,
};

use tracing_subscriber::EnvFilter;
use zitadel_introspect::{ClientAuth, Issuer, IssuerError, Verifier};

use crate::{arguments::Arguments, demo::Demo, store::Store};

/// Bad arguments, a bad key, a port that is taken.
pub(crate) const BAD_CONFIGURATION: u8 = 2;

type StartError = Box<dyn Error>;

/// All that a server needs to serve.
#[derive(Debug)]
pub struct Started {
    /// Verifies tokens.
    pub verifier: Verifier,
    /// Keeps tasks.
    pub store: Arc<Store>,
    /// Listens already.
    pub listener: TcpListener,
    addr: String,
    demo: Option<Demo>,
}

impl Started {
    /// The last words of the start: for a demo what to try, and where the server listens.
    pub fn announce(&self) {
        if let Some(demo) = &self.demo {
            demo.print_guide(&self.addr);
        }
        tracing::info!(addr = %self.addr, "server listening, press ctrl+c to stop");
    }
}

/// Reads the arguments, checks all that can be checked, and listens.
///
/// # Errors
///
/// The exit code where there is nothing to serve; why stands in one line on standard error.
pub async fn start() -> Result<Started, ExitCode> {
    let arguments = Arguments::read()?;
    log_to_stderr();
    prepare(&arguments).await.map_err(|error| fail(error.as_ref()))
}

/// Says in one line why there is nothing to serve.
#[must_use]
pub fn fail(error: &dyn Error) -> ExitCode {
    say(&format!("error: {error}"));
    ExitCode::from(BAD_CONFIGURATION)
}

#[expect(clippy::print_stderr, reason = "the last words of a process that cannot start")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

async fn prepare(arguments: &Arguments) -> Result<Started, StartError> {
    let demo = if arguments.demo { Some(Demo::start().await?) } else { None };
    let verifier = match &demo {
        Some(demo) => demo.verifier()?,
        None => verifier(arguments)?,
    };
    let listener = listen(arguments)?;
    check(&verifier).await?;
    let addr = arguments.public_address(listener.local_addr()?);
    Ok(Started { verifier, store: Arc::default(), listener, addr, demo })
}

fn verifier(arguments: &Arguments) -> Result<Verifier, StartError> {
    let (domain, key) = arguments.issuer_and_key();
    let issuer = Issuer::parse(domain).map_err(|error| format!("--domain: {error}"))?;
    let key = ClientAuth::key_file(key).map_err(|error| format!("--key: {error}"))?;
    let verifier = Verifier::builder(issuer, key).build();
    Ok(verifier.map_err(|error| format!("--domain: {error}"))?)
}

fn listen(arguments: &Arguments) -> Result<TcpListener, StartError> {
    let (bind, port) = (arguments.bind, arguments.port);
    let remedy = "choose another with --port or --bind";
    let explain =
        |error: io::Error| format!("--port: cannot listen on {bind} port {port} ({error}); {remedy}");
    let listener = TcpListener::bind((bind, port)).map_err(explain)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A refusal of our own credentials ends the start; an issuer that cannot be asked does not.
async fn check(verifier: &Verifier) -> Result<(), StartError> {
    match verifier.check().await {
        Ok(()) => Ok(()),
        Err(error @ IssuerError::Refused { .. }) => Err(format!("--key: {error}").into()),
        Err(error @ (IssuerError::OtherIssuer { .. } | IssuerError::AlwaysActive)) => {
            Err(format!("--domain: {error}").into())
        }
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
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}
