//! The target of ZITADEL's webhooks, its signing key, and its executions.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::Url;
use zitadel_introspect::{ConfigError, EventTarget, Management, RefusalKind};

use crate::{
    answer::{Doing, address, text},
    error::SetupError,
    events::{
        calls::{Target, executions, remove_target, set, set_all, targets},
        executions::{Executions, On},
    },
    rights::{Administrator, Needs},
    run::{Mode, Outcome, Run, SURELY, perform, shown},
    secret_file,
    step::{Sign, Step},
};

/// ZITADEL waits for an answer; a longer wait would hold up the events behind it.
const TIMEOUT: &str = "2s";
pub(super) const WRITE_TARGET: &str = "action.target.write";
const READS: [&str; 2] = ["action.target.read", "action.execution.read"];

/// A target for ZITADEL's webhooks, with one execution for each event that ends or narrows verdicts.
///
/// ZITADEL calls the targets of the best matching condition alone. So targets that other programs have set on the same
/// event, on a group of events or on all events are called as before: those that our execution would silence are copied into
/// it. The administrator needs the role `IAM_OWNER`.
#[derive(Debug, Clone)]
pub struct WebhookSetup {
    name: String,
    url: Url,
    pub(super) signing_keys: PathBuf,
    changes_key: bool,
}

/// The targets of this set-up: the one that is called, and a newer one that waits while the key is changed.
#[derive(Default)]
struct Pair {
    called: Option<Target>,
    waiting: Option<Target>,
}

impl WebhookSetup {
    /// A target of this name that posts to `url`. Its signing key goes to a file, one key in a line.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `url` is no address of http or https.
    pub fn new(
        name: impl Into<String>,
        url: &str,
        signing_keys: impl Into<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let url = address("url", url, "give the address of the server with the path `/zitadel/events`")?;
        Ok(Self { name: name.into(), url, signing_keys: signing_keys.into(), changes_key: false })
    }

    /// Changes the signing key, in two runs: the first one makes a second target that nothing calls yet and adds its key to
    /// the file; when the servers have read the file, the second one lets ZITADEL call that target and removes the other.
    /// So no webhook is ever signed with a key that the servers do not have.
    #[must_use]
    pub fn change_key(mut self) -> Self {
        self.changes_key = true;
        self
    }

    /// Looks for target, key and executions, and makes what is missing where the mode says so.
    ///
    /// # Errors
    ///
    /// As [`ApiSetup::run`](crate::ApiSetup::run).
    pub async fn run(
        &self,
        zitadel: &Management,
        mode: Mode,
        tell: &mut (dyn FnMut(&Step) + Send),
    ) -> Result<Outcome, SetupError> {
        secret_file::check_folder("signing_keys", &self.signing_keys)?;
        let administrator = administrator(zitadel).await?;
        let go = async |run: &mut Run<'_>| self.go(run).await;
        let mut outcome = perform(zitadel, mode, (&administrator, Needs::InstanceOwner), tell, go).await?;
        outcome.warnings.extend(self.warnings(zitadel).await?);
        Ok(outcome)
    }

    /// Takes the target out of all executions, and removes it. The file with the key stays.
    ///
    /// # Errors
    ///
    /// As [`ApiSetup::run`](crate::ApiSetup::run).
    pub async fn remove(
        &self,
        zitadel: &Management,
        mode: Mode,
        tell: &mut (dyn FnMut(&Step) + Send),
    ) -> Result<Outcome, SetupError> {
        let administrator = administrator(zitadel).await?;
        let go = async |run: &mut Run<'_>| {
            let pair = self.pair(zitadel, &executions(zitadel).await?).await?;
            for target in [pair.called, pair.waiting].into_iter().flatten() {
                let rest = executions(zitadel).await?.without(&target.id);
                set_all(run, rest, Sign::Remove).await?;
                remove_target(run, &target).await?;
            }
            Ok(())
        };
        perform(zitadel, mode, (&administrator, Needs::InstanceOwner), tell, go).await
    }

    async fn go(&self, run: &mut Run<'_>) -> Result<(), SetupError> {
        let found = executions(run.zitadel).await?;
        let pair = self.pair(run.zitadel, &found).await?;
        if self.changes_key
            && let Some(called) = pair.called
        {
            return match pair.waiting {
                None => self.prepare(run, &called).await,
                Some(waiting) => self.change_over(run, &called, &waiting, &found).await,
            };
        }
        let target = self.ensure_target(run, pair.called).await?;
        if !self.ensure_key(run, target.as_ref())? {
            // ZITADEL would sign with a key that the servers do not have.
            return Ok(());
        }
        for event in EventTarget::event_types() {
            let ours = target.as_ref().map_or("", |target| &target.id);
            let on = On::Event(event.to_owned());
            match found.with(event, ours) {
                None => run.record(Step::new("execution", event).is(Sign::Same, true)),
                Some(targets) => set(run, &on, &targets, Sign::Create).await?,
            }
        }
        Ok(())
    }

    async fn ensure_target(
        &self,
        run: &mut Run<'_>,
        found: Option<Target>,
    ) -> Result<Option<Target>, SetupError> {
        let step = Step::new("target", &*self.name).detail(self.url.as_str());
        let Some(mut target) = found else {
            if !run.may_create(&step, WRITE_TARGET) {
                return Ok(None);
            }
            let target = self.create(run.zitadel, &self.name).await?;
            run.record(step.id(&target.id).is(Sign::Create, true));
            return Ok(Some(target));
        };
        let step = step.id(&target.id);
        if target.endpoint == self.url.as_str() {
            run.record(step.is(Sign::Same, true));
            return Ok(Some(target));
        }
        let step = step.detail(format!("{} instead of {}", self.url, target.endpoint));
        if run.may_change(&step, WRITE_TARGET) {
            let request = json!({"id": target.id, "endpoint": self.url.as_str()});
            let changed = run.zitadel.call("action.v2.ActionService/UpdateTarget", &request).await;
            changed.doing("changing the address of the target")?;
            self.url.as_str().clone_into(&mut target.endpoint);
            run.record(step.is(Sign::Change, true));
        }
        Ok(Some(target))
    }

    pub(super) async fn create(&self, zitadel: &Management, name: &str) -> Result<Target, SetupError> {
        let doing = format!(
            "making the target {name:?} (newer versions of ZITADEL refuse an address of a private network, and one that they \
            cannot resolve)"
        );
        let request = json!({
            "name": name,
            "endpoint": self.url.as_str(),
            "timeout": TIMEOUT,
            // In sequence and without an effect on the change itself.
            "restWebhook": {"interruptOnError": false},
        });
        let made = zitadel.call("action.v2.ActionService/CreateTarget", &request).await.doing(&*doing);
        if made.as_ref().is_err_and(|error| error.is(RefusalKind::AlreadyExists)) {
            // The list has lagged behind.
            let find = async || Ok(targets(zitadel).await?.into_iter().find(|target| target.name == name));
            let hidden = || SetupError::Hidden { what: "target", name: name.to_owned() };
            return shown(find, SURELY).await?.ok_or_else(hidden);
        }
        let answer = made?;
        Ok(Target {
            id: text(&answer, "id", &doing)?,
            name: name.to_owned(),
            endpoint: self.url.as_str().to_owned(),
            signing_key: SecretString::from(text(&answer, "signingKey", &doing)?),
        })
    }

    /// The key of the target, in the file. ZITADEL shows it again, so no answer is ever lost. False if a file that is there
    /// lacks it and stays as it is.
    fn ensure_key(&self, run: &mut Run<'_>, target: Option<&Target>) -> Result<bool, SetupError> {
        let step = Step::new("signing key", self.signing_keys.display().to_string()).file(&self.signing_keys);
        let Some(text) = secret_file::look(&self.signing_keys)? else {
            if run.may_create(&step, WRITE_TARGET)
                && let Some(target) = target
            {
                let line = format!("{}\n", target.signing_key.expose_secret());
                secret_file::create(&self.signing_keys, &line)?;
                run.record(step.is(Sign::Create, true));
            }
            return Ok(true);
        };
        if target.is_some_and(|target| place(&text, target).is_some()) {
            run.record(step.is(Sign::Same, true));
            return Ok(true);
        }
        let step = step.detail("lacks the key of the target");
        if run.may_change(&step, WRITE_TARGET)
            && let Some(target) = target
        {
            let (text, key) = (text.expose_secret().trim_end(), target.signing_key.expose_secret());
            secret_file::replace(&self.signing_keys, &format!("{text}\n{key}\n"))?;
            run.record(step.is(Sign::Change, true));
            return Ok(true);
        }
        Ok(run.updates())
    }

    /// The names of the two targets.
    pub(super) fn names(&self) -> [String; 2] {
        [self.name.clone(), format!("{}-2", self.name)]
    }

    async fn pair(&self, zitadel: &Management, found: &Executions) -> Result<Pair, SetupError> {
        let names = self.names();
        let mut ours = targets(zitadel).await?;
        ours.retain(|target| names.contains(&target.name));
        // The file has the keys in the order in which they came. Without it, the target that is called counts.
        let keys = secret_file::look(&self.signing_keys)?.unwrap_or_default();
        let place = |target: &Target| place(&keys, target).unwrap_or(usize::MAX);
        ours.sort_by_key(|target| (place(target), usize::MAX - found.count(&target.id), target.name.len()));
        let mut ours = ours.into_iter();
        Ok(Pair { called: ours.next(), waiting: ours.next() })
    }

    async fn warnings(&self, zitadel: &Management) -> Result<Vec<String>, SetupError> {
        let mut warnings = Vec::new();
        if self.url.scheme() == "http"
            && !matches!(self.url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
        {
            warnings
                .push(format!("{} is plain http: others on the way can read which users change", self.url));
        }
        if self.changes_key {
            return Ok(warnings);
        }
        let pair = self.pair(zitadel, &executions(zitadel).await?).await?;
        let keys = secret_file::look(&self.signing_keys)?.unwrap_or_default();
        if pair.waiting.is_some_and(|waiting| place(&keys, &waiting).is_some()) {
            warnings.push(
                "a new signing key waits: when the servers have read the file, run this with the change of the key once more"
                    .to_owned(),
            );
        }
        Ok(warnings)
    }
}

/// The line of a file that has the key of a target.
pub(super) fn place(keys: &SecretString, target: &Target) -> Option<usize> {
    keys.expose_secret().lines().position(|line| line.trim() == target.signing_key.expose_secret())
}

async fn administrator(zitadel: &Management) -> Result<Administrator, SetupError> {
    let administrator = Administrator::ask(zitadel, None).await?;
    administrator.check(READS, Needs::InstanceOwner)?;
    Ok(administrator)
}
