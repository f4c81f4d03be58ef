//! Which cryptography `jsonwebtoken` uses.

use jsonwebtoken::crypto;

/// `jsonwebtoken` panics at first use when a build has both of its providers, so this function installs one of them. A
/// provider that the user has installed before stays in use.
pub(crate) fn install_crypto() {
    let _ = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}
