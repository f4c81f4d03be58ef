//! Lists: in order, page by page, and behind the changes by the lag.

use serde_json::{Value, json};

use crate::{
    management::{Call, Outcome, refusal::Refusal},
    model::State,
    search::time,
};

const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

/// A thing that a list may show.
pub(crate) struct Item {
    /// When it was made: newest first, unless asked for otherwise.
    pub(crate) created: i64,
    /// By which it is sorted if asked for.
    pub(crate) name: String,
    /// The caller may see it. A list counts what it hides.
    pub(crate) is_seen: bool,
    pub(crate) shown: Value,
}

/// The two shapes of lists.
pub(crate) enum Shape {
    /// `pagination` beside the items.
    Pagination(&'static str),
    /// `details` beside `result`, without the number of what is hidden.
    Details { counts_hidden: bool },
}

impl State {
    /// Whether lists show a thing already.
    pub(crate) fn is_listed(&self, id: &str) -> bool {
        let is_gone = self.removed.contains(id);
        !is_gone && self.births.get(id).is_none_or(|birth| birth.at.elapsed() >= self.list_lag)
    }

    /// `creationDate` and `changeDate`.
    pub(crate) fn dates(&self, id: &str) -> (String, String) {
        let birth = self.births.get(id);
        birth.map_or_else(Default::default, |birth| (time(birth.created), time(birth.changed)))
    }

    pub(crate) fn created(&self, id: &str) -> i64 {
        self.births.get(id).map_or(0, |birth| birth.created)
    }

    /// The `details` of the older messages.
    pub(crate) fn details(&self, id: &str, owner: &str) -> Value {
        let (created, changed) = self.dates(id);
        let sequence = self.sequences.get(id).copied().unwrap_or(1).to_string();
        json!({"sequence": sequence, "creationDate": created, "changeDate": changed, "resourceOwner": owner})
    }
}

/// One page of a list.
pub(crate) fn page(call: &Call<'_>, mut items: Vec<Item>, shape: &Shape) -> Outcome {
    let request = call.message.get("pagination").or_else(|| call.message.get("query"));
    let number = |member: &str| {
        let value = request.and_then(|request| request.get(member))?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).and_then(|value| usize::try_from(value).ok())
    };
    let limit = number("limit").filter(|limit| *limit > 0).unwrap_or(PAGE);
    if limit > LARGEST_PAGE {
        return Err(Refusal::wrong("Limit exceeded", "QUERY-4M0fs"));
    }
    let by_name = call.message.get("sortingColumn").and_then(Value::as_str);
    if by_name.is_some_and(|column| column.ends_with("_NAME")) {
        items.sort_by(|one, other| one.name.cmp(&other.name));
    } else {
        items.sort_by_key(|item| item.created);
    }
    if request.and_then(|request| request.get("asc")) != Some(&json!(true)) {
        items.reverse();
    }
    let all = items.len();
    let seen: Vec<_> = items.into_iter().filter(|item| item.is_seen).map(|item| item.shown).collect();
    let total = if matches!(shape, Shape::Details { counts_hidden: false }) { seen.len() } else { all };
    let shown: Vec<_> = seen.into_iter().skip(number("offset").unwrap_or(0)).take(limit).collect();
    let (head, member, mut about) = match shape {
        Shape::Pagination(member) => ("pagination", *member, json!({"appliedLimit": limit.to_string()})),
        Shape::Details { .. } => ("details", "result", json!({"timestamp": call.state.timestamp()})),
    };
    if total > 0 {
        about["totalResult"] = total.to_string().into();
    }
    let mut body = json!({head: about});
    if !shown.is_empty() {
        body[member] = shown.into();
    }
    Ok(body)
}

impl State {
    /// The time of the newest event.
    pub(crate) fn timestamp(&self) -> String {
        time(self.events.last().map_or(0, |event| event.created))
    }
}
