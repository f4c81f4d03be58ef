//! Projects and their roles.

use serde_json::{Value, json};

use crate::{
    changes::role_id,
    management::{
        Call, Outcome,
        lists::{Item, Shape, page},
        refusal::Refusal,
    },
    model::{Project, State},
    rights::{self, NoRight},
};

/// `project.v2.ProjectService/CreateProject`: the organization is not looked up.
pub(crate) fn create(call: &mut Call<'_>) -> Outcome {
    let organization = call.message.name("organizationId")?;
    let name = call.message.name("name")?;
    let id = call.message.text("projectId")?;
    let id = make(call, &organization, &name, Some(id).filter(|id| !id.is_empty()))?;
    Ok(json!({"projectId": id, "creationDate": call.state.dates(&id).0}))
}

/// `POST /management/v1/projects`
pub(crate) fn create_v1(call: &mut Call<'_>) -> Outcome {
    let (organization, name) = (call.organization.clone(), call.message.name("name")?);
    let id = make(call, &organization, &name, None)?;
    let mut details = call.state.details(&id, &organization);
    details.as_object_mut().map(|details| details.remove("changeDate"));
    Ok(json!({"id": id, "details": details}))
}

fn make(call: &mut Call<'_>, organization: &str, name: &str, id: Option<String>) -> Result<String, Refusal> {
    call.may_in(organization, "project.create")?;
    let live = |state: &State, is_it: &dyn Fn(&Project) -> bool| {
        state.projects.iter().any(|own| !state.removed.contains(&own.id) && is_it(own))
    };
    if live(call.state, &|own| Some(&own.id) == id.as_ref()) {
        return Err(Refusal::exists("Errors.Project.AlreadyExisting", "COMMAND-opamwu"));
    }
    if live(call.state, &|own| own.name == name && own.organization == organization) {
        return Err(Refusal::exists("Project already exists on organization", "V3-DKcYh"));
    }
    Ok(call.state.add_project(id, organization, name))
}

/// `project.v2.ProjectService/DeleteProject`
pub(crate) fn delete(call: &mut Call<'_>) -> Outcome {
    let id = call.message.name("projectId")?;
    if let Some(organization) = owner(call.state, &id) {
        call.may_in(&organization, "project.delete")?;
        call.state.remove_project(&id);
    }
    Ok(json!({"deletionDate": call.state.timestamp()}))
}

/// `project.v2.ProjectService/ListProjects`
pub(crate) fn list(call: &mut Call<'_>) -> Outcome {
    let filters = call.message.filters("filters", "ProjectSearchFilter.Filter")?;
    require_membership(call)?;
    let matches = |own: &&Project| {
        call.state.is_listed(&own.id)
            && filters.iter().all(|(name, wanted)| match &**name {
                "projectNameFilter" => wanted["projectName"] == own.name,
                "organizationIdFilter" => wanted["organizationId"] == own.organization,
                "inProjectIdsFilter" => contains(&wanted["ids"], &own.id),
                _ => true,
            })
    };
    let items = call.state.projects.iter().filter(matches).map(|own| Item {
        created: call.state.created(&own.id),
        name: own.name.clone(),
        is_seen: call.sees(&own.organization, "project.read"),
        shown: shown(call.state, own),
    });
    page(call, items.collect(), &Shape::Pagination("projects"))
}

/// `project.v2.ProjectService/GetProject`
pub(crate) fn get(call: &mut Call<'_>) -> Outcome {
    let id = call.message.name("projectId")?;
    call.may("project.read")?;
    let found = call.state.projects.iter().find(|own| own.id == id && !call.state.removed.contains(&id));
    let found = found.ok_or_else(|| Refusal::not_found("Project not found", "QUERY-fk2fs"))?;
    Ok(json!({"project": shown(call.state, found)}))
}

fn shown(state: &State, own: &Project) -> Value {
    let (created, changed) = state.dates(&own.id);
    json!({
        "projectId": own.id,
        "organizationId": own.organization,
        "creationDate": created,
        "changeDate": changed,
        "name": own.name,
        "state": if own.active { "PROJECT_STATE_ACTIVE" } else { "PROJECT_STATE_INACTIVE" },
    })
}

/// A caller without any role is refused; one with the wrong role sees nothing.
fn require_membership(call: &Call<'_>) -> Result<(), Refusal> {
    match rights::check(call.state, &call.caller, &call.organization, "project.read") {
        Err(NoRight::NoMembership) => Err(Refusal::no_right(NoRight::NoMembership, "")),
        _ => Ok(()),
    }
}

/// `project.v2.ProjectService/AddProjectRole`
pub(crate) fn add_role(call: &mut Call<'_>) -> Outcome {
    let project = call.message.name("projectId")?;
    let key = call.message.name("roleKey")?;
    let _name = call.message.name("displayName")?;
    let organization = existing_owner(call.state, &project)?;
    call.may_in(&organization, "project.role.write")?;
    if call.state.project(&project).roles.contains(&key) {
        return Err(Refusal::exists("Role already exists", "V3-DKcYh"));
    }
    call.state.add_role(&project, &key);
    let names = [("displayName", "displayName"), ("group", "group")];
    for (member, name) in names {
        let text = call.message.text(member)?;
        call.state.role_texts.insert((role_id(&project, &key), name), text);
    }
    Ok(json!({"creationDate": call.state.dates(&role_id(&project, &key)).0}))
}

/// `project.v2.ProjectService/RemoveProjectRole`: of a role that was never there as well.
pub(crate) fn remove_role(call: &mut Call<'_>) -> Outcome {
    let project = call.message.name("projectId")?;
    let key = call.message.name("roleKey")?;
    let organization = existing_owner(call.state, &project)?;
    call.may_in(&organization, "project.role.delete")?;
    if !call.state.project(&project).roles.contains(&key) {
        return Ok(json!({}));
    }
    call.state.remove_role(&project, &key);
    Ok(json!({"removalDate": call.state.timestamp()}))
}

/// `project.v2.ProjectService/ListProjectRoles`
pub(crate) fn list_roles(call: &mut Call<'_>) -> Outcome {
    let project = call.message.name("projectId")?;
    let filters = call.message.filters("filters", "ProjectRoleSearchFilter.Filter")?;
    call.may("project.role.read")?;
    let is_it = |own: &&Project| own.id == project && !call.state.removed.contains(&project);
    let found = call.state.projects.iter().find(is_it);
    let keys = found.map_or(&[][..], |own| &own.roles).iter();
    let matches = |key: &&String| {
        call.state.is_listed(&role_id(&project, key))
            && filters.iter().all(|(name, wanted)| name != "roleKeyFilter" || wanted["key"] == **key)
    };
    let items = keys.filter(matches).map(|key| Item {
        created: call.state.created(&role_id(&project, key)),
        name: key.clone(),
        is_seen: true,
        shown: shown_role(call.state, &project, key),
    });
    page(call, items.collect(), &Shape::Pagination("projectRoles"))
}

fn shown_role(state: &State, project: &str, key: &str) -> Value {
    let id = role_id(project, key);
    let (created, changed) = state.dates(&id);
    let mut shown = json!({"projectId": project, "key": key, "creationDate": created, "changeDate": changed});
    for name in ["displayName", "group"] {
        if let Some(text) = state.role_texts.get(&(id.clone(), name)).filter(|text| !text.is_empty()) {
            shown[name] = text.as_str().into();
        }
    }
    shown
}

/// The organization of a project that was not removed.
pub(crate) fn owner(state: &State, project: &str) -> Option<String> {
    let found = state.projects.iter().find(|own| own.id == project && !state.removed.contains(project))?;
    Some(found.organization.clone())
}

pub(crate) fn existing_owner(state: &State, project: &str) -> Result<String, Refusal> {
    owner(state, project).ok_or_else(|| Refusal::precondition("Project not found", "COMMAND-EbFMN"))
}

/// Whether a list of texts has one.
pub(crate) fn contains(list: &Value, wanted: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|own| own == wanted))
}
