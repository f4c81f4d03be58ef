//! Calls about the caller itself: no role is needed.

use serde_json::{Value, json};

use crate::{
    management::{Call, Outcome, refusal::Refusal, users::machine},
    model::{Level, Membership},
    rights,
};

/// `GET /auth/v1/users/me`
pub(crate) fn user(call: &mut Call<'_>) -> Outcome {
    let found = call.state.users.iter().find(|own| own.id == call.caller);
    let own = found.ok_or_else(|| Refusal::not_found("User not found", "QUERY-Dfbg2"))?;
    let mut shown = json!({
        "id": own.id,
        "details": call.state.details(&own.id, &own.organization),
        "state": "USER_STATE_ACTIVE",
        "userName": own.username,
        "loginNames": [own.username],
        "preferredLoginName": own.username,
    });
    if own.person.is_none() {
        shown["machine"] = machine(own);
    }
    Ok(json!({"user": shown}))
}

/// `POST /auth/v1/memberships/me/_search`
#[expect(clippy::unnecessary_wraps, reason = "as all calls")]
pub(crate) fn memberships(call: &mut Call<'_>) -> Outcome {
    let own = call.state.memberships.iter().filter(|own| own.user == call.caller);
    let found: Vec<_> = own.map(|own| membership(call, own)).collect();
    let mut body = json!({"details": {"viewTimestamp": call.state.timestamp()}});
    if !found.is_empty() {
        body["details"]["totalResult"] = found.len().to_string().into();
        body["result"] = found.into();
    }
    Ok(body)
}

fn membership(call: &Call<'_>, own: &Membership) -> Value {
    let (member, id, name) = match &own.level {
        Level::Instance => ("iam", &call.state.instance, "ZITADEL"),
        Level::Organization(id) => {
            let found = call.state.organizations.iter().find(|other| other.id == *id);
            ("orgId", id, found.map_or("", |other| &other.name))
        }
        Level::Project(id) => {
            let found = call.state.projects.iter().find(|project| project.id == *id);
            ("projectId", id, found.map_or("", |project| &project.name))
        }
    };
    let mut shown = json!({
        "userId": own.user,
        "details": call.state.details(id, id),
        "roles": own.roles,
        "displayName": name,
    });
    shown[member] = if own.level == Level::Instance { true.into() } else { id.as_str().into() };
    shown
}

/// `POST /auth/v1/permissions/zitadel/me/_search`
#[expect(clippy::unnecessary_wraps, reason = "as all calls")]
pub(crate) fn permissions(call: &mut Call<'_>) -> Outcome {
    let found = rights::permissions(call.state, &call.caller, &call.organization);
    Ok(if found.is_empty() { json!({}) } else { json!({"result": found}) })
}

/// `POST /auth/v1/permissions/me/_search`: of a project in which nobody here has a role.
pub(crate) fn project_permissions(_: &mut Call<'_>) -> Outcome {
    Err(Refusal::not_found("User grant not found", "QUERY-wIPkA"))
}
