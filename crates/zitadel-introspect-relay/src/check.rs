//! `zitadel-introspect-relay check`: checks everything that a start depends on.

use std::process::ExitCode;

use task_api::program::{BAD_CONFIGURATION, Report, listen};

use crate::arguments::Settings;

pub(crate) async fn run(settings: &Settings) -> ExitCode {
    let mut report = Report::default();
    for (what, path) in settings.secret_files() {
        Report::others_can_read(what, path);
    }
    match settings.relay() {
        Err(problem) => report.failed("settings", problem),
        Ok(relay) => {
            if report.shared(relay.check_shared().await.map(Some), || relay.shared()).await {
                report.events(true, || relay.event_feed()).await;
            } else {
                report.skipped("events", "needs the shared server");
            }
            if let Err(problem) = settings.event_target(&relay) {
                report.failed("settings", problem);
            }
        }
    }
    addresses(settings, &mut report);
    if report.has_failed() { ExitCode::from(BAD_CONFIGURATION) } else { ExitCode::SUCCESS }
}

fn addresses(settings: &Settings, report: &mut Report) {
    let webhooks = settings.address().unwrap_or_else(|problem| {
        report.failed("settings", problem);
        None
    });
    let metrics = settings.metrics_address.map(|address| (address, "--metrics-address"));
    for (address, flag) in [webhooks.map(|address| (address, "--port")), metrics].into_iter().flatten() {
        if let Err(problem) = listen(address, flag, flag) {
            Report::warned("ports", format_args!("{problem}, unless it is this relay that runs already"));
        }
    }
}
