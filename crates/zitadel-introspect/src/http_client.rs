//! One pooled client for the way to the issuer, and what an answer must be to count.

use std::{error::Error, io, sync::Arc, time::Duration};

use http::{
    HeaderName, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER},
};
use reqwest::Response;
use url::Url;

use crate::{
    issuer::{Issuer, is_loopback},
    issuer_error::IssuerError,
};

/// Names the instance where the address does not (ZITADEL's `InstanceHostHeaders`).
pub(crate) const INSTANCE_HOST: HeaderName = HeaderName::from_static("x-zitadel-instance-host");
/// Names the public origin's host (ZITADEL's `PublicHostHeaders`).
pub(crate) const PUBLIC_HOST: HeaderName = HeaderName::from_static("x-zitadel-public-host");

const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The way to the issuer: its own origin, or the one that the user said to connect to.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: reqwest::Client,
    origin: Url,
    elsewhere: bool,
    needs_https: bool,
    allow_http: bool,
}

impl HttpClient {
    pub(crate) fn new(client: reqwest::Client, issuer: &Issuer, base: Option<Url>, allow_http: bool) -> Self {
        let elsewhere = base.is_some();
        let origin = base.unwrap_or_else(|| issuer.url().clone());
        let needs_https = issuer.url().scheme() == "https";
        Self { client, origin, elsewhere, needs_https, allow_http }
    }

    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// An address below the origin that is asked.
    pub(crate) fn at(&self, path: &str) -> Url {
        let mut url = self.origin.clone();
        url.set_path(path);
        url
    }

    /// Where an endpoint of the discovery document is asked: its path where the user said to connect
    /// elsewhere, else its address, which must be as safe as the issuer's.
    pub(crate) fn endpoint(&self, address: &str) -> Result<Url, IssuerError> {
        let unusable = |problem| Err(IssuerError::Unusable { problem });
        let Ok(mut url) = Url::parse(address) else {
            return unusable("an endpoint is not an absolute address");
        };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return unusable("an endpoint is neither https nor http");
        }
        if !url.username().is_empty() || url.password().is_some() {
            // The client would make a second authentication of it.
            return unusable("an endpoint has user information");
        }
        if self.elsewhere {
            let mut asked = self.origin.clone();
            asked.set_path(url.path());
            asked.set_query(url.query());
            return Ok(asked);
        }
        if url.scheme() == "http" && (self.needs_https || !(is_loopback(&url) || self.allow_http)) {
            return unusable("an endpoint is plain http");
        }
        url.set_fragment(None);
        Ok(url)
    }
}

/// The body of an answer that counts: status 200, JSON by its media type, whole, bounded, UTF-8.
pub(crate) async fn read_json(response: Response) -> Result<String, IssuerError> {
    let status = response.status();
    if status != StatusCode::OK {
        return Err(refused(&response, status));
    }
    if !is_json(&response) {
        return Err(IssuerError::Unusable { problem: "it is not application/json" });
    }
    let body = read_bounded(response, MAX_ANSWER_BYTES).await?;
    let text = String::from_utf8(body).map_err(|_| IssuerError::Unusable { problem: "it is not UTF-8" })?;
    // What is read into a type would take a list of values for one as well.
    if text.trim_ascii_start().starts_with('{') {
        Ok(text)
    } else {
        Err(IssuerError::Unusable { problem: "it is not a JSON object" })
    }
}

pub(crate) async fn read_bounded(mut response: Response, limit: usize) -> Result<Vec<u8>, IssuerError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| broken())? {
        if body.len() + chunk.len() > limit {
            return Err(IssuerError::Unusable { problem: "it is larger than the limit" });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn broken() -> IssuerError {
    IssuerError::Unusable { problem: "it ends before its end" }
}

/// No answer at all: tells a connection that failed or broke from everything else.
pub(crate) fn send_error(error: reqwest::Error) -> IssuerError {
    if is_connection_error(&error) {
        // The address is the operator's to know, but it stands in other lines already.
        return IssuerError::Unreachable(Arc::new(error.without_url()));
    }
    if error.is_timeout() {
        return IssuerError::TimedOut;
    }
    IssuerError::Unusable { problem: "it is not HTTP" }
}

fn is_connection_error(error: &reqwest::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let is_broken = |cause: &(dyn Error + 'static)| {
        cause.is::<io::Error>()
            || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
    };
    error.is_connect() || causes.any(is_broken)
}

fn refused(response: &Response, status: StatusCode) -> IssuerError {
    let retry_after = retry_after(response);
    match status {
        StatusCode::TOO_MANY_REQUESTS => IssuerError::Throttled { retry_after },
        _ => IssuerError::Status { status: status.as_u16(), retry_after },
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn is_json(response: &Response) -> bool {
    let headers = response.headers();
    if headers.contains_key(CONTENT_ENCODING) || headers.get_all(CONTENT_TYPE).iter().count() != 1 {
        return false; // one thing is said, and another may be meant
    }
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}
