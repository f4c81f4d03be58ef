//! Authorizations: the roles of a user on the project.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use zitadel_introspect::{Management, RefusalKind};

use crate::{
    answer::{Doing, all, at, list, text},
    error::SetupError,
    organization::Organization,
    run::{Run, SURELY, shown},
    step::{Sign, Step},
};

pub(crate) const READS: [&str; 1] = ["user.grant.read"];
const WRITE: &str = "user.grant.write";

/// The roles that a user is to have.
pub(crate) struct Wanted<'w> {
    pub(crate) organization: &'w Organization,
    /// `None` for a project that is not made yet.
    pub(crate) project: Option<&'w str>,
    /// `None` for a user who is not made yet.
    pub(crate) user: Option<&'w str>,
    pub(crate) name: &'w str,
    pub(crate) roles: &'w [String],
}

struct Authorization {
    id: String,
    roles: BTreeSet<String>,
}

impl Wanted<'_> {
    /// Gives the roles. Roles that the user has beyond these stay.
    pub(crate) async fn ensure(&self, run: &mut Run<'_>) -> Result<(), SetupError> {
        let zitadel = run.zitadel;
        let step = Step::new("authorization", self.name).detail(self.roles.join(", "));
        if let Some(found) = self.find(zitadel).await? {
            return self.widen(run, step, found).await;
        }
        if !run.may_create(&step, WRITE) {
            return Ok(());
        }
        let doing = format!("authorizing {:?}", self.name);
        let request = json!({
            "userId": self.user,
            "projectId": self.project,
            "organizationId": self.organization.id,
            "roleKeys": self.roles,
        });
        let method = "authorization.v2.AuthorizationService/CreateAuthorization";
        let made = zitadel.call(method, &request).await.doing(&*doing);
        if made.as_ref().is_err_and(|error| error.is(RefusalKind::AlreadyExists)) {
            // The list has lagged behind.
            let hidden = || SetupError::Hidden { what: "authorization", name: self.name.to_owned() };
            let found = shown(async || self.find(zitadel).await, SURELY).await?.ok_or_else(hidden)?;
            return self.widen(run, step, found).await;
        }
        run.record(step.id(&text(&made?, "id", &doing)?).is(Sign::Create, true));
        Ok(())
    }

    async fn find(&self, zitadel: &Management) -> Result<Option<Authorization>, SetupError> {
        let (Some(user), Some(project)) = (self.user, self.project) else { return Ok(None) };
        let doing = format!("looking for the authorization of {:?}", self.name);
        let request = json!({"filters": [{"inUserIds": {"ids": [user]}}, {"projectId": {"id": project}}]});
        let method = "authorization.v2.AuthorizationService/ListAuthorizations";
        let found = all(zitadel, method, request, "authorizations", &doing).await?;
        let is_ours = |found: &&Value| at(found, "/organization/id") == self.organization.id;
        let Some(found) = found.iter().find(is_ours) else { return Ok(None) };
        if at(found, "/state") == "STATE_INACTIVE" {
            let remedy = "activate it in the Console";
            return Err(SetupError::conflict("authorization", self.name, "is deactivated", remedy));
        }
        let roles = list(found, "roles").iter().map(|role| at(role, "/key").to_owned()).collect();
        Ok(Some(Authorization { id: text(found, "id", &doing)?, roles }))
    }

    /// ZITADEL replaces the roles: those that are there are sent along.
    async fn widen(&self, run: &mut Run<'_>, step: Step, found: Authorization) -> Result<(), SetupError> {
        let step = step.id(&found.id);
        let missing: Vec<_> =
            self.roles.iter().filter(|role| !found.roles.contains(*role)).cloned().collect();
        if missing.is_empty() {
            run.record(step.is(Sign::Same, true));
            return Ok(());
        }
        let step = step.detail(format!("lacks {}", missing.join(", ")));
        if !run.may_change(&step, WRITE) {
            return Ok(());
        }
        let roles: BTreeSet<_> = found.roles.iter().chain(&missing).collect();
        let request = json!({"id": found.id, "roleKeys": roles});
        let method = "authorization.v2.AuthorizationService/UpdateAuthorization";
        run.zitadel.call(method, &request).await.doing(format!("authorizing {:?}", self.name))?;
        let told = format!("was given {}", missing.join(", "));
        run.record(step.detail(told).is(Sign::Change, true));
        Ok(())
    }
}
