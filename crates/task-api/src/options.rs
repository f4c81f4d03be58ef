//! What an operator may choose of the API, beyond what the guide says.

use std::time::Duration;

use http::HeaderValue;

/// What an operator may choose of the API.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How old a verdict may be where a task is added; as old as any unless set.
    pub add_fresh_within: Option<Duration>,
    /// Origins whose pages may call the API from a browser.
    pub cors_origins: Vec<HeaderValue>,
}
