//! The requests to the issuer, recorded so that a test can also assert what was *not* sent.

use std::{collections::VecDeque, fmt};

use http::{HeaderMap, Method, Uri};

use crate::{endpoints::Endpoint, form::Form};

/// How many of the newest requests are recorded: the memory of a long-running issuer must not grow.
const KEPT: usize = 1_000;

/// A request as received, from [`Issuer::requests`](crate::Issuer::requests).
#[derive(Clone)]
pub struct Request {
    endpoint: Endpoint,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(endpoint: Endpoint, head: &http::request::Parts, body: &[u8]) -> Self {
        let (method, uri, headers) = (head.method.clone(), head.uri.clone(), head.headers.clone());
        Self { endpoint, method, uri, headers, body: body.to_owned() }
    }

    /// Which endpoint was asked.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The method, such as `POST`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// Path and query, such as `/oauth/v2/introspect`.
    #[must_use]
    pub fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
    }

    /// All headers in order, names in lower case. Bytes that are not UTF-8 are replaced.
    pub fn headers(&self) -> impl Iterator<Item = (&str, String)> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
    }

    /// The first header of that name, where it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The first value of a name in the body, read as a form.
    #[must_use]
    pub fn form(&self, name: &str) -> Option<String> {
        Form::read(std::str::from_utf8(&self.body).ok(), None)?.filled(name).map(str::to_owned)
    }
}

/// Without headers and body: they hold credentials.
impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .finish_non_exhaustive()
    }
}

/// The newest requests, in order.
#[derive(Default)]
pub(crate) struct Requests(VecDeque<Request>);

impl Requests {
    pub(crate) fn keep(&mut self, request: Request) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(request);
    }

    pub(crate) fn all(&self) -> Vec<Request> {
        self.0.iter().cloned().collect()
    }
}
