//! Communication with the issuer: its name, its metadata and keys, and questions about tokens.

pub(crate) mod answer;
pub(crate) mod breaker;
pub(crate) mod client_auth;
pub(crate) mod connector;
pub(crate) mod discovery;
pub(crate) mod http;
pub(crate) mod introspection;
pub(crate) mod key_watch;
pub(crate) mod keys;
pub(crate) mod name;
pub(crate) mod queue;
pub(crate) mod remembered;
