//! Why the event feed cannot read events.

use std::{fmt, sync::Arc};

use crate::{
    error::{causes::causes, issuer::IssuerError},
    store::StoreError,
};

/// Why events cannot be read. The feed goes on trying; verdicts lapse as without it.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// 401: the token of the feed is not valid.
    #[error(
        "ZITADEL refuses the token of the event feed (401); give the token of a service user that is active"
    )]
    Unauthorized,
    /// 403, or 404 with ZITADEL's code of a missing membership: the service user may not read events.
    #[error(
        "the service user of the event feed may not read events; give it the permission `events.read`, which the \
        instance roles IAM_OWNER_VIEWER and IAM_OWNER have"
    )]
    Forbidden,
    /// 404: the issuer has no event search.
    #[error(
        "the issuer has no event search (404); leave out the event feed, or check the address of the issuer"
    )]
    NoSearch,
    /// The key of the service user was refused.
    #[error(
        "ZITADEL refuses the key of the event feed's service user; make a new key for it, and check our clock"
    )]
    KeyRefused,
    /// The file of the token cannot be read.
    #[error("the token file of the event feed cannot be read")]
    TokenFile(#[source] Arc<std::io::Error>),
    /// There is no token in the file or in the answer.
    #[error("there is no token for the event feed")]
    NoToken,
    /// No usable answer.
    #[error("{}", .0.explain())]
    Issuer(IssuerError),
    /// The newest event that was read before is gone.
    #[error("the newest event is not there any more: the instance was restored, or another one answers")]
    OtherHistory,
    /// There is no event to start from.
    #[error("the instance shows no event to start from; its audit log retention may be too short")]
    NoEvents,
    /// The other instances could not be told.
    #[error("the shared store cannot be told until when events are known: {0}")]
    Store(StoreError),
    /// Our own project is not known, so that nobody knows which events are about it.
    #[error("the id of our project is not known yet; set it (`project`)")]
    NoProject,
}

impl FeedError {
    /// The reason, as a label of a metric.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Unauthorized | Self::KeyRefused => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NoSearch => "no_search",
            Self::TokenFile(_) | Self::NoToken => "no_token",
            Self::Issuer(IssuerError::TimedOut) => "timeout",
            Self::Issuer(IssuerError::Unreachable(_)) => "unreachable",
            Self::Issuer(IssuerError::Status { .. } | IssuerError::Throttled { .. }) => "status",
            Self::Issuer(_) => "unusable",
            Self::OtherHistory => "other_history",
            Self::NoEvents => "no_events",
            Self::NoProject => "no_project",
            Self::Store(_) => "store",
        }
    }
}

/// The `Display` text with its causes: `main` prints this when it returns the error.
impl fmt::Debug for FeedError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&causes(self))
    }
}
