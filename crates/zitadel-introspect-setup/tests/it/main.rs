//! Set-ups of an embedded issuer, over its sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod api;
mod events;
mod interrupted;
mod rights;
mod world;
