//! The one thread that talks to the issuer.
//!
//! Callers come and go on runtimes of their own (actix-web has one for each worker, tests have one each).
//! A question and the pooled connection under it must outlive any of them, so both live here.

use std::{
    io,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    task::JoinHandle,
};

pub(crate) fn handle() -> io::Result<Handle> {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let started = start()?;
    // Two first users may both have started a thread; one of them idles for ever, which costs nothing.
    Ok(HANDLE.get_or_init(|| started).clone())
}

fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("zitadel-introspect".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// A timer that ends when nobody waits for it.
pub(crate) struct Timer(JoinHandle<()>);

impl Timer {
    /// On the library's own thread: the runtime of who waits may have no timer.
    pub(crate) fn start(handle: &Handle, time: Duration) -> Self {
        Self(handle.spawn(async move { tokio::time::sleep(time).await }))
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}
