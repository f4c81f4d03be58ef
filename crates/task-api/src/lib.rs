//! The tasks server of ZITADEL's guide for APIs.
//!
//! `tasks.rs` says what each route answers and knows no web framework; `form.rs` reads a task, `page.rs` which part of
//! the list is asked for, `store.rs` keeps tasks; `arguments.rs`, `settings.rs`, `verifier.rs`, `start.rs` and `demo.rs`
//! are the way from the command line to a listening socket, `check.rs` the way to an explanation. Only `routes.rs`, the
//! glue to axum, the layers `limits.rs` and `observe.rs`, and `serve.rs`, the server around it with its
//! `connections.rs`, know the framework; `grpc.rs` is the same for tonic.

mod arguments;
mod check;
mod connections;
mod demo;
pub mod form;
pub mod grpc;
pub mod limits;
mod metrics;
mod observe;
mod openapi;
pub mod options;
mod page;
pub mod readiness;
pub mod routes;
pub mod serve;
mod settings;
pub mod start;
pub mod store;
pub mod tasks;
mod verifier;
