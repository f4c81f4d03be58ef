//! `task-api check`: checks everything that a start depends on, and explains what is wrong.

use std::{
    fs,
    ops::RangeInclusive,
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use zitadel_introspect::{Caller, IssuerError, Reason, Requirement, Verifier};

use crate::{
    exit::BAD_CONFIGURATION, observe::actor_name, open, report::Report, settings::Settings, shown::shown,
    store, verifier, words,
};

/// ZITADEL refuses a client assertion that is two seconds ahead; ours is dated a few seconds back.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(4);
/// The token is inactive, or its state is unknown; all other checks passed.
const NOT_ACTIVE: u8 = 1;

/// Checks the settings, and explains the token in the file.
pub(crate) async fn run(settings: &Settings, token_file: Option<&Path>) -> ExitCode {
    let mut report = Report::default();
    let ours = credentials(settings, &mut report);
    if let Some((verifier, client_id)) = &ours {
        ask_issuer(verifier, client_id, &mut report).await;
        if report.shared(verifier.check_shared().await, || verifier.shared()).await {
            report.events(verifier.shared().is_some(), || verifier.event_feed()).await;
        } else {
            report.skipped("events", "needs the shared server");
        }
    } else {
        report.skipped("issuer", "needs a domain and a key");
    }
    addresses(settings, &mut report);
    match store::probe(settings.database(), settings.database_password_file.as_deref()).await {
        Ok(finding) => Report::ok("database", finding),
        Err(error) => report.failed("database", format_args!("--database: {error}")),
    }
    let is_active = match (token_file, &ours) {
        (None, _) => true,
        (Some(_), None) => {
            report.skipped("token", "needs a domain and a key");
            true
        }
        (Some(path), Some((verifier, _))) => match fs::read_to_string(path) {
            Ok(token) => explain(verifier, token.trim()).await,
            Err(error) => {
                let path = shown(path);
                report.failed("token", format_args!("--token-file: {path} cannot be read ({error})"));
                true
            }
        },
    };
    match (report.has_failed(), is_active) {
        (true, _) => ExitCode::from(BAD_CONFIGURATION),
        (false, false) => ExitCode::from(NOT_ACTIVE),
        (false, true) => ExitCode::SUCCESS,
    }
}

/// A verifier and its client id, if domain and key are valid.
fn credentials(settings: &Settings, report: &mut Report) -> Option<(Verifier, String)> {
    let issuer = verifier::issuer(settings).map_err(|problem| report.failed("domain", problem));
    let auth = verifier::client_auth(settings).map_err(|problem| report.failed("key", problem));
    for (what, path) in [
        ("key", &settings.key),
        ("shared", &settings.shared_secret),
        ("shared", &settings.shared_password_file),
        ("events", &settings.event_feed_token_file),
        ("events", &settings.event_feed_key),
    ] {
        Report::others_can_read(what, path.as_deref());
    }
    let (issuer, auth) = (issuer.ok()?, auth.ok()?);
    let client_id = auth.client_id().to_owned();
    match verifier::verifier(settings, issuer, auth) {
        Ok(verifier) => Some((verifier, client_id)),
        Err(problem) => {
            report.failed("settings", problem);
            None
        }
    }
}

/// Whether the server could listen, and whether its other settings are valid. A port in use is only a warning: the
/// server itself may already be running.
fn addresses(settings: &Settings, report: &mut Report) {
    let http = (settings.address(), "--port", "--port or --bind");
    let grpc = settings.grpc_address().map(|address| (address, "--grpc-port", "--grpc-port or --bind"));
    let metrics = (settings.metrics_address().0, "--metrics-address", "--metrics-address");
    let mut are_free = true;
    for (address, flag, remedy) in [Some(http), grpc, Some(metrics)].into_iter().flatten() {
        if let Err(problem) = open::listen(address, flag, remedy) {
            are_free = false;
            Report::warned("ports", format_args!("{problem}, unless it is this server that runs already"));
        }
    }
    if are_free {
        Report::ok("ports", "free");
    }
    if let Err(problem) = open::options(settings) {
        report.failed("settings", problem);
    }
}

async fn ask_issuer(verifier: &Verifier, client_id: &str, report: &mut Report) {
    let began = SystemTime::now();
    let theirs = match verifier.issuer_time().await {
        Ok(theirs) => theirs,
        Err(error) => {
            let why = words::explain(&error);
            report.failed("domain", format_args!("{} cannot be reached: {why}", verifier.issuer()));
            return report.skipped("key", "needs an issuer that answers");
        }
    };
    match theirs {
        Some(theirs) => compare_clocks(began..=SystemTime::now(), theirs, report),
        None => Report::ok("clock", "the issuer does not say what time it is"),
    }
    match verifier.check().await {
        Ok(()) => {
            Report::ok(
                "domain",
                format_args!("{} answers, and is the issuer that it names", verifier.issuer()),
            );
            Report::ok("key", format_args!("accepted, for client {client_id}"));
        }
        Err(error @ IssuerError::Refused { .. }) => {
            Report::ok(
                "domain",
                format_args!("{} answers, and is the issuer that it names", verifier.issuer()),
            );
            report.failed("key", format_args!("--key: {}", words::explain(&error)));
        }
        Err(error) => {
            report.failed("domain", format_args!("--domain: {}", words::explain(&error)));
            report.skipped("key", "needs an issuer that answers as one");
        }
    }
}

/// Compares whole seconds, because `Date` has no fractions. `ours` is the time from sending the request to the answer.
fn compare_clocks(ours: RangeInclusive<SystemTime>, theirs: SystemTime, report: &mut Report) {
    let (apart, direction) = match (ours.start().duration_since(theirs), theirs.duration_since(*ours.end())) {
        (Ok(ahead), _) => (ahead, "ahead of"),
        (_, Ok(behind)) => (behind, "behind"),
        (Err(_), Err(_)) => (Duration::ZERO, "as"),
    };
    let seconds = apart.as_secs();
    if apart > CLOCK_TOLERANCE {
        report.failed(
            "clock",
            format_args!(
                "ours is {seconds} s {direction} the issuer's: keys and expiry are judged by it; synchronize it (NTP)"
            ),
        );
    } else {
        Report::ok("clock", "ours and the issuer's agree");
    }
}

/// Prints whose token it is, or why it may be refused. Returns whether the token is active.
async fn explain(verifier: &Verifier, token: &str) -> bool {
    let header = format!("Bearer {token}");
    match verifier.authorize([header.as_bytes()], &Requirement::any_caller()).await {
        Ok(caller) => {
            describe(&caller);
            true
        }
        Err(error) => {
            match error.reason() {
                Reason::Unavailable(cause) => {
                    let cause = words::explain(cause);
                    Report::print(&format!("token   unknown   no verdict from the issuer: {cause}"));
                }
                Reason::InvalidToken(reason) => Report::print(&format!("token   refused   {reason}")),
                reason => Report::print(&format!("token   refused   {reason}")),
            }
            if !matches!(error.reason(), Reason::Unavailable(_)) {
                for suspicion in verifier.suspect(token) {
                    Report::print(&format!("        perhaps   {suspicion}"));
                }
            }
            false
        }
    }
}

fn describe(caller: &Caller) {
    let claims = caller.claims();
    let line = |what: &str, finding: String| Report::print(&format!("        {what:<9} {finding}"));
    Report::print("token   active");
    let name = claims.username().map(|name| format!(" ({name:?})")).unwrap_or_default();
    line("user", format!("{:?}{name}", claims.subject().unwrap_or("unknown")));
    if let Some(actor) = claims.actor() {
        let actor = actor_name(&actor);
        line(
            "ACTOR",
            format!("{actor:?} acts as this user (impersonation, RFC 8693), with the user's roles"),
        );
    }
    if let Some(id) = claims.organization_id() {
        let labels: Vec<_> = [claims.organization_name(), claims.organization_domain()]
            .into_iter()
            .flatten()
            .map(|label| format!("{label:?}"))
            .collect();
        line("of", format!("organization {id:?} ({})", labels.join(", ")));
    }
    if claims.roles().is_empty() {
        line("roles", "none in the project of this API".to_owned());
    }
    for (role, organizations) in claims.roles().iter() {
        for (id, domain) in organizations {
            line("role", format!("{:?} from organization {:?} ({domain:?})", role.as_str(), id.as_str()));
        }
    }
    line(
        "until",
        match claims.expires_at() {
            Some(end) => humantime::format_rfc3339_seconds(end).to_string(),
            None => "it is revoked: it has no end of its own".to_owned(),
        },
    );
}
