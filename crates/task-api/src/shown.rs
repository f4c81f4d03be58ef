//! Paths in messages.

use std::path::Path;

use zitadel_introspect::echo;

/// A path for a message; hidden if it could be a secret that was given by mistake.
#[must_use]
pub fn shown(path: &Path) -> String {
    echo::path(path).unwrap_or_else(|| "the path (not shown: it may be a secret)".to_owned())
}
