//! Why the issuer gave no verdict.

use std::{error::Error, sync::Arc, time::Duration};

/// A cause that several waiters share.
pub(crate) type SharedError = Arc<dyn Error + Send + Sync>;

/// Why no verdict could be had from the issuer.
///
/// Never a statement about a token. For logs and for [`Verifier::check`](crate::Verifier::check): its
/// texts name addresses and must not reach a caller.
#[derive(Debug, Clone, thiserror::Error)]
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
    /// No connection, or one that broke.
    #[error("the issuer cannot be reached")]
    Unreachable(#[source] SharedError),
    /// No answer within the total time-out, a place in the queue included.
    #[error("the issuer did not answer in time")]
    TimedOut,
    /// The issuer asks for patience (429).
    #[error("the issuer is throttling us")]
    Throttled {
        /// What its `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// A status that is no answer.
    #[error("the issuer answered with status {status}")]
    Status {
        /// The status.
        status: u16,
        /// What its `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// An answer that is not what was asked for.
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
    /// The issuer calls a token active that never was: whatever answers there is no authorization server.
    #[error("the issuer calls a token active that never was; configure the address of a ZITADEL instance")]
    AlwaysActive,
    /// Too many questions are waiting already.
    #[error("too many questions to the issuer are waiting")]
    Overloaded,
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

    /// Seconds after which a caller may try again: what the issuer asked for, within 1 to 10.
    pub(crate) fn retry_after_seconds(&self) -> u64 {
        self.retry_after().map_or(1, |delay| delay.as_secs()).clamp(1, 10)
    }

    /// Whether the issuer has answered, if not well: it is there.
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(self, Self::Unusable { .. } | Self::Status { status: ..500, .. })
    }

    /// Whether other questions will fare the same. An answer that is broken may be so for one token alone,
    /// and nobody may lock others out with such a token.
    pub(crate) fn speaks_of_the_issuer(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Unreachable(_) | Self::TimedOut | Self::Throttled { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            Self::Unusable { .. }
            | Self::OtherIssuer { .. }
            | Self::AlwaysActive
            | Self::Overloaded
            | Self::Lost => false,
        }
    }

    /// Whether the same question may be asked a second time at once.
    pub(crate) fn is_worth_a_retry(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Status { status: 502..=504, retry_after: None })
    }
}
