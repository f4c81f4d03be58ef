//! Prints the steps of a set-up: a line for each thing as it happens, or one JSON object at the end.

use std::{
    path::Path,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use zitadel_introspect::Issuer;
use zitadel_introspect_setup::{ApiSetup, Outcome, Sign, Step};

use crate::{
    exit::{BAD_CONFIGURATION, say},
    report::Report,
    setup::arguments::{ApiArguments, EventsArguments, How},
    wiring::OfNetwork,
};

pub(crate) struct Screen {
    is_json: bool,
    is_plan: bool,
    updates: bool,
    /// For the report of a set-up that failed: what it made stays.
    steps: Mutex<Vec<Step>>,
}

impl Screen {
    pub(crate) fn new(how: &How) -> Self {
        let screen =
            Self { is_json: how.json, is_plan: how.dry_run, updates: how.update, steps: Mutex::default() };
        if !screen.is_json {
            Report::others_can_read("admin", Some(&how.admin_token_file));
        }
        screen
    }

    /// One thing, as soon as it is looked at, planned or done.
    pub(crate) fn step(&self, step: &Step) {
        if self.is_json {
            self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step.clone());
            return;
        }
        let file = step.file.as_ref().filter(|file| Path::new(&step.name) != **file);
        let file = file.map(|file| format!("  in {}", file.display())).unwrap_or_default();
        let left = if step.sign == Sign::Change && !step.is_done && !self.updates {
            "  (left as it is: --update changes it)"
        } else {
            ""
        };
        Report::print(&format!("{step}{file}{left}"));
    }

    /// The end of a set-up.
    pub(crate) fn end(&self, outcome: &Outcome, proven: Option<Duration>) {
        if self.is_json {
            let proven = proven.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            let report = json!({
                "is_plan": self.is_plan,
                "steps": outcome.steps,
                "warnings": outcome.warnings,
                "refused_after_ms": proven,
            });
            return Report::print(&report.to_string());
        }
        for warning in &outcome.warnings {
            Report::warned("setup", warning);
        }
        if let Some(time) = proven {
            let time = time.as_millis();
            Report::ok("proof", format_args!("a token was refused {time} ms after it was removed"));
        }
        if self.is_plan {
            Report::print("this is a plan: nothing was changed");
        }
    }

    /// The problem that has stopped a set-up, and the exit code.
    pub(crate) fn fail(&self, problem: &str) -> ExitCode {
        if self.is_json {
            let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
            Report::print(&json!({"error": problem, "steps": *steps}).to_string());
        }
        say(&format!("error: {problem}"));
        ExitCode::from(BAD_CONFIGURATION)
    }

    /// The settings with which a server or a relay follows the events.
    pub(crate) fn how_to_follow(&self, arguments: &EventsArguments) {
        if self.is_json {
            return;
        }
        for (flag, file) in arguments.files() {
            Report::print(&format!("give the server or the relay: {flag} {}", quoted(file)));
        }
    }
}

/// The commands with which to start the server and to try it.
pub(crate) fn how_to_start(
    network: &OfNetwork<'_>,
    issuer: &Issuer,
    project: &str,
    arguments: &ApiArguments,
    setup: &ApiSetup,
) {
    let connect_to = network.connect_to.map(|origin| format!(" --connect-to {origin}"));
    let allow_http = network.allows_http.then_some(" --dangerous-allow-http");
    let (connect_to, allow_http) = (connect_to.unwrap_or_default(), allow_http.unwrap_or_default());
    let key = quoted(&arguments.key_file);
    Report::print(&format!(
        "\nstart the server:\n  task-api --domain {issuer}{connect_to}{allow_http} --key {key} --project {project}"
    ));
    if let Some(robot) = arguments.robots().last() {
        let token = quoted(&setup.token_file(robot));
        Report::print(&format!(
            "try it:\n  curl -i -H \"Authorization: Bearer $(cat {token})\" http://localhost:8089/api/tasks\n"
        ));
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/@+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
