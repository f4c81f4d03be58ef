//! The tasks server of ZITADEL's guide for APIs.
//!
//! `tasks.rs` says what each route answers and knows no web framework, `form.rs` reads a task, `store.rs`
//! keeps them; `arguments.rs`, `start.rs` and `demo.rs` are the way from the command line to a listening
//! socket. Only `routes.rs`, the glue to axum, and `serve.rs`, the server around it, know the framework.

pub mod arguments;
mod demo;
pub mod form;
pub mod routes;
pub mod serve;
pub mod start;
pub mod store;
pub mod tasks;
