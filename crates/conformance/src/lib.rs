//! The cases that every adapter must pass, driven over HTTP against the embedded issuer.
//!
//! An adapter's tests offer a server with the routes of [`Settings`], and call [`run`]. The suite knows
//! neither the adapter nor the core. It does not pin what a framework's router decides about spellings of
//! a path, only that no spelling opens a guarded route.
//!
//! [`tasks`] drives a tasks server, as a process, through the transcripts of ZITADEL's guide for APIs.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test suite panics where a case fails")]

mod cases;
pub mod grpc;
pub mod http;
pub mod proxy;
pub mod tasks;
pub mod valkey;
mod world;

use std::{any::Any, net::SocketAddr};

use world::World;

/// What a server under test is to be made with. It offers, each for GET and HEAD where not said otherwise:
///
/// | route | who passes | body of a 200 |
/// |---|---|---|
/// | `/public` | everybody | `public` |
/// | `/caller` | extractor: any caller | the user id |
/// | `/admin` | extractor with the role `admin` in its type | the user id |
/// | `/maybe` | optional extractor | the user id or `anonymous` |
/// | `/organizations/{id}` | any caller, then in the handler: `editor` in that organization | `editor` |
/// | `/organizations/{id}/own` | any caller, then in the handler: the caller's own organization | `own` |
/// | `/layer/caller`, also POST | layer: any caller; extractor: any caller | the user id |
/// | `/layer/any-role` | layer: `editor` or `admin` | `passed` |
/// | `/layer/all-roles` | layer: `editor` and `admin` | `passed` |
/// | `/layer/scope` | layer: scope `tasks:read` | `passed` |
/// | `/layer/combined` | layer: (`admin` and scope `tasks:read`) or `owner` | `passed` |
/// | `/layer/project` | layer: `auditor` in the other project | `passed` |
/// | `/.well-known/oauth-protected-resource` | everybody | the metadata of RFC 9728 |
///
/// With [`Settings::without_verifier`] its state lacks the verifier, where that compiles.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The issuer's identifier.
    pub issuer: String,
    /// The key.json of the API.
    pub key_json: String,
    /// The id of the other project.
    pub other_project: String,
    /// A realm for challenges.
    pub realm: Option<&'static str>,
    /// The protected resource's own address (RFC 9728), with the scope `tasks:read`.
    pub resource: Option<&'static str>,
    /// Bodies of errors are `{"own":<status>}`, as `application/problem+json`.
    pub own_bodies: bool,
    /// The verifier holds no verdicts: each verification is a question.
    pub cache_off: bool,
    /// The verifier is forgotten.
    pub without_verifier: bool,
}

/// A server that runs until it is dropped.
pub struct Running {
    address: SocketAddr,
    _guard: Box<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Running {
    /// A server at an address; `guard` stops it when dropped.
    pub fn new(address: SocketAddr, guard: impl Any + Send + Sync) -> Self {
        Self { address, _guard: Box::new(guard) }
    }
}

/// How a server under test is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// gRPC: each route is a method of [`grpc::SERVICE`] with the name that [`grpc::method`] gives it. What is about
    /// methods, paths and headers of HTTP is left out.
    Grpc,
}

/// An adapter under test.
pub trait Adapter {
    /// HTTP unless set.
    const PROTOCOL: Protocol = Protocol::Http;
    /// For messages.
    const NAME: &'static str;
    /// Whether a forgotten verifier compiles, and is answered with 500.
    const COMPILES_WITHOUT_VERIFIER: bool;

    /// Starts the server that [`Settings`] describe.
    fn serve(settings: Settings) -> impl Future<Output = Running> + Send;
}

/// Runs all cases, and panics with the adapter's name and the cases that failed.
pub async fn run<A: Adapter + 'static>() {
    let cases = cases::all::<A>();
    let count = cases.len();
    let mut failed = Vec::new();
    for (name, case) in cases {
        if let Err(error) = tokio::spawn(case).await {
            let cause = error.try_into_panic().ok();
            let text = cause.as_deref().map(message).unwrap_or_default();
            failed.push(format!("{} / {name}: {text}", A::NAME));
        }
    }
    report(&format!("conformance: {}: {count} cases, {} failed", A::NAME, failed.len()));
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

fn message(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// A line past the capture of the test harness: it is part of the proof.
pub fn report(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The examples of the workspace's page: no package has them, and all are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
