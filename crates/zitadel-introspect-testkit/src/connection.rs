//! A connection whose output can be cut at a chosen byte.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The fate of the bytes that are sent from now on.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    /// This many bytes are sent; the rest waits for ever.
    HangAfter(usize),
    /// No byte is sent: the connection is reset.
    Reset,
}

/// Shared between a connection and the requests on it.
#[derive(Clone, Default)]
pub(crate) struct CutSwitch(Arc<Mutex<Option<Cut>>>);

impl CutSwitch {
    pub(crate) fn set(&self, cut: Cut) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut);
    }

    fn get(&self) -> Option<Cut> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Connection {
    stream: TokioIo<TcpStream>,
    switch: CutSwitch,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, switch: CutSwitch) -> Self {
        Self { stream: TokioIo::new(stream), switch }
    }
}

impl Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.switch.get() {
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
            Some(Cut::HangAfter(0)) => Poll::Pending,
            Some(Cut::HangAfter(left)) => {
                let part = &bytes[..bytes.len().min(left)];
                let written = Pin::new(&mut self.stream).poll_write(cx, part);
                if let Poll::Ready(Ok(count)) = written {
                    self.switch.set(Cut::HangAfter(left - count));
                }
                written
            }
            Some(Cut::Reset) => {
                self.stream.inner().set_zero_linger()?;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
