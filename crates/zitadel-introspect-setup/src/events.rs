//! The events: a service user that reads them, and the target of webhooks.

mod executions;
pub(crate) mod feed;
pub(crate) mod webhook;
