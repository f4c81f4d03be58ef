//! A service user that may read ZITADEL's events, and its key.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use zitadel_introspect::{Management, RefusalKind};

use crate::{
    answer::{Doing, all, list},
    api::check_user_name,
    error::SetupError,
    rights::{Administrator, Needs},
    run::{Mode, Outcome, Run, perform},
    secret::SecretFile,
    step::{Sign, Step},
    user,
};

/// The least role that may read events.
const VIEWER: &str = "IAM_OWNER_VIEWER";
const READS: [&str; 3] = ["user.read", "iam.member.read", "events.read"];
const WRITE_MEMBER: &str = "iam.member.write";

/// A service user that may read ZITADEL's events: what an event feed or a relay needs.
///
/// Its role, `IAM_OWNER_VIEWER`, is the least that ZITADEL has for this, and it is powerful: it reads every event, with the
/// hashes of passwords, and the signing keys of all targets. The administrator needs the role `IAM_OWNER`.
#[derive(Debug, Clone)]
pub struct FeedSetup {
    organization: Option<String>,
    user: String,
    key_file: PathBuf,
    key_lifetime: Option<Duration>,
}

impl FeedSetup {
    /// A service user of this name, whose key goes to a new file.
    #[must_use]
    pub fn new(user: impl Into<String>, key_file: impl Into<PathBuf>) -> Self {
        Self { organization: None, user: user.into(), key_file: key_file.into(), key_lifetime: None }
    }

    /// The organization of the service user, by its id or its name; the administrator's own unless set.
    #[must_use]
    pub fn organization(mut self, organization: impl Into<String>) -> Self {
        self.organization = Some(organization.into());
        self
    }

    /// How long a new key lives; without an end unless set.
    #[must_use]
    pub fn key_lifetime(mut self, lifetime: Duration) -> Self {
        self.key_lifetime = Some(lifetime);
        self
    }

    /// Looks for user, role and key, and makes what is missing where the mode says so.
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
        self.key().check("key_file", "key_lifetime")?;
        let administrator = self.administrator(zitadel).await?;
        let organization = &administrator.organization;
        let go = async |run: &mut Run<'_>| {
            let file = self.key();
            let reader = user::ensure(run, organization, &self.user, file.is_begun()).await?;
            ensure_role(run, reader.as_deref(), &self.user).await?;
            user::ensure_key(run, reader.as_deref(), &file).await
        };
        perform(zitadel, mode, (&administrator, Needs::InstanceOwner), tell, go).await
    }

    /// Removes the service user, with its role and its keys. The file with the key stays.
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
        let administrator = self.administrator(zitadel).await?;
        let organization = &administrator.organization;
        let go = async |run: &mut Run<'_>| {
            let Some(id) = user::find(zitadel, organization, &self.user).await? else { return Ok(()) };
            let held = roles(zitadel, &id).await?.unwrap_or_default();
            if !held.iter().any(|role| role == VIEWER) {
                let problem = "does not have the role IAM_OWNER_VIEWER, so this set-up has not made it";
                let remedy = "name the service user that reads events";
                return Err(SetupError::conflict("service user", &self.user, problem, remedy));
            }
            let step = Step::new("service user", &*self.user).id(&id);
            if run.may_remove(&step, "user.delete") {
                user::delete(zitadel, &id).await?;
                run.record(step.is(Sign::Remove, true));
            }
            Ok(())
        };
        perform(zitadel, mode, (&administrator, Needs::InstanceOwner), tell, go).await
    }

    fn key(&self) -> SecretFile<'_> {
        SecretFile { path: &self.key_file, lifetime: self.key_lifetime }
    }

    async fn administrator(&self, zitadel: &Management) -> Result<Administrator, SetupError> {
        check_user_name("user", &self.user)?;
        let administrator = Administrator::ask(zitadel, self.organization.as_deref()).await?;
        administrator.check(READS, Needs::InstanceOwner)?;
        Ok(administrator)
    }
}

async fn ensure_role(run: &mut Run<'_>, reader: Option<&str>, name: &str) -> Result<(), SetupError> {
    let zitadel = run.zitadel;
    let step = Step::new("instance role", name).detail(VIEWER);
    let held = match reader {
        Some(reader) => roles(zitadel, reader).await?,
        None => None,
    };
    let (method, roles, doing) = match held {
        Some(roles) if roles.iter().any(|role| role == VIEWER || role == "IAM_OWNER") => {
            run.record(step.is(Sign::Same, true));
            return Ok(());
        }
        Some(mut roles) => {
            roles.push(VIEWER.to_owned());
            ("UpdateAdministrator", roles, run.may_change(&step, WRITE_MEMBER))
        }
        None => ("CreateAdministrator", vec![VIEWER.to_owned()], run.may_create(&step, WRITE_MEMBER)),
    };
    if !doing {
        return Ok(());
    }
    let request = json!({"userId": reader, "resource": {"instance": true}, "roles": roles});
    let method = format!("internal_permission.v2.InternalPermissionService/{method}");
    let sign = match zitadel.call(&method, &request).await.doing("giving the right to read events") {
        // The list has lagged behind.
        Err(error) if error.is(RefusalKind::AlreadyExists) => Sign::Same,
        done => {
            done?;
            if roles.len() > 1 { Sign::Change } else { Sign::Create }
        }
    };
    run.record(step.is(sign, true));
    Ok(())
}

/// The roles of a user in the instance; `None` if it has none.
async fn roles(zitadel: &Management, user: &str) -> Result<Option<Vec<String>>, SetupError> {
    let request = json!({"filters": [{"inUserIdsFilter": {"ids": [user]}}]});
    let method = "internal_permission.v2.InternalPermissionService/ListAdministrators";
    let doing = "looking for the roles of the service user";
    let found = all(zitadel, method, request, "administrators", doing).await?;
    let of_instance = found.iter().find(|found| found["instance"] == true);
    let texts = |found: &Value| {
        list(found, "roles").iter().filter_map(|role| role.as_str().map(str::to_owned)).collect()
    };
    Ok(of_instance.map(texts))
}
