//! The core from outside: its public API against the embedded issuer, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod allocations;
mod cache;
mod claims;
mod configuration;
mod connection;
mod discovery;
mod edges;
mod faults;
mod feed;
mod flight;
mod fork;
mod jwt;
mod key;
mod line;
mod logs;
mod metrics;
mod pool;
mod questions;
mod reload;
mod resilience;
mod setup;
mod shared;
mod soak;
mod webhook;
