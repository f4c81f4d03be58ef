//! Set-ups of an embedded issuer, over its sockets.

mod api;
mod events;
mod interrupted;
mod rights;
mod world;
