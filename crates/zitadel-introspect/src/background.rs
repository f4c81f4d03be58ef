//! The one thread that talks to the issuer.
//!
//! Callers run on their own runtimes, which may end at any time (actix-web has one for each worker, tests have one
//! each). A question and its pooled connection must outlive these runtimes, so both run on this thread.
//!
//! `fork` copies memory and not threads: a child has neither the thread nor connections that it may use. Everything that
//! belongs to one process is therefore a [`PerProcess`].

use std::{
    io,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use forkguard::Guard;
use tokio::{
    runtime::{Builder, Handle},
    task::JoinHandle,
};

/// A separate value for each process. No locks: if another thread held a lock at the moment of `fork`, the lock would
/// stay locked in the child for ever. The parent's value is kept and not changed.
pub(crate) struct PerProcess<T> {
    /// The guard of the process that made the value.
    guard: Guard,
    value: T,
    next: OnceLock<Box<Self>>,
}

impl<T> PerProcess<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { guard: Guard::default(), value, next: OnceLock::new() }
    }

    /// The value of this process, made if it has none.
    #[inline]
    pub(crate) fn own<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if self.is_own() { Ok(&self.value) } else { self.own_of_child(make) }
    }

    #[cold]
    fn own_of_child<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let mut last = self;
        while let Some(next) = last.next.get() {
            last = next;
        }
        if last.is_own() {
            return Ok(&last.value);
        }
        let next = Box::new(Self::new(make()?));
        Ok(&last.next.get_or_init(|| next).value)
    }

    fn is_own(&self) -> bool {
        // Clone the guard: a guard reports a fork only once, and then forgets it.
        !self.guard.clone().detected_fork()
    }
}

/// The runtime of the thread, which is started on first use.
pub(crate) fn handle() -> io::Result<Handle> {
    static HANDLES: OnceLock<PerProcess<Handle>> = OnceLock::new();
    if let Some(handles) = HANDLES.get() {
        return handles.own(start).cloned();
    }
    let started = start()?;
    // Two first users may both have started a thread; one of the threads idles for ever, which costs nothing.
    HANDLES.get_or_init(|| PerProcess::new(started)).own(start).cloned()
}

fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("zitadel-introspect".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// A timer that is cancelled when it is dropped.
pub(crate) struct Timer(JoinHandle<()>);

impl Timer {
    /// Runs on the library's own thread: the caller's runtime may have no timer.
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
