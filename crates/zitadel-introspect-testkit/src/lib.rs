#![doc = include_str!("../README.md")]

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
mod request;
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
pub use request::Request;
pub use token::{AccessTokenRequest, Login, Token};
pub use user::{RoleGrant, User};
