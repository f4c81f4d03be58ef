//! Opens the store and the sockets of the settings, and reads the CORS origins.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use http::HeaderValue;

use crate::{
    exit::StartError,
    options::Options,
    settings::{Settings, Time},
    store::{self, Store},
};

pub(crate) fn options(settings: &Settings) -> Result<Options, StartError> {
    let origins = settings.cors_origin.iter().flatten();
    let cors_origins = origins.map(|origin| cors_origin(origin)).collect::<Result<_, _>>()?;
    let add_fresh_within = settings.add_fresh_within.map(|Time(time)| time);
    Ok(Options { add_fresh_within, cors_origins, event_target: None })
}

/// An origin exactly as a browser sends it, because origins are compared byte by byte.
fn cors_origin(text: &str) -> Result<HeaderValue, String> {
    let is_origin = url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text);
    let value = HeaderValue::try_from(text).ok().filter(|_| is_origin);
    value.ok_or_else(|| {
        format!(
            "--cors-origin: {} is no origin; write scheme, host and, unless it is the scheme's own, port, such as \
            https://app.example.com",
            zitadel_introspect::echo::value(text)
        )
    })
}

pub(crate) async fn store(settings: &Settings) -> Result<Arc<dyn Store>, StartError> {
    let password = settings.database_password_file.as_deref();
    let store = store::open(settings.database(), password).await;
    Ok(store.map_err(|error| format!("--database: {error}"))?)
}

/// Listens on an address; the error names the flag and the remedy.
///
/// # Errors
///
/// If the address is taken, or not this machine's.
pub fn listen(address: SocketAddr, flag: &str, remedy: &str) -> Result<TcpListener, StartError> {
    let explain = |error: io::Error| {
        format!(
            "{flag}: cannot listen on {} port {} ({error}); choose another with {remedy}",
            address.ip(),
            address.port()
        )
    };
    let listener = TcpListener::bind(address).map_err(explain)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
