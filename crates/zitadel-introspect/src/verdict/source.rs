//! The source of verdicts.

use std::{sync::Arc, time::SystemTime};

use tokio::time::Instant;

use crate::{
    claims::Claims,
    error::issuer::IssuerError,
    issuer::introspection::{Answer, Introspection},
    token::AccessToken,
};

/// Answers questions about tokens.
pub(crate) enum Source {
    Issuer(Arc<Introspection>),
    /// Nobody: the verifier reads JWTs only.
    Nobody,
    /// A test's own table.
    #[cfg(feature = "test-util")]
    Script(Arc<crate::testing::script::Script>),
}

impl Source {
    /// The issuer, where there is one to ask.
    pub(crate) fn issuer(&self) -> Option<&Arc<Introspection>> {
        if let Self::Issuer(introspection) = self { Some(introspection) } else { None }
    }

    pub(crate) fn can_ask(&self) -> bool {
        !matches!(self, Self::Nobody)
    }

    /// Whether questions are refused at once, because the breaker is open.
    pub(crate) fn is_refusing(&self) -> bool {
        self.issuer().is_some_and(|introspection| introspection.breaker.is_open())
    }

    /// `mark` is called when the question is sent.
    pub(crate) async fn ask(
        &self,
        token: &AccessToken,
        deadline: Instant,
        mark: impl Fn(),
    ) -> Result<Answer, IssuerError> {
        match self {
            Self::Issuer(introspection) => introspection.ask(token, deadline, mark).await,
            Self::Nobody => {
                Err(IssuerError::Unusable { problem: "this verifier reads JWTs only and cannot ask" })
            }
            #[cfg(feature = "test-util")]
            Self::Script(script) => {
                mark();
                script.answer(token)
            }
        }
    }

    /// The claims in an answer of the issuer that another instance has received.
    pub(crate) fn read(&self, answer: String) -> Option<Box<Claims>> {
        self.issuer()?.read(answer).ok()?.ok()
    }

    /// What the issuer's clock shows.
    pub(crate) async fn time(&self) -> Result<Option<SystemTime>, IssuerError> {
        match self.issuer() {
            Some(introspection) => introspection.date().await,
            None => Ok(None),
        }
    }
}
