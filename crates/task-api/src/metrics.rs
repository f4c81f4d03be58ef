//! The metrics for Prometheus, on a separate address.

use std::{net::TcpListener, time::Duration};

use axum::{Router, routing::get};
use http::header::CONTENT_TYPE;
use metrics::{Unit, describe_counter, describe_histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder};

use crate::{
    exit::StartError,
    limits::Limits,
    serve::{self, Speaks},
};

/// In seconds: from a cache hit to a request that waits for issuer and store.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Collects the metrics of the process from now on, and serves them as long as the process runs. Liveness and readiness
/// are served here as well, because callers cannot use up the connections of this address.
///
/// # Errors
///
/// If another recorder is installed, or the listener cannot be used.
pub fn serve(listener: TcpListener, health: Router, limits: &Limits) -> Result<(), StartError> {
    let numbers = builder()?.install_recorder()?;
    describe();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let render = numbers.clone();
    let text = async move || ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], render.render());
    let router = Router::new().route("/metrics", get(text)).merge(health);
    tokio::spawn(serve::serve(listener, router, Speaks::Http, limits.clone(), std::future::pending()));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            numbers.run_upkeep();
        }
    });
    Ok(())
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets(&BUCKETS)
}

fn describe() {
    describe_counter!(
        "task_api_requests_total",
        Unit::Count,
        "Requests answered, by method, route and status"
    );
    describe_histogram!(
        "task_api_request_seconds",
        Unit::Seconds,
        "Time until the head of an answer, by route"
    );
    describe_counter!(
        "task_api_store_failures_total",
        Unit::Count,
        "Times that the task store gave no answer"
    );
}
