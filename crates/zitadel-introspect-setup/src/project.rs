//! The project and its roles.

use serde_json::{Value, json};

use crate::{
    answer::{Doing, all, at, list, text},
    error::SetupError,
    organization::Organization,
    run::Run,
    step::{Sign, Step},
};

pub(crate) const READS: [&str; 2] = ["project.read", "project.role.read"];

/// The project of this name in the organization.
pub(crate) async fn ensure(
    run: &mut Run<'_>,
    organization: &Organization,
    name: &str,
    is_expected: bool,
) -> Result<Option<String>, SetupError> {
    let zitadel = run.zitadel;
    let find = async || {
        let doing = format!("looking for the project {name:?}");
        let request = json!({"filters": [
            {"projectNameFilter": {"projectName": name, "method": "TEXT_FILTER_METHOD_EQUALS"}},
            {"organizationIdFilter": {"organizationId": organization.id, "type": "OWNED"}},
        ]});
        let answer = zitadel.call("project.v2.ProjectService/ListProjects", &request).await.doing(&*doing)?;
        let Some(found) = list(&answer, "projects").first() else { return Ok(None) };
        if at(found, "/state") == "PROJECT_STATE_INACTIVE" {
            let remedy = "activate it in the Console, or choose another name";
            return Err(SetupError::conflict("project", name, "is deactivated", remedy));
        }
        text(found, "projectId", &doing).map(Some)
    };
    let make = async || {
        let doing = format!("making the project {name:?}");
        let request = json!({"organizationId": organization.id, "name": name});
        let answer =
            zitadel.call("project.v2.ProjectService/CreateProject", &request).await.doing(&*doing)?;
        text(&answer, "projectId", &doing)
    };
    run.ensure(Step::new("project", name), is_expected, "project.create", find, make).await
}

/// The roles of the project; `None` for one that is not made yet.
pub(crate) async fn ensure_roles(
    run: &mut Run<'_>,
    project: Option<&str>,
    keys: &[String],
) -> Result<(), SetupError> {
    let doing = "looking for the roles of the project";
    let found = match project {
        Some(project) => {
            let request = json!({"projectId": project});
            let method = "project.v2.ProjectService/ListProjectRoles";
            all(run.zitadel, method, request, "projectRoles", doing).await?
        }
        None => Vec::new(),
    };
    for key in keys {
        ensure_role(run, project.unwrap_or_default(), key, &found).await?;
    }
    Ok(())
}

async fn ensure_role(run: &mut Run<'_>, project: &str, key: &str, found: &[Value]) -> Result<(), SetupError> {
    let step = Step::new("role", key);
    if found.iter().any(|role| role["key"] == key) {
        run.record(step.is(Sign::Same, true));
        return Ok(());
    }
    if !run.may_create(&step, "project.role.write") {
        return Ok(());
    }
    let request = json!({"projectId": project, "roleKey": key, "displayName": key});
    let made = run.zitadel.call("project.v2.ProjectService/AddProjectRole", &request).await;
    let sign = match made.doing(format!("making the role {key:?}")) {
        // The list has lagged behind.
        Err(error) if error.is(zitadel_introspect::RefusalKind::AlreadyExists) => Sign::Same,
        made => made.map(|_| Sign::Create)?,
    };
    run.record(step.is(sign, true));
    Ok(())
}
