//! Limits: requests in flight, the time of one request, and the request rate of one client.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    error_handling::HandleErrorLayer,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use tokio::sync::Semaphore;
use tower::{BoxError, ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::error::Overloaded};

use crate::{answer::respond, tasks};

/// How often clients without recent requests are removed.
const FORGET_INTERVAL: Duration = Duration::from_mins(1);

/// The limits that an operator may set; clones share their state.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For requests in flight; further requests are refused with 503.
    at_once: Arc<Semaphore>,
    /// For requests of one client per second; further requests are refused with 429.
    rate: Option<Limiter>,
    connections_per_client: usize,
}

/// How many clients have their own rate. Further clients share one rate until some clients are removed.
const MOST_CLIENTS: usize = 50_000;

/// Half of the connections of a port: a proxy before the server counts as one client, and no client can take them all.
const CONNECTIONS_PER_CLIENT: usize = 256;

/// The sender, by the address of the connection. Headers of a proxy are not read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub(crate) IpAddr);

impl Default for Limits {
    fn default() -> Self {
        Self::new(1024, None)
    }
}

impl Limits {
    /// Limits the requests in flight, and the requests of one client per second.
    #[must_use]
    pub fn new(at_once: usize, per_second: Option<NonZeroU32>) -> Self {
        let (at_once, rate) = (Arc::new(Semaphore::new(at_once)), per_second.map(limiter));
        Self { at_once, rate, connections_per_client: CONNECTIONS_PER_CLIENT }
    }

    /// Limits the connections of one client to each port.
    #[must_use]
    pub fn connections_per_client(mut self, connections: usize) -> Self {
        self.connections_per_client = connections;
        self
    }

    pub(crate) fn per_client(&self) -> usize {
        self.connections_per_client
    }

    /// Applies the limits to routes, with a time limit for one request.
    pub(crate) fn around<S: Clone + Send + Sync + 'static>(
        &self,
        routes: Router<S>,
        time: Duration,
    ) -> Router<S> {
        let bounded = ServiceBuilder::new()
            .layer(HandleErrorLayer::new(refuse))
            .load_shed()
            .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&self.at_once)))
            .timeout(time);
        let routes = routes.layer(bounded);
        match &self.rate {
            Some(rate) => routes.layer(middleware::from_fn_with_state(Arc::clone(rate), limit_rate)),
            None => routes,
        }
    }
}

type Limiter = Arc<DefaultKeyedRateLimiter<IpAddr>>;

fn limiter(rate: NonZeroU32) -> Limiter {
    let limiter = Arc::new(RateLimiter::keyed(Quota::per_second(rate)));
    let known = Arc::downgrade(&limiter);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FORGET_INTERVAL).await;
            let Some(limiter) = known.upgrade() else { return };
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    });
    limiter
}

async fn limit_rate(State(limiter): State<Limiter>, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<Client>().map(|client| network(client.0));
    let is_full = limiter.len() >= MOST_CLIENTS;
    let client = client.map(|client| if is_full { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { client });
    match client.map(|client| limiter.check_key(&client)) {
        Some(Err(not_until)) => {
            let wait = not_until.wait_time_from(governor::clock::DefaultClock::default().now());
            come_back(StatusCode::TOO_MANY_REQUESTS, "too many requests", wait.as_secs() + 1)
        }
        _ => next.run(request).await,
    }
}

/// The network of one customer: IPv6 gives each customer 2^64 addresses.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            IpAddr::from(segments)
        }
        address @ IpAddr::V4(_) => address,
    }
}

async fn refuse(error: BoxError) -> Response {
    let reason = if error.is::<Overloaded>() { "too many requests at once" } else { "no answer in time" };
    tracing::warn!(reason, "request refused");
    come_back(StatusCode::SERVICE_UNAVAILABLE, &format!("unavailable: {reason}"), 1)
}

fn come_back(status: StatusCode, line: &str, seconds: u64) -> Response {
    let mut response = respond(tasks::plain(status, line));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}
