//! For orchestrators: whether the relay lives, and whether it does its work.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use zitadel_introspect::Relay;

#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    missing: Vec<Missing>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Missing {
    /// Events are not read, neither here nor by another relay.
    EventFeed,
    /// The shared server is not reached, or the secret is another one.
    Shared,
}

/// The paths are those of task-api.
pub(crate) fn routes(relay: Relay) -> Router {
    let alive = async || Json("OK");
    Router::new().route("/api/healthz", get(alive)).route("/readyz", get(readyz)).with_state(relay)
}

async fn readyz(State(relay): State<Relay>) -> Response {
    let is_blind = relay.shared().is_none_or(|shared| shared.is_blind);
    let is_current = relay.event_feed().is_some_and(|feed| feed.is_current);
    let missing: Vec<_> = [(!is_current).then_some(Missing::EventFeed), is_blind.then_some(Missing::Shared)]
        .into_iter()
        .flatten()
        .collect();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready: missing.is_empty(), missing })).into_response()
}
