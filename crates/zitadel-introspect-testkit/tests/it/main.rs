//! The testkit from outside: against what a running ZITADEL was recorded to answer.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod binary;
mod events;
mod faults;
mod life;
mod management;
mod replay;
mod search;
mod world;
