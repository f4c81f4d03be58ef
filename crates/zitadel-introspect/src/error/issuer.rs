//! Why the issuer gave no verdict.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use rustls::CertificateError;

use crate::error::causes::causes;

/// A cause that several waiters share.
pub(crate) type SharedError = Arc<dyn Error + Send + Sync>;

/// Why there is no verdict from the issuer.
///
/// Never a statement about a token. For logs and for [`Verifier::check`](crate::Verifier::check): its
/// texts name addresses and must not reach a caller.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// The issuer refuses our own credentials.
    #[error(
        "the issuer refuses our client authentication (`{error}`): the key may be removed or expired, the \
         application or its project deactivated, the key of another instance, or our clock wrong; download a \
         new key of the API application if none of these"
    )]
    Refused {
        /// The `error` member of the answer (RFC 6749 section 5.2).
        error: String,
    },
    /// No connection, or a broken connection.
    #[error("the issuer cannot be reached")]
    Unreachable(#[source] SharedError),
    /// No answer within the total time-out, a place in the queue included.
    #[error("the issuer did not answer in time")]
    TimedOut,
    /// The issuer asks us to wait (429).
    #[error("the issuer is throttling us")]
    Throttled {
        /// What its `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// A status that is not a usable answer.
    #[error("the issuer answered with status {status}")]
    Status {
        /// The status.
        status: u16,
        /// What its `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// A redirect, which is never followed: it would carry tokens elsewhere.
    #[error(
        "the issuer redirects (status {status}) to {to:?}, and redirects are not followed; configure the address to which \
        it leads, or let the proxy in between pass the request on"
    )]
    #[non_exhaustive]
    Redirected {
        /// The status.
        status: u16,
        /// Where it leads, without a query; the first 200 characters.
        to: String,
    },
    /// The discovery document is not there (404): the host belongs to no ZITADEL instance.
    #[error(
        "there is no ZITADEL instance under the host {host:?}: use its external domain (`ExternalDomain` in ZITADEL's \
        settings){}", if *is_elsewhere { "" } else { ", and `connect_to` if that name cannot be reached from here" }
    )]
    #[non_exhaustive]
    NoInstance {
        /// The host that was looked up.
        host: String,
        /// The address of `connect_to` was asked instead.
        is_elsewhere: bool,
        /// Whether ZITADEL itself gave this answer. If not, the answer may come from a proxy in front of a ZITADEL that
        /// is still starting.
        is_said: bool,
    },
    /// An answer larger than [`VerifierBuilder::max_answer_bytes`](crate::VerifierBuilder::max_answer_bytes) allows.
    #[error(
        "the issuer's answer is larger than {limit} bytes; if the user has that much metadata, raise `max_answer_bytes`"
    )]
    #[non_exhaustive]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// An answer that cannot be used.
    #[error("the issuer's answer is not usable: {problem}")]
    Unusable {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The discovery document names another issuer (RFC 8414 section 3.3).
    #[error(
        "the discovery document names the issuer {found:?}, but {expected:?} is configured; configure the \
         address under which the instance knows itself"
    )]
    OtherIssuer {
        /// The configured issuer.
        expected: String,
        /// The document's.
        found: String,
    },
    /// The issuer calls a token active that was never issued: the server at this address is not an authorization
    /// server.
    #[error(
        "the issuer calls a token active that was never issued; configure the address of a ZITADEL instance"
    )]
    AlwaysActive,
    /// Too many questions are waiting already.
    #[error("too many questions to the issuer are waiting")]
    Overloaded,
    /// A JWT cannot be verified locally, since events are not known far enough, and nobody can be asked about it.
    #[error("ZITADEL's events are not known far enough to trust this JWT, and nobody can be asked about it")]
    EventsUnknown,
    /// The task that asked has ended without an answer: a bug of ours.
    #[error("the question was lost")]
    Lost,
}

impl IssuerError {
    /// What the issuer's own `Retry-After` asked for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The error, its causes, and what to do about the frequent ones, in one line for an operator.
    ///
    /// Names addresses and what libraries say of them: for logs and consoles, never for a caller.
    #[must_use]
    pub fn explain(&self) -> String {
        let remedy = match self {
            Self::Unreachable(cause) => remedy_for(&**cause),
            _ => None,
        };
        let causes = causes(self);
        remedy.map_or(causes.clone(), |remedy| format!("{causes}; {remedy}"))
    }

    /// Seconds after which a caller may try again: what the issuer asked for, within 1 to 10.
    pub(crate) fn retry_after_seconds(&self) -> u64 {
        self.retry_after().map_or(1, |delay| delay.as_secs()).clamp(1, 10)
    }

    /// Whether the issuer has answered, even if with an error: the issuer is reachable.
    pub(crate) fn is_an_answer(&self) -> bool {
        match self {
            Self::Unusable { .. }
            | Self::TooLarge { .. }
            | Self::Redirected { .. }
            | Self::NoInstance { .. } => true,
            Self::Status { status, .. } => *status < 500,
            _ => false,
        }
    }

    /// Whether the failure counts towards the breaker. A malformed answer does not: its cause may be one token alone.
    pub(crate) fn speaks_of_the_issuer(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Unreachable(_) | Self::TimedOut | Self::Throttled { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            Self::Unusable { .. }
            | Self::TooLarge { .. }
            | Self::Redirected { .. }
            | Self::NoInstance { .. }
            | Self::OtherIssuer { .. }
            | Self::AlwaysActive
            | Self::Overloaded
            | Self::EventsUnknown
            | Self::Lost => false,
        }
    }

    /// Whether the same question may be asked a second time at once.
    pub(crate) fn is_worth_a_retry(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Status { status: 502..=504, retry_after: None })
    }
}

/// The `Display` text with its causes: `main` prints this when it returns the error.
impl fmt::Debug for IssuerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.explain())
    }
}

/// Whether an open connection broke: the other connections of its pool may be dead as well.
pub(crate) fn is_broken_connection(error: &IssuerError) -> bool {
    match error {
        IssuerError::Unreachable(cause) => {
            cause.downcast_ref::<reqwest::Error>().is_some_and(|error| !error.is_connect())
        }
        _ => false,
    }
}

/// What to do about the frequent reasons why there is no connection.
fn remedy_for(first: &(dyn Error + Send + Sync + 'static)) -> Option<&'static str> {
    let first: &(dyn Error + 'static) = first;
    if first.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout) {
        return Some("nothing answers there: look at the address, and at firewalls on the way");
    }
    let causes: Vec<_> = std::iter::successors(Some(first), |cause| inner(*cause)).collect();
    causes.iter().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return remedy_for_tls(error);
        }
        let error = cause.downcast_ref::<io::Error>()?;
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                Some("nothing listens there: look at host and port, and whether the issuer runs")
            }
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                Some("there is no route to it: look at the network of this machine or container")
            }
            _ => is_unknown_name(error).then_some(
                "the name is not known here: look at its spelling and at the name server; inside a container network, \
                `connect_to` reaches the issuer by an inner name",
            ),
        }
    })
}

/// The error inside an error. `io::Error::source` skips the error that it wraps, so that one is taken by `get_ref`.
fn inner<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// The standard library has no kind of its own for the resolver's errors.
fn is_unknown_name(error: &io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address information")
}

fn remedy_for_tls(error: &rustls::Error) -> Option<&'static str> {
    let rustls::Error::InvalidCertificate(error) = error else {
        return matches!(error, rustls::Error::InvalidMessage(_)).then_some(
            "it does not speak TLS on this port: write `http://` before the address, or use another port",
        );
    };
    Some(match error {
        CertificateError::UnknownIssuer => {
            "its certificate is not signed by an authority that is trusted here: install `ca-certificates`, or give the \
            certificate of its own authority (root certificates)"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: renew it, and look at the clock of this machine"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: look at the clock of this machine"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name: use the name for which it was made"
        }
        // The variant wraps an error of a lower library, whose type is not available here.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "its certificate is that of an authority (CA:TRUE): make one for the server itself, with CA:FALSE, and let \
            that authority sign it"
        }
        _ => "its certificate is not accepted: look at the chain that it sends",
    })
}
