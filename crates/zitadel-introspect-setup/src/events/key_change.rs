//! The change of a signing key, in two halves.

use secrecy::{ExposeSecret, SecretString};

use crate::{
    error::SetupError,
    events::{
        calls::{Target, remove_target, set_all},
        executions::Executions,
        webhook::{WRITE_TARGET, WebhookSetup},
    },
    run::Run,
    secret_file,
    step::{Sign, Step},
};

impl WebhookSetup {
    /// The first half of a change of keys: the servers learn the new key before ZITADEL signs with it.
    pub(super) async fn prepare(&self, run: &mut Run<'_>, called: &Target) -> Result<(), SetupError> {
        let name = self.names().into_iter().find(|name| *name != called.name).unwrap_or_default();
        let step = Step::new("target", &*name).detail("waits with a new signing key; nothing calls it yet");
        if !run.may_create(&step, WRITE_TARGET) {
            return Ok(());
        }
        let waiting = self.create(run.zitadel, &name).await?;
        run.record(step.id(&waiting.id).is(Sign::Create, true));
        self.add_key(run, &waiting)
    }

    /// The second half: ZITADEL signs with the new key, and the old one is removed.
    pub(super) async fn change_over(
        &self,
        run: &mut Run<'_>,
        called: &Target,
        waiting: &Target,
        found: &Executions,
    ) -> Result<(), SetupError> {
        let keys = secret_file::look(&self.signing_keys)?.unwrap_or_default();
        let has =
            |key: &SecretString| keys.expose_secret().lines().any(|line| line.trim() == key.expose_secret());
        if !has(&waiting.signing_key) {
            // The first half was stopped before the file was written.
            let step = Step::new("signing key", self.signing_keys.display().to_string());
            return if run.may_create(&step, WRITE_TARGET) { self.add_key(run, waiting) } else { Ok(()) };
        }
        set_all(run, found.moved(&called.id, &waiting.id), Sign::Change).await?;
        remove_target(run, called).await?;
        if run.applies() && has(&called.signing_key) {
            let is_old = |line: &&str| line.trim() == called.signing_key.expose_secret();
            let rest: String = keys
                .expose_secret()
                .lines()
                .filter(|line| !is_old(line))
                .fold(String::new(), |text, line| format!("{text}{line}\n"));
            secret_file::replace(&self.signing_keys, &rest)?;
        }
        Ok(())
    }

    fn add_key(&self, run: &mut Run<'_>, target: &Target) -> Result<(), SetupError> {
        let before = secret_file::look(&self.signing_keys)?;
        let key = target.signing_key.expose_secret();
        match before {
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
