//! Shows values of settings in messages, but not if the value could be a secret that was entered by mistake. Also for
//! programs that have settings of their own beside those of this crate.

use std::path::Path;

/// The longest value that is shown: a domain name has no more.
const LONGEST: usize = 253;
/// The longest part of a domain name. The parts of a JWT are longer.
const LONGEST_LABEL: usize = 63;
/// A longer value without a dot or colon is no name of a host or an address: opaque tokens, secrets, and lines of a key
/// have neither.
const LONGEST_WORD: usize = 24;
/// The longest part of a path on common file systems.
const LONGEST_NAME: usize = 255;
/// Extensions are short; the last part of a JWT is not.
const LONGEST_EXTENSION: usize = 8;

/// The value in quotes. A placeholder text instead if the value looks like a key or a token, or contains user
/// information, a control character, or more bytes than a domain name.
///
/// ```
/// use zitadel_introspect::echo;
///
/// assert_eq!(echo::value("my-domain.zitadel.cloud"), "\"my-domain.zitadel.cloud\"");
/// assert!(!echo::value("https://me:s3cret@host.example").contains("s3cret"));
/// assert!(!echo::value("kjZhc9MZPVd4rHgOf2MQ8x7mBVEV6SSBsjEkY").contains("kjZ"));
/// ```
#[must_use]
pub fn value(text: &str) -> String {
    let is_word = !text.contains(['.', ':']);
    let is_harmless = text.len() <= if is_word { LONGEST_WORD } else { LONGEST }
        && text.split(['.', ':', '/', ' ']).all(|label| label.len() <= LONGEST_LABEL)
        && !looks_like_a_key(text)
        && !text.contains('@')
        && text.chars().all(|c| !c.is_control());
    if is_harmless { format!("{text:?}") } else { "the value (not shown: it may hold a secret)".to_owned() }
}

/// A path in quotes, if the file or folder exists, or if the path is a file name with an extension in a folder that
/// exists. `None` for anything else: the text could be a secret that was given in place of a path.
#[must_use]
pub fn path(path: &Path) -> Option<String> {
    let text = path.display().to_string();
    if looks_like_a_key(&text) || text.len() > LONGEST {
        return None;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let has_extension =
        path.extension().is_some_and(|extension| (1..=LONGEST_EXTENSION).contains(&extension.len()));
    let is_path = path.exists() || (folder.is_dir() && has_extension);
    is_path.then(|| format!("{text:?}"))
}

/// Whether a text that was given for a path or a name is key material: JSON, PEM, or Base64 of either.
pub(crate) fn looks_like_a_key(text: &str) -> bool {
    let is_name = |part: &str| part.len() <= LONGEST_NAME;
    text.contains(['{', '\n', '\r']) || text.contains("-----BEGIN") || !text.split('/').all(is_name)
}
