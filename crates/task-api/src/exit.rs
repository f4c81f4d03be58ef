//! How the process ends where there is nothing to serve.

use std::{error::Error, process::ExitCode};

/// Bad arguments, a bad key, a port that is taken.
pub(crate) const BAD_CONFIGURATION: u8 = 2;

pub(crate) type StartError = Box<dyn Error + Send + Sync>;

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
