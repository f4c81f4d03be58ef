//! What a test holds in its hands: the instance, and handles to what is in it. Each handle leads to the others.

pub(crate) mod issuer;
pub(crate) mod project;
pub(crate) mod token;
pub(crate) mod user;
