//! ZITADEL's event search: `POST /admin/v1/events/_search`.

use std::time::{Duration, Instant, UNIX_EPOCH};

use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use crate::{
    answer::Answer,
    events::Event,
    model::State,
    rights::{self, NoRight, Unknown},
};

/// More are not answered; nothing says so.
const MOST: usize = 1000;
const MOST_TYPES: usize = 30;
const MOST_AGGREGATES: usize = 10;
const LONGEST: usize = 200;

const TYPES: &str = include_str!("event-types.txt");

/// A search as it was asked.
#[derive(Default)]
struct Search {
    ascending: bool,
    limit: usize,
    types: Vec<String>,
    aggregates: Vec<String>,
    aggregate_id: String,
    owner: String,
    editor: String,
    sequence: u64,
    from: Option<i64>,
    since: Option<i64>,
    until: Option<i64>,
}

/// A refused search: what ZITADEL calls wrong.
struct Malformed(String);

pub(crate) fn answer(state: &State, authorization: Option<&str>, body: &[u8]) -> Answer {
    if let Err(refused) = check_right(state, authorization) {
        return *refused;
    }
    let search = match Search::read(body) {
        Ok(search) => search,
        Err(Malformed(message)) => return grpc_error(StatusCode::BAD_REQUEST, 3, &message, None),
    };
    if search.aggregates.is_empty() && search.mixes_known_and_unknown_types() {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        return grpc_error(status, 13, "unable to filter events", Some("SQL-KyeAx"));
    }
    let found: Vec<Value> = search.find(state).map(|event| shown(state, event)).collect();
    let body = if found.is_empty() { json!({}) } else { json!({"events": found}) };
    Answer::json(StatusCode::OK, &body)
}

pub(crate) fn all_types(state: &State) -> impl Iterator<Item = &str> {
    TYPES.lines().chain(state.event_types.iter().map(String::as_str))
}

/// All event types: those of a running ZITADEL v4, and those that a test has added.
pub(crate) fn types(state: &State, authorization: Option<&str>) -> Answer {
    if let Err(refused) = check_right(state, authorization) {
        return *refused;
    }
    let types: Vec<Value> = all_types(state).map(|kind| json!({"type": kind})).collect();
    Answer::json(StatusCode::OK, &json!({"eventTypes": types}))
}

pub(crate) fn method_not_allowed() -> Answer {
    grpc_error(StatusCode::METHOD_NOT_ALLOWED, 12, "Method Not Allowed", None)
}

pub(crate) fn not_found() -> Answer {
    grpc_error(StatusCode::NOT_FOUND, 5, "Not Found", None)
}

/// Events are read by those who may read them in the instance; the roles of the user's own organization decide how others
/// are refused.
fn check_right(state: &State, authorization: Option<&str>) -> Result<(), Box<Answer>> {
    let unauthorized = |message: &str, id: Option<&str>| {
        let answer = grpc_error(StatusCode::UNAUTHORIZED, 16, message, id);
        let told = id.map_or_else(|| message.to_owned(), |id| format!("{message} ({id})"));
        Box::new(answer.with_header(header::WWW_AUTHENTICATE, &told))
    };
    let caller = rights::caller(state, authorization).map_err(|unknown| match unknown {
        Unknown::NoHeader => unauthorized("auth header missing", None),
        Unknown::NoBearer => unauthorized("invalid auth header", Some("AUTH-toLo1")),
        Unknown::InvalidToken => unauthorized("Errors.Token.Invalid", Some("AUTH-7fs1e")),
    })?;
    let own = state.users.iter().find(|user| user.id == caller);
    let organization = own.map_or("", |user| &user.organization);
    rights::check(state, &caller, organization, "events.read").map_err(|no_right| {
        Box::new(match no_right {
            NoRight::WrongRole => {
                let message = "No matching permissions found";
                grpc_error(StatusCode::FORBIDDEN, 7, message, Some("AUTH-5mWD2"))
            }
            NoRight::NoMembership => {
                grpc_error(StatusCode::NOT_FOUND, 5, "membership not found", Some("AUTHZ-cdgFk"))
            }
        })
    })
}

fn grpc_error(status: StatusCode, code: u8, message: &str, id: Option<&str>) -> Answer {
    let body = match id {
        Some(id) => json!({
            "code": code,
            "message": format!("{message} ({id})"),
            "details": [{"@type": "type.googleapis.com/zitadel.v1.ErrorDetail", "id": id, "message": message}],
        }),
        None => json!({"code": code, "message": message}),
    };
    Answer::json(status, &body)
}

impl Search {
    fn read(body: &[u8]) -> Result<Self, Malformed> {
        if body.is_empty() {
            return Ok(Self { limit: MOST, ..Self::default() });
        }
        let body: Value = serde_json::from_slice(body).map_err(|error| {
            Malformed(if error.is_eof() { "unexpected EOF".to_owned() } else { format!("proto: {error}") })
        })?;
        let Value::Object(members) = body else {
            return Err(Malformed("proto: syntax error (line 1:1): unexpected token [".to_owned()));
        };
        let members = Members(members);
        let range = members.object("range")?;
        let creation_date = members.time("creationDate")?;
        let from = members.time("from")?;
        if range.is_some() && from.is_some() {
            return Err(Malformed(
                "proto: error parsing \"range\", oneof zitadel.admin.v1.ListEventsRequest.creation_date_filter is \
                already set"
                    .to_owned(),
            ));
        }
        let within = |name: &str| range.as_ref().map_or(Ok(None), |range| range.time(name));
        let search = Self {
            ascending: members.flag("asc")?,
            limit: match members.number("limit")? {
                0 => MOST,
                limit => usize::try_from(limit).unwrap_or(MOST).min(MOST),
            },
            types: members.texts("eventTypes", "EventTypes", MOST_TYPES)?,
            aggregates: members.texts("aggregateTypes", "AggregateTypes", MOST_AGGREGATES)?,
            aggregate_id: members.text("aggregateId", "AggregateId")?,
            owner: members.text("resourceOwner", "ResourceOwner")?,
            editor: members.text("editorUserId", "EditorUserId")?,
            sequence: members.number("sequence")?,
            from: if range.is_some() { None } else { from.or(creation_date) },
            since: within("since")?,
            until: within("until")?,
        };
        Ok(search)
    }

    /// ZITADEL derives the aggregate types from the event types, and cannot for one that it does not know.
    fn mixes_known_and_unknown_types(&self) -> bool {
        let is_known = |kind: &&String| aggregate_of(kind).is_some();
        let known = self.types.iter().filter(is_known).count();
        known > 0 && known < self.types.len()
    }

    fn find<'a>(&'a self, state: &'a State) -> Box<dyn Iterator<Item = &'a Event> + 'a> {
        let now = Instant::now();
        let is_visible = move |event: &&Event| event.visible_from.is_some_and(|from| from <= now);
        let mut found: Vec<&Event> =
            state.events.iter().filter(is_visible).filter(|event| self.matches(event)).collect();
        if self.ascending {
            Box::new(found.into_iter().take(self.limit))
        } else {
            found.reverse();
            Box::new(found.into_iter().take(self.limit))
        }
    }

    fn matches(&self, event: &Event) -> bool {
        let one_of = |list: &[String], own: &str| list.is_empty() || list.iter().any(|other| other == own);
        let is = |wanted: &str, own: &str| wanted.is_empty() || wanted == own;
        let follows = match (self.sequence, self.ascending) {
            (0, _) => true,
            (sequence, true) => event.sequence > sequence,
            (sequence, false) => event.sequence < sequence,
        };
        let from = self
            .from
            .is_none_or(|from| if self.ascending { event.created > from } else { event.created < from });
        one_of(&self.types, event.event_type)
            && one_of(&self.aggregates, event.aggregate_type)
            && is(&self.aggregate_id, &event.aggregate_id)
            && is(&self.owner, &event.resource_owner)
            && is(&self.editor, event.user_id.as_deref().unwrap_or_default())
            && follows
            && from
            && self.since.is_none_or(|since| event.created > since)
            && self.until.is_none_or(|until| event.created < until)
    }
}

/// The members of a request; `null` is absent, and `snake_case` is read as well.
struct Members(Map<String, Value>);

impl Members {
    fn get(&self, name: &str) -> Option<&Value> {
        let snake = name.chars().fold(String::new(), |text, c| {
            if c.is_ascii_uppercase() {
                format!("{text}_{}", c.to_ascii_lowercase())
            } else {
                format!("{text}{c}")
            }
        });
        self.0.get(name).or_else(|| self.0.get(&snake)).filter(|value| !value.is_null())
    }

    fn wrong(kind: &str, name: &str, value: &Value) -> Malformed {
        Malformed(format!("proto: invalid value for {kind} field {name}: {value}"))
    }

    fn flag(&self, name: &str) -> Result<bool, Malformed> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(Self::wrong("bool", name, other)),
        }
    }

    fn number(&self, name: &str) -> Result<u64, Malformed> {
        match self.get(name) {
            None => Ok(0),
            Some(Value::String(text)) => text.parse().map_err(|_| Self::wrong("uint32", name, &json!(text))),
            Some(other) => other.as_u64().ok_or_else(|| Self::wrong("uint32", name, other)),
        }
    }

    fn text(&self, name: &str, field: &str) -> Result<String, Malformed> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) if text.chars().count() <= LONGEST => Ok(text.clone()),
            Some(Value::String(_)) => Err(Malformed(format!(
                "invalid ListEventsRequest.{field}: value length must be between 0 and 200 runes, inclusive"
            ))),
            Some(other) => Err(Self::wrong("string", name, other)),
        }
    }

    fn texts(&self, name: &str, field: &str, most: usize) -> Result<Vec<String>, Malformed> {
        let list = match self.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(Malformed(format!("proto: syntax error: unexpected token {other}"))),
        };
        if list.len() > most {
            let message =
                format!("invalid ListEventsRequest.{field}: value must contain no more than {most} item(s)");
            return Err(Malformed(message));
        }
        let text = |value: &Value| {
            value.as_str().map(str::to_owned).ok_or_else(|| Self::wrong("string", name, value))
        };
        list.iter().map(text).collect()
    }

    fn object(&self, name: &str) -> Result<Option<Self>, Malformed> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Self(members.clone()))),
            Some(other) => Err(Malformed(format!("proto: syntax error: unexpected token {other}"))),
        }
    }

    /// Microseconds; nanoseconds are cut off.
    fn time(&self, name: &str) -> Result<Option<i64>, Malformed> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let invalid = || Malformed(format!("proto: invalid google.protobuf.Timestamp value {value}"));
        let text = value
            .as_str()
            .ok_or_else(|| Malformed(format!("proto: syntax error: unexpected token {value}")))?;
        let (local, offset) = split_offset(text).ok_or_else(invalid)?;
        let time = humantime::parse_rfc3339(&format!("{local}Z")).map_err(|_| invalid())?;
        let micros = time.duration_since(UNIX_EPOCH).map_err(|_| invalid())?.as_micros();
        i64::try_from(micros).map(|micros| Some(micros - offset * 1_000_000)).map_err(|_| invalid())
    }
}

/// A time without its zone, and the zone's offset in seconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(local) = text.strip_suffix('Z') {
        return Some((local, 0));
    }
    let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    Some((local, sign * (hours * 3600 + minutes * 60)))
}

fn aggregate_of(kind: &str) -> Option<&'static str> {
    let aggregates = ["oidc_session", "session", "project", "org", "instance", "web_key", "group", "user"];
    aggregates
        .into_iter()
        .find(|aggregate| kind.strip_prefix(aggregate).is_some_and(|rest| rest.starts_with('.')))
}

/// An event in the spelling of the search.
fn shown(state: &State, event: &Event) -> Value {
    let editor = match &event.user_id {
        Some(id) => {
            let name = state.users.iter().find(|user| user.id == *id);
            let name = name.map_or("administrator", |user| user.username.as_str());
            json!({"userId": id, "displayName": name, "service": "zitadel"})
        }
        None => json!({"service": "zitadel"}),
    };
    let localized = |key: String| json!({"key": key, "localizedMessage": key});
    let mut shown = json!({
        "editor": editor,
        "aggregate": {
            "id": event.aggregate_id,
            "type": {
                "type": event.aggregate_type,
                "localized": localized(format!("AggregateTypes.{}", event.aggregate_type)),
            },
            "resourceOwner": event.resource_owner,
        },
        "sequence": event.sequence.to_string(),
        "creationDate": time(event.created),
        "type": {
            "type": event.event_type,
            "localized": localized(format!("EventTypes.{}", event.event_type)),
        },
    });
    if let Some(payload) = &event.payload {
        shown["payload"] = payload.clone();
    }
    shown
}

/// RFC 3339 without trailing zeros.
pub(crate) fn time(micros: i64) -> String {
    let time = UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs());
    let text = humantime::format_rfc3339_micros(time).to_string();
    // The text always has six digits behind the point, so zeros before the point stay.
    let short = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{short}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lose_their_trailing_zeros() {
        for (micros, text) in [
            (1_764_036_385_513_001, "2025-11-25T02:06:25.513001Z"),
            (1_764_036_385_513_000, "2025-11-25T02:06:25.513Z"),
            (1_764_036_380_000_000, "2025-11-25T02:06:20Z"),
        ] {
            assert_eq!(time(micros), text);
        }
    }

    #[test]
    fn times_are_read_with_offsets_and_cut_to_microseconds() {
        let read = |text: &str| {
            Members(Map::from_iter([("from".to_owned(), json!(text))])).time("from").ok().flatten()
        };
        let plain = read("2026-11-25T02:06:25.344943Z").unwrap();
        assert_eq!(read("2026-11-25T04:06:25.344943+02:00"), Some(plain));
        assert_eq!(read("2026-11-25T02:06:25.344943001Z"), Some(plain));
        assert_eq!(read("2026-11-25T02:06:25.344942999Z"), Some(plain - 1));
        assert_eq!([read("2026-11-25T02:06:25.344943"), read("")], [None, None]);
    }
}
