//! The tasks server of ZITADEL's guide for APIs.
//!
//! `tasks.rs` makes the answers of each route and uses no web framework; `form.rs` reads a task, `page.rs` reads which
//! part of the list is requested, `store.rs` stores tasks; `arguments.rs`, `settings.rs`, `verifier.rs`, `start.rs` and
//! `demo.rs` lead from the command line to a listening socket; `check.rs` checks the settings and explains problems;
//! `setup.rs` makes in ZITADEL what the server needs.
//! Only `routes.rs` (the glue to axum), the layers `limits.rs` and `observe.rs`, and `serve.rs` (the server around
//! them, with its `connections.rs`) use the framework; `grpc.rs` is the same for tonic.

// The floors, from the ground up: a module imports from floors below its own, or from its own folder. `.ci/floors` reads
// this list.
//
// floor: command_line connections exit form options page schema shown stop words
// floor: report
// floor: wiring
// floor: store
// floor: readiness
// floor: tasks
// floor: answer methods
// floor: limits observe
// floor: settings
// floor: log
// floor: serve open verifier handlers setup
// floor: openapi
// floor: routes
// floor: grpc metrics demo
// floor: arguments check
// floor: start

mod answer;
mod arguments;
mod check;
mod command_line;
mod connections;
mod demo;
mod exit;
pub mod form;
pub mod grpc;
mod handlers;
pub mod limits;
mod log;
mod methods;
mod metrics;
mod observe;
mod open;
mod openapi;
pub mod options;
mod page;
pub mod readiness;
mod report;
pub mod routes;
mod schema;
pub mod serve;
mod settings;
mod setup;
mod shown;
pub mod start;
pub mod stop;
pub mod store;
pub mod tasks;
mod verifier;
pub mod wiring;
pub mod words;

/// What every program of this workspace needs: its command line, its log, its sockets, and how it ends.
pub mod program {
    pub use crate::{
        command_line::{check_variables, explain},
        exit::{BAD_CONFIGURATION, StartError, fail, say},
        log::{log_panics, log_to_stderr},
        metrics::serve as serve_metrics,
        open::listen,
        report::Report,
        settings::{LogFormat, Time},
        setup::{EventsArguments, Instance, events as set_up_events},
        shown::shown,
    };
}
