//! Bodies that are complete, truncated or endless.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

pub(crate) enum AnswerBody {
    Whole(Option<Bytes>),
    Partial(Partial),
    Endless,
}

/// A body that sends less than it promises.
pub(crate) struct Partial {
    sent: Option<Bytes>,
    promised: u64,
    hangs: bool,
    flushed: bool,
}

impl AnswerBody {
    pub(crate) fn half(whole: &[u8], hangs: bool) -> Self {
        let sent = Some(Bytes::copy_from_slice(&whole[..whole.len() / 2]));
        Self::Partial(Partial { sent, promised: whole.len() as u64, hangs, flushed: false })
    }
}

impl Partial {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(bytes) = self.sent.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if self.hangs {
            return Poll::Pending;
        }
        if !self.flushed {
            // Return `Pending` once, so that hyper sends the first half: an immediate error would discard it.
            self.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::Error::other("cut short on purpose"))))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Partial(partial) => partial.poll(cx),
            Self::Endless => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 8192]))))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Partial(partial) => SizeHint::with_exact(partial.promised),
            Self::Endless => SizeHint::default(),
        }
    }
}
