//! `setup`: makes in ZITADEL what an API or a reader of events needs.

mod arguments;
mod screen;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;
use zitadel_introspect::{AccessToken, Issuer, Management};
use zitadel_introspect_setup::{Mode, Outcome, SetupError};

pub(crate) use self::arguments::ApiArguments;
pub use self::arguments::EventsArguments;
use self::{arguments::How, screen::Screen};
use crate::{
    exit::BAD_CONFIGURATION,
    shown::shown,
    wiring::{self, OfNetwork},
    words::{in_our_words, with_flag},
};

/// Far more than a token has.
const MOST_BYTES: u64 = 64 * 1024;
/// A pipe without a writer, or a terminal without input, would be waited for without an end.
const PATIENCE: Duration = Duration::from_mins(1);
/// ZITADEL's ids have 18 digits or more.
const SHORTEST_ID: usize = 15;
const REMEDY: &str = "make a personal access token of an administrator in ZITADEL's Console";

/// The instance that is set up, and the way to it.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "programs of this workspace make it")]
pub struct Instance<'s> {
    /// The instance, or why its domain cannot be used.
    pub issuer: Result<Issuer, String>,
    /// The way to it.
    pub network: OfNetwork<'s>,
}

/// A set-up of an API that is complete.
#[derive(Debug)]
pub(crate) struct MadeApi {
    pub(crate) project: String,
    pub(crate) key_file: PathBuf,
}

/// Sets an API up. `None` after a plan, and after a report for programs.
pub(crate) async fn api(
    instance: Instance<'_>,
    project: Option<&str>,
    arguments: &ApiArguments,
) -> Result<Option<MadeApi>, ExitCode> {
    let (how, screen) = (&arguments.how, Screen::new(&arguments.how));
    let run = async || {
        let project = project.ok_or("--project is missing: the name of the project, such as tasks")?;
        check_name(project)?;
        let (setup, zitadel) = (arguments.setup(project), management(&instance, how).await?);
        let mut tell = |step: &_| screen.step(step);
        let outcome = setup.run(&zitadel, how.mode(), &mut tell).await.map_err(|error| told(&error))?;
        Ok::<_, String>((setup, zitadel, outcome))
    };
    let (setup, zitadel, outcome) = run().await.map_err(|problem| screen.fail(&problem))?;
    screen.end(&outcome, None);
    if !how.is_complete(&outcome) {
        return Err(ExitCode::from(BAD_CONFIGURATION));
    }
    if how.dry_run || how.json {
        return Ok(None);
    }
    let project = outcome.id_of("project").unwrap_or_default().to_owned();
    screen::how_to_start(&instance.network, zitadel.issuer(), &project, arguments, &setup);
    Ok(Some(MadeApi { project, key_file: arguments.key_file.clone() }))
}

/// A server takes the id of its project by the same setting, perhaps from the environment.
fn check_name(project: &str) -> Result<(), String> {
    if project.len() < SHORTEST_ID || !project.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err("--project: this is an id; for a set-up give the name of the project, such as tasks".to_owned())
}

/// Sets up who reads events, and the target of webhooks.
pub async fn events(instance: Instance<'_>, arguments: &EventsArguments) -> ExitCode {
    let screen = Screen::new(&arguments.how);
    match try_events(&instance, arguments, &screen).await {
        Ok(code) => code,
        Err(problem) => screen.fail(&problem),
    }
}

async fn try_events(
    instance: &Instance<'_>,
    arguments: &EventsArguments,
    screen: &Screen,
) -> Result<ExitCode, String> {
    let how = &arguments.how;
    let (feed, webhook, proof) = (arguments.feed(), arguments.webhook()?, arguments.proof()?);
    if feed.is_none() && webhook.is_none() && proof.is_none() {
        return Err("nothing to do: give --feed, --url or --prove".to_owned());
    }
    let zitadel = management(instance, how).await?;
    let mut all = Outcome::default();
    let mut tell = |step: &_| screen.step(step);
    if let Some(feed) = &feed {
        let outcome = if arguments.remove {
            feed.remove(&zitadel, how.mode(), &mut tell).await
        } else {
            feed.run(&zitadel, how.mode(), &mut tell).await
        };
        all.add(outcome.map_err(|error| told(&error))?);
    }
    if let Some(webhook) = &webhook {
        let outcome = if arguments.remove {
            webhook.remove(&zitadel, how.mode(), &mut tell).await
        } else {
            webhook.run(&zitadel, how.mode(), &mut tell).await
        };
        all.add(outcome.map_err(|error| told(&error))?);
    }
    let proven = match proof.filter(|_| !how.dry_run) {
        Some(proof) => Some(proof.run(&zitadel).await.map_err(|error| told(&error))?),
        None => None,
    };
    screen.end(&all, proven);
    if !how.is_complete(&all) {
        return Ok(ExitCode::from(BAD_CONFIGURATION));
    }
    if !how.dry_run && !arguments.remove {
        screen.how_to_follow(arguments);
    }
    Ok(ExitCode::SUCCESS)
}

impl How {
    fn mode(&self) -> Mode {
        let mode = if self.dry_run { Mode::plan() } else { Mode::apply() };
        mode.updating(self.update)
    }

    /// Whether all is as it was asked for; a plan always is.
    fn is_complete(&self, outcome: &Outcome) -> bool {
        self.dry_run || !outcome.leaves_differences()
    }
}

async fn management(instance: &Instance<'_>, how: &How) -> Result<Management, String> {
    let issuer = instance.issuer.clone()?;
    let token = administrator(&how.admin_token_file).await?;
    let builder = wiring::network(Management::builder(issuer, token), &instance.network)?;
    builder.build().map_err(|error| with_flag(&error))
}

/// The token of the administrator, from a file or a pipe. It is never kept.
async fn administrator(path: &Path) -> Result<AccessToken, String> {
    let (sender, read) = oneshot::channel();
    let file = path.to_owned();
    // A thread of its own: the process can end while it still waits for a pipe.
    thread::spawn(move || sender.send(read_text(&file)));
    let flag = "--admin-token-file";
    let read = tokio::time::timeout(PATIENCE, read).await.ok().and_then(Result::ok);
    let text = read.ok_or_else(|| format!("{flag}: there was no token within 60 s"))?.map_err(|error| {
        format!("{flag}: {} cannot be read ({error}); check path and rights", shown(path))
    })?;
    let text = text.expose_secret().trim();
    text.parse().map_err(|_| format!("{flag}: {} holds no token; {REMEDY}", shown(path)))
}

fn read_text(path: &Path) -> std::io::Result<SecretString> {
    let mut text = String::new();
    File::open(path)?.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(SecretString::from(text))
}

/// An error, with the names of our flags, and a word on the next run.
fn told(error: &SetupError) -> String {
    let text = match error {
        SetupError::Config(error) => with_flag(error),
        other => in_our_words(&other.to_string()),
    };
    if error.is_worth_another_run() {
        format!("{text}; what was made stays, and the same command goes on from there")
    } else {
        text
    }
}
