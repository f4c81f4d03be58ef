//! Authorizations: the roles of users on projects.

use serde_json::{Value, json};

use crate::{
    management::{
        Call, Outcome,
        lists::{Item, Shape, page},
        projects::{contains, owner},
        refusal::Refusal,
        users::organization_of,
    },
    model::{Grant, State},
};

const WRITE: &str = "user.grant.write";

/// `authorization.v2.AuthorizationService/CreateAuthorization`
pub(crate) fn create(call: &mut Call<'_>) -> Outcome {
    let user = call.message.name("userId")?;
    let project = call.message.name("projectId")?;
    let organization = call.message.name("organizationId")?;
    let roles = call.message.texts("roleKeys")?;
    call.may_in(&organization, WRITE)?;
    if !call.state.users.iter().any(|own| own.id == user) {
        return Err(Refusal::precondition("User could not be found", "COMMAND-4f8sg"));
    }
    let is_granted = |state: &State| {
        let found = state.projects.iter().find(|own| own.id == project);
        found.is_some_and(|own| own.granted_to.contains(&organization))
    };
    if owner(call.state, &project).as_ref() != Some(&organization) && !is_granted(call.state) {
        return Err(Refusal::precondition("Grant not found", "COMMAND-4m9ff"));
    }
    check_roles(call.state, &project, &roles)?;
    let is_it = |own: &Grant| own.user == user && own.project == project && own.organization == organization;
    if call.state.grants.iter().any(is_it) {
        return Err(Refusal::exists("User grant already exists", "V3-DKcYh"));
    }
    let id = call.state.add_grant(&user, &project, &organization, roles);
    Ok(json!({"id": id, "creationDate": call.state.dates(&id).0}))
}

fn check_roles(state: &State, project: &str, roles: &[String]) -> Result<(), Refusal> {
    let own = state.projects.iter().find(|own| own.id == project);
    let is_known = |role: &String| own.is_some_and(|own| own.roles.contains(role));
    let unknown = || Refusal::precondition("Errors.Project.Role.NotFound", "COMMAND-mm9F4");
    roles.iter().all(is_known).then_some(()).ok_or_else(unknown)
}

/// The grant that a call names, if its caller may change it.
fn mine(call: &Call<'_>, right: &str) -> Result<Option<Grant>, Refusal> {
    let id = call.message.name("id")?;
    let Some(found) = call.state.grants.iter().find(|own| own.id == id).cloned() else { return Ok(None) };
    call.may_in(&found.organization, right)?;
    Ok(Some(found))
}

fn unknown() -> Refusal {
    Refusal::not_found("User grant not found", "COMMAND-3M9sd")
}

/// `authorization.v2.AuthorizationService/UpdateAuthorization`
pub(crate) fn update(call: &mut Call<'_>) -> Outcome {
    let roles = call.message.texts("roleKeys")?;
    let found = mine(call, WRITE)?.ok_or_else(unknown)?;
    check_roles(call.state, &found.project, &roles)?;
    call.state.change_grant(&found.id, &roles, false);
    Ok(json!({"changeDate": call.state.dates(&found.id).1}))
}

/// `authorization.v2.AuthorizationService/DeleteAuthorization`: of one that is gone as well.
pub(crate) fn delete(call: &mut Call<'_>) -> Outcome {
    if let Some(found) = mine(call, "user.grant.delete")? {
        call.state.remove_grant(&found.id);
    }
    Ok(json!({"deletionDate": call.state.timestamp()}))
}

/// `authorization.v2.AuthorizationService/DeactivateAuthorization`
pub(crate) fn deactivate(call: &mut Call<'_>) -> Outcome {
    let found = mine(call, WRITE)?.ok_or_else(unknown)?;
    if found.active {
        call.state.grant(&found.id).active = false;
        call.state.emit_for_grant(&found.id, "user.grant.deactivated", None);
        call.state.touch(&found.id);
    }
    Ok(json!({"changeDate": call.state.dates(&found.id).1}))
}

/// `authorization.v2.AuthorizationService/ListAuthorizations`
pub(crate) fn list(call: &mut Call<'_>) -> Outcome {
    let filters = call.message.filters("filters", "AuthorizationsSearchFilter.Filter")?;
    let matches = |own: &&Grant| {
        call.state.is_listed(&own.id)
            && filters.iter().all(|(name, wanted)| match &**name {
                "inUserIds" => contains(&wanted["ids"], &own.user),
                "projectId" => wanted["id"] == own.project,
                "roleKey" => own.roles.iter().any(|role| wanted["key"] == *role),
                _ => true,
            })
    };
    let items = call.state.grants.iter().filter(matches).map(|own| Item {
        created: call.state.created(&own.id),
        name: own.id.clone(),
        is_seen: call.sees(&own.organization, "user.grant.read"),
        shown: shown(call.state, own),
    });
    page(call, items.collect(), &Shape::Pagination("authorizations"))
}

fn shown(state: &State, own: &Grant) -> Value {
    let (created, changed) = state.dates(&own.id);
    let project = state.projects.iter().find(|project| project.id == own.project);
    let organization = state.organizations.iter().find(|other| other.id == own.organization);
    let user = state.users.iter().find(|user| user.id == own.user);
    let mut shown = json!({
        "id": own.id,
        "creationDate": created,
        "changeDate": changed,
        "project": project.map(|project| {
            json!({"id": project.id, "name": project.name, "organizationId": project.organization})
        }),
        "organization": {"id": own.organization, "name": organization.map(|other| &other.name)},
        "user": {
            "id": own.user,
            "preferredLoginName": user.map(|user| &user.username),
            "organizationId": organization_of(state, &own.user),
        },
        "state": if own.active { "STATE_ACTIVE" } else { "STATE_INACTIVE" },
    });
    if !own.roles.is_empty() {
        shown["roles"] = own.roles.iter().map(|role| shown_role(state, &own.project, role)).collect();
    }
    shown
}

fn shown_role(state: &State, project: &str, key: &str) -> Value {
    let name = state.role_texts.get(&(crate::changes::role_id(project, key), "displayName"));
    json!({"key": key, "displayName": name.map_or(key, String::as_str)})
}
