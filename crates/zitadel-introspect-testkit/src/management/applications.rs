//! Applications and their keys.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    changes::application_key_json,
    keys::{SigningKey, random_text},
    management::{
        Call, Outcome,
        lists::{Item, Shape, page},
        projects::existing_owner,
        refusal::Refusal,
    },
    model::{Application, ApplicationKind, State},
};

const WRITE: &str = "project.app.write";
const KEY: &str = "API_AUTH_METHOD_TYPE_PRIVATE_KEY_JWT";

/// `application.v2.ApplicationService/CreateApplication`: Basic, unless asked for otherwise.
pub(crate) fn create(call: &mut Call<'_>) -> Outcome {
    let project = call.message.name("projectId")?;
    let name = call.message.name("name")?;
    let Some(config) = call.message.get("apiConfiguration") else {
        return Err(call.message.invalid("ApplicationType", "value is required"));
    };
    let kind = if config["authMethodType"] == KEY {
        ApplicationKind::KeyApi { keys: Vec::new() }
    } else {
        ApplicationKind::SecretApi { secret: random_text(48) }
    };
    let organization = existing_owner(call.state, &project)?;
    call.may_in(&organization, WRITE)?;
    if call.state.applications.iter().any(|own| own.project == project && own.name == name) {
        return Err(Refusal::exists("Application already exists", "V3-DKcYh"));
    }
    let id = call.state.add_application(&project, &name, kind);
    let own = call.state.application(&id);
    let mut config = json!({"clientId": own.client_id});
    if let ApplicationKind::SecretApi { secret } = &own.kind {
        config["clientSecret"] = secret.as_str().into();
    }
    let created = call.state.dates(&id).0;
    Ok(json!({"applicationId": id, "creationDate": created, "apiConfiguration": config}))
}

/// `application.v2.ApplicationService/ListApplications`
pub(crate) fn list(call: &mut Call<'_>) -> Outcome {
    let filters = call.message.filters("filters", "ApplicationSearchFilter.Filter")?;
    let matches = |own: &&Application| {
        call.state.is_listed(&own.id)
            && !call.state.removed.contains(&own.project)
            && filters.iter().all(|(name, wanted)| match &**name {
                "projectIdFilter" => wanted["projectId"] == own.project,
                "nameFilter" => wanted["name"] == own.name,
                "typeFilter" => (wanted == "APPLICATION_TYPE_API") == is_api(own),
                _ => true,
            })
    };
    let items = call.state.applications.iter().filter(matches).map(|own| Item {
        created: call.state.created(&own.id),
        name: own.name.clone(),
        is_seen: owner(call.state, own).is_some_and(|owner| call.sees(&owner, "project.app.read")),
        shown: shown(call.state, own),
    });
    page(call, items.collect(), &Shape::Pagination("applications"))
}

/// `application.v2.ApplicationService/GetApplication`
pub(crate) fn get(call: &mut Call<'_>) -> Outcome {
    let id = call.message.name("applicationId")?;
    let is_it = |own: &&Application| own.id == id && !call.state.removed.contains(&own.project);
    let found = call.state.applications.iter().find(is_it);
    let found = found.ok_or_else(|| Refusal::not_found("Errors.App.NotExisting", "QUERY-pCP8P"))?;
    call.may_in(&owner(call.state, found).unwrap_or_default(), "project.app.read")?;
    Ok(json!({"application": shown(call.state, found)}))
}

fn is_api(own: &Application) -> bool {
    !matches!(own.kind, ApplicationKind::Web { .. })
}

fn owner(state: &State, own: &Application) -> Option<String> {
    state
        .projects
        .iter()
        .find(|project| project.id == own.project)
        .map(|project| project.organization.clone())
}

fn shown(state: &State, own: &Application) -> Value {
    let (created, changed) = state.dates(&own.id);
    let mut shown = json!({
        "applicationId": own.id,
        "creationDate": created,
        "changeDate": changed,
        "state": if own.active { "APPLICATION_STATE_ACTIVE" } else { "APPLICATION_STATE_INACTIVE" },
        "name": own.name,
    });
    let client = json!({"clientId": own.client_id});
    shown[if is_api(own) { "apiConfiguration" } else { "oidcConfiguration" }] = client;
    // Basic is the default, and answers leave it out.
    if matches!(own.kind, ApplicationKind::KeyApi { .. }) {
        shown["apiConfiguration"]["authMethodType"] = KEY.into();
    }
    shown
}

/// `application.v2.ApplicationService/CreateApplicationKey`: ZITADEL always makes the private key.
pub(crate) fn create_key(call: &mut Call<'_>) -> Outcome {
    let application = call.message.name("applicationId")?;
    let project = call.message.name("projectId")?;
    let end = call.message.end()?;
    let is_removed = call.state.removed.contains(&project);
    let is_it = |own: &&Application| own.id == application && own.project == project && !is_removed;
    let found = call.state.applications.iter().find(is_it);
    let found = found.ok_or_else(|| Refusal::precondition("Application not found", "COMMAND-sak25"))?;
    call.may_in(&owner(call.state, found).unwrap_or_default(), WRITE)?;
    let Some((end, _)) = end.filter(|(_, seconds)| *seconds > call.state.now()) else {
        return Err(Refusal::wrong("Errors.AuthNKey.ExpireBeforeNow", "DOMAIN-dv3t5"));
    };
    if !matches!(found.kind, ApplicationKind::KeyApi { .. }) {
        return Err(Refusal::precondition("Chosen Auth Method does not require a key", "COMMAND-Dff54"));
    }
    let client_id = found.client_id.clone();
    let key = call.state.add_application_key(&application, Some(&end));
    let details = STANDARD.encode(application_key_json(&key, &application, &client_id));
    Ok(json!({"keyId": key.id, "creationDate": call.state.dates(&key.id).0, "keyDetails": details}))
}

/// `application.v2.ApplicationService/ListApplicationKeys`
pub(crate) fn list_keys(call: &mut Call<'_>) -> Outcome {
    let filters = call.message.filters("filters", "ApplicationKeySearchFilter.Filter")?;
    let matches = |own: &&Application| {
        filters.iter().all(|(name, wanted)| match &**name {
            "applicationIdFilter" => wanted["applicationId"] == own.id,
            "projectIdFilter" => wanted["projectId"] == own.project,
            _ => true,
        })
    };
    let mut items = Vec::new();
    for own in call.state.applications.iter().filter(matches) {
        let ApplicationKind::KeyApi { keys } = &own.kind else { continue };
        let organization = owner(call.state, own).unwrap_or_default();
        let is_seen = call.sees(&organization, "project.app.read");
        for key in keys.iter().filter(|key| call.state.is_listed(&key.id)) {
            let (created, shown) =
                (call.state.created(&key.id), shown_key(call.state, own, &organization, key));
            items.push(Item { created, name: key.id.clone(), is_seen, shown });
        }
    }
    page(call, items, &Shape::Pagination("keys"))
}

fn shown_key(state: &State, own: &Application, organization: &str, key: &SigningKey) -> Value {
    json!({
        "keyId": key.id,
        "applicationId": own.id,
        "projectId": own.project,
        "creationDate": state.dates(&key.id).0,
        "organizationId": organization,
        "expirationDate": state.ends.get(&key.id),
    })
}

/// `application.v2.ApplicationService/DeleteApplicationKey`
pub(crate) fn delete_key(call: &mut Call<'_>) -> Outcome {
    let key = call.message.name("keyId")?;
    let application = call.message.name("applicationId")?;
    let project = call.message.name("projectId")?;
    let organization = existing_owner(call.state, &project)?;
    call.may_in(&organization, WRITE)?;
    let has_key = |own: &Application| {
        let keys = if let ApplicationKind::KeyApi { keys } = &own.kind { &keys[..] } else { &[] };
        own.id == application && keys.iter().any(|own| own.id == key)
    };
    if !call.state.applications.iter().any(has_key) {
        return Err(Refusal::not_found("Application key not found", "COMMAND-4m77G"));
    }
    call.state.remove_application_key(&application, &key);
    Ok(json!({"deletionDate": call.state.timestamp()}))
}
