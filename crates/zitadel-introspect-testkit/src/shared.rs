//! The state that the server's thread and the test's handles share.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use http::HeaderMap;
use tokio::sync::{mpsc, watch};

use crate::{
    endpoints::Endpoint,
    events::{Delivery, Target},
    faults::{Fault, Faults, Kind},
    head::header_text,
    model::State,
    request::{Request, Requests},
};

pub(crate) struct Shared {
    state: Mutex<State>,
    faults: Mutex<Faults>,
    target: Mutex<Option<Target>>,
    deliveries: mpsc::UnboundedSender<Delivery>,
    counts: watch::Sender<BTreeMap<Endpoint, usize>>,
    requests: Mutex<Requests>,
    scheme: &'static str,
    hosts: Vec<String>,
}

impl Shared {
    pub(crate) fn new(
        state: State,
        hosts: Vec<String>,
        deliveries: mpsc::UnboundedSender<Delivery>,
    ) -> Arc<Self> {
        let scheme = if state.issuer.starts_with("https:") { "https" } else { "http" };
        Arc::new(Self {
            state: Mutex::new(state),
            faults: Mutex::default(),
            target: Mutex::default(),
            deliveries,
            counts: watch::Sender::new(BTreeMap::new()),
            requests: Mutex::default(),
            scheme,
            hosts,
        })
    }

    /// Reads or changes the state; events of the change are already queued for delivery when this returns.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let before = state.events.len();
        state.push = None;
        let lag = state.grant_lag;
        let grants = (!lag.is_zero()).then(|| state.grants.clone());
        let result = change(&mut state);
        if let Some(grants) = grants.filter(|grants| *grants != state.grants) {
            state.grants_before.push_back((Instant::now() + lag, grants));
        }
        let own = lock(&self.target).clone();
        for event in state.events.get(before..).unwrap_or_default() {
            for target in own.iter().cloned().chain(state.called_for(event.event_type)) {
                let _ = self.deliveries.send((target, event.clone(), state.clock_ahead, state.webhooks));
            }
        }
        result
    }

    pub(crate) fn set_target(&self, target: Option<Target>) {
        *lock(&self.target) = target;
    }

    pub(crate) fn target(&self) -> Option<Target> {
        lock(&self.target).clone()
    }

    pub(crate) fn inject(&self, fault: Fault) {
        lock(&self.faults).inject(fault);
    }

    pub(crate) fn heal(&self) {
        lock(&self.faults).heal();
    }

    pub(crate) fn take_fault(&self, endpoint: Endpoint, token: Option<&str>, path: &str) -> Option<Kind> {
        lock(&self.faults).take(endpoint, token, path)
    }

    pub(crate) fn count(&self, endpoint: Endpoint) {
        self.counts.send_modify(|counts| *counts.entry(endpoint).or_default() += 1);
    }

    pub(crate) fn keep(&self, request: Request) {
        lock(&self.requests).keep(request);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.requests).all()
    }

    pub(crate) fn counts(&self) -> watch::Receiver<BTreeMap<Endpoint, usize>> {
        self.counts.subscribe()
    }

    /// The issuer for a request's host, found as in ZITADEL: the instance by `x-zitadel-instance-host` or `Host`, the
    /// origin by `x-zitadel-public-host` or the instance's host.
    pub(crate) fn issuer_of(&self, headers: &HeaderMap) -> Option<String> {
        let instance =
            header_text(headers, "x-zitadel-instance-host").or_else(|| header_text(headers, "host"))?;
        let public = header_text(headers, "x-zitadel-public-host").unwrap_or(instance);
        self.hosts
            .iter()
            .any(|host| host.eq_ignore_ascii_case(without_port(instance)))
            .then(|| format!("{}://{public}", self.scheme))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
