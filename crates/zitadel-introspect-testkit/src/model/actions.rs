//! Targets of webhooks, and what calls them.

use serde_json::Value;

use super::{Birth, Id};

/// A target of webhooks, made by a call.
pub(crate) struct ActionTarget {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) endpoint: String,
    /// `restWebhook`, `restCall` or `restAsync`, with its settings.
    pub(crate) kind: (String, Value),
    pub(crate) timeout: String,
    pub(crate) signing_key: String,
}

/// The targets of one condition.
pub(crate) struct Execution {
    pub(crate) on: On,
    pub(crate) targets: Vec<Id>,
    /// When it was first set, and when it was last changed.
    pub(crate) born: Birth,
}

/// The condition of an execution. ZITADEL calls the targets of the best match alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum On {
    Event(String),
    Group(String),
    All,
}

impl On {
    /// How well it matches an event: the event itself before the longest group before all.
    pub(crate) fn fitness(&self, event: &str) -> Option<usize> {
        match self {
            Self::Event(own) => (own == event).then_some(usize::MAX),
            Self::Group(group) => {
                let rest = event.strip_prefix(&**group)?;
                rest.starts_with('.').then_some(group.len())
            }
            Self::All => Some(0),
        }
    }
}
