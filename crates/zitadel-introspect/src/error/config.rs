//! Errors of the start.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{echo, error::causes::causes};

/// An error of the start. Each message is one line and names the field, the problem and the remedy. A value is repeated
/// only where it cannot be a secret.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value that cannot be used.
    #[error("{field}: {problem}; {remedy}")]
    #[non_exhaustive]
    Invalid {
        /// Which setting: the name of its method.
        field: &'static str,
        /// What is wrong with its value.
        problem: String,
        /// What to do. Other settings stand in backticks, by the names of their methods.
        remedy: &'static str,
    },
    /// A key that cannot be used.
    #[error("key{}: {problem}; {remedy}", name(path.as_deref()))]
    #[non_exhaustive]
    Key {
        /// The file, if the key came from a file.
        path: Option<PathBuf>,
        /// What is wrong with it. Never key material.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The thread that asks the issuer cannot be started.
    #[error("the thread that asks the issuer cannot be started; look at the limits of this process")]
    Thread(#[source] std::io::Error),
}

impl ConfigError {
    /// An error that names the setting, the problem and the remedy. For writers of stores and adapters.
    #[must_use]
    pub fn invalid(field: &'static str, problem: String, remedy: &'static str) -> Self {
        Self::Invalid { field, problem, remedy }
    }

    pub(crate) fn key(path: Option<&Path>, problem: String, remedy: &'static str) -> Self {
        Self::Key {
            path: path.filter(|path| echo::path(path).is_some()).map(Path::to_owned),
            problem,
            remedy,
        }
    }
}

fn name(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| format!(" {:?}", path.display().to_string()))
}

/// The `Display` text with its causes: `main` prints this when it returns the error.
impl fmt::Debug for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&causes(self))
    }
}
