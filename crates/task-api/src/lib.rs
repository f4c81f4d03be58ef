//! The tasks server of ZITADEL's guide for APIs.
//!
//! `tasks.rs` makes the answers of each route and uses no web framework; `form.rs` reads a task, `page.rs` reads which
//! part of the list is requested, `store.rs` stores tasks; `arguments.rs`, `settings.rs`, `verifier.rs`, `start.rs` and
//! `demo.rs` lead from the command line to a listening socket; `check.rs` checks the settings and explains problems.
//! Only `routes.rs` (the glue to axum), the layers `limits.rs` and `observe.rs`, and `serve.rs` (the server around
//! them, with its `connections.rs`) use the framework; `grpc.rs` is the same for tonic.

// The floors, from the ground up: a module imports from floors below its own, or from its own folder. `.ci/floors` reads
// this list.
//
// floor: connections exit form options page schema shown words
// floor: wiring
// floor: store
// floor: readiness
// floor: tasks
// floor: answer methods
// floor: limits observe
// floor: settings
// floor: serve open verifier handlers
// floor: openapi
// floor: routes
// floor: grpc metrics demo
// floor: arguments check
// floor: start

mod answer;
mod arguments;
mod check;
mod connections;
mod demo;
mod exit;
pub mod form;
pub mod grpc;
mod handlers;
pub mod limits;
mod methods;
mod metrics;
mod observe;
mod open;
mod openapi;
pub mod options;
mod page;
pub mod readiness;
pub mod routes;
mod schema;
pub mod serve;
mod settings;
mod shown;
pub mod start;
pub mod store;
pub mod tasks;
mod verifier;
pub mod wiring;
pub mod words;
