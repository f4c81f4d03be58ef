//! The settings of the store.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use redis::{Client, ConnectionInfo, IntoConnectionInfo, TlsCertificates};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zitadel_introspect::{ConfigError, adapter::secret_line};

use crate::{connection::Connection, scripts::Scripts, store::Valkey};

/// Makes a [`Valkey`]; from [`Valkey::builder`].
pub struct ValkeyBuilder {
    url: String,
    password_file: Option<PathBuf>,
    root_certificates: Option<Vec<u8>>,
    allow_plaintext: bool,
}

impl Valkey {
    /// Starts with the address: `rediss://user@host:port/database`, of which only the host must be there.
    ///
    /// `redis://`, without TLS, is for loopback addresses, unless
    /// [`dangerous_allow_plaintext`](ValkeyBuilder::dangerous_allow_plaintext) says otherwise. A password goes into a
    /// file: the address must hold none.
    pub fn builder(url: impl Into<String>) -> ValkeyBuilder {
        ValkeyBuilder {
            url: url.into(),
            password_file: None,
            root_certificates: None,
            allow_plaintext: false,
        }
    }
}

impl ValkeyBuilder {
    /// The file of the password, which has one line. Logs a warning if other users of the machine can read it.
    #[must_use]
    pub fn password_file(mut self, path: impl AsRef<Path>) -> Self {
        self.password_file = Some(path.as_ref().to_owned());
        self
    }

    /// Trusts the certificates in this PEM text, and not those of the operating system.
    #[must_use]
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }

    /// Allows `redis://` towards hosts that are not loopback. What is stored is sealed, but the password is not: only for
    /// networks that you trust completely.
    #[must_use]
    pub fn dangerous_allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    /// Checks the settings. Makes no network call.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] for an address that cannot be used, or a file that cannot be read. The message shows no
    /// password.
    pub fn build(self) -> Result<Valkey, ConfigError> {
        let url = self.check_url()?;
        let is_tls = url.scheme() == "rediss";
        let invalid = |problem: &str| Self::invalid(problem, REMEDY);
        let info = url.as_str().into_connection_info().map_err(|_| invalid("it is no address of a store"))?;
        let info = self.with_password(info)?;
        let client = match &self.root_certificates {
            Some(_) if !is_tls => return Err(invalid("it needs no certificates without TLS")),
            Some(pem) => {
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) };
                Client::build_with_tls(info, certificates)
                    .map_err(|_| invalid("the certificates beside it cannot be read"))?
            }
            None => Client::open(info).map_err(|_| invalid("it is no address of a store"))?,
        };
        if is_tls {
            // Fails if there is one, which is then used.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let shown = shown(&url);
        Ok(Valkey { connection: Connection::new(client), scripts: Scripts::new(), shown })
    }

    fn check_url(&self) -> Result<Url, ConfigError> {
        let invalid = |problem: &str| Self::invalid(problem, REMEDY);
        let url = Url::parse(&self.url).map_err(|_| invalid("it is no address"))?;
        if url.password().is_some() {
            let remedy = "put the password into a file: everybody on the machine sees the command line";
            return Err(Self::invalid("it holds a password", remedy));
        }
        let is_plain = match url.scheme() {
            "rediss" => false,
            "redis" => true,
            _ => return Err(invalid("it does not begin with rediss:// or redis://")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("it has no host"))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has more than a user, a host, a port and a database"));
        }
        if is_plain && !is_loopback(host) && !self.allow_plaintext {
            let remedy =
                "use rediss://, or allow plaintext (`dangerous_allow_plaintext`) in a network that you trust";
            return Err(Self::invalid(&format!("it is not encrypted on the way to {host:?}"), remedy));
        }
        Ok(url)
    }

    fn with_password(&self, info: ConnectionInfo) -> Result<ConnectionInfo, ConfigError> {
        let Some(path) = &self.password_file else { return Ok(info) };
        let password = secret_line(path).map_err(|problem| {
            let remedy = "give the path of a file that holds the password and nothing else";
            ConfigError::invalid("password_file", problem, remedy)
        })?;
        let password = SecretString::from(password);
        let settings = info.redis_settings().clone().set_password(password.expose_secret());
        Ok(info.set_redis_settings(settings))
    }

    fn invalid(problem: &str, remedy: &'static str) -> ConfigError {
        ConfigError::invalid("shared", format!("the address of the store: {problem}"), remedy)
    }
}

const REMEDY: &str = "write rediss://user@host:port";

/// The address without what could be a secret.
fn shown(url: &Url) -> String {
    let port = url.port().unwrap_or(6379);
    format!("{}://{}:{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for ValkeyBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ValkeyBuilder").finish_non_exhaustive()
    }
}
