//! The API for tests: the instance, and handles to its projects, users and tokens. Each handle gives access to others.

pub(crate) mod issuer;
pub(crate) mod project;
pub(crate) mod token;
pub(crate) mod user;
