//! What the command line and the environment say.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use task_api::{
    program::{BAD_CONFIGURATION, EventsArguments, LogFormat, Time, check_variables, explain, say},
    wiring::{self, OfFeed, OfNetwork, OfShared},
    words::with_flag,
};
use zitadel_introspect::{EventTarget, Issuer, Relay};

/// The beginning of the names of our variables.
const PREFIX: &str = "ZITADEL_RELAY_";

/// Reads ZITADEL's events and tells the instances of all APIs, by a Valkey or Redis server, what they end.
///
/// One relay serves every API of an instance, and needs the key of none. Two may run at once: one reads, and the other
/// takes over when it fails. Every option can also be set by the environment variable beside it.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Verifies the settings against ZITADEL and the shared server, and says what is wrong
    Check,
    /// Makes in ZITADEL what the relay needs, with the token of an administrator. Can run again: makes what is missing
    #[command(subcommand)]
    Setup(Setup),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Setup {
    /// A service user that reads events, the target of webhooks, and the proof that a server hears of them
    Events(Box<EventsArguments>),
}

#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// The ZITADEL instance: its domain (my-domain.zitadel.cloud) or origin (`http://localhost:8080`)
    #[arg(long, env = "ZITADEL_RELAY_DOMAIN", global = true, help_heading = "ZITADEL")]
    domain: Option<String>,

    /// A file with the personal access token of a service user that may read ZITADEL's events (`events.read`)
    #[arg(
        long,
        value_name = "FILE",
        env = "ZITADEL_RELAY_EVENT_FEED_TOKEN_FILE",
        hide_env_values = true,
        global = true
    )]
    #[arg(help_heading = "ZITADEL")]
    event_feed_token_file: Option<PathBuf>,

    /// The key.json of such a service user, in place of a token
    #[arg(
        long,
        value_name = "FILE",
        env = "ZITADEL_RELAY_EVENT_FEED_KEY",
        hide_env_values = true,
        global = true
    )]
    #[arg(help_heading = "ZITADEL")]
    event_feed_key: Option<PathBuf>,

    /// How often events are read, from 100ms to 10s [default: 500ms]
    #[arg(long, value_name = "TIME", env = "ZITADEL_RELAY_EVENT_FEED_INTERVAL", global = true)]
    #[arg(help_heading = "ZITADEL")]
    event_feed_interval: Option<Time>,

    /// Another address under which the instance is reached, such as `http://zitadel:8080`
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "ZITADEL_RELAY_CONNECT_TO",
        global = true,
        help_heading = "ZITADEL"
    )]
    connect_to: Option<String>,

    /// Allows plain http beyond this machine: the credential travels in the clear [default: false]
    #[arg(long, env = "ZITADEL_RELAY_DANGEROUS_ALLOW_HTTP", global = true, help_heading = "ZITADEL")]
    dangerous_allow_http: bool,

    /// An HTTP proxy for the way to the instance, such as `http://proxy.example:3128`
    #[arg(long, value_name = "URL", env = "ZITADEL_RELAY_PROXY", hide_env_values = true, global = true)]
    #[arg(help_heading = "ZITADEL")]
    proxy: Option<SecretString>,

    /// A PEM file with certificates that are trusted beside those of the operating system
    #[arg(long, value_name = "FILE", env = "ZITADEL_RELAY_ROOT_CERTIFICATES", global = true)]
    #[arg(help_heading = "ZITADEL")]
    root_certificates: Option<PathBuf>,

    /// A header that goes with each request to the instance, `Name: value`; several times for several, by lines in the
    /// environment
    #[arg(long, value_name = "HEADER", env = "ZITADEL_RELAY_HEADER", hide_env_values = true, global = true)]
    #[arg(value_delimiter = '\n', help_heading = "ZITADEL")]
    header: Vec<SecretString>,

    /// The longest that one connection to the instance takes to be made [default: 2s]
    #[arg(long, value_name = "TIME", env = "ZITADEL_RELAY_CONNECT_TIMEOUT", global = true)]
    #[arg(help_heading = "ZITADEL")]
    connect_timeout: Option<Time>,

    /// The Valkey or Redis server that all instances share: `rediss://user@host:port`
    #[arg(long, value_name = "URL", env = "ZITADEL_RELAY_SHARED", hide_env_values = true, global = true)]
    #[arg(help_heading = "Several instances")]
    shared: Option<SecretString>,

    /// A file with the secret that all instances have, from `openssl rand -hex 32`; several lines while it is changed: the
    /// first one seals, all open
    #[arg(
        long,
        value_name = "FILE",
        env = "ZITADEL_RELAY_SHARED_SECRET",
        hide_env_values = true,
        global = true
    )]
    #[arg(help_heading = "Several instances")]
    shared_secret: Option<PathBuf>,

    /// A file with the password for that server
    #[arg(
        long,
        value_name = "FILE",
        env = "ZITADEL_RELAY_SHARED_PASSWORD_FILE",
        hide_env_values = true,
        global = true
    )]
    #[arg(help_heading = "Several instances")]
    shared_password_file: Option<PathBuf>,

    /// A PEM file with the certificates that are trusted for that server [default: those of the operating system]
    #[arg(long, value_name = "FILE", env = "ZITADEL_RELAY_SHARED_ROOT_CERTIFICATES", global = true)]
    #[arg(help_heading = "Several instances")]
    shared_root_certificates: Option<PathBuf>,

    /// Allows `redis://`, without TLS, beyond this machine: the password travels in the clear [default: false]
    #[arg(long, env = "ZITADEL_RELAY_SHARED_DANGEROUS_ALLOW_PLAINTEXT", global = true)]
    #[arg(help_heading = "Several instances")]
    shared_dangerous_allow_plaintext: bool,

    /// A file with the signing key of ZITADEL's webhooks, or two while it is changed, one in a line: turns on
    /// `POST /zitadel/events` at --port [default: none]
    #[arg(
        long,
        value_name = "FILE",
        env = "ZITADEL_RELAY_EVENT_SIGNING_KEYS",
        hide_env_values = true,
        global = true
    )]
    #[arg(help_heading = "Server")]
    event_signing_keys: Option<PathBuf>,

    /// The port for webhooks; 0 lets the system choose [default: none]
    #[arg(long, env = "ZITADEL_RELAY_PORT", global = true, help_heading = "Server")]
    port: Option<u16>,

    /// The address to listen on for webhooks [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", env = "ZITADEL_RELAY_BIND", global = true, help_heading = "Server")]
    bind: Option<IpAddr>,

    /// Where /metrics is served, for Prometheus, with /api/healthz and /readyz [default: none]
    #[arg(long, value_name = "ADDRESS:PORT", env = "ZITADEL_RELAY_METRICS_ADDRESS", global = true)]
    #[arg(help_heading = "Operations")]
    pub(crate) metrics_address: Option<SocketAddr>,

    /// How log lines look [default: human]
    #[arg(long, value_name = "FORMAT", env = "ZITADEL_RELAY_LOG_FORMAT", global = true)]
    #[arg(help_heading = "Operations")]
    pub(crate) log_format: Option<LogFormat>,
}

impl Arguments {
    /// Reads them; the exit code where there is nothing to run.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        let arguments = Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = error.print();
                ExitCode::SUCCESS
            }
            _ => {
                say(&format!("error: {}; try --help", explain(&error)));
                ExitCode::from(BAD_CONFIGURATION)
            }
        })?;
        check_variables(&Self::command(), PREFIX, &[]).map_err(|error| {
            say(&format!("error: {error}"));
            ExitCode::from(BAD_CONFIGURATION)
        })?;
        Ok(arguments)
    }
}

impl Settings {
    /// The relay, which begins to read.
    pub(crate) fn relay(&self) -> Result<Relay, String> {
        let issuer = self.issuer()?;
        let feed = OfFeed {
            token_file: self.event_feed_token_file.as_deref(),
            key: self.event_feed_key.as_deref(),
            interval: self.event_feed_interval.map(|Time(time)| time),
        };
        let feed = wiring::event_feed(&feed)?.ok_or(
            "--event-feed-token-file is missing: a file with the token of a service user that may read events, or \
            --event-feed-key",
        )?;
        let shared = OfShared {
            url: self.shared.as_ref().map(ExposeSecret::expose_secret),
            secret: self.shared_secret.as_deref(),
            password_file: self.shared_password_file.as_deref(),
            root_certificates: self.shared_root_certificates.as_deref(),
            allows_plaintext: self.shared_dangerous_allow_plaintext,
            evictions_only: false,
        };
        let shared = wiring::shared(&shared)?
            .ok_or("--shared is missing: the Valkey or Redis server that all instances share")?;
        let builder = wiring::network(Relay::builder(issuer, feed, shared), &self.of_network())?;
        builder.build().map_err(|error| with_flag(&error))
    }

    /// The issuer by its domain.
    pub(crate) fn issuer(&self) -> Result<Issuer, String> {
        let domain =
            self.domain.as_deref().ok_or("--domain is missing: the domain of your ZITADEL instance")?;
        Issuer::parse(domain).map_err(|error| with_flag(&error))
    }

    /// The way to the instance.
    pub(crate) fn of_network(&self) -> OfNetwork<'_> {
        OfNetwork {
            connect_to: self.connect_to.as_deref(),
            allows_http: self.dangerous_allow_http,
            proxy: self.proxy.as_ref().map(ExposeSecret::expose_secret),
            root_certificates: self.root_certificates.as_deref(),
            headers: &self.header,
            connect_timeout: self.connect_timeout.map(|Time(time)| time),
        }
    }

    /// The files that hold secrets.
    pub(crate) fn secret_files(&self) -> [(&'static str, Option<&Path>); 5] {
        [
            ("events", self.event_feed_token_file.as_deref()),
            ("events", self.event_feed_key.as_deref()),
            ("shared", self.shared_secret.as_deref()),
            ("shared", self.shared_password_file.as_deref()),
            ("webhooks", self.event_signing_keys.as_deref()),
        ]
    }

    /// The target of ZITADEL's webhooks; `None` without signing keys.
    pub(crate) fn event_target(&self, relay: &Relay) -> Result<Option<EventTarget>, String> {
        let target = self
            .event_signing_keys
            .as_deref()
            .map(|path| wiring::event_target(path, |keys| relay.event_target(keys)));
        target.transpose()
    }

    /// Where webhooks are taken; `None` where they are not.
    pub(crate) fn address(&self) -> Result<Option<SocketAddr>, String> {
        match (&self.event_signing_keys, self.port, self.bind) {
            (None, None, None) => Ok(None),
            (None, Some(_), _) => {
                Err("--port: has no effect without --event-signing-keys; leave it out".to_owned())
            }
            (None, None, Some(_)) => {
                Err("--bind: has no effect without --event-signing-keys; leave it out".to_owned())
            }
            (Some(_), None, _) => Err("--port is missing: where webhooks are taken".to_owned()),
            (Some(_), Some(port), bind) => {
                Ok(Some(SocketAddr::new(bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)))
            }
        }
    }
}
