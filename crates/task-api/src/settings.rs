//! What can be set, by flag, environment or file, in this order.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::limits::Limits;

const DATABASE: &str = "sqlite://tasks.db";
const PORT: u16 = 8089;
const METRICS_PORT: u16 = 9464;
const REQUESTS_AT_ONCE: usize = 1024;

/// The settings of a server. What is not set has a default.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The ZITADEL instance: its domain (my-domain.zitadel.cloud) or origin (`http://localhost:8080`)
    #[arg(long, env = "TASK_API_DOMAIN", global = true, help_heading = "ZITADEL")]
    pub(crate) domain: Option<String>,

    /// The key.json of the API application, downloaded from ZITADEL's Console
    #[arg(long, value_name = "FILE", env = "TASK_API_KEY", global = true, help_heading = "ZITADEL")]
    pub(crate) key: Option<PathBuf>,

    /// The port to listen on; 0 lets the system choose [default: 8089]
    #[arg(long, env = "TASK_API_PORT", global = true, help_heading = "Server")]
    pub(crate) port: Option<u16>,

    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", env = "TASK_API_BIND", global = true, help_heading = "Server")]
    pub(crate) bind: Option<IpAddr>,

    /// The port of the gRPC service, at the same address; 0 lets the system choose [default: none]
    #[arg(long, value_name = "PORT", env = "TASK_API_GRPC_PORT", global = true, help_heading = "Server")]
    pub(crate) grpc_port: Option<u16>,

    /// Requests that are worked on at once; more are answered with 503 [default: 1024]
    #[arg(
        long,
        value_name = "COUNT",
        env = "TASK_API_REQUESTS_AT_ONCE",
        global = true,
        help_heading = "Server"
    )]
    pub(crate) requests_at_once: Option<NonZeroU16>,

    /// Requests of one client address in a second; more are answered with 429 [default: no limit]
    #[arg(
        long,
        value_name = "COUNT",
        env = "TASK_API_REQUESTS_PER_SECOND",
        global = true,
        help_heading = "Server"
    )]
    pub(crate) requests_per_second: Option<NonZeroU32>,

    /// Where tasks last: `sqlite://<path>`, or `postgres://<user>@<host>/<database>` for several instances
    /// [default: `sqlite://tasks.db`]
    #[arg(long, value_name = "URL", env = "TASK_API_DATABASE", hide_env_values = true, global = true)]
    #[arg(help_heading = "Database")]
    pub(crate) database: Option<SecretString>,

    /// A file with the password for PostgreSQL
    #[arg(
        long,
        value_name = "FILE",
        env = "TASK_API_DATABASE_PASSWORD_FILE",
        global = true,
        help_heading = "Database"
    )]
    pub(crate) database_password_file: Option<PathBuf>,

    /// Where /metrics is served, for Prometheus [default: 127.0.0.1:9464]
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "TASK_API_METRICS_ADDRESS",
        global = true,
        help_heading = "Operations"
    )]
    pub(crate) metrics_address: Option<SocketAddr>,

    /// How log lines look [default: human]
    #[arg(long, value_name = "FORMAT", env = "TASK_API_LOG_FORMAT", global = true)]
    #[arg(help_heading = "Operations")]
    pub(crate) log_format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people, in colour on a terminal.
    #[default]
    Human,
    /// One JSON object in a line.
    Json,
}

impl Settings {
    /// Reads a configuration file; relative paths in it start at its folder.
    pub(crate) fn of_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = fs::read_to_string(path)
            .map_err(|error| format!("--config: {shown} cannot be read ({error}); check path and rights"))?;
        let mut settings: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            format!("--config: {shown}, line {line}: {}", error.message().replace('\n', " "))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for path in [&mut settings.key, &mut settings.database_password_file].into_iter().flatten() {
            *path = folder.join(&*path);
        }
        Ok(settings)
    }

    /// These, and where they are silent the others.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            domain: self.domain.or(other.domain),
            key: self.key.or(other.key),
            port: self.port.or(other.port),
            bind: self.bind.or(other.bind),
            grpc_port: self.grpc_port.or(other.grpc_port),
            requests_at_once: self.requests_at_once.or(other.requests_at_once),
            requests_per_second: self.requests_per_second.or(other.requests_per_second),
            database: self.database.or(other.database),
            database_password_file: self.database_password_file.or(other.database_password_file),
            metrics_address: self.metrics_address.or(other.metrics_address),
            log_format: self.log_format.or(other.log_format),
        }
    }

    /// Domain and key, without which there is nothing to protect.
    pub(crate) fn issuer_and_key(&self) -> Result<(&str, &Path), String> {
        let domain = "--domain is missing: the domain of your ZITADEL instance, by --domain, TASK_API_DOMAIN or \
            `domain` in the configuration file";
        let key = "--key is missing: the key.json of your API application, by --key, TASK_API_KEY or `key` in the \
            configuration file";
        match (&self.domain, &self.key) {
            (Some(domain), Some(key)) => Ok((domain, key)),
            (None, Some(_)) => Err(domain.to_owned()),
            (Some(_), None) => Err(key.to_owned()),
            (None, None) => Err(format!("{domain}; {key}; or try --demo, which needs neither")),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind.unwrap_or(LOOPBACK), self.port.unwrap_or(PORT))
    }

    /// None where no gRPC is asked for.
    pub(crate) fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_port.map(|port| SocketAddr::new(self.bind.unwrap_or(LOOPBACK), port))
    }

    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.metrics_address.unwrap_or(SocketAddr::new(LOOPBACK, METRICS_PORT))
    }

    pub(crate) fn database(&self) -> &str {
        self.database.as_ref().map_or(DATABASE, ExposeSecret::expose_secret)
    }

    pub(crate) fn limits(&self) -> Limits {
        let at_once = self.requests_at_once.map_or(REQUESTS_AT_ONCE, |count| usize::from(count.get()));
        Limits::new(at_once, self.requests_per_second)
    }

    pub(crate) fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or_default()
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
