//! `task-api check`: checks everything that a start depends on, and explains what is wrong.

use std::{
    fmt::Display,
    fs,
    io::{self, Write},
    ops::RangeInclusive,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use zitadel_introspect::{Caller, IssuerError, Reason, Requirement, Verifier};

use crate::{
    exit::BAD_CONFIGURATION, observe::actor_name, open, settings::Settings, shown::shown, store, verifier,
    words,
};

/// ZITADEL refuses a client assertion that is two seconds ahead; ours is dated a few seconds back.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(4);
/// The token is inactive, or its state is unknown; all other checks passed.
const NOT_ACTIVE: u8 = 1;
/// The time for the first reads of the shared store.
const SHARED_PATIENCE: Duration = Duration::from_secs(3);
/// The time for the first poll of the event feed.
const FEED_PATIENCE: Duration = Duration::from_secs(5);

/// What was found out so far.
#[derive(Debug, Default)]
struct Report {
    has_failed: bool,
}

fn ok(what: &str, finding: impl Display) {
    print(&format!("ok      {what:<9} {finding}"));
}

fn print(line: &str) {
    // A closed standard output does not stop the check: the exit status reports the result as well.
    let _ = writeln!(io::stdout(), "{line}");
}

impl Report {
    fn failed(&mut self, what: &str, problem: impl Display) {
        self.has_failed = true;
        print(&format!("FAILED  {what:<9} {problem}"));
    }

    fn warned(what: &str, problem: impl Display) {
        print(&format!("warning {what:<9} {problem}"));
    }

    fn skipped(&mut self, what: &str, why: &str) {
        self.has_failed = true;
        print(&format!("skipped {what:<9} {why}"));
    }
}

/// Checks the settings, and explains the token in the file.
pub(crate) async fn run(settings: &Settings, token_file: Option<&Path>) -> ExitCode {
    let mut report = Report::default();
    let ours = credentials(settings, &mut report);
    if let Some((verifier, client_id)) = &ours {
        ask_issuer(verifier, client_id, &mut report).await;
        reach_shared(verifier, &mut report).await;
        read_events(verifier, &mut report).await;
    } else {
        report.skipped("issuer", "needs a domain and a key");
    }
    addresses(settings, &mut report);
    match store::probe(settings.database(), settings.database_password_file.as_deref()).await {
        Ok(finding) => ok("database", finding),
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
    match (report.has_failed, is_active) {
        (true, _) => ExitCode::from(BAD_CONFIGURATION),
        (false, false) => ExitCode::from(NOT_ACTIVE),
        (false, true) => ExitCode::SUCCESS,
    }
}

/// A verifier and its client id, if domain and key are valid.
fn credentials(settings: &Settings, report: &mut Report) -> Option<(Verifier, String)> {
    let issuer = verifier::issuer(settings).map_err(|problem| report.failed("domain", problem));
    let auth = verifier::client_auth(settings).map_err(|problem| report.failed("key", problem));
    others_can_read(settings.key.as_deref());
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

#[cfg(unix)]
fn others_can_read(key: Option<&Path>) {
    use std::os::unix::fs::PermissionsExt;
    let Some(path) = key else { return };
    let can = |metadata: fs::Metadata| metadata.is_file() && metadata.permissions().mode() & 0o077 != 0;
    if fs::metadata(path).is_ok_and(can) {
        Report::warned("key", format_args!("others can read {}; set its mode to 0600", shown(path)));
    }
}

#[cfg(not(unix))]
fn others_can_read(_key: Option<&Path>) {}

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
        ok("ports", "free");
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
        None => ok("clock", "the issuer does not say what time it is"),
    }
    match verifier.check().await {
        Ok(()) => {
            ok("domain", format_args!("{} answers, and is the issuer that it names", verifier.issuer()));
            ok("key", format_args!("accepted, for client {client_id}"));
        }
        Err(error @ IssuerError::Refused { .. }) => {
            ok("domain", format_args!("{} answers, and is the issuer that it names", verifier.issuer()));
            report.failed("key", format_args!("--key: {}", words::explain(&error)));
        }
        Err(error) => {
            report.failed("domain", format_args!("--domain: {}", words::explain(&error)));
            report.skipped("key", "needs an issuer that answers as one");
        }
    }
}

/// Whether the shared store can be reached and read, and what an operator should change about it.
async fn reach_shared(verifier: &Verifier, report: &mut Report) {
    let advice = match verifier.check_shared().await {
        Ok(None) => return,
        Ok(Some(advice)) => advice,
        Err(error) => return report.failed("shared", format_args!("--shared: {error}")),
    };
    let began = Instant::now();
    let status = loop {
        let Some(status) = verifier.shared() else { return };
        if !status.is_blind || status.is_unopened || began.elapsed() > SHARED_PATIENCE {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    if status.is_unopened {
        report.failed("shared", "--shared-secret: the newest entry of the log is sealed with another secret");
    } else if status.is_blind {
        let why =
            status.failure.map_or_else(|| "it cannot be read in time".to_owned(), |error| error.to_string());
        report.failed("shared", format_args!("--shared: {why}"));
    } else if status.clocks_differ {
        report.failed(
            "shared",
            "our clock is more than a second away from the server's; synchronize both (NTP)",
        );
    } else {
        ok("shared", "reached, read to its end, and its clock agrees with ours");
    }
    for advice in advice {
        Report::warned("shared", advice);
    }
}

/// Whether the event feed can be read, and how far away its newest event is.
async fn read_events(verifier: &Verifier, report: &mut Report) {
    let Some(mut status) = verifier.event_feed() else { return };
    let began = Instant::now();
    while status.age.is_none() && status.failure.is_none() && began.elapsed() < FEED_PATIENCE {
        tokio::time::sleep(Duration::from_millis(50)).await;
        status = verifier.event_feed().unwrap_or(status);
    }
    match (status.failure, status.newest_event) {
        (Some(failure), _) => {
            report.failed("events", words::in_our_words(&failure.to_string()));
        }
        (None, Some(newest)) => {
            let ago = SystemTime::now().duration_since(newest).unwrap_or_default();
            let ago = humantime::format_duration(Duration::from_secs(ago.as_secs()));
            ok("events", format_args!("can be read; the newest one is {ago} old"));
        }
        (None, None) if status.age.is_some() => ok("events", "read by another instance"),
        (None, None) => report.failed("events", "there was no answer in time"),
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
        ok("clock", "ours and the issuer's agree");
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
                    print(&format!("token   unknown   no verdict from the issuer: {cause}"));
                }
                Reason::InvalidToken(reason) => print(&format!("token   refused   {reason}")),
                reason => print(&format!("token   refused   {reason}")),
            }
            if !matches!(error.reason(), Reason::Unavailable(_)) {
                for suspicion in verifier.suspect(token) {
                    print(&format!("        perhaps   {suspicion}"));
                }
            }
            false
        }
    }
}

fn describe(caller: &Caller) {
    let claims = caller.claims();
    let line = |what: &str, finding: String| print(&format!("        {what:<9} {finding}"));
    print("token   active");
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
