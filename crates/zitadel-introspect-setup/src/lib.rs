#![doc = include_str!("../README.md")]

// The floors, from the ground up: a module imports from floors below its own. `.ci/floors` reads this list.
//
// floor: expiry step
// floor: error
// floor: answer secret_file
// floor: organization
// floor: rights
// floor: run
// floor: secret
// floor: application authorization project user
// floor: api
// floor: events prove

mod answer;
mod api;
mod application;
mod authorization;
mod error;
mod events;
mod expiry;
mod organization;
mod project;
mod prove;
mod rights;
mod run;
mod secret;
mod secret_file;
mod step;
mod user;

pub use api::ApiSetup;
pub use error::SetupError;
pub use events::{feed::FeedSetup, webhook::WebhookSetup};
pub use prove::Proof;
pub use run::{Mode, Outcome};
pub use step::{Sign, Step};
