//! What a check prints.

use std::{
    fmt::Display,
    io::{self, Write},
    time::{Duration, Instant, SystemTime},
};

use zitadel_introspect::{FeedStatus, SharedStatus, store::StoreError};

use crate::words;

/// The time for the first reads of the shared store.
const SHARED_PATIENCE: Duration = Duration::from_secs(3);
/// The time for the first poll of the event feed.
const FEED_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// What was found out so far; each finding is printed at once.
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

    /// Whether something is wrong.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether the shared store can be reached and read, and what an operator should change about it.
    pub async fn shared(
        &mut self,
        advice: Result<Option<Vec<String>>, StoreError>,
        status: impl Fn() -> Option<SharedStatus>,
    ) {
        let what = "shared";
        let advice = match advice {
            Ok(None) => return,
            Ok(Some(advice)) => advice,
            Err(error) => return self.failed(what, format_args!("--shared: {error}")),
        };
        let began = Instant::now();
        let status = loop {
            let Some(status) = status() else { return };
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
    }

    /// Whether the event feed can be read, and how far away its newest event is.
    pub async fn events(&mut self, status: impl Fn() -> Option<FeedStatus>) {
        let what = "events";
        let began = Instant::now();
        let status = loop {
            let Some(status) = status() else { return };
            if status.age.is_some() || status.failure.is_some() || began.elapsed() > FEED_PATIENCE {
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
            (None, None) if status.age.is_some() => Self::ok(what, "read by another instance"),
            (None, None) => self.failed(what, "there was no answer in time"),
        }
    }
}
