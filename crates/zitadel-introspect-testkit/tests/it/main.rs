//! The testkit from outside: against what a running ZITADEL was recorded to answer.

mod events;
mod faults;
mod life;
mod replay;
mod world;
