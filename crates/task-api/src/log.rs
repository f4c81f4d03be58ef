//! The log of a program.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use crate::{settings::LogFormat, words};

/// Logs a panic in one line, like everything else.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, message = ?panic.payload_as_str().unwrap_or_default(), "A PANIC: a bug of ours");
    }));
}

/// A log in which the library's messages name this program's flags.
struct InOurWords<W>(W);

impl<W: Write> Write for InOurWords<W> {
    /// The subscriber writes each line by one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match str::from_utf8(line) {
            Ok(text) if text.contains('`') => self.0.write_all(words::in_our_words(text).as_bytes())?,
            _ => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Logs to standard error, in the words of this program. Its level is that of `RUST_LOG`, where this is set.
pub fn log_to_stderr(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| InOurWords(io::stderr()));
    match format {
        LogFormat::Human => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.with_ansi(false).json().flatten_event(true).with_span_list(false).init(),
    }
}
