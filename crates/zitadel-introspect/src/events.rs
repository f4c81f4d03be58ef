//! ZITADEL's events: what is read of each, and which verdicts it ends. Used by the event feed and by webhooks.

pub(crate) mod event;
pub(crate) mod table;
