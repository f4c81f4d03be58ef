//! The change of a signing key, in two halves. Each half can be stopped at any call and run again.

use secrecy::{ExposeSecret, SecretString};

use crate::{
    error::SetupError,
    events::{
        calls::{Target, remove_target, set_all},
        executions::Executions,
        webhook::{WRITE_TARGET, WebhookSetup, place},
    },
    run::Run,
    secret_file,
    step::{Sign, Step},
};

impl WebhookSetup {
    /// The first half of a change of keys: the servers learn the new key before ZITADEL signs with it.
    pub(super) async fn prepare(&self, run: &mut Run<'_>, called: &Target) -> Result<(), SetupError> {
        let keys = secret_file::look(&self.signing_keys)?.unwrap_or_default();
        if place(&keys, called).is_none() {
            let remedy = "run this without the change of the key first, with the file that the servers read";
            let name = self.signing_keys.display().to_string();
            return Err(SetupError::conflict("file", &name, "does not have the key of the target", remedy));
        }
        let name = self.names().into_iter().find(|name| *name != called.name).unwrap_or_default();
        let step = Step::new("target", &*name).detail("waits with a new signing key; nothing calls it yet");
        if !run.may_create(&step, WRITE_TARGET) {
            return Ok(());
        }
        let waiting = self.create(run.zitadel, &name).await?;
        run.record(step.id(&waiting.id).is(Sign::Create, true));
        self.add_key(run, &waiting)
    }

    /// The second half: ZITADEL signs with the new key, and the old one is removed. The old target goes last, so that the
    /// order of the keys in the file tells to the end which one is old.
    pub(super) async fn change_over(
        &self,
        run: &mut Run<'_>,
        old: &Target,
        new: &Target,
        found: &Executions,
    ) -> Result<(), SetupError> {
        let keys = secret_file::look(&self.signing_keys)?.unwrap_or_default();
        if place(&keys, new).is_none() && found.count(&new.id) == 0 {
            // Left by a half that was stopped: no server has its key, and nothing calls it.
            return remove_target(run, new).await;
        }
        if place(&keys, new).is_none() {
            let step = Step::new("signing key", self.signing_keys.display().to_string());
            return if run.may_create(&step, WRITE_TARGET) { self.add_key(run, new) } else { Ok(()) };
        }
        set_all(run, found.moved(&old.id, &new.id), Sign::Change).await?;
        if run.applies() && place(&keys, old).is_some() {
            secret_file::replace(&self.signing_keys, &without(&keys, old))?;
        }
        remove_target(run, old).await
    }

    fn add_key(&self, run: &mut Run<'_>, target: &Target) -> Result<(), SetupError> {
        let key = target.signing_key.expose_secret();
        match secret_file::look(&self.signing_keys)? {
            Some(text) => {
                let text = text.expose_secret().trim_end();
                secret_file::replace(&self.signing_keys, &format!("{text}\n{key}\n"))?;
            }
            None => secret_file::create(&self.signing_keys, &format!("{key}\n"))?,
        }
        let step = Step::new("signing key", self.signing_keys.display().to_string()).file(&self.signing_keys);
        let detail = "has the old key and the new one: restart the servers, then run this once more";
        run.record(step.detail(detail).is(Sign::Create, true));
        Ok(())
    }
}

/// The lines of a file without the key of a target.
fn without(keys: &SecretString, target: &Target) -> String {
    let key = target.signing_key.expose_secret();
    let rest = keys.expose_secret().lines().filter(|line| line.trim() != key);
    rest.fold(String::new(), |text, line| text + line + "\n")
}
