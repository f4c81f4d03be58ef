//! What an entry of the log says, and what a shared verdict is made of.

use std::time::Duration;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{events::event::Event, store::Place, verdict::evict::Evict};

/// One thing that an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Item {
    /// Only takes a place in the log.
    Nothing,
    /// What cannot be read: a newer version may have written it, so it means anything.
    #[serde(skip)]
    Unknown,
    /// An event of the issuer. Each reader decides what it means for its own project.
    Event {
        event: Box<Event>,
        /// When it happened, in Unix seconds of the issuer's clock.
        at: i64,
    },
    Evict {
        what: Evict,
        /// Only claims have changed.
        #[serde(default)]
        is_soft: bool,
        /// For JWTs: what was issued before that has ended. In Unix seconds of the issuer's clock.
        #[serde(default)]
        at: Option<i64>,
    },
}

impl Item {
    /// What is evicted at once.
    pub(crate) fn evict(what: Evict) -> Self {
        Self::Evict { what, is_soft: false, at: None }
    }

    /// When it happened.
    pub(crate) fn at(&self) -> Option<i64> {
        match self {
            Self::Event { at, .. } => Some(*at),
            Self::Evict { at, .. } => *at,
            Self::Nothing | Self::Unknown => None,
        }
    }
}

/// As one element of an entry.
pub(crate) fn encode(item: &Item) -> Vec<u8> {
    serde_json::to_vec(item).expect("what is published can be written: no token is")
}

pub(crate) fn decode(text: &[u8]) -> Vec<Item> {
    let Ok(items) = serde_json::from_slice::<Vec<Value>>(text) else { return vec![Item::Unknown] };
    items.into_iter().map(|item| serde_json::from_value(item).unwrap_or(Item::Unknown)).collect()
}

/// A verdict that an instance has asked for and that others may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedVerdict {
    /// When the question was sent, since 1970 by the clock of the instance that sent it.
    pub(crate) asked_at: Duration,
    /// Until where that instance had read the log then.
    pub(crate) place: Place,
    /// Events tell of everything that can change it.
    pub(crate) is_told_by_events: bool,
    /// The issuer's answer, as it was received.
    pub(crate) answer: String,
}

const HEAD: usize = 8 + 16 + 8 + 1;

impl SharedVerdict {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let millis = u64::try_from(self.asked_at.as_millis()).unwrap_or(u64::MAX);
        let told = u8::from(self.is_told_by_events);
        let head = [&millis.to_be_bytes()[..], &self.place.epoch, &self.place.number.to_be_bytes(), &[told]];
        [&head.concat()[..], self.answer.as_bytes()].concat()
    }

    pub(crate) fn decode(text: &[u8]) -> Option<Self> {
        let (head, answer) = text.split_at_checked(HEAD)?;
        let (millis, head) = head.split_first_chunk::<8>()?;
        let (epoch, head) = head.split_first_chunk::<16>()?;
        let (number, told) = head.split_first_chunk::<8>()?;
        Some(Self {
            asked_at: Duration::from_millis(u64::from_be_bytes(*millis)),
            place: Place { epoch: *epoch, number: u64::from_be_bytes(*number) },
            is_told_by_events: told == [1],
            answer: String::from_utf8(answer.to_vec()).ok()?,
        })
    }
}

/// The hash of an epoch and of ids.
pub(super) type Hash = [u8; 32];

pub(super) fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Says until when the leader knows all events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    /// All evictions that these events cause are in the log up to here.
    pub(crate) epoch: [u8; 16],
    pub(crate) number: u64,
    /// The hash of the ids of the newest entries up to there.
    pub(crate) hash: Hash,
    /// Grows by one with each heartbeat of an epoch.
    pub(crate) counter: u64,
    /// The version of the table of events.
    pub(crate) version: u32,
    /// What only changes claims is followed as well.
    pub(crate) follows_claims: bool,
    /// The newest event, in microseconds since 1970 of the issuer's clock.
    pub(crate) cursor: i64,
    /// No event was missed for verdicts that were asked for at this entry or later.
    pub(crate) from: u64,
    /// No event since then was missed, in Unix seconds of the issuer's clock.
    pub(crate) since: i64,
    /// When the poll was sent, in milliseconds since 1970 by the leader's clock, and by that of the store.
    pub(crate) wall: u64,
    pub(crate) time: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{events::event::Payload, seal::Name};

    #[test]
    fn items_come_back_as_they_were() {
        let event = Event {
            kind: "user.grant.changed".to_owned(),
            id: "1".to_owned(),
            payload: Payload { user: Some("2".to_owned()), ..Payload::default() },
            ..Event::default()
        };
        let evictions = [
            Evict::TokenId("V2_1".into()),
            Evict::Predecessors("V2_1-at_2".into()),
            Evict::User("1".into()),
            Evict::Organization("1".into()),
            Evict::UsersOf("1".into()),
            Evict::RolesFrom("1".into()),
            Evict::Role("1".into(), "admin".into()),
            Evict::AnyRole("1".into()),
            Evict::OidcSessions,
            Evict::FirstLogin,
            Evict::Jwts,
            Evict::Groups,
            Evict::Name(Name([7; 32])),
            Evict::All,
        ];
        let soft = |what: Evict| Item::Evict { what, is_soft: true, at: Some(7) };
        let items: Vec<_> = evictions
            .iter()
            .flat_map(|what| [Item::evict(what.clone()), soft(what.clone())])
            .chain([Item::Event { event: Box::new(event), at: 5 }, Item::Nothing])
            .collect();
        let texts: Vec<_> = items.iter().map(encode).collect();
        assert_eq!(decode(&[b"[", &texts.join(&b',')[..], b"]"].concat()), items);
    }

    #[test]
    fn what_a_newer_version_says_evicts_all() {
        for text in
            ["", "{}", "null", r#"["?"]"#, r#"[{"evict": {"what": {"planet": "1"}}}]"#, r#"[{"moon": {}}]"#]
        {
            assert_eq!(decode(text.as_bytes()), [Item::Unknown], "{text}");
        }
        let known = json!([{"evict": {"what": {"user": "1"}, "new": 1}}, {"moon": 1}]);
        assert_eq!(
            decode(known.to_string().as_bytes()),
            [Item::evict(Evict::User("1".into())), Item::Unknown]
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_a_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&text);
            if let Some(verdict) = SharedVerdict::decode(&text) {
                prop_assert_eq!(SharedVerdict::decode(&verdict.encode()), Some(verdict));
            }
        }

        #[test]
        fn verdicts_come_back_as_they_were(millis: u64, epoch: [u8; 16], number: u64, told: bool, answer in ".{0,100}") {
            let verdict = SharedVerdict {
                asked_at: Duration::from_millis(millis),
                place: Place { epoch, number },
                is_told_by_events: told,
                answer,
            };
            prop_assert_eq!(SharedVerdict::decode(&verdict.encode()), Some(verdict));
        }
    }
}
