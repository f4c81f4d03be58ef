//! How the issuer is reached: addresses, headers, proxy and certificates.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST,
        TRANSFER_ENCODING, USER_AGENT,
    },
};
use url::Url;

use crate::{
    builder::settings::Settings,
    echo,
    error::config::ConfigError,
    issuer::connector::Connector,
    issuer::http::{INSTANCE_HOST, PUBLIC_HOST},
    issuer::name::{is_loopback, parse_origin},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Headers that this library sets itself.
const OURS: [HeaderName; 12] = [
    ACCEPT,
    ACCEPT_ENCODING,
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    COOKIE,
    HOST,
    TRANSFER_ENCODING,
    USER_AGENT,
    INSTANCE_HOST,
    PUBLIC_HOST,
];

impl Settings {
    /// Where the issuer is asked: another origin, or `None` for its own.
    pub(super) fn base(&self) -> Result<Option<Url>, ConfigError> {
        let base = match &self.connect_to {
            Some(origin) => Some(parse_origin(origin).map_err(|(problem, remedy)| {
                ConfigError::invalid("connect_to", format!("{} {problem}", echo::value(origin)), remedy)
            })?),
            None => None,
        };
        let (field, asked) = match &base {
            Some(base) => ("connect_to", base),
            None => ("issuer", self.issuer.url()),
        };
        for (field, url) in [(field, asked), ("issuer", self.issuer.url())] {
            if url.scheme() == "http" && !is_loopback(url) {
                if !self.allow_http {
                    let origin = url.origin().ascii_serialization();
                    let problem = format!("{origin:?} is plain http, and tokens would travel in the clear");
                    let remedy = "use https, or allow plain http by `dangerous_allow_http`";
                    return Err(ConfigError::invalid(field, problem, remedy));
                }
                tracing::warn!(field, "tokens travel in the clear: plain http is allowed by configuration");
            }
        }
        Ok(base)
    }

    pub(super) fn connector(&self, base: Option<&Url>) -> Result<Connector, ConfigError> {
        let asked = base.unwrap_or(self.issuer.url());
        if asked.scheme() == "http" && !self.root_certificates.is_empty() {
            let problem = "has no effect: the issuer is asked by plain http".to_owned();
            return Err(ConfigError::invalid("root_certificates_pem", problem, "leave it out"));
        }
        let mut proxy = None;
        if let Some(address) = &self.proxy {
            // The parser's own message may repeat credentials that stand in the address.
            let parsed = reqwest::Proxy::all(address).map_err(|_| {
                ConfigError::invalid("proxy", "is not an address".to_owned(), "write `http://host:port`")
            })?;
            if is_loopback(asked) {
                let problem = "has no effect: a loopback issuer is asked without a proxy".to_owned();
                return Err(ConfigError::invalid("proxy", problem, "leave it out"));
            }
            proxy = Some(parsed);
        }
        let mut roots = Vec::new();
        for pem in &self.root_certificates {
            let read = reqwest::Certificate::from_pem_bundle(pem).ok().filter(|found| !found.is_empty());
            roots.extend(read.ok_or_else(|| {
                let problem = "holds no certificate".to_owned();
                let remedy = "give PEM blocks that begin with BEGIN CERTIFICATE";
                ConfigError::invalid("root_certificates_pem", problem, remedy)
            })?);
        }
        let connect_timeout = self.connect_timeout.unwrap_or(CONNECT_TIMEOUT.min(self.timeout));
        Ok(Connector { connect_timeout, headers: self.default_headers(base.is_some())?, proxy, roots })
    }

    fn default_headers(&self, elsewhere: bool) -> Result<HeaderMap, ConfigError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let invalid = || {
                let is_name = HeaderName::try_from(name).is_ok();
                let shown = if is_name { echo::value(name) } else { "a header".to_owned() };
                let problem = format!("{shown} cannot be set");
                let remedy = "give a header name and a printable value that this library does not set itself";
                ConfigError::invalid("header", problem, remedy)
            };
            let name = HeaderName::try_from(name).map_err(|_| invalid())?;
            let mut value = HeaderValue::try_from(value).map_err(|_| invalid())?;
            if OURS.contains(&name) {
                return Err(invalid());
            }
            if headers.contains_key(&name) {
                let problem = format!("{} is set twice", echo::value(name.as_str()));
                return Err(ConfigError::invalid("header", problem, "set it once"));
            }
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if elsewhere {
            for name in [INSTANCE_HOST, PUBLIC_HOST] {
                let authority = HeaderValue::try_from(self.issuer.authority());
                headers.insert(name, authority.expect("a parsed host is a valid header value"));
            }
        }
        Ok(headers)
    }
}
