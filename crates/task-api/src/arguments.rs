//! What the command line says.

use std::{collections::BTreeSet, env, ffi::OsStr, path::PathBuf, process::ExitCode};

use clap::{
    ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use secrecy::{ExposeSecret, SecretString};
use strsim::damerau_levenshtein;
use url::Url;

use crate::{
    exit::{BAD_CONFIGURATION, say},
    settings::{KEY_JSON, Settings},
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
        let arguments = check_variables().and_then(|()| arguments.with_file());
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
        let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
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

/// A misspelt variable would be ignored in silence.
fn check_variables() -> Result<(), String> {
    let command = Arguments::command();
    let known: BTreeSet<_> = command.get_arguments().filter_map(|argument| argument.get_env()).collect();
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if !known.contains(name.as_os_str()) && text != KEY_JSON && !is_somebody_elses(text) {
            let similar = most_similar(text, &known);
            let remedy = similar.map(|known| format!("did you mean {known}? ")).unwrap_or_default();
            return Err(format!(
                "{text} is no variable of this program; {remedy}remove it, or look at --help"
            ));
        }
    }
    Ok(())
}

/// Kubernetes makes variables out of the names of services, and our own tests have some.
fn is_somebody_elses(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let is_of_a_port =
        rest.strip_prefix("PORT_").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    rest.starts_with("SERVICE_") || rest.starts_with("TEST_") || is_of_a_port
}

/// The known name that differs in the fewest letters, if these are few.
fn most_similar<'k>(name: &str, known: &BTreeSet<&'k OsStr>) -> Option<&'k str> {
    let names = known.iter().filter_map(|name| name.to_str());
    let nearest = names.map(|known| (damerau_levenshtein(name, known), known)).min()?;
    (nearest.0 <= 3).then_some(nearest.1)
}

/// What is wrong with the command line or a variable, in one line and without any value: it could be a secret that was put
/// in the wrong place.
fn explain(error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let argument = argument.unwrap_or_default();
            let possible = text(ContextKind::ValidValue).map(|possible| format!(" (possible: {possible})"));
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            // The commonest way in which a port becomes no number.
            let hint = argument.contains("--port").then_some(
                "; Kubernetes sets TASK_API_PORT for a service of the name task-api unless `enableServiceLinks` is false",
            );
            let (possible, cause) = (possible.unwrap_or_default(), cause.unwrap_or_default());
            format!("invalid value for {argument}{possible}{cause}{}", hint.unwrap_or_default())
        }
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand | ErrorKind::TooManyValues => {
            let is_flag = |text: &String| {
                let is_letter = |c: char| c.is_ascii_lowercase() || c == '-';
                text.len() <= 48 && text.starts_with("--") && text.chars().all(is_letter)
            };
            let hidden = || "(not shown: it may be a part of a value that needs quotes)".to_owned();
            let argument = argument.filter(is_flag).unwrap_or_else(hidden);
            let similar = text(ContextKind::SuggestedArg).map(|similar| format!("; did you mean {similar}?"));
            format!("unexpected argument {argument}{}", similar.unwrap_or_default())
        }
        _ => {
            let text = error.render().to_string();
            let first: Vec<_> =
                text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
            first.join(" ").trim_start_matches("error: ").to_owned()
        }
    }
}
