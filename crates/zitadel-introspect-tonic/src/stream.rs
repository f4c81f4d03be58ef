//! Streams that may live longer than their caller's token.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, future::BoxFuture};
use tonic::Status;
use zitadel_introspect::{AuthError, Caller, Requirement};

use crate::Rejection;

/// The stream of [`while_authorized`].
pub struct WhileAuthorized<S> {
    /// `None` after the stream has ended.
    stream: Option<Pin<Box<S>>>,
    end: BoxFuture<'static, AuthError>,
}

/// Ends a stream of answers or of requests when its caller no longer meets the requirement: with `UNAUTHENTICATED` when
/// the token expires, or its verdict lapses or is evicted and the issuer says no; with `PERMISSION_DENIED` when the
/// newest verdict does not suffice; with `UNAVAILABLE` when the verdict cannot be renewed.
///
/// Checks the verdict once in each interval `every` (10 ms at least), and when the token expires. A cache hit needs no
/// introspection request. An expired verdict needs one, and all streams of the token share it.
///
/// ```no_run
/// # use std::time::Duration;
/// # use futures_util::{Stream, stream};
/// # use tonic::{Request, Status};
/// use zitadel_introspect_tonic::{Authorized, Requirement, while_authorized};
///
/// fn watch(request: &Request<()>) -> Result<impl Stream<Item = Result<String, Status>>, Status> {
///     let Authorized(caller) = Authorized::of(request)?;
///     let tasks = stream::pending();
///     Ok(while_authorized(tasks, &caller, Requirement::role("admin"), Duration::from_secs(10)))
/// }
/// ```
pub fn while_authorized<S, T>(
    stream: S,
    caller: &Caller,
    requirement: Requirement,
    every: Duration,
) -> WhileAuthorized<S>
where
    S: Stream<Item = Result<T, Status>>,
{
    let caller = caller.clone();
    let end = Box::pin(async move { caller.until_unauthorized(&requirement, every).await });
    WhileAuthorized { stream: Some(Box::pin(stream)), end }
}

impl<S, T> Stream for WhileAuthorized<S>
where
    S: Stream<Item = Result<T, Status>>,
{
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else { return Poll::Ready(None) };
        // Check the caller first: do not deliver a ready item after the token has become invalid.
        if let Poll::Ready(error) = this.end.as_mut().poll(cx) {
            this.stream = None;
            return Poll::Ready(Some(Err(Rejection(error).into())));
        }
        let item = stream.as_mut().poll_next(cx);
        if matches!(item, Poll::Ready(None)) {
            this.stream = None;
        }
        item
    }
}

impl<S> fmt::Debug for WhileAuthorized<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WhileAuthorized")
            .field("has_ended", &self.stream.is_none())
            .finish_non_exhaustive()
    }
}
