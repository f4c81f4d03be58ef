//! The one thread that talks to the issuer.
//!
//! Callers come and go on runtimes of their own (actix-web has one for each worker, tests have one each).
//! A question and the pooled connection under it must outlive any of them, so both live here.

use std::{io, sync::OnceLock, thread};

use tokio::runtime::{Builder, Handle};

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
