//! The future of a guarded call.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{BoxError, Gate};

type Checking<B, A> = Pin<Box<dyn Future<Output = Result<Request<B>, Response<A>>> + Send>>;

pin_project! {
    /// The future of a guarded call. It needs a box only if the gate has to wait.
    pub struct GuardFuture<S, G, B>
    where
        S: Service<Request<B>>,
        G: Gate,
    {
        #[pin]
        state: State<S, S::Future, B, G::Body>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F, B, A> {
        Checking { ready: S, checking: Checking<B, A> },
        Serving { #[pin] answer: F },
    }
}

impl<S, G, B> GuardFuture<S, G, B>
where
    S: Service<Request<B>>,
    G: Gate,
{
    pub(crate) fn serve(answer: S::Future) -> Self {
        Self { state: State::Serving { answer } }
    }

    pub(crate) fn check(
        ready: S,
        checking: impl Future<Output = Result<Request<B>, Response<G::Body>>> + Send + 'static,
    ) -> Self {
        Self { state: State::Checking { ready, checking: Box::pin(checking) } }
    }
}

impl<S, G, B, R> Future for GuardFuture<S, G, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    G: Gate,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<G::Body>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let answer = match state.as_mut().project() {
                StateProjection::Checking { ready, checking } => match ready!(checking.as_mut().poll(cx)) {
                    Ok(request) => ready.call(request),
                    Err(refusal) => return Poll::Ready(Ok(refusal)),
                },
                StateProjection::Serving { answer } => {
                    let answer = ready!(answer.poll(cx))?;
                    return Poll::Ready(Ok(answer.map(G::wrap)));
                }
            };
            state.set(State::Serving { answer });
        }
    }
}
