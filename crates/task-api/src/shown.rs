//! Paths in messages.

use std::path::Path;

use zitadel_introspect::echo;

/// A path in a message: not where it could be a secret that was put there by mistake.
pub(crate) fn shown(path: &Path) -> String {
    echo::path(path).unwrap_or_else(|| "the path (not shown: it may be a secret)".to_owned())
}
