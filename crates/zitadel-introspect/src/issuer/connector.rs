//! How connections to the issuer are made.

use std::time::Duration;

use http::HeaderMap;
use reqwest::{Certificate, Client, Proxy, redirect, retry};

/// Idle connections are closed before the usual NAT gateways and load balancers forget them (about 60 s at the least).
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Firewalls refuse requests without a name.
const USER_AGENT: &str = concat!("zitadel-introspect/", env!("CARGO_PKG_VERSION"));

/// The settings of a client. Kept, so that a client whose connections are dead can be replaced.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    pub(crate) connect_timeout: Duration,
    pub(crate) headers: HeaderMap,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) roots: Vec<Certificate>,
}

impl Connector {
    pub(crate) fn client(&self) -> reqwest::Result<Client> {
        let mut client = Client::builder()
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .tcp_keepalive(KEEP_ALIVE)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .user_agent(USER_AGENT)
            .default_headers(self.headers.clone())
            .tls_certs_merge(self.roots.clone());
        if let Some(proxy) = &self.proxy {
            client = client.proxy(proxy.clone());
        }
        client.build()
    }
}
