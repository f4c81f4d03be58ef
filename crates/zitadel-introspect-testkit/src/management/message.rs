//! The messages of calls. `null` is absent, members that are not known are ignored, and a wrong type is refused.

use serde_json::{Map, Value};

use crate::management::refusal::Refusal;

/// The members of a request.
pub(crate) struct Message {
    /// Such as `project`.
    package: String,
    /// Such as `CreateProjectRequest`.
    name: String,
    members: Map<String, Value>,
}

impl Message {
    pub(crate) fn read(package: &str, method: &str, body: &[u8]) -> Result<Self, Refusal> {
        let name = format!("{method}Request");
        if body.is_empty() {
            let message = "unmarshal message: zero-length payload is not a valid JSON object";
            return Err(Refusal::invalid(message));
        }
        let empty = Self { package: package.to_owned(), name, members: Map::new() };
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self { members, ..empty }),
            Ok(other) => Err(empty.unreadable(&format!("unexpected token {other}"))),
            Err(error) if error.is_eof() => Err(empty.unreadable("unexpected EOF")),
            Err(error) => Err(empty.unreadable(&error.to_string())),
        }
    }

    fn unreadable(&self, problem: &str) -> Refusal {
        let Self { package, name, .. } = self;
        Refusal::invalid(format!("unmarshal message: unmarshal into *{package}.{name}: proto: {problem}"))
    }

    fn of_wrong_type(&self, kind: &str, member: &str, value: &Value) -> Refusal {
        self.unreadable(&format!("(line 1:1): invalid value for {kind} field {member}: {value}"))
    }

    /// A rule of the message that one of its fields breaks.
    pub(crate) fn invalid(&self, field: &str, rule: &str) -> Refusal {
        Refusal::invalid(format!("invalid {}.{field}: {rule}", self.name))
    }

    pub(crate) fn get(&self, member: &str) -> Option<&Value> {
        self.members.get(member).filter(|value| !value.is_null())
    }

    /// A text, empty if it is absent.
    pub(crate) fn text(&self, member: &str) -> Result<String, Refusal> {
        match self.get(member) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(self.of_wrong_type("string", member, other)),
        }
    }

    /// A text of 1 to 200 characters.
    pub(crate) fn name(&self, member: &str) -> Result<String, Refusal> {
        self.bounded(member, 200)
    }

    /// A text of 1 to so many characters.
    pub(crate) fn bounded(&self, member: &str, most: usize) -> Result<String, Refusal> {
        let text = self.text(member)?;
        let rule = format!("value length must be between 1 and {most} runes, inclusive");
        let is_good = (1..=most).contains(&text.chars().count());
        is_good.then_some(text).ok_or_else(|| self.invalid(&pascal(member), &rule))
    }

    /// A list of texts, empty if it is absent.
    pub(crate) fn texts(&self, member: &str) -> Result<Vec<String>, Refusal> {
        let Some(value) = self.get(member) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| self.of_wrong_type("array", member, value))?;
        let text = |value: &Value| {
            value.as_str().map(str::to_owned).ok_or_else(|| self.of_wrong_type("string", member, value))
        };
        list.iter().map(text).collect()
    }

    /// The expiration date, as text and in Unix seconds; `None` if it is absent.
    pub(crate) fn end(&self) -> Result<Option<(String, i64)>, Refusal> {
        let Some(value) = self.get("expirationDate") else { return Ok(None) };
        let text = value.as_str().unwrap_or_default();
        let time = humantime::parse_rfc3339(text).ok();
        let seconds = time.map(|time| match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(_) => 0,
        });
        let wrong =
            || self.unreadable(&format!("(line 1:1): invalid google.protobuf.Timestamp value {value}"));
        seconds.map(|seconds| Some((text.to_owned(), seconds))).ok_or_else(wrong)
    }

    /// The filters of a list; each has one member. `kind` is the name of a filter in messages.
    pub(crate) fn filters(&self, member: &str, kind: &str) -> Result<Vec<(String, Value)>, Refusal> {
        let list = self.get(member).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut filters = Vec::new();
        for (at, filter) in list.iter().enumerate() {
            let found = filter.as_object().and_then(|filter| filter.iter().next());
            let Some((name, value)) = found else {
                let field = format!("{}[{at}]", pascal(member));
                let rule = format!(
                    "embedded message failed validation | caused by: invalid {kind}: value is required"
                );
                return Err(self.invalid(&field, &rule));
            };
            filters.push((name.clone(), value.clone()));
        }
        Ok(filters)
    }
}

/// The name of a field in messages: `organizationId` is `OrganizationId`.
fn pascal(member: &str) -> String {
    let mut letters = member.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}
