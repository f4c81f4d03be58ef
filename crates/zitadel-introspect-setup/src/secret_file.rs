//! Files with secrets: only this user can read them, and none is ever overwritten.
//!
//! ZITADEL shows a secret once. So a mark beside the file says what is about to be asked for; when the answer is lost, the
//! next run finds by that mark what ZITADEL has made, removes it, and asks anew.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use zitadel_introspect::ConfigError;

use crate::error::SetupError;

/// A key.json has about 2 KiB; a file with signing keys less.
const MAX_BYTES: u64 = 64 * 1024;
/// The ends of the names of files beside a secret: files of others have other names.
const PENDING: &str = "setup-pending";
const NEW: &str = "setup-new";

/// A file that is about to get its secret. While it lives, no other run writes the same file.
pub(crate) struct Pending {
    path: PathBuf,
    mark: File,
}

/// The text of a file; `None` if it is not there.
pub(crate) fn look(path: &Path) -> Result<Option<SecretString>, SetupError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SetupError::file(path, format!("it cannot be read ({error})"))),
    }
}

/// Whether the file is there, or was about to get its secret.
pub(crate) fn is_begun(path: &Path) -> bool {
    path.exists() || beside(path, PENDING).exists()
}

fn read(path: &Path) -> io::Result<SecretString> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 64 KiB"));
    }
    Ok(SecretString::from(text))
}

impl Pending {
    /// Takes the file, and tells the end of the secret that an earlier run has asked for and not received.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<String>), SetupError> {
        let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        if is_link(path) || is_link(&beside(path, PENDING)) {
            return Err(SetupError::file(path, "it is a symbolic link: name the file itself"));
        }
        let mut options = private();
        let mark = options.read(true).create(true).truncate(false).open(beside(path, PENDING));
        let mut mark = mark.map_err(|error| cannot(path, &error))?;
        mark.try_lock().map_err(|_| SetupError::file(path, "another set-up is making it just now"))?;
        if path.exists() {
            return Err(SetupError::file(path, "another set-up has just made it; run this again"));
        }
        let mut lost = String::new();
        mark.read_to_string(&mut lost).map_err(|error| cannot(path, &error))?;
        let lost = Some(lost.trim().to_owned()).filter(|lost| !lost.is_empty());
        if lost.as_ref().is_some_and(|lost| humantime::parse_rfc3339(lost).is_err()) {
            return Err(SetupError::file(
                path,
                "the file beside it (.setup-pending) is not of a set-up: move it away",
            ));
        }
        Ok((Self { path: path.to_owned(), mark }, lost))
    }

    /// Marks that a secret with this end is about to be asked for.
    pub(crate) fn mark(&mut self, end: &str) -> Result<(), SetupError> {
        let mark = &mut self.mark;
        let marked =
            mark.set_len(0).and_then(|()| mark.rewind()).and_then(|()| mark.write_all(end.as_bytes()));
        marked.and_then(|()| mark.sync_all()).map_err(|error| cannot(&self.path, &error))
    }

    /// Writes the secret. Fails if the file was made meanwhile by somebody else.
    pub(crate) fn finish(self, text: &str) -> Result<(), SetupError> {
        create(&self.path, text)?;
        // Another run may have opened the mark already: it must not take this secret for a lost one.
        let _ = self.mark.set_len(0);
        tidy(&self.path);
        Ok(())
    }
}

/// Removes the files beside a whole file that a run has left which was stopped at its very end.
pub(crate) fn tidy(path: &Path) {
    for extension in [NEW, PENDING] {
        let _ = fs::remove_file(beside(path, extension));
    }
}

/// Replaces a file that this set-up has made, as a whole.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), SetupError> {
    let new = beside(path, NEW);
    let replaced = write_private(&new, text).and_then(|()| fs::rename(&new, path));
    replaced.map_err(|error| SetupError::file(path, format!("it cannot be written ({error})")))
}

/// Makes a file, as a whole or not at all.
pub(crate) fn create(path: &Path, text: &str) -> Result<(), SetupError> {
    let new = beside(path, NEW);
    // A link in place of a renaming: it never replaces a file.
    let made = write_private(&new, text).and_then(|()| fs::hard_link(&new, path));
    let _ = fs::remove_file(&new);
    made.map_err(|error| cannot(path, &error))
}

fn cannot(path: &Path, error: &io::Error) -> SetupError {
    SetupError::file(path, format!("it cannot be made ({error})"))
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = private().create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// A folder that is missing is noticed before anything was made.
pub(crate) fn check_folder(field: &'static str, path: &Path) -> Result<(), ConfigError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Ok(());
    }
    let problem = "its folder does not exist".to_owned();
    Err(ConfigError::invalid(field, problem, "make the folder, or name a file in another one"))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_secret_whose_answer_was_lost_is_told_by_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let (mut pending, lost) = Pending::open(&path).unwrap();
        assert_eq!(lost, None);
        pending.mark("2099-01-01T00:00:00.123Z").unwrap();
        assert!(is_begun(&path) && look(&path).unwrap().is_none());
        let second = Pending::open(&path).err().unwrap().to_string();
        assert!(second.contains("another set-up is making it just now"), "{second}");
        drop(pending);
        let (mut pending, lost) = Pending::open(&path).unwrap();
        assert_eq!(lost.as_deref(), Some("2099-01-01T00:00:00.123Z"));
        pending.mark("2099-01-01T00:00:00Z").unwrap();
        // Another run has opened the mark before the secret is whole: it must not take the secret for a lost one.
        let late = File::open(beside(&path, PENDING)).unwrap();
        pending.finish("secret").unwrap();
        assert_eq!(io::read_to_string(late).unwrap(), "");
        assert_eq!(look(&path).unwrap().unwrap().expose_secret(), "secret");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Pending::open(&path).err().unwrap().to_string().contains("has just made it"));
    }

    #[test]
    fn a_file_has_at_most_64_kib_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        create(&path, &"k".repeat(64 * 1024)).unwrap();
        assert!(look(&path).unwrap().is_some());
        assert!(create(&path, "other").is_err());
        replace(&path, &"k".repeat(64 * 1024 + 1)).unwrap();
        assert!(look(&path).unwrap_err().to_string().contains("larger than 64 KiB"));
    }
}
