//! Targets of webhooks, and the executions that call them.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    events::Aggregate,
    keys::random_text,
    management::{
        Call, Outcome,
        lists::{Item, Shape, page},
        projects::contains,
        refusal::Refusal,
    },
    model::{ActionTarget, Birth, Execution, On, State},
    search,
};

const KINDS: [&str; 3] = ["restWebhook", "restCall", "restAsync"];
/// In seconds.
const LONGEST_TIMEOUT: f64 = 270.0;

/// `action.v2.ActionService/CreateTarget`
pub(crate) fn create(call: &mut Call<'_>) -> Outcome {
    let name = call.message.bounded("name", 1000)?;
    let endpoint = call.message.bounded("endpoint", 2048)?;
    let timeout = timeout(call)?;
    let kind = KINDS.iter().find_map(|kind| call.message.get(kind).map(|of| (*kind, of.clone())));
    let (kind, settings) = kind.ok_or_else(|| call.message.invalid("TargetType", "value is required"))?;
    call.may("action.target.write")?;
    let timeout = timeout.ok_or_else(|| Refusal::wrong("Target has no timeout", "COMMAND-39f35d8uri"))?;
    check_endpoint(&endpoint)?;
    if call.state.targets.iter().any(|own| own.name == name) {
        return Err(Refusal::exists("Errors.Target.AlreadyExists", "V3-DKcYh"));
    }
    let (id, signing_key) = (call.state.new_id(), random_text(27));
    let kind = (kind.to_owned(), without_defaults(settings));
    let target =
        ActionTarget { id: id.clone(), name, endpoint, kind, timeout, signing_key: signing_key.clone() };
    call.state.targets.push(target);
    emit(call.state, &id, "target", "target.added");
    call.state.bear(&id);
    Ok(json!({"id": id, "creationDate": call.state.dates(&id).0, "signingKey": signing_key}))
}

fn timeout(call: &Call<'_>) -> Result<Option<String>, Refusal> {
    let text = call.message.text("timeout")?;
    let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok());
    if seconds.is_some_and(|seconds| !(0.0..=LONGEST_TIMEOUT).contains(&seconds)) {
        return Err(call.message.invalid("Timeout", "value must be inside range [0s, 4m30s]"));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Relative addresses are taken.
fn check_endpoint(endpoint: &str) -> Result<(), Refusal> {
    let invalid = || Refusal::wrong("Target has an invalid URL", "COMMAND-1r2k6qo6wg");
    (!endpoint.starts_with(':')).then_some(()).ok_or_else(invalid)
}

/// Answers leave `false` out.
fn without_defaults(mut settings: Value) -> Value {
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|_, value| *value != json!(false));
    }
    settings
}

/// `action.v2.ActionService/UpdateTarget`. A new signing key counts at once.
pub(crate) fn update(call: &mut Call<'_>) -> Outcome {
    let id = call.message.name("id")?;
    let expiry = call.message.text("expirationSigningKey")?;
    if !expiry.is_empty() && expiry != "0s" {
        return Err(call.message.invalid("ExpirationSigningKey", "value must equal 0s"));
    }
    let (endpoint, timeout) = (call.message.text("endpoint")?, timeout(call)?);
    call.may("action.target.write")?;
    let found = call.state.targets.iter_mut().find(|own| own.id == id);
    let found = found.ok_or_else(|| Refusal::not_found("Target not found", "COMMAND-xj14f2cccn"))?;
    let before = (found.endpoint.clone(), found.timeout.clone());
    if !endpoint.is_empty() {
        found.endpoint = endpoint;
    }
    if let Some(timeout) = timeout {
        found.timeout = timeout;
    }
    let is_changed = before != (found.endpoint.clone(), found.timeout.clone());
    let mut answer = json!({});
    if !expiry.is_empty() {
        found.signing_key = random_text(27);
        answer["signingKey"] = found.signing_key.as_str().into();
    }
    if is_changed || !expiry.is_empty() {
        emit(call.state, &id, "target", "target.changed");
        call.state.touch(&id);
    }
    answer["changeDate"] = call.state.dates(&id).1.into();
    Ok(answer)
}

/// `action.v2.ActionService/DeleteTarget`: it disappears from its executions.
pub(crate) fn delete(call: &mut Call<'_>) -> Outcome {
    let id = call.message.name("id")?;
    call.may("action.target.delete")?;
    if call.state.targets.iter().any(|own| own.id == id) {
        emit(call.state, &id, "target", "target.removed");
        call.state.targets.retain(|own| own.id != id);
        for execution in &mut call.state.executions {
            execution.targets.retain(|own| *own != id);
        }
        call.state.executions.retain(|execution| !execution.targets.is_empty());
    }
    Ok(json!({"deletionDate": call.state.timestamp()}))
}

/// `action.v2.ActionService/ListTargets`: with the signing keys.
pub(crate) fn list(call: &mut Call<'_>) -> Outcome {
    let filters = call.message.filters("filters", "TargetSearchFilter.Filter")?;
    call.may("action.target.read")?;
    let matches = |own: &&ActionTarget| {
        call.state.is_listed(&own.id)
            && filters.iter().all(|(name, wanted)| match &**name {
                "targetNameFilter" => wanted["targetName"] == own.name,
                "inTargetIdsFilter" => contains(&wanted["targetIds"], &own.id),
                _ => true,
            })
    };
    let items = call.state.targets.iter().filter(matches).map(|own| {
        let (created, changed) = call.state.dates(&own.id);
        let mut shown = json!({
            "id": own.id,
            "creationDate": created,
            "changeDate": changed,
            "name": own.name,
            "timeout": own.timeout,
            "endpoint": own.endpoint,
            "signingKey": own.signing_key,
        });
        shown[&own.kind.0] = own.kind.1.clone();
        Item { created: call.state.created(&own.id), name: own.name.clone(), is_seen: true, shown }
    });
    page(call, items.collect(), &Shape::Pagination("targets"))
}

/// `action.v2.ActionService/SetExecution`: replaces the targets of a condition. None removes it.
pub(crate) fn set_execution(call: &mut Call<'_>) -> Outcome {
    let condition = call.message.get("condition").cloned();
    let targets = call.message.texts("targets")?;
    call.may("action.execution.write")?;
    let invalid = || Refusal::wrong("Execution condition is invalid", "ACTION-5r5Ju");
    let on = condition.as_ref().and_then(read).ok_or_else(invalid)?;
    check_condition(call.state, &on)?;
    let is_known = |target: &String| call.state.targets.iter().any(|own| own.id == *target);
    if !targets.iter().all(is_known) {
        return Err(Refusal::not_found("Target not found", "COMMAND-17e8fq1ggk"));
    }
    let at = call.state.executions.iter().position(|own| own.on == on);
    let before = at.map(|at| call.state.executions[at].targets.clone()).unwrap_or_default();
    if before != targets {
        change_execution(call.state, on.clone(), at, targets);
    }
    let set = call.state.executions.iter().find(|own| own.on == on);
    let date = set.map_or_else(|| call.state.timestamp(), |own| search::time(own.born.changed));
    Ok(json!({"setDate": date}))
}

fn change_execution(state: &mut State, on: On, at: Option<usize>, targets: Vec<String>) {
    let event = if targets.is_empty() { "execution.removed" } else { "execution.set.v2" };
    emit(state, &format!("event.{}", name(&on)), "execution", event);
    let changed = state.time_of_push();
    match at {
        Some(at) if targets.is_empty() => {
            state.executions.remove(at);
        }
        Some(at) => {
            state.executions[at].targets = targets;
            state.executions[at].born.changed = changed;
        }
        None => {
            let born = Birth { at: Instant::now(), created: changed, changed };
            state.executions.push(Execution { on, targets, born });
        }
    }
}

fn name(on: &On) -> &str {
    match on {
        On::Event(name) | On::Group(name) => name,
        On::All => "all",
    }
}

fn read(condition: &Value) -> Option<On> {
    let event = condition.get("event")?;
    if let Some(event) = event["event"].as_str() {
        return Some(On::Event(event.to_owned()));
    }
    match event["group"].as_str() {
        Some(group) => Some(On::Group(group.to_owned())),
        None => (event["all"] == true).then_some(On::All),
    }
}

fn check_condition(state: &State, on: &On) -> Result<(), Refusal> {
    let id = match on {
        On::Event(_) => "COMMAND-74aaqj8fv9",
        On::Group(_) => "COMMAND-er5oneb5lz",
        On::All => return Ok(()),
    };
    let is_known = search::all_types(state).any(|kind| on.fitness(kind).is_some());
    is_known.then_some(()).ok_or_else(|| Refusal::not_found("Execution condition is invalid", id))
}

/// `action.v2.ActionService/ListExecutions`
pub(crate) fn list_executions(call: &mut Call<'_>) -> Outcome {
    let filters = call.message.filters("filters", "ExecutionSearchFilter.Filter")?;
    call.may("action.execution.read")?;
    let matches = |own: &&Execution| {
        filters.iter().all(|(name, wanted)| match &**name {
            "targetFilter" => own.targets.iter().any(|target| wanted["targetId"] == *target),
            "inConditionsFilter" => {
                let conditions = wanted["conditions"].as_array();
                conditions.is_some_and(|list| list.iter().any(|one| read(one).as_ref() == Some(&own.on)))
            }
            _ => true,
        })
    };
    let is_shown = |own: &&Execution| own.born.at.elapsed() >= call.state.list_lag;
    let items = call.state.executions.iter().filter(matches).filter(is_shown).map(|own| Item {
        created: own.born.changed,
        name: name(&own.on).to_owned(),
        is_seen: true,
        shown: json!({
            "condition": {"event": spelt(&own.on)},
            "creationDate": search::time(own.born.created),
            "changeDate": search::time(own.born.changed),
            "targets": own.targets,
        }),
    });
    page(call, items.collect(), &Shape::Pagination("executions"))
}

fn spelt(on: &On) -> Value {
    match on {
        On::Event(event) => json!({"event": event}),
        On::Group(group) => json!({"group": group}),
        On::All => json!({"all": true}),
    }
}

fn emit(state: &mut State, id: &str, kind: &'static str, event: &'static str) {
    let owner = state.instance.clone();
    state.emit(Aggregate { id: id.to_owned(), kind, owner }, event, None);
}
