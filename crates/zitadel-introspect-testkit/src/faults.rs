//! Faults between an API and its issuer, chosen by the test.

use std::time::{Duration, Instant};

use http::{HeaderName, StatusCode, header};
use tokio::sync::watch;

use crate::{answer::Answer, endpoints::Endpoint};

/// A fault, and the requests that it concerns: by default every introspection until
/// [`Issuer::heal`](crate::Issuer::heal).
///
/// ```
/// use zitadel_introspect_testkit::{Endpoint, Fault};
///
/// let throttled = Fault::status(429).header("retry-after", "7").times(1);
/// let no_discovery = Fault::reset().on(Endpoint::Discovery);
/// ```
#[derive(Debug, Clone)]
pub struct Fault {
    pub(crate) kind: Kind,
    endpoint: Endpoint,
    token: Option<String>,
    call: Option<String>,
    after: usize,
    times: Option<usize>,
    lasting: Option<Duration>,
    until: Option<Instant>,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Latency(Duration),
    Answer(Answer),
    Truncated,
    Reset,
    Refuse,
    HangBeforeHead,
    HangWithinHead,
    HangWithinBody,
    EndlessBody,
    ContentType(String),
    OtherIssuer(String),
    Hold(watch::Receiver<bool>),
}

/// Holds requests back until it is dropped; from [`Issuer::hold`](crate::Issuer::hold).
#[derive(Debug)]
pub struct Held(pub(crate) watch::Sender<bool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Fault {
    pub(crate) fn new(kind: Kind) -> Self {
        let endpoint = Endpoint::Introspection;
        Self { kind, endpoint, token: None, call: None, after: 0, times: None, lasting: None, until: None }
    }

    /// The right answer, but late.
    #[must_use]
    pub fn latency(latency: Duration) -> Self {
        Self::new(Kind::Latency(latency))
    }

    /// Another status, with a short text body.
    ///
    /// # Panics
    ///
    /// If `status` is not within 100 and 999.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::answer(status, "text/plain", "out of order")
    }

    /// A completely different answer.
    ///
    /// # Panics
    ///
    /// If `status` is not within 100 and 999, or `content_type` is no header value.
    #[must_use]
    pub fn answer(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let status = StatusCode::from_u16(status).expect("a status within 100 and 999");
        let answer = Answer::plain(status, "text/plain", body);
        Self::new(Kind::Answer(answer.with_header(header::CONTENT_TYPE, content_type)))
    }

    /// The answer of a ZITADEL whose database is away: 404, in text, on every path.
    #[must_use]
    pub fn database_down() -> Self {
        let body = "unable to set instance using origin http://localhost: dial tcp: connection refused\n";
        Self::answer(404, "text/plain; charset=utf-8", body)
    }

    /// The answer of a ZITADEL instance that is blocked by its limits.
    #[must_use]
    pub fn blocked() -> Self {
        Self::answer(429, "text/plain; charset=utf-8", "instance is blocked\n")
    }

    /// A redirect to another address.
    #[must_use]
    pub fn redirect(location: &str) -> Self {
        Self::status(307).header("location", location)
    }

    /// `{"active":false}`, which ZITADEL also answers for its own errors.
    #[must_use]
    pub fn inactive() -> Self {
        Self::new(Kind::Answer(Answer::inactive()))
    }

    /// The right answer under another media type.
    #[must_use]
    pub fn content_type(content_type: &str) -> Self {
        Self::new(Kind::ContentType(content_type.to_owned()))
    }

    /// Half of the body, then the end of the connection.
    #[must_use]
    pub fn truncated() -> Self {
        Self::new(Kind::Truncated)
    }

    /// A reset connection before the request has taken effect.
    #[must_use]
    pub fn refuse() -> Self {
        Self::new(Kind::Refuse)
    }

    /// A reset connection instead of an answer. The request has taken effect.
    #[must_use]
    pub fn reset() -> Self {
        Self::new(Kind::Reset)
    }

    /// Sends nothing, and keeps the connection open.
    #[must_use]
    pub fn hang_before_head() -> Self {
        Self::new(Kind::HangBeforeHead)
    }

    /// Sends a few bytes of the head, and keeps the connection open.
    #[must_use]
    pub fn hang_within_head() -> Self {
        Self::new(Kind::HangWithinHead)
    }

    /// Sends the head and half of the body, and keeps the connection open.
    #[must_use]
    pub fn hang_within_body() -> Self {
        Self::new(Kind::HangWithinBody)
    }

    /// A body that never ends, sent as fast as it is read.
    #[must_use]
    pub fn endless_body() -> Self {
        Self::new(Kind::EndlessBody)
    }

    /// A discovery document that names another issuer, also in its endpoints.
    #[must_use]
    pub fn other_issuer(issuer: &str) -> Self {
        Self::new(Kind::OtherIssuer(issuer.to_owned())).on(Endpoint::Discovery)
    }

    /// Adds a header to the answer; only for faults that replace the answer.
    ///
    /// # Panics
    ///
    /// If this fault does not replace the answer, or the header is invalid.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let Kind::Answer(answer) = self.kind else { panic!("only an answer of its own takes a header") };
        self.kind = Kind::Answer(answer.with_header(HeaderName::from_static(name), value));
        self
    }

    /// Concerns this endpoint instead of introspection.
    #[must_use]
    pub fn on(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = endpoint;
        self
    }

    /// Concerns only requests about one token.
    #[must_use]
    pub fn for_token(mut self, token: impl AsRef<str>) -> Self {
        self.token = Some(token.as_ref().to_owned());
        self
    }

    /// Concerns only requests whose path ends so, such as `ActionService/CreateTarget`.
    #[must_use]
    pub fn for_call(mut self, path_end: &str) -> Self {
        self.call = Some(path_end.to_owned());
        self
    }

    /// Begins after this many requests that it would concern.
    #[must_use]
    pub fn after(mut self, requests: usize) -> Self {
        self.after = requests;
        self
    }

    /// Ends after this many requests; with zero, the fault concerns no request.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    /// Ends after a time, counted from its injection.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = Some(time);
        self
    }
}

/// The faults that are in force.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn inject(&mut self, mut fault: Fault) {
        fault.until = fault.lasting.map(|time| Instant::now() + time);
        self.0.push(fault);
    }

    pub(crate) fn heal(&mut self) {
        self.0.clear();
    }

    /// The first fault that concerns a request; it counts as used.
    pub(crate) fn take(&mut self, endpoint: Endpoint, token: Option<&str>, path: &str) -> Option<Kind> {
        self.0.retain(|fault| fault.times != Some(0) && fault.until.is_none_or(|end| Instant::now() < end));
        let concerns = |fault: &Fault| {
            fault.endpoint == endpoint
                && (fault.token.is_none() || fault.token.as_deref() == token)
                && fault.call.as_ref().is_none_or(|call| path.ends_with(&**call))
        };
        let mut at = None;
        for (index, fault) in self.0.iter_mut().enumerate().filter(|(_, fault)| concerns(fault)) {
            if fault.after == 0 {
                at = Some(index);
                break;
            }
            fault.after -= 1;
        }
        let at = at?;
        let kind = self.0[at].kind.clone();
        if let Some(times) = &mut self.0[at].times {
            *times -= 1;
            if *times == 0 {
                self.0.remove(at);
            }
        }
        Some(kind)
    }
}
