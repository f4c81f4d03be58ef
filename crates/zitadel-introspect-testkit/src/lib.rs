//! A ZITADEL-compatible issuer on a loopback port, **for tests and demos only**.
//!
//! It answers as a running ZITADEL v4 was recorded to answer: discovery, keys, introspection with both
//! client authentications really verified, userinfo and revocation. Its state is made and changed by the
//! test; its faults are chosen by the test.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use zitadel_introspect_testkit::Issuer;
//!
//! let issuer = Issuer::start().await;
//! let project = issuer.project("tasks");
//! project.add_role("admin");
//! let api = project.api("task-api");
//! let robot = issuer.service_user("robot");
//! let grant = robot.grant(&project, ["admin"]);
//! let token = robot.pat();
//!
//! // An API under test is configured with `issuer.url()` and `api.key_json()`, and called with `token`.
//! assert!(api.key_json().contains(&api.client_id()));
//! grant.remove(); // and from the next introspection on the role is gone
//! # let _ = token;
//! # }
//! ```
//!
//! It listens on loopback addresses only, and shares no code with the libraries that it tests.

mod issuer;
mod project;
mod token;
mod user;

mod answer;
mod body;
mod claims;
mod client_auth;
mod connection;
mod endpoints;
mod events;
mod faults;
mod form;
mod keys;
mod model;
mod secret_file;
mod server;
mod shared;

pub use endpoints::Endpoint;
pub use events::Event;
pub use faults::{Fault, Held};
pub use issuer::{Issuer, IssuerBuilder};
pub use keys::Algorithm;
pub use model::Profile;
pub use project::{Api, ApiKey, Organization, Project, WebApp};
pub use token::{AccessTokenRequest, Login, Token};
pub use user::{RoleGrant, User};
