//! The faults of a command line and of variables, for every program of this workspace.

use std::{collections::BTreeSet, env, ffi::OsStr};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use strsim::damerau_levenshtein;

/// A misspelt variable would be ignored in silence.
///
/// # Errors
///
/// The first variable with the prefix that is none of the command's.
pub fn check_variables(command: &clap::Command, prefix: &str, others: &[&str]) -> Result<(), String> {
    let known: BTreeSet<_> = command.get_arguments().filter_map(|argument| argument.get_env()).collect();
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str().filter(|name| name.starts_with(prefix)) else { continue };
        if !known.contains(name.as_os_str()) && !others.contains(&text) && !is_somebody_elses(text, prefix) {
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
fn is_somebody_elses(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix).unwrap_or(name);
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
#[must_use]
pub fn explain(error: &clap::Error) -> String {
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
