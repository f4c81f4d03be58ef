#![doc = include_str!("../README.md")]

// The floors, from the ground up: a module imports from floors below its own. `.ci/floors` reads this list.
//
// floor: answer body connection events form head keys secret_file
// floor: model
// floor: changes rights
// floor: claims client_auth search
// floor: management
// floor: token
// floor: endpoints
// floor: faults request
// floor: shared
// floor: server
// floor: handles::project
// floor: handles::token
// floor: handles::user
// floor: handles

mod answer;
mod body;
mod changes;
mod claims;
mod client_auth;
mod connection;
mod endpoints;
mod events;
mod faults;
mod form;
mod handles;
mod head;
mod keys;
mod management;
mod model;
mod request;
mod rights;
mod search;
mod secret_file;
mod server;
mod shared;
mod token;

pub use endpoints::Endpoint;
pub use events::{Event, Webhooks};
pub use faults::{Fault, Held};
pub use handles::issuer::{Issuer, IssuerBuilder};
pub use handles::project::{Api, ApiKey, Organization, Project, WebApp};
pub use handles::token::{AccessTokenRequest, Login, Token};
pub use handles::user::{RoleGrant, User, UserKey};
pub use keys::Algorithm;
pub use model::Profile;
pub use request::Request;
