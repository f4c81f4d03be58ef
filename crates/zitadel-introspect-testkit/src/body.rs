//! Bodies that end as they should, too early, or never.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

pub(crate) enum AnswerBody {
    Whole(Option<Bytes>),
    /// What is sent, what is promised, and whether the rest hangs or breaks.
    Partial {
        sent: Option<Bytes>,
        promised: u64,
        hangs: bool,
    },
    Endless,
}

impl AnswerBody {
    pub(crate) fn half(whole: &[u8], hangs: bool) -> Self {
        let sent = Some(Bytes::copy_from_slice(&whole[..whole.len() / 2]));
        Self::Partial { sent, promised: whole.len() as u64, hangs }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Partial { sent: Some(bytes), .. } => {
                let bytes = std::mem::take(bytes);
                if let Self::Partial { sent, .. } = &mut *self {
                    *sent = None;
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Partial { hangs: true, .. } => Poll::Pending,
            Self::Partial { .. } => Poll::Ready(Some(Err(io::Error::other("cut short on purpose")))),
            Self::Endless => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 8192]))))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Partial { promised, .. } => SizeHint::with_exact(*promised),
            Self::Endless => SizeHint::default(),
        }
    }
}
