//! The tasks server of ZITADEL's guide for APIs.
//!
//! `tasks.rs` says what each route answers and knows no web framework, `form.rs` reads a task, `store.rs`
//! keeps them; `routes.rs` is the glue to axum, `serve.rs` the server around it.

pub mod form;
pub mod routes;
pub mod serve;
pub mod store;
pub mod tasks;
