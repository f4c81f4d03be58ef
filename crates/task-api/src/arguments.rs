//! What the command line says.

use std::{path::PathBuf, process::ExitCode};

use clap::{
    ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind, parser::ValueSource,
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::{
    command_line::{check_variables, explain},
    exit::{BAD_CONFIGURATION, say},
    settings::{KEY_JSON, Settings},
    setup::{ApiArguments, EventsArguments},
};

/// The beginning of the names of our variables.
const PREFIX: &str = "TASK_API_";

/// The tasks server of ZITADEL's guide for APIs.
///
/// Every option can also be set by the environment variable beside it, or in the file of --config under its own name
/// with underscores. A flag counts before the environment, and both before the file.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// A TOML file with settings
    #[arg(long, value_name = "FILE", env = "TASK_API_CONFIG", hide_env_values = true, global = true)]
    config: Option<PathBuf>,

    /// Needs no ZITADEL: starts an embedded issuer and a database of the moment, for trying out only, and prints
    /// what to try
    #[arg(long)]
    pub(crate) demo: bool,

    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Verifies the settings against the real issuer and database, and says what is wrong
    Check {
        /// A file with an access token: also says whose it is and what it may do, or why it may be inactive
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Makes in ZITADEL what the server needs, with the token of an administrator. Can run again: makes what is missing
    #[command(subcommand)]
    Setup(Setup),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Setup {
    /// The project, its roles, the API application with its key, service users with tokens and authorizations
    Api(Box<ApiArguments>),
    /// A service user that reads events, the target of webhooks, and the proof that a server hears of them
    Events(Box<EventsArguments>),
}

impl Arguments {
    /// Reads them, and the configuration file; the exit code where there is nothing to run.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        let matches = Self::command().try_get_matches();
        let arguments = matches.and_then(|matches| {
            let arguments = Self::from_arg_matches(&matches)?;
            arguments.refuse_passwords(&matches)?;
            Ok(arguments)
        });
        let arguments = arguments.map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = error.print();
                ExitCode::SUCCESS
            }
            _ => {
                say(&format!("error: {}; try --help", explain(&error)));
                ExitCode::from(BAD_CONFIGURATION)
            }
        })?;
        let arguments =
            check_variables(&Self::command(), PREFIX, &[KEY_JSON]).and_then(|()| arguments.with_file());
        arguments.map_err(|error| {
            say(&format!("error: {error}"));
            ExitCode::from(BAD_CONFIGURATION)
        })
    }

    fn with_file(mut self) -> Result<Self, String> {
        self.settings = self.settings.with_key_of_environment();
        if let Some(path) = &self.config {
            let mut of_file = Settings::of_file(path)?;
            if self.settings.key.is_some() || self.settings.key_json.is_some() {
                // There is only one key: a key from a flag or the environment replaces both key settings of the file.
                (of_file.key, of_file.key_json) = (None, None);
            }
            self.settings = self.settings.or(of_file);
        }
        Ok(self)
    }

    /// Everybody on a machine can read the command lines of its processes.
    fn refuse_passwords(&self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let matches = innermost(matches);
        let is_flag = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        let refuse = |problem: &str| Err(Self::command().error(ErrorKind::ArgumentConflict, problem));
        let has_password = |address: Option<&SecretString>| {
            let address = address.map(ExposeSecret::expose_secret).unwrap_or_default();
            Url::parse(address).map_or_else(
                // Broken, and perhaps secret all the same.
                |_| address.contains('@'),
                |url| url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password"),
            )
        };
        if is_flag("database") && has_password(self.settings.database.as_ref()) {
            return refuse(
                "--database: a password on the command line can be read by others; give the address by \
                TASK_API_DATABASE or the configuration file, or the password by --database-password-file",
            );
        }
        if is_flag("shared") && has_password(self.settings.shared.as_ref()) {
            return refuse(
                "--shared: a password on the command line can be read by others; give it by --shared-password-file",
            );
        }
        if is_flag("proxy") && has_password(self.settings.proxy.as_ref()) {
            return refuse(
                "--proxy: a password on the command line can be read by others; give the address by TASK_API_PROXY or the \
                configuration file",
            );
        }
        Ok(())
    }
}

/// The matches of the command that runs: those of `setup api` are two levels down.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}
