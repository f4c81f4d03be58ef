//! Options of the API that the guide does not have.

use std::time::Duration;

use http::HeaderValue;
use zitadel_introspect::EventTarget;

/// Options of the API that an operator may set.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How old a verdict may be when a task is added; `None` accepts every cached verdict.
    pub add_fresh_within: Option<Duration>,
    /// Origins whose pages may call the API from a browser.
    pub cors_origins: Vec<HeaderValue>,
    /// Takes ZITADEL's webhooks beside the API; `None`: there is no such route.
    pub event_target: Option<EventTarget>,
}
