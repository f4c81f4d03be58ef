//! Administrators: the roles of users in the instance, in an organization, in a project.

use serde_json::{Value, json};

use crate::{
    management::{
        Call, Outcome,
        lists::{Item, Shape, page},
        message::Message,
        projects::{contains, owner},
        refusal::Refusal,
        users::organization_of,
    },
    model::{Level, Membership, State},
    rights,
};

/// `internal_permission.v2.InternalPermissionService/CreateAdministrator`
pub(crate) fn create(call: &mut Call<'_>) -> Outcome {
    let (user, level, roles) = read(call)?;
    may_write(call, &level)?;
    add(call.state, &user, &level, roles)?;
    Ok(json!({"creationDate": call.state.timestamp()}))
}

/// `internal_permission.v2.InternalPermissionService/UpdateAdministrator`
pub(crate) fn update(call: &mut Call<'_>) -> Outcome {
    let (user, level, roles) = read(call)?;
    may_write(call, &level)?;
    change(call.state, &user, level, roles)?;
    Ok(json!({"changeDate": call.state.timestamp()}))
}

/// `internal_permission.v2.InternalPermissionService/DeleteAdministrator`: of one that is gone as well.
pub(crate) fn delete(call: &mut Call<'_>) -> Outcome {
    let user = call.message.name("userId")?;
    let level = level(&call.message)?;
    may_write(call, &level)?;
    call.state.remove_membership(&user, &level);
    Ok(json!({"deletionDate": call.state.timestamp()}))
}

fn read(call: &Call<'_>) -> Result<(String, Level, Vec<String>), Refusal> {
    Ok((call.message.name("userId")?, level(&call.message)?, call.message.texts("roles")?))
}

fn level(message: &Message) -> Result<Level, Refusal> {
    let resource = message.get("resource");
    let text =
        |member: &str| resource.and_then(|of| of.get(member)).and_then(Value::as_str).map(str::to_owned);
    match resource.and_then(|of| of.get("instance")) {
        Some(Value::Bool(true)) => return Ok(Level::Instance),
        Some(Value::Bool(false)) => {
            let rule = "embedded message failed validation | caused by: invalid ResourceType.Instance: value must equal \
                        true";
            return Err(message.invalid("Resource", rule));
        }
        _ => {}
    }
    if let Some(id) = text("organizationId") {
        return Ok(Level::Organization(id));
    }
    let missing = || Refusal::wrong("Errors.Invalid.Argument", "ADMIN-IbPp47HDP5");
    text("projectId").map(Level::Project).ok_or_else(missing)
}

fn may_write(call: &Call<'_>, level: &Level) -> Result<(), Refusal> {
    match level {
        Level::Instance => {
            let checked = rights::check_instance(call.state, &call.caller, "iam.member.write");
            checked.map_err(|no_right| Refusal::no_right(no_right, "AUTH-AWfge"))
        }
        Level::Organization(id) => call.may_in(id, "org.member.write"),
        Level::Project(id) => call.may_in(&owner(call.state, id).unwrap_or_default(), "project.member.write"),
    }
}

fn check_roles(level: &Level, roles: &[String]) -> Result<(), Refusal> {
    let invalid = || Refusal::wrong("Member is invalid", "INSTANCE-4m0fS");
    roles.iter().all(|role| rights::is_role(level, role)).then_some(()).ok_or_else(invalid)
}

fn add(state: &mut State, user: &str, level: &Level, roles: Vec<String>) -> Result<(), Refusal> {
    check_roles(level, &roles)?;
    if !state.users.iter().any(|own| own.id == user) {
        return Err(Refusal::precondition("User could not be found", "INSTA-GSXOn"));
    }
    if state.memberships.iter().any(|own| own.user == user && own.level == *level) {
        return Err(Refusal::exists("Errors.Instance.Member.AlreadyExists", "INSTA-pFDwe"));
    }
    state.set_membership(user, level.clone(), roles);
    Ok(())
}

fn change(state: &mut State, user: &str, level: Level, roles: Vec<String>) -> Result<(), Refusal> {
    check_roles(&level, &roles)?;
    let own = state.memberships.iter().find(|own| own.user == user && own.level == level);
    let own = own.ok_or_else(|| Refusal::not_found("Errors.NotFound", "INSTANCE-D8JxR"))?;
    if own.roles != roles {
        state.set_membership(user, level, roles);
    }
    Ok(())
}

/// `internal_permission.v2.InternalPermissionService/ListAdministrators`
pub(crate) fn list(call: &mut Call<'_>) -> Outcome {
    let filters = call.message.filters("filters", "AdministratorSearchFilter.Filter")?;
    let matches = |own: &&Membership| {
        filters.iter().all(|(name, wanted)| name != "inUserIdsFilter" || contains(&wanted["ids"], &own.user))
    };
    let found = call.state.memberships.iter().enumerate();
    let items = found.filter(|(_, own)| matches(own)).map(|(at, own)| Item {
        created: i64::try_from(at).unwrap_or(i64::MAX),
        name: own.user.clone(),
        is_seen: is_seen(call, own),
        shown: shown(call.state, own),
    });
    page(call, items.collect(), &Shape::Pagination("administrators"))
}

fn is_seen(call: &Call<'_>, own: &Membership) -> bool {
    match &own.level {
        Level::Instance => rights::check_instance(call.state, &call.caller, "iam.member.read").is_ok(),
        Level::Organization(id) => call.sees(id, "org.member.read"),
        Level::Project(id) => call.sees(&owner(call.state, id).unwrap_or_default(), "project.member.read"),
    }
}

fn shown(state: &State, own: &Membership) -> Value {
    let user = state.users.iter().find(|user| user.id == own.user);
    let time = state.timestamp();
    let mut shown = json!({
        "creationDate": time,
        "changeDate": time,
        "user": {
            "id": own.user,
            "preferredLoginName": user.map(|user| &user.username),
            "organizationId": organization_of(state, &own.user),
        },
        "roles": own.roles,
    });
    match &own.level {
        Level::Instance => shown["instance"] = true.into(),
        Level::Organization(id) => {
            let found = state.organizations.iter().find(|other| other.id == *id);
            shown["organization"] = json!({"id": id, "name": found.map(|other| &other.name)});
        }
        Level::Project(id) => {
            let found = state.projects.iter().find(|project| project.id == *id);
            shown["project"] = found.map_or(
                Value::Null,
                |project| json!({"id": id, "name": project.name, "organizationId": project.organization}),
            );
        }
    }
    shown
}

/// `POST /admin/v1/members`
pub(crate) fn add_v1(call: &mut Call<'_>) -> Outcome {
    call.may("iam.member.write")?;
    let (user, roles) = (call.message.name("userId")?, call.message.texts("roles")?);
    add(call.state, &user, &Level::Instance, roles)?;
    Ok(json!({"details": details(call.state, "creationDate")}))
}

/// `PUT /admin/v1/members/<user>`
pub(crate) fn update_v1(call: &mut Call<'_>) -> Outcome {
    call.may("iam.member.write")?;
    let roles = call.message.texts("roles")?;
    change(call.state, &call.rest.clone(), Level::Instance, roles)?;
    Ok(json!({"details": details(call.state, "changeDate")}))
}

/// `DELETE /admin/v1/members/<user>`: of one that is gone as well.
pub(crate) fn remove_v1(call: &mut Call<'_>) -> Outcome {
    call.may("iam.member.delete")?;
    call.state.remove_membership(&call.rest.clone(), &Level::Instance);
    Ok(json!({"details": details(call.state, "changeDate")}))
}

fn details(state: &State, date: &str) -> Value {
    let sequence = state.sequences.get(&state.instance).copied().unwrap_or_default().to_string();
    json!({"sequence": sequence, date: state.timestamp(), "resourceOwner": state.instance})
}

/// `POST /admin/v1/members/_search`
pub(crate) fn search_v1(call: &mut Call<'_>) -> Outcome {
    call.may("iam.member.read")?;
    let wanted = call.message.filters("queries", "SearchQuery.Query")?;
    let matches = |own: &&Membership| {
        own.level == Level::Instance
            && wanted.iter().all(|(name, wanted)| name != "userIdQuery" || wanted["userId"] == own.user)
    };
    let found: Vec<_> =
        call.state.memberships.iter().filter(matches).map(|own| member_v1(call.state, own)).collect();
    let details = json!({"totalResult": found.len().to_string(), "viewTimestamp": call.state.timestamp()});
    Ok(json!({"details": details, "result": found}))
}

fn member_v1(state: &State, own: &Membership) -> Value {
    let user = state.users.iter().find(|user| user.id == own.user);
    let mut details = details(state, "creationDate");
    details["changeDate"] = details["creationDate"].clone();
    json!({
        "userId": own.user,
        "details": details,
        "roles": own.roles,
        "preferredLoginName": user.map(|user| &user.username),
        "displayName": user.map(|user| &user.name),
        "userType": if user.is_some_and(|user| user.person.is_some()) { "TYPE_HUMAN" } else { "TYPE_MACHINE" },
        "userResourceOwner": organization_of(state, &own.user),
    })
}

/// `POST /admin/v1/members/roles/_search`
pub(crate) fn roles_v1(call: &mut Call<'_>) -> Outcome {
    call.may("iam.member.read")?;
    let roles: Vec<_> = rights::roles_of_instance().collect();
    let details = json!({"totalResult": roles.len().to_string(), "viewTimestamp": call.state.timestamp()});
    Ok(json!({"details": details, "roles": roles}))
}
