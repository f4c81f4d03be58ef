//! The store against a real server.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod cluster;
mod configuration;
mod contract;
