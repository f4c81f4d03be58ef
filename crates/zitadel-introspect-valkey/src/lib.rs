#![doc = include_str!("../README.md")]

// The layers ("floors") of this crate, lowest first: a module imports from lower floors, or from its own folder.
// `.ci/floors` reads this list.
//
// floor: connection scripts
// floor: store
// floor: builder

mod builder;
mod connection;
mod scripts;
mod store;

pub use builder::ValkeyBuilder;
pub use store::Valkey;
