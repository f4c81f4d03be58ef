//! The event feed: reads ZITADEL's event search, evicts what an event ends, and says until when all events are known.

mod apply;
pub(crate) mod credentials;
pub(crate) mod follow;
mod for_all;
#[cfg(test)]
mod model;
mod ours;
mod past;
mod reader;
pub(crate) mod search;
pub(crate) mod settings;
mod state;
mod types;
mod users;
