//! What can be set, by flag, environment or file, in this order.

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    limits::Limits,
    shown::shown,
    wiring::{OfFeed, OfNetwork, OfShared},
};

const DATABASE: &str = "sqlite://tasks.db";
const PORT: u16 = 8089;
const METRICS_PORT: u16 = 9464;
const REQUESTS_AT_ONCE: usize = 1024;

/// The variable for the text of a key; a flag would show it to everybody on the machine.
pub(crate) const KEY_JSON: &str = "TASK_API_KEY_JSON";

macro_rules! settings {
    ($($(#[$attribute:meta])* $field:ident: $kind:ty,)+) => {
        /// The settings of a server. What is not set has a default.
        #[derive(Debug, Clone, Default, Args, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct Settings {
            $($(#[$attribute])* pub(crate) $field: Option<$kind>,)+
        }

        impl Settings {
            /// These, and where they are silent the others.
            pub(crate) fn or(self, other: Self) -> Self {
                Self { $($field: self.$field.or(other.$field),)+ }
            }
        }
    };
}

settings! {
    /// The ZITADEL instance: its domain (my-domain.zitadel.cloud) or origin (`http://localhost:8080`)
    #[arg(long, env = "TASK_API_DOMAIN", global = true, help_heading = "ZITADEL")]
    domain: String,

    /// The key.json of the API application, downloaded from ZITADEL's Console; a file, or a pipe such as /dev/stdin. Or
    /// give its text, plain or in Base64, in the variable `TASK_API_KEY_JSON`
    #[arg(long, value_name = "FILE", env = "TASK_API_KEY", hide_env_values = true, global = true)]
    #[arg(help_heading = "ZITADEL")]
    key: PathBuf,

    #[arg(skip)]
    key_json: SecretString,

    /// Another address under which the instance is reached, such as `http://zitadel:8080`
    #[arg(long, value_name = "ORIGIN", env = "TASK_API_CONNECT_TO", global = true, help_heading = "ZITADEL")]
    connect_to: String,

    /// Allows plain http beyond this machine: tokens travel in the clear [default: false]
    #[arg(long, env = "TASK_API_DANGEROUS_ALLOW_HTTP", global = true, help_heading = "ZITADEL")]
    #[arg(num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    dangerous_allow_http: bool,

    /// An HTTP proxy for the way to the instance, such as `http://proxy.example:3128`
    #[arg(long, value_name = "URL", env = "TASK_API_PROXY", hide_env_values = true, global = true)]
    #[arg(help_heading = "ZITADEL")]
    proxy: SecretString,

    /// A PEM file with certificates that are trusted beside those of the operating system
    #[arg(long, value_name = "FILE", env = "TASK_API_ROOT_CERTIFICATES", global = true)]
    #[arg(help_heading = "ZITADEL")]
    root_certificates: PathBuf,

    /// A header that goes with each request to the instance, `Name: value`; several times for several, by lines in the
    /// environment
    #[arg(long, value_name = "HEADER", env = "TASK_API_HEADER", hide_env_values = true, global = true)]
    #[arg(value_delimiter = '\n', help_heading = "ZITADEL")]
    header: Vec<SecretString>,

    /// The longest that a request waits for a verdict of the instance, at most 10s [default: 5s]
    #[arg(long, value_name = "TIME", env = "TASK_API_TIMEOUT", global = true, help_heading = "ZITADEL")]
    timeout: Time,

    /// The longest that one connection to the instance takes to be made [default: 2s]
    #[arg(long, value_name = "TIME", env = "TASK_API_CONNECT_TIMEOUT", global = true)]
    #[arg(help_heading = "ZITADEL")]
    connect_timeout: Time,

    /// The largest answer of the instance that is read, in bytes [default: 1048576]
    #[arg(long, value_name = "BYTES", env = "TASK_API_MAX_ANSWER_BYTES", global = true)]
    #[arg(help_heading = "ZITADEL")]
    max_answer_bytes: usize,

    /// Signs an assertion of its own for each question, for issuers that refuse to see one twice [default: false]
    #[arg(long, env = "TASK_API_FRESH_ASSERTIONS", global = true, help_heading = "ZITADEL")]
    #[arg(num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    fresh_assertions: bool,

    /// Refuses tokens whose audience lacks this client id or project id [default: ZITADEL's own check]
    #[arg(long, value_name = "ID", env = "TASK_API_AUDIENCE", global = true, help_heading = "Verdicts")]
    audience: String,

    /// How long a good verdict is held: a revoked token works for at most this long [default: 60s]
    #[arg(long, value_name = "TIME", env = "TASK_API_CACHE_TTL", global = true, help_heading = "Verdicts")]
    cache_ttl: Time,

    /// How many good verdicts are held [default: 50000]
    #[arg(long, value_name = "COUNT", env = "TASK_API_CACHE_CAPACITY", global = true)]
    #[arg(help_heading = "Verdicts")]
    cache_capacity: usize,

    /// How many bytes good verdicts take together [default: 4 KiB for each that may be held]
    #[arg(long, value_name = "BYTES", env = "TASK_API_CACHE_BYTES", global = true, help_heading = "Verdicts")]
    cache_bytes: usize,

    /// How long a bad verdict is held, at most 10s [default: 5s]
    #[arg(long, value_name = "TIME", env = "TASK_API_NEGATIVE_CACHE_TTL", global = true)]
    #[arg(help_heading = "Verdicts")]
    negative_cache_ttl: Time,

    /// How many bad verdicts are held [default: 5000]
    #[arg(long, value_name = "COUNT", env = "TASK_API_NEGATIVE_CACHE_CAPACITY", global = true)]
    #[arg(help_heading = "Verdicts")]
    negative_cache_capacity: usize,

    /// For adding a task a verdict may be no older than this; 0s asks each time [default: as old as any]
    #[arg(long, value_name = "TIME", env = "TASK_API_ADD_FRESH_WITHIN", global = true)]
    #[arg(help_heading = "Verdicts")]
    add_fresh_within: Time,

    /// Reads JWTs with the instance's published keys, for this project; revocation is not seen [default: off]
    #[arg(long, value_name = "PROJECT", env = "TASK_API_VERIFY_JWTS_LOCALLY_WITHOUT_REVOCATION", global = true)]
    #[arg(help_heading = "Verdicts")]
    verify_jwts_locally_without_revocation: String,

    /// The instance confirms each verdict on a JWT that was read locally, at the latest after this [default: never]
    #[arg(long, value_name = "TIME", env = "TASK_API_CONFIRM_LOCAL_VERDICTS_WITHIN", global = true)]
    #[arg(help_heading = "Verdicts")]
    confirm_local_verdicts_within: Time,

    /// A file with the personal access token of a service user that may read ZITADEL's events (`events.read`): a revoked
    /// token is then refused within a second, and a live one is asked about once an hour [default: none]
    #[arg(long, value_name = "FILE", env = "TASK_API_EVENT_FEED_TOKEN_FILE", hide_env_values = true, global = true)]
    #[arg(help_heading = "Event feed")]
    event_feed_token_file: PathBuf,

    /// The key.json of such a service user, in place of a token [default: none]
    #[arg(long, value_name = "FILE", env = "TASK_API_EVENT_FEED_KEY", hide_env_values = true, global = true)]
    #[arg(help_heading = "Event feed")]
    event_feed_key: PathBuf,

    /// How often events are read, from 100ms to 10s [default: 500ms]
    #[arg(long, value_name = "TIME", env = "TASK_API_EVENT_FEED_INTERVAL", global = true)]
    #[arg(help_heading = "Event feed")]
    event_feed_interval: Time,

    /// How long a good verdict is held while events are read, at most 24h [default: 1h]
    #[arg(long, value_name = "TIME", env = "TASK_API_LONGEST_HOLD", global = true)]
    #[arg(help_heading = "Event feed")]
    longest_hold: Time,

    /// A file with the signing key of ZITADEL's webhooks, or two while it is changed, one in a line: turns on
    /// `POST /zitadel/events`, which ends verdicts sooner [default: none]
    #[arg(long, value_name = "FILE", env = "TASK_API_EVENT_SIGNING_KEYS", hide_env_values = true, global = true)]
    #[arg(help_heading = "Event feed")]
    event_signing_keys: PathBuf,

    /// Where `/zitadel/events` is served, apart from the API [default: beside the API]
    #[arg(long, value_name = "ADDRESS:PORT", env = "TASK_API_EVENTS_ADDRESS", global = true)]
    #[arg(help_heading = "Event feed")]
    events_address: SocketAddr,

    /// A Valkey or Redis server by which the instances of this API share what they know: `rediss://user@host:port`. A
    /// revocation that one learns of counts on all, and a verdict that one has asked for serves the others [default: none]
    #[arg(long, value_name = "URL", env = "TASK_API_SHARED", hide_env_values = true, global = true)]
    #[arg(help_heading = "Several instances")]
    shared: SecretString,

    /// A file with the secret that all instances have, from `openssl rand -hex 32`; several lines while it is changed: the
    /// first one seals, all open
    #[arg(long, value_name = "FILE", env = "TASK_API_SHARED_SECRET", hide_env_values = true, global = true)]
    #[arg(help_heading = "Several instances")]
    shared_secret: PathBuf,

    /// A file with the password for that server
    #[arg(long, value_name = "FILE", env = "TASK_API_SHARED_PASSWORD_FILE", hide_env_values = true, global = true)]
    #[arg(help_heading = "Several instances")]
    shared_password_file: PathBuf,

    /// A PEM file with the certificates that are trusted for that server [default: those of the operating system]
    #[arg(long, value_name = "FILE", env = "TASK_API_SHARED_ROOT_CERTIFICATES", global = true)]
    #[arg(help_heading = "Several instances")]
    shared_root_certificates: PathBuf,

    /// Allows `redis://`, without TLS, beyond this machine: the password travels in the clear [default: false]
    #[arg(long, env = "TASK_API_SHARED_DANGEROUS_ALLOW_PLAINTEXT", global = true)]
    #[arg(num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help_heading = "Several instances")]
    shared_dangerous_allow_plaintext: bool,

    /// Shares no verdicts, for a server that strangers use as well [default: false]
    #[arg(long, env = "TASK_API_SHARED_EVICTIONS_ONLY", global = true)]
    #[arg(num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help_heading = "Several instances")]
    shared_evictions_only: bool,

    /// The id of the project of this API: roles count by its own claim, and events of other projects end nothing
    /// [default: found out]
    #[arg(long, value_name = "ID", env = "TASK_API_PROJECT", global = true, help_heading = "Event feed")]
    project: String,

    /// The port to listen on; 0 lets the system choose [default: 8089]
    #[arg(long, env = "TASK_API_PORT", global = true, help_heading = "Server")]
    port: u16,

    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", env = "TASK_API_BIND", global = true, help_heading = "Server")]
    bind: IpAddr,

    /// The port of the gRPC service, at the same address; 0 lets the system choose [default: none]
    #[arg(long, value_name = "PORT", env = "TASK_API_GRPC_PORT", global = true, help_heading = "Server")]
    grpc_port: u16,

    /// An origin whose pages may call the API from a browser, such as `https://app.example.com`; several times for
    /// several, by commas in the environment [default: none]
    #[arg(long, value_name = "ORIGIN", env = "TASK_API_CORS_ORIGIN", global = true, help_heading = "Server")]
    #[arg(value_delimiter = ',')]
    cors_origin: Vec<String>,

    /// Connections of one client address (IPv6: of one /64) to each port, of 512 in all [default: 256]
    #[arg(long, value_name = "COUNT", env = "TASK_API_CONNECTIONS_PER_CLIENT", global = true)]
    #[arg(help_heading = "Server")]
    connections_per_client: NonZeroUsize,

    /// Requests that are worked on at once; more are answered with 503 [default: 1024]
    #[arg(long, value_name = "COUNT", env = "TASK_API_REQUESTS_AT_ONCE", global = true)]
    #[arg(help_heading = "Server")]
    requests_at_once: NonZeroU16,

    /// Requests of one client address in a second; more are answered with 429 [default: no limit]
    #[arg(long, value_name = "COUNT", env = "TASK_API_REQUESTS_PER_SECOND", global = true)]
    #[arg(help_heading = "Server")]
    requests_per_second: NonZeroU32,

    /// Where tasks last: `sqlite://<path>`, or `postgres://<user>@<host>/<database>` for several instances
    /// [default: `sqlite://tasks.db`]
    #[arg(long, value_name = "URL", env = "TASK_API_DATABASE", hide_env_values = true, global = true)]
    #[arg(help_heading = "Database")]
    database: SecretString,

    /// A file with the password for PostgreSQL
    #[arg(long, value_name = "FILE", env = "TASK_API_DATABASE_PASSWORD_FILE", hide_env_values = true, global = true)]
    #[arg(help_heading = "Database")]
    database_password_file: PathBuf,

    /// Where /metrics is served, for Prometheus, and /api/healthz and /readyz once more [default: 127.0.0.1:9464, or none
    /// where that is taken]
    #[arg(long, value_name = "ADDRESS:PORT", env = "TASK_API_METRICS_ADDRESS", global = true)]
    #[arg(help_heading = "Operations")]
    metrics_address: SocketAddr,

    /// How log lines look [default: human]
    #[arg(long, value_name = "FORMAT", env = "TASK_API_LOG_FORMAT", global = true)]
    #[arg(help_heading = "Operations")]
    log_format: LogFormat,
}

/// A time with its unit: `5s`, `500ms`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self).map_err(|_| "not a time with its unit, such as 5s or 500ms")
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people, in colour on a terminal.
    #[default]
    Human,
    /// One JSON object in a line.
    Json,
}

impl Settings {
    /// Reads a configuration file; relative paths in it start at its folder.
    pub(crate) fn of_file(path: &Path) -> Result<Self, String> {
        let shown = shown(path);
        let text = fs::read_to_string(path)
            .map_err(|error| format!("--config: {shown} cannot be read ({error}); check path and rights"))?;
        let mut settings: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            format!("--config: {shown}, line {line}: {}", without_value(error.message()))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let files = [
            &mut settings.key,
            &mut settings.root_certificates,
            &mut settings.database_password_file,
            &mut settings.event_feed_token_file,
            &mut settings.event_feed_key,
            &mut settings.event_signing_keys,
            &mut settings.shared_secret,
            &mut settings.shared_password_file,
            &mut settings.shared_root_certificates,
        ];
        for path in files.into_iter().flatten() {
            *path = folder.join(&*path);
        }
        settings.database = settings.database.map(|database| from_folder(database, folder));
        Ok(settings)
    }

    /// The text of a key from the environment, where it is given there.
    pub(crate) fn with_key_of_environment(mut self) -> Self {
        if let Ok(text) = env::var(KEY_JSON)
            && !text.trim().is_empty()
        {
            self.key_json = Some(SecretString::from(text));
        }
        self
    }

    /// The domain, without which there is nothing to ask.
    pub(crate) fn domain(&self) -> Result<&str, String> {
        self.domain.as_deref().ok_or_else(|| {
            "--domain is missing: the domain of your ZITADEL instance, by --domain, TASK_API_DOMAIN or `domain` in the \
            configuration file"
                .to_owned()
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind.unwrap_or(LOOPBACK), self.port.unwrap_or(PORT))
    }

    /// None where no gRPC is asked for.
    pub(crate) fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_port.map(|port| SocketAddr::new(self.bind.unwrap_or(LOOPBACK), port))
    }

    /// The address of the metrics, and whether somebody has asked for it.
    pub(crate) fn metrics_address(&self) -> (SocketAddr, bool) {
        let usual = SocketAddr::new(LOOPBACK, METRICS_PORT);
        (self.metrics_address.unwrap_or(usual), self.metrics_address.is_some())
    }

    pub(crate) fn database(&self) -> &str {
        self.database.as_ref().map_or(DATABASE, ExposeSecret::expose_secret)
    }

    pub(crate) fn limits(&self) -> Limits {
        let at_once = self.requests_at_once.map_or(REQUESTS_AT_ONCE, |count| usize::from(count.get()));
        let limits = Limits::new(at_once, self.requests_per_second);
        match self.connections_per_client {
            Some(connections) => limits.connections_per_client(connections.get()),
            None => limits,
        }
    }

    pub(crate) fn of_network(&self) -> OfNetwork<'_> {
        OfNetwork {
            connect_to: self.connect_to.as_deref(),
            allows_http: self.dangerous_allow_http == Some(true),
            proxy: self.proxy.as_ref().map(ExposeSecret::expose_secret),
            root_certificates: self.root_certificates.as_deref(),
            headers: self.header.as_deref().unwrap_or_default(),
            connect_timeout: self.connect_timeout.map(|Time(time)| time),
        }
    }

    pub(crate) fn of_feed(&self) -> OfFeed<'_> {
        OfFeed {
            token_file: self.event_feed_token_file.as_deref(),
            key: self.event_feed_key.as_deref(),
            interval: self.event_feed_interval.map(|Time(time)| time),
        }
    }

    pub(crate) fn of_shared(&self) -> OfShared<'_> {
        OfShared {
            url: self.shared.as_ref().map(ExposeSecret::expose_secret),
            secret: self.shared_secret.as_deref(),
            password_file: self.shared_password_file.as_deref(),
            root_certificates: self.shared_root_certificates.as_deref(),
            allows_plaintext: self.shared_dangerous_allow_plaintext == Some(true),
            evictions_only: self.shared_evictions_only == Some(true),
        }
    }

    pub(crate) fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or_default()
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a TOML parser says, without the value that it found.
fn without_value(message: &str) -> String {
    let message = message.replace('\n', " ");
    let is_about_a_value = message.starts_with("invalid type") || message.starts_with("invalid value");
    match message.rsplit_once(", expected ") {
        Some((_, expected)) if is_about_a_value => {
            let kind = if message.starts_with("invalid type") { "invalid type" } else { "invalid value" };
            format!("{kind}, expected {expected}")
        }
        _ => message,
    }
}

/// A relative path of an `sqlite` address starts at a folder.
fn from_folder(database: SecretString, folder: &Path) -> SecretString {
    let path = database.expose_secret().strip_prefix("sqlite://").map(Path::new);
    match path {
        Some(path) if path.is_relative() => {
            SecretString::from(format!("sqlite://{}", folder.join(path).display()))
        }
        _ => database,
    }
}
