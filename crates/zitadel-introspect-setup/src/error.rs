//! Why a set-up stopped.

use std::{fmt, path::PathBuf};

use zitadel_introspect::{ConfigError, ManagementError, RefusalKind, echo};

/// Why a set-up stopped. What was made before stays, and the next run goes on from there. Each message is one line, and
/// shows no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A setting that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A call failed.
    #[error("{doing}: {error}")]
    #[non_exhaustive]
    Call {
        /// Such as `making the project "tasks"`.
        doing: String,
        /// Why.
        error: ManagementError,
    },
    /// An answer lacks what it must have.
    #[error("{doing}: the answer has no usable `{member}`")]
    #[non_exhaustive]
    Answer {
        /// Such as `making the project "tasks"`.
        doing: String,
        /// The missing member.
        member: &'static str,
    },
    /// The administrator may not do all that is needed. Nothing was changed.
    #[error("the administrator's token lacks the permission {}: {remedy}", Listed(rights))]
    #[non_exhaustive]
    MissingRights {
        /// Such as `project.create`.
        rights: Vec<&'static str>,
        /// The role that gives them, and the administrators who can give it.
        remedy: String,
    },
    /// Something exists that a search with this token does not show.
    #[error(
        "the {what} {name:?} exists already, and this token cannot see it: it may belong to another organization, or the \
        token lacks a right to read; choose another name, or use the token of its owner"
    )]
    #[non_exhaustive]
    Hidden {
        /// Such as `project`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something exists and is not what was asked for. It is left as it is.
    #[error("the {what} {name:?} {problem}; {remedy}")]
    #[non_exhaustive]
    Conflict {
        /// Such as `application`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The problem with it.
        problem: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// A file cannot be read or written.
    #[error("{}: {problem}", shown(path))]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        problem: String,
    },
    /// The API does not refuse a token that was removed.
    #[error("{0}")]
    NotProven(String),
}

impl SetupError {
    pub(crate) fn file(path: impl Into<PathBuf>, problem: impl fmt::Display) -> Self {
        Self::File { path: path.into(), problem: problem.to_string() }
    }

    pub(crate) fn conflict(
        what: &'static str,
        name: &str,
        problem: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        Self::Conflict { what, name: name.to_owned(), problem: problem.into(), remedy }
    }

    /// Whether ZITADEL refused a call for this reason.
    pub(crate) fn is(&self, kind: RefusalKind) -> bool {
        matches!(self, Self::Call { error, .. } if error.refusal() == Some(kind))
    }

    /// Whether this error left it open what took effect: another run finds out.
    #[must_use]
    pub fn is_worth_another_run(&self) -> bool {
        matches!(self, Self::Call { error: ManagementError::Issuer(_), .. })
    }
}

fn shown(path: &std::path::Path) -> String {
    echo::path(path)
        .unwrap_or_else(|| "a file of this set-up (its path is not shown: it may be a secret)".to_owned())
}

struct Listed<'a>(&'a [&'static str]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, right) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(formatter, "{separator}`{right}`")?;
        }
        Ok(())
    }
}
