//! The lines that a check prints.

use std::{
    fmt::Display,
    fs,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use zitadel_introspect::{FeedStatus, SharedStatus, store::StoreError};

use crate::{shown::shown, words};

/// The time for the first reads of the shared store.
const SHARED_PATIENCE: Duration = Duration::from_secs(3);
/// The time for the first poll of the event feed.
const FEED_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// The findings so far; each finding is printed at once.
#[derive(Debug, Default)]
pub struct Report {
    has_failed: bool,
}

impl Report {
    /// Something is as it should be.
    pub fn ok(what: &str, finding: impl Display) {
        Self::print(&format!("ok      {what:<9} {finding}"));
    }

    /// Prints a line.
    pub fn print(line: &str) {
        // A closed standard output does not stop the check: the exit status reports the result as well.
        let _ = writeln!(io::stdout(), "{line}");
    }

    /// Something is wrong.
    pub fn failed(&mut self, what: &str, problem: impl Display) {
        self.has_failed = true;
        Self::print(&format!("FAILED  {what:<9} {problem}"));
    }

    /// Something should be changed.
    pub fn warned(what: &str, problem: impl Display) {
        Self::print(&format!("warning {what:<9} {problem}"));
    }

    /// Something could not be checked.
    pub fn skipped(&mut self, what: &str, why: &str) {
        self.has_failed = true;
        Self::print(&format!("skipped {what:<9} {why}"));
    }

    /// Warns of a file with a secret that others can read.
    #[cfg(unix)]
    pub fn others_can_read(what: &str, path: Option<&Path>) {
        use std::os::unix::fs::PermissionsExt;
        let Some(path) = path else { return };
        let can = |metadata: fs::Metadata| metadata.is_file() && metadata.permissions().mode() & 0o077 != 0;
        if fs::metadata(path).is_ok_and(can) {
            Self::warned(what, format_args!("others can read {}; set its mode to 0600", shown(path)));
        }
    }

    /// Warns of a file with a secret that others can read.
    #[cfg(not(unix))]
    pub fn others_can_read(_what: &str, _path: Option<&Path>) {}

    /// Whether something is wrong.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether the shared store can be reached, written and read, and what an operator should change about it. False if it
    /// cannot.
    pub async fn shared(
        &mut self,
        advice: Result<Option<Vec<String>>, StoreError>,
        status: impl Fn() -> Option<SharedStatus>,
    ) -> bool {
        let what = "shared";
        let advice = match advice {
            Ok(None) => return true,
            Ok(Some(advice)) => advice,
            Err(error) => {
                self.failed(what, format_args!("--shared: {error}"));
                return false;
            }
        };
        let began = Instant::now();
        let status = loop {
            let Some(status) = status() else { return true };
            if !status.is_blind || status.is_unopened || began.elapsed() > SHARED_PATIENCE {
                break status;
            }
            tokio::time::sleep(PAUSE).await;
        };
        if status.is_unopened {
            self.failed(what, "--shared-secret: the newest entry of the log does not open: it is sealed with another secret");
        } else if status.is_blind {
            let why = status
                .failure
                .map_or_else(|| "it cannot be read in time".to_owned(), |error| error.to_string());
            self.failed(what, format_args!("--shared: {why}"));
        } else if status.clocks_differ {
            self.failed(
                what,
                "our clock is more than a second away from the server's; synchronize both (NTP)",
            );
        } else {
            Self::ok(what, "reached, read to its end, and its clock agrees with ours");
        }
        for advice in advice {
            Self::warned(what, advice);
        }
        !status.is_blind
    }

    /// Whether the event feed can be read, and how far away its newest event is.
    /// `is_shared`: another instance may read it.
    pub async fn events(&mut self, is_shared: bool, status: impl Fn() -> Option<FeedStatus>) {
        let what = "events";
        let began = Instant::now();
        let status = loop {
            let Some(status) = status() else {
                if !is_shared {
                    return;
                }
                if began.elapsed() > SHARED_PATIENCE {
                    let problem = "nobody reads them: run a relay, or give --event-feed-token-file; until then a revoked \
                        token works as long as without the shared server";
                    return Self::warned(what, problem);
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let is_tried = status.newest_event.is_some() || (!status.is_read_here && status.is_current);
            if is_tried || status.failure.is_some() || began.elapsed() > FEED_PATIENCE {
                break status;
            }
            tokio::time::sleep(PAUSE).await;
        };
        match (status.failure, status.newest_event) {
            (Some(failure), _) => self.failed(what, words::in_our_words(&failure.to_string())),
            (None, Some(newest)) => {
                let ago = SystemTime::now().duration_since(newest).unwrap_or_default();
                let ago = humantime::format_duration(Duration::from_secs(ago.as_secs()));
                Self::ok(what, format_args!("can be read; the newest one is {ago} old"));
            }
            (None, None) if status.is_current => Self::ok(what, "read by another instance"),
            (None, None) if !status.is_read_here => {
                self.failed(what, "nobody reads them: no instance, and no relay");
            }
            (None, None) => self.failed(what, "there was no answer in time"),
        }
    }
}
