//! Group commit: one writer commits all waiting tasks in one transaction.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{NewTask, StoreError};

/// How many callers may wait for a commit. Further callers are refused with 503.
const QUEUE: usize = 1024;
const BATCH: usize = 256;
/// The most bytes that waiting tasks may take together.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// The time limits of one batch, and of one caller.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(8);
const ADD_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes a batch of tasks in one transaction: all or none.
pub(super) trait Commit: Send + 'static {
    fn commit(&mut self, tasks: Vec<NewTask>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Drops the connection after a failed batch: the outcome of that batch may be unknown.
    fn abandon(&mut self);

    fn close(self) -> impl Future<Output = ()> + Send;
}

#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Command>,
    bytes: Arc<Semaphore>,
}

#[derive(Debug)]
enum Command {
    Add { tasks: Vec<NewTask>, kept: oneshot::Sender<Result<(), StoreError>>, weight: OwnedSemaphorePermit },
    Close { closed: oneshot::Sender<()> },
}

impl Writer {
    pub(super) fn start(commit: impl Commit) -> Self {
        let (sender, commands) = mpsc::channel(QUEUE);
        tokio::spawn(write(commit, commands));
        Self { queue: sender, bytes: Arc::new(Semaphore::new(QUEUE_BYTES)) }
    }

    pub(super) async fn add(&self, tasks: Vec<NewTask>) -> Result<(), StoreError> {
        let weight: usize = tasks.iter().map(|new| new.task.len()).sum();
        let weight = u32::try_from(weight).map_err(|_| StoreError::Overloaded)?;
        let weight = Arc::clone(&self.bytes).try_acquire_many_owned(weight);
        let weight = weight.map_err(|_| StoreError::Overloaded)?;
        let (kept, outcome) = oneshot::channel();
        self.queue.try_send(Command::Add { tasks, kept, weight }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        let outcome = timeout(ADD_TIMEOUT, outcome).await.map_err(|_| StoreError::TimedOut)?;
        outcome.unwrap_or(Err(StoreError::Closed))
    }

    pub(super) async fn close(&self) {
        let (closed, done) = oneshot::channel();
        if self.queue.send(Command::Close { closed }).await.is_ok() {
            let _ = done.await;
        }
    }
}

async fn write(mut commit: impl Commit, mut commands: mpsc::Receiver<Command>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut closed = None;
    while closed.is_none() && commands.recv_many(&mut batch, BATCH).await > 0 {
        let (mut all, mut waiting) = (Vec::new(), Vec::new());
        for command in batch.drain(..) {
            match command {
                // A caller who has gone, or was told 503 already, may come again: nothing must be kept twice.
                Command::Add { kept, .. } if kept.is_closed() => {}
                Command::Add { tasks, kept, weight } => {
                    all.extend(tasks);
                    waiting.push((kept, weight));
                }
                Command::Close { closed: done } => closed = Some(done),
            }
        }
        if all.is_empty() {
            continue;
        }
        let outcome = timeout(COMMIT_TIMEOUT, commit.commit(all)).await;
        let outcome = outcome.unwrap_or(Err(StoreError::TimedOut));
        if outcome.is_err() {
            commit.abandon();
        }
        for (kept, _weight) in waiting {
            let _ = kept.send(outcome.clone());
        }
    }
    commit.close().await;
    if let Some(closed) = closed {
        let _ = closed.send(());
    }
}
