//! How the process ends if it cannot start.

use std::{error::Error, process::ExitCode};

/// Bad arguments, a bad key, a port that is taken.
pub const BAD_CONFIGURATION: u8 = 2;

/// Why a program cannot start.
pub type StartError = Box<dyn Error + Send + Sync>;

/// Prints in one line why the process cannot start.
#[must_use]
pub fn fail(error: &dyn Error) -> ExitCode {
    say(&format!("error: {error}"));
    ExitCode::from(BAD_CONFIGURATION)
}

#[expect(clippy::print_stderr, reason = "the last words of a process that cannot start")]
/// Prints a line on standard error.
pub fn say(line: &str) {
    eprintln!("{line}");
}
