//! Shared by a verifier and its callers: the engine, and the one place where requests are refused.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use futures_util::future::{Either, select};

use crate::{
    assembly::Engines,
    background::Timer,
    clock::{Clock, Now},
    error::{AuthError, Presentation, Reason, causes::causes, issuer::IssuerError},
    issuer::name::Issuer,
    requirement::Requirement,
    resource::ProtectedResource,
    token::{AccessToken, MAX_TOKEN_BYTES},
    verdict::{
        Active,
        engine::{Engine, Known, Refusal},
    },
};

/// A question ends by its own deadline. A request waits this much longer, so that it reports the question's own error.
const GRACE: Duration = Duration::from_millis(20);

pub(crate) struct Judge {
    pub(crate) engines: Engines,
    pub(crate) issuer: Issuer,
    pub(crate) resource: Option<ProtectedResource>,
    pub(crate) presentation: Arc<Presentation>,
    pub(crate) clock: Clock,
}

impl Judge {
    /// The engine of this process.
    #[inline]
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>, IssuerError> {
        self.engines.own().map_err(|error| {
            tracing::error!(error = causes(&error), "no question can be asked in this process");
            IssuerError::Lost
        })
    }

    /// As [`engine`](Self::engine), for a request.
    #[inline]
    pub(crate) fn engine_or_refuse(&self) -> Result<&Arc<Engine>, AuthError> {
        self.engine().map_err(|error| self.refuse(Reason::Unavailable(error), None))
    }

    /// The engine's decision, within the deadline of the request.
    pub(crate) async fn decide(
        &self,
        token: &AccessToken,
        known: Known,
        requirement: &Requirement,
        began: Now,
    ) -> Result<Arc<Active>, AuthError> {
        let engine = self.engine_or_refuse()?;
        let mut decision = pin!(engine.decide(token, known, requirement, began));
        // A decision without waiting, as for a locally verified JWT, needs no timer.
        let decided = match poll_fn(|cx| Poll::Ready(decision.as_mut().poll(cx))).await {
            Poll::Ready(decided) => decided,
            Poll::Pending => {
                let deadline = Timer::start(&engine.handle, engine.settings.timeout + GRACE);
                match select(decision, deadline).await {
                    Either::Left((decided, _)) => decided,
                    Either::Right(_) => {
                        Err(Refusal { reason: Reason::Unavailable(IssuerError::TimedOut), user_id: None })
                    }
                }
            }
        };
        decided.map_err(|Refusal { reason, user_id }| self.refuse(reason, user_id.as_deref()))
    }

    /// Every refusal is logged here, once, and nowhere else.
    pub(crate) fn refuse(&self, reason: Reason, user_id: Option<&str>) -> AuthError {
        match &reason {
            Reason::Unavailable(error) => {
                tracing::warn!(error = ?error.explain(), "no verdict: the issuer gave no usable answer");
            }
            Reason::InvalidToken(error) => {
                tracing::info!(reason = %error, user_id = ?user_id, "request refused: invalid token");
            }
            Reason::TokenTooLong => {
                tracing::info!(limit = MAX_TOKEN_BYTES, "request refused: the token is too long");
            }
            _ => tracing::info!(%reason, user_id = ?user_id, "request refused"),
        }
        AuthError::new(reason, &self.presentation)
    }
}
