//! The steps of a set-up: what is made, changed, or there already.

use std::{fmt, path::PathBuf};

use serde::{Serialize, Serializer};

/// One thing that a set-up needs, and the outcome for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// The outcome for it.
    pub sign: Sign,
    /// The kind of thing: `project`, `role`, `application`, `key`, `service user`, `token`, `authorization`,
    /// `instance role`, `target`, `signing key`, `execution`.
    pub what: &'static str,
    /// Its name in ZITADEL, or the path of a file.
    pub name: String,
    /// A detail: the roles of an authorization, or the difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Its id in ZITADEL, if it has one already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The file with its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Whether it now is as it should be.
    pub is_done: bool,
}

/// The outcome for a thing of a set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sign {
    /// `+`: it is made.
    Create,
    /// `~`: it is there, and differs. It is changed only by an update.
    Change,
    /// `=`: it is as it should be.
    Same,
    /// `-`: it is removed.
    Remove,
}

impl Sign {
    /// The sign as a plan shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Change => "~",
            Self::Same => "=",
            Self::Remove => "-",
        }
    }
}

impl Serialize for Sign {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Step {
    pub(crate) fn new(what: &'static str, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { sign: Sign::Same, what, name, detail: None, id: None, file: None, is_done: false }
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(crate) fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    pub(crate) fn file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    pub(crate) fn is(mut self, sign: Sign, is_done: bool) -> Self {
        (self.sign, self.is_done) = (sign, is_done);
        self
    }
}

/// A line of a plan: `+ project       "tasks"`.
impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:<13} {:?}", self.sign.as_str(), self.what, self.name)?;
        if let Some(detail) = &self.detail {
            // It may have a text of ZITADEL.
            let printable = detail.chars().map(|c| if c.is_control() { ' ' } else { c });
            write!(formatter, "  {}", printable.collect::<String>())?;
        }
        Ok(())
    }
}
