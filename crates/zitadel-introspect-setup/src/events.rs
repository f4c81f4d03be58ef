//! The events: a service user that reads them, and the target of webhooks.

mod calls;
mod executions;
pub(crate) mod feed;
mod key_change;
pub(crate) mod webhook;
