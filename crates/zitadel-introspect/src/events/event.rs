//! One event: the members that decide what it ends. Nothing else is kept: payloads may hold password hashes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// Ids and role keys of ZITADEL have at most 200 characters. What is longer is not read.
const LONGEST_TEXT: usize = 1024;
/// The most users that one event of a group names and that are told apart.
const MOST_USERS: usize = 1000;

/// A time of the database, in microseconds since 1970. Never compared with a clock of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Micros(pub(crate) i64);

/// An event, from a search or a webhook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    /// Such as `user.locked`; empty if it cannot be read.
    pub(crate) kind: String,
    /// Such as `user`.
    pub(crate) aggregate: String,
    /// The id of the aggregate; empty if it cannot be read.
    pub(crate) id: String,
    /// The organization that owns the aggregate.
    pub(crate) owner: String,
    pub(crate) sequence: String,
    pub(crate) payload: Payload,
}

/// The ids in a payload. `None`: absent, or not readable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Payload {
    pub(crate) user: Option<String>,
    pub(crate) users: Option<Vec<String>>,
    pub(crate) project: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) token: Option<String>,
    /// The id of a new access token.
    pub(crate) id: Option<String>,
    pub(crate) reason: Option<String>,
}

impl Micros {
    /// RFC 3339 in UTC, as ZITADEL writes it: without trailing zeros.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let time = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(time.as_micros()).ok().map(Self)
    }

    pub(crate) fn before(self, micros: i64) -> Self {
        Self(self.0.saturating_sub(micros).max(0))
    }

    pub(crate) fn of_seconds(seconds: i64) -> Self {
        Self(seconds.max(0).saturating_mul(1_000_000))
    }

    /// Unix seconds.
    pub(crate) fn seconds(self) -> i64 {
        self.0 / 1_000_000
    }

    pub(crate) fn to_time(self) -> SystemTime {
        let since = Duration::from_micros(self.0.unsigned_abs());
        UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
    }

    pub(crate) fn to_text(self) -> String {
        humantime::format_rfc3339_micros(self.to_time()).to_string()
    }
}

impl Payload {
    /// Reads the ids; whatever else the value is, it has none.
    pub(crate) fn read(value: Option<&Value>) -> Self {
        let Some(Value::Object(members)) = value else { return Self::default() };
        let text = |name: &str| text(members.get(name));
        Self {
            user: text("userId").or_else(|| text("userID")),
            users: members.get("userIds").and_then(users),
            project: text("projectId"),
            client: text("clientId"),
            role: text("key"),
            token: text("tokenId"),
            id: text("id"),
            reason: text("reason"),
        }
    }
}

fn users(list: &Value) -> Option<Vec<String>> {
    let list = list.as_array().filter(|list| list.len() <= MOST_USERS)?;
    list.iter().map(|id| text(Some(id))).collect()
}

/// A text that is not empty and not too long.
pub(crate) fn text(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    (!text.is_empty() && text.len() <= LONGEST_TEXT).then(|| text.to_owned())
}

/// An event of a search, with its time.
pub(crate) fn read_found(value: &Value) -> Option<(Micros, Event)> {
    let created = Micros::parse(value.get("creationDate")?.as_str()?)?;
    let aggregate = value.get("aggregate");
    let within = |value: Option<&Value>, name: &str| value.and_then(|value| text(value.get(name)));
    let kind = |value: Option<&Value>| within(value.and_then(|value| value.get("type")), "type");
    let event = Event {
        kind: kind(Some(value)).unwrap_or_default(),
        aggregate: kind(aggregate).unwrap_or_default(),
        id: within(aggregate, "id").unwrap_or_default(),
        owner: within(aggregate, "resourceOwner").unwrap_or_default(),
        // Part of an event's identity, whatever it is.
        sequence: value.get("sequence").map(identity).unwrap_or_default(),
        payload: Payload::read(value.get("payload")),
    };
    Some((created, event))
}

/// As text: ZITADEL sends a number as text.
fn identity(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().take(LONGEST_TEXT).collect()
}

/// The answer of a search.
#[derive(Deserialize)]
struct Found<'a> {
    /// Absent where there are none. Read one by one: as values, all together would take many times their bytes.
    #[serde(default, borrow)]
    events: Option<Vec<&'a RawValue>>,
}

/// The events of an answer to a search, in its order; `None` if it is no such answer, or an event has no time.
pub(crate) fn read_answer(text: &str) -> Option<Vec<(Micros, Event)>> {
    let found: Found<'_> =
        serde_json::from_str(text).ok().filter(|_| text.trim_ascii_start().starts_with('{'))?;
    let read = |raw: &RawValue| read_found(&serde_json::from_str(raw.get()).ok()?);
    found.events.unwrap_or_default().into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_with_and_without_trailing_zeros() {
        let micros = |text: &str| Micros::parse(text).map(|micros| micros.0);
        let whole = micros("2026-11-25T02:06:25Z").unwrap();
        assert_eq!(micros("2026-11-25T02:06:25.513Z"), Some(whole + 513_000));
        assert_eq!(micros("2026-11-25T02:06:25.513001Z"), Some(whole + 513_001));
        assert_eq!(Micros(whole + 513_001).to_text(), "2026-11-25T02:06:25.513001Z");
        for broken in ["", "2026-11-25", "yesterday", "2026-13-25T02:06:25Z", "1900-01-01T00:00:00Z"] {
            assert_eq!(micros(broken), None, "{broken}");
        }
    }

    #[test]
    fn nothing_of_an_event_is_kept_but_what_decides() {
        let event = json!({"editor": {"userId": "9"},
            "aggregate": {"id": "7", "type": {"type": "user"}, "resourceOwner": "1"}, "sequence": "3",
            "creationDate": "2026-11-25T02:06:25Z", "type": {"type": "user.human.password.changed"},
            "payload": {"encodedHash": "$2a$14$secret", "tokenId": "5", "key": 7}});
        let (_, event) = read_found(&event).unwrap();
        assert_eq!((event.kind.as_str(), event.aggregate.as_str()), ("user.human.password.changed", "user"));
        assert_eq!((event.id.as_str(), event.owner.as_str(), event.sequence.as_str()), ("7", "1", "3"));
        assert_eq!((event.payload.token.as_deref(), &event.payload.role), (Some("5"), &None));
        assert!(!format!("{event:?}").contains("secret"));
    }

    #[test]
    fn an_event_that_cannot_be_read_is_there_but_one_without_a_time_ends_the_answer() {
        let answer = |event: Value| read_answer(&json!({"events": [event]}).to_string());
        let empty = answer(json!({"creationDate": "2026-11-25T02:06:25Z"})).unwrap();
        assert_eq!(empty[0].1, Event::default());
        let odd = json!({"creationDate": "2026-11-25T02:06:25Z", "type": 1, "aggregate": [], "payload": "x"});
        assert_eq!(answer(odd).unwrap()[0].1, Event::default());
        for broken in [json!({}), json!(null), json!({"creationDate": 7}), json!({"creationDate": "soon"})] {
            assert_eq!(answer(broken), None);
        }
        assert_eq!(read_answer("{}"), Some(Vec::new()));
        assert_eq!(read_answer("{\"events\":null}"), Some(Vec::new()));
        assert_eq!(read_answer("[]"), None);
        assert_eq!(read_answer("{\"events\":{}}"), None);
    }

    #[test]
    fn texts_are_bounded() {
        let payload = |bytes: usize| Payload::read(Some(&json!({"userId": "a".repeat(bytes)})));
        assert!(payload(LONGEST_TEXT).user.is_some() && payload(LONGEST_TEXT + 1).user.is_none());
        let users = |count: usize| Payload::read(Some(&json!({"userIds": vec!["1"; count]}))).users;
        assert!(users(MOST_USERS).is_some() && users(MOST_USERS + 1).is_none());
    }

    proptest! {
        #[test]
        fn no_answer_makes_a_panic(text in ".{0,200}", kind in ".{0,20}", id in "[0-9\\\\\"{}]{0,9}") {
            let _ = read_answer(&text);
            let events = json!({"events": [{"creationDate": text, "type": {"type": kind}, "aggregate": {"id": id}}]});
            let _ = read_answer(&events.to_string());
        }

        #[test]
        fn a_time_survives_its_text(micros in 0..4_000_000_000_000_000_i64) {
            prop_assert_eq!(Micros::parse(&Micros(micros).to_text()), Some(Micros(micros)));
        }
    }
}
