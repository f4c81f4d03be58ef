//! Users, their personal access tokens and their keys.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    changes::{NewUser, user_key_json},
    keys::random_text,
    management::{
        Call, Outcome,
        lists::{Item, Shape, page},
        refusal::Refusal,
    },
    model::{State, Token, TokenKind, User, UserState},
};

const READ: &str = "user.read";
const WRITE: &str = "user.write";

/// `user.v2.UserService/CreateUser`, of a service user: the organization is not looked up.
pub(crate) fn create(call: &mut Call<'_>) -> Outcome {
    let organization = call.message.name("organizationId")?;
    let machine = call.message.get("machine").cloned();
    let machine = machine.ok_or_else(|| call.message.invalid("UserType", "value is required"))?;
    let name = machine["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        let rule = "embedded message failed validation | caused by: invalid CreateUserRequest_Machine.Name: value length \
                    must be between 1 and 200 runes, inclusive";
        return Err(call.message.invalid("Machine", rule));
    }
    let (id, username) = (call.message.text("userId")?, call.message.text("username")?);
    call.may_in(&organization, WRITE)?;
    let username = if username.is_empty() { random_text(12) } else { username };
    let id = Some(id).filter(|id| !id.is_empty());
    let is_taken = |own: &User| Some(&own.id) == id.as_ref() || own.username == username;
    if call.state.users.iter().any(is_taken) {
        return Err(Refusal::exists("User already exists", "V3-DKcYh"));
    }
    let new = NewUser { id, organization: &organization, username: &username, person: None };
    let id = call.state.add_user(new);
    let user = call.state.user(&id);
    user.name = name;
    machine["description"].as_str().unwrap_or_default().clone_into(&mut user.description);
    Ok(json!({"id": id, "creationDate": call.state.dates(&id).0}))
}

/// `user.v2.UserService/DeleteUser`
pub(crate) fn delete(call: &mut Call<'_>) -> Outcome {
    let id = call.message.name("userId")?;
    let found = call.state.users.iter().find(|own| own.id == id).map(|own| own.organization.clone());
    let organization = found.ok_or_else(|| Refusal::not_found("User could not be found", "COMMAND-m9od"))?;
    call.may_in(&organization, "user.delete")?;
    call.state.remove_user(&id);
    Ok(json!({"details": call.state.details(&id, &organization)}))
}

/// `user.v2.UserService/GetUserByID`: oneself without any role.
pub(crate) fn get(call: &mut Call<'_>) -> Outcome {
    let id = call.message.name("userId")?;
    let found = call.state.users.iter().find(|own| own.id == id);
    let found = found.ok_or_else(|| Refusal::not_found("User not found", "QUERY-Dfbg2"))?;
    if id != call.caller {
        call.may_in(&found.organization, READ)?;
    }
    Ok(json!({"details": call.state.details(&id, &found.organization), "user": shown(call.state, found)}))
}

/// `user.v2.UserService/ListUsers`: does not count what it hides.
pub(crate) fn list(call: &mut Call<'_>) -> Outcome {
    let filters = call.message.filters("queries", "SearchQuery.Query")?;
    let matches = |own: &&User| {
        call.state.is_listed(&own.id)
            && filters.iter().all(|(name, wanted)| match &**name {
                "userNameQuery" => wanted["userName"] == own.username,
                "organizationIdQuery" => wanted["organizationId"] == own.organization,
                _ => true,
            })
    };
    let items = call.state.users.iter().filter(matches).map(|own| Item {
        created: call.state.created(&own.id),
        name: own.username.clone(),
        is_seen: own.id == call.caller || call.sees(&own.organization, READ),
        shown: shown(call.state, own),
    });
    page(call, items.collect(), &Shape::Details { counts_hidden: false })
}

fn shown(state: &State, own: &User) -> Value {
    let active = match own.state {
        UserState::Active => "USER_STATE_ACTIVE",
        UserState::Deactivated => "USER_STATE_INACTIVE",
        UserState::Locked => "USER_STATE_LOCKED",
    };
    let mut shown = json!({
        "userId": own.id,
        "details": state.details(&own.id, &own.organization),
        "state": active,
        "username": own.username,
        "loginNames": [own.username],
        "preferredLoginName": own.username,
    });
    let (kind, about) = match &own.person {
        Some(profile) => ("human", json!({"profile": {"givenName": profile.given_name}})),
        None => ("machine", machine(own)),
    };
    shown[kind] = about;
    shown
}

/// The name and the description of a service user.
pub(crate) fn machine(own: &User) -> Value {
    let mut machine = json!({"name": own.name});
    if !own.description.is_empty() {
        machine["description"] = own.description.as_str().into();
    }
    machine
}

/// The organization of a service user who is to get a token or a key.
fn of_service_user(call: &Call<'_>, id: &str) -> Result<String, Refusal> {
    let found = call.state.users.iter().find(|own| own.id == id);
    let found = found.ok_or_else(|| Refusal::precondition("User could not be found", "COMMAND-Dggw2"))?;
    if id != call.caller {
        call.may_in(&found.organization, WRITE)?;
    }
    if found.person.is_some() {
        return Err(Refusal::precondition("Not allowed for this user type", "COMMAND-Df2f1"));
    }
    Ok(found.organization.clone())
}

/// The expiration date of a new token or key, which ZITADEL demands.
fn end(call: &Call<'_>) -> Result<(String, i64), Refusal> {
    let required = || call.message.invalid("ExpirationDate", "value is required");
    call.message.end()?.ok_or_else(required)
}

fn in_future(call: &Call<'_>, seconds: i64) -> Result<(), Refusal> {
    let over = || Refusal::wrong("Errors.AuthNKey.ExpireBeforeNow", "DOMAIN-dv3t5");
    (seconds > call.state.now()).then_some(()).ok_or_else(over)
}

/// `user.v2.UserService/AddPersonalAccessToken`: to oneself without any role.
pub(crate) fn add_token(call: &mut Call<'_>) -> Outcome {
    let user = call.message.name("userId")?;
    let (end, seconds) = end(call)?;
    of_service_user(call, &user)?;
    in_future(call, seconds)?;
    let token = call.state.add_pat(&user, Some(seconds), Some(&end));
    let created = call.state.dates(&token.id).0;
    Ok(json!({"creationDate": created, "tokenId": token.id, "token": token.text}))
}

/// `user.v2.UserService/ListPersonalAccessTokens`
pub(crate) fn list_tokens(call: &mut Call<'_>) -> Outcome {
    let filters = call.message.filters("filters", "PersonalAccessTokensSearchFilter.Filter")?;
    let matches = |own: &&Token| {
        own.kind == TokenKind::Pat
            && !own.dead
            && call.state.is_listed(&own.id)
            && filters.iter().all(|(name, wanted)| name != "userIdFilter" || wanted["id"] == own.user)
    };
    let items = call.state.tokens.iter().filter(matches).map(|own| {
        let organization = organization_of(call.state, &own.user);
        Item {
            created: call.state.created(&own.id),
            name: own.id.clone(),
            is_seen: own.user == call.caller || call.sees(&organization, READ),
            shown: shown_token(call.state, own, &organization),
        }
    });
    page(call, items.collect(), &Shape::Pagination("result"))
}

fn shown_token(state: &State, own: &Token, organization: &str) -> Value {
    let (created, changed) = state.dates(&own.id);
    json!({
        "creationDate": created,
        "changeDate": changed,
        "id": own.id,
        "userId": own.user,
        "organizationId": organization,
        "expirationDate": state.ends.get(&own.id),
    })
}

pub(crate) fn organization_of(state: &State, user: &str) -> String {
    let found = state.users.iter().find(|own| own.id == user);
    found.map(|own| own.organization.clone()).unwrap_or_default()
}

/// `user.v2.UserService/RemovePersonalAccessToken`
pub(crate) fn remove_token(call: &mut Call<'_>) -> Outcome {
    let (user, id) = (call.message.name("userId")?, call.message.name("tokenId")?);
    owner_for_removal(call, &user)?;
    let is_it = |own: &&Token| own.id == id && own.user == user && own.kind == TokenKind::Pat && !own.dead;
    let token = call.state.tokens.iter().find(is_it).cloned();
    let token =
        token.ok_or_else(|| Refusal::not_found("Personal Access Token not found", "COMMAND-4m77G"))?;
    call.state.revoke(&token);
    Ok(json!({"deletionDate": call.state.timestamp()}))
}

fn owner_for_removal(call: &Call<'_>, user: &str) -> Result<(), Refusal> {
    let found = call.state.users.iter().find(|own| own.id == user);
    let found = found.ok_or_else(|| Refusal::not_found("Errors.NotFound", "COMMAND-4g3xq"))?;
    if user == call.caller { Ok(()) } else { call.may_in(&found.organization, WRITE) }
}

/// `user.v2.UserService/AddKey`
pub(crate) fn add_key(call: &mut Call<'_>) -> Outcome {
    let user = call.message.name("userId")?;
    let (end, seconds) = end(call)?;
    of_service_user(call, &user)?;
    in_future(call, seconds)?;
    let key = call.state.add_user_key(&user, Some(&end));
    let content = STANDARD.encode(user_key_json(&key, &user, Some(&end)));
    Ok(json!({"creationDate": call.state.dates(&key.id).0, "keyId": key.id, "keyContent": content}))
}

/// `user.v2.UserService/RemoveKey`
pub(crate) fn remove_key(call: &mut Call<'_>) -> Outcome {
    let (user, id) = (call.message.name("userId")?, call.message.name("keyId")?);
    owner_for_removal(call, &user)?;
    if !call.state.user_keys.iter().any(|own| own.user == user && own.key.id == id) {
        return Err(Refusal::not_found("Machine key not found", "COMMAND-4m77G"));
    }
    call.state.remove_user_key(&user, &id);
    Ok(json!({"deletionDate": call.state.timestamp()}))
}
