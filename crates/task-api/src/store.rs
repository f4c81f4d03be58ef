//! Where tasks are kept: in memory, in the order of their arrival.

use std::sync::{Mutex, PoisonError};

/// The list of tasks.
#[derive(Debug, Default)]
pub struct Store(Mutex<Vec<String>>);

impl Store {
    /// Appends a task.
    pub fn add(&self, task: String) {
        self.lock().push(task);
    }

    /// All tasks, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
