//! What the command line says.

use std::{path::PathBuf, process::ExitCode};

use clap::{
    ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind, parser::ValueSource,
};
use url::Url;

use crate::{
    settings::Settings,
    start::{BAD_CONFIGURATION, say},
};

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
    #[arg(long, value_name = "FILE", env = "TASK_API_CONFIG", global = true)]
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
}

impl Arguments {
    /// Reads them, and the configuration file; the exit code where there is nothing to run.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        let matches = Self::command().try_get_matches();
        let arguments = matches.and_then(|matches| {
            let arguments = Self::from_arg_matches(&matches)?;
            arguments.refuse_password(&matches)?;
            Ok(arguments)
        });
        let arguments = arguments.map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = error.print();
                ExitCode::SUCCESS
            }
            _ => {
                say(&format!("{}; try --help", one_line(&error)));
                ExitCode::from(BAD_CONFIGURATION)
            }
        })?;
        arguments.with_file().map_err(|error| {
            say(&format!("error: {error}"));
            ExitCode::from(BAD_CONFIGURATION)
        })
    }

    fn with_file(mut self) -> Result<Self, String> {
        if let Some(path) = &self.config {
            self.settings = self.settings.or(Settings::of_file(path)?);
        }
        Ok(self)
    }

    /// Everybody on a machine can read the command lines of its processes.
    fn refuse_password(&self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
        let is_flag = matches.value_source("database") == Some(ValueSource::CommandLine);
        let database = self.settings.database();
        let has_password = Url::parse(database).map_or_else(
            // Broken, and perhaps secret all the same.
            |_| database.contains('@'),
            |url| url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password"),
        );
        if is_flag && has_password {
            let problem = "--database: a password on the command line can be read by others; give the address by \
                TASK_API_DATABASE or the configuration file, or the password by --database-password-file";
            return Err(Self::command().error(ErrorKind::ArgumentConflict, problem));
        }
        Ok(())
    }
}

/// The first paragraph of clap's message.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first: Vec<_> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    first.join(" ")
}
