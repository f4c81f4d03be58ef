//! Reads a JSON object strictly: a name that is used must not come twice, and no type is guessed.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The document is not usable. The text names the broken member, never its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

/// The members of an object, each as its unread JSON text.
///
/// Borrows the document, and takes memory only for the names and one pointer for each member.
pub(crate) struct Members<'a> {
    by_name: BTreeMap<Cow<'a, str>, &'a RawValue>,
    repeated: BTreeSet<Cow<'a, str>>,
}

impl<'a> Members<'a> {
    /// Reads exactly one object; `None` for any other text.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The same for a nested object: `Err` if any name comes twice.
    pub(crate) fn read_unique(raw: &'a RawValue, name: &'static str) -> Result<Option<Self>, Broken> {
        match Self::read(raw.get()) {
            Some(members) if members.repeated.is_empty() => Ok(Some(members)),
            Some(_) => Err(Broken(name)),
            None => Ok(None),
        }
    }

    /// A member that must come at most once. `null` is absent (RFC 7662 section 2.2: all but `active` are optional).
    pub(crate) fn get(&self, name: &'static str) -> Result<Option<&'a RawValue>, Broken> {
        if self.repeated.contains(name) {
            return Err(Broken(name));
        }
        Ok(self.by_name.get(name).copied().filter(|raw| raw.get() != "null"))
    }

    /// Whether the name stands in the document at all, whatever its value.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Reads a member. A wrong type makes the document unusable.
    pub(crate) fn checked<T: Deserialize<'a>>(&self, name: &'static str) -> Result<Option<T>, Broken> {
        let read = |raw: &'a RawValue| serde_json::from_str(raw.get()).map_err(|_| Broken(name));
        self.get(name)?.map(read).transpose()
    }

    /// Reads a time. A wrong type or a time out of range makes the document unusable.
    pub(crate) fn checked_date(&self, name: &'static str) -> Result<Option<NumericDate>, Broken> {
        let read = |raw: &'a RawValue| NumericDate::read(raw).and_then(|date| date.ok_or(OutOfRange));
        self.get(name)?.map(read).transpose().map_err(|OutOfRange| Broken(name))
    }

    /// Reads a time. A wrong type counts as absent; a time out of range makes the document unusable.
    pub(crate) fn lenient_date(&self, name: &'static str) -> Result<Option<NumericDate>, Broken> {
        let date = self.get(name)?.map(NumericDate::read).transpose();
        date.map(Option::flatten).map_err(|OutOfRange| Broken(name))
    }

    /// Reads a member. A wrong type counts as absent.
    pub(crate) fn lenient<T: Deserialize<'a>>(&self, name: &'static str) -> Result<Option<T>, Broken> {
        Ok(self.get(name)?.and_then(|raw| serde_json::from_str(raw.get()).ok()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.by_name.iter().map(|(name, raw)| (&**name, *raw))
    }

    pub(crate) fn repeats(&self, name: &str) -> bool {
        self.repeated.contains(name)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members { by_name: BTreeMap::new(), repeated: BTreeSet::new() };
                while let Some((Name(name), raw)) = map.next_entry::<Name<'_>, &RawValue>()? {
                    if members.by_name.insert(name.clone(), raw).is_some() {
                        members.repeated.insert(name);
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A name, borrowed where the document spells it without escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A `NumericDate` of RFC 7519 section 2, within the range of whole seconds in 64 bits.
pub(crate) enum NumericDate {
    Whole(i64),
    Fraction(f64),
}

/// A number that is not a valid time. If it were read as "no expiry", an expired token could pass.
#[derive(Debug)]
pub(crate) struct OutOfRange;

impl NumericDate {
    /// `None` for anything but a number.
    fn read(raw: &RawValue) -> Result<Option<Self>, OutOfRange> {
        const BEYOND: f64 = 9_223_372_036_854_775_808.0; // 2^63
        let text = raw.get();
        if !matches!(text.as_bytes(), [b'-' | b'0'..=b'9', ..]) {
            return Ok(None);
        }
        if let Ok(seconds) = text.parse() {
            return Ok(Some(Self::Whole(seconds)));
        }
        let seconds: f64 = text.parse().map_err(|_| OutOfRange)?;
        (-BEYOND..BEYOND).contains(&seconds).then_some(Some(Self::Fraction(seconds))).ok_or(OutOfRange)
    }

    /// For an end: rounded down, so the token is not valid for longer than it says.
    pub(crate) fn floor(&self) -> i64 {
        self.rounded(f64::floor)
    }

    /// Rounds up, for a beginning.
    pub(crate) fn ceil(&self) -> i64 {
        self.rounded(f64::ceil)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the value is whole and within range")]
    fn rounded(&self, round: fn(f64) -> f64) -> i64 {
        match self {
            Self::Whole(seconds) => *seconds,
            Self::Fraction(seconds) => round(*seconds) as i64,
        }
    }
}

/// A text or a list of texts: `aud` comes as either (RFC 7519 section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// A Boolean, or its text: some other issuers write `email_verified` as text.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Flag {
    Bool(bool),
    Text(String),
}

impl Flag {
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Bool(flag) => *flag,
            Self::Text(text) => text == "true",
        }
    }
}
