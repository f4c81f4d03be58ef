//! A secret that ZITADEL shows once, and the file that keeps it.

use std::{path::Path, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use zitadel_introspect::ConfigError;

use crate::{
    error::SetupError,
    expiry,
    run::Run,
    secret_file::{self, Pending},
    step::{Sign, Step},
};

const SHORTEST_LIFETIME: Duration = Duration::from_secs(60);

/// Where a secret goes, and how long it lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretFile<'f> {
    pub(crate) path: &'f Path,
    /// `None` for no end.
    pub(crate) lifetime: Option<Duration>,
}

impl SecretFile<'_> {
    /// Checks file and lifetime before anything is asked.
    pub(crate) fn check(&self, field: &'static str, of_lifetime: &'static str) -> Result<(), ConfigError> {
        secret_file::check_folder(field, self.path)?;
        if self.lifetime.is_some_and(|lifetime| lifetime < SHORTEST_LIFETIME) {
            let problem = "is shorter than a minute".to_owned();
            return Err(ConfigError::invalid(of_lifetime, problem, "give a longer one, such as 90d"));
        }
        Ok(())
    }

    /// The file is there, or a run was stopped while it asked for the secret.
    pub(crate) fn is_begun(&self) -> bool {
        secret_file::is_begun(self.path)
    }
}

/// The state of a secret that stands in a file.
pub(crate) enum State {
    /// It is what is needed, and ZITADEL knows it.
    Good { id: String },
    /// It is something else; and what it is not.
    Foreign(&'static str),
    /// ZITADEL knows it no more.
    Dead,
}

pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) text: SecretString,
}

/// A secret, and the calls that look after it. Each new one has an end of its own, by which it is found again.
pub(crate) struct Secret<C, R, M> {
    pub(crate) step: Step,
    pub(crate) right: &'static str,
    /// Checks the text of the file.
    pub(crate) check: C,
    /// Removes the secret with this end, if ZITADEL has made it.
    pub(crate) remove_lost: R,
    /// Makes a secret with this end.
    pub(crate) make: M,
}

impl<C, R, M> Secret<C, R, M>
where
    C: AsyncFn(&str) -> Result<State, SetupError>,
    R: AsyncFn(&str) -> Result<(), SetupError>,
    M: AsyncFn(&str) -> Result<Made, SetupError>,
{
    /// The secret that the file has, or a new one. A file is never overwritten.
    pub(crate) async fn ensure(self, run: &mut Run<'_>, file: &SecretFile<'_>) -> Result<(), SetupError> {
        if let Some(text) = secret_file::look(file.path)? {
            let id = self.good(file.path, text.expose_secret().trim()).await?;
            if run.applies() {
                secret_file::tidy(file.path);
            }
            run.record(self.step.id(&id).is(Sign::Same, true));
            return Ok(());
        }
        if !run.may_create(&self.step, self.right) {
            return Ok(());
        }
        let (mut pending, lost) = Pending::open(file.path)?;
        if let Some(lost) = lost {
            (self.remove_lost)(&lost).await?;
        }
        let end = expiry::end(file.lifetime);
        pending.mark(&end)?;
        let made = (self.make)(&end).await?;
        pending.finish(made.text.expose_secret())?;
        run.record(self.step.id(&made.id).is(Sign::Create, true));
        Ok(())
    }

    async fn good(&self, path: &Path, text: &str) -> Result<String, SetupError> {
        let problem = match (self.check)(text).await? {
            State::Good { id } => return Ok(id),
            State::Foreign(problem) => problem,
            State::Dead => "holds a secret that was removed from ZITADEL or has expired",
        };
        let remedy = "move the file away and run this again: a new secret is then made";
        Err(SetupError::conflict("file", &path.display().to_string(), problem, remedy))
    }
}
