//! The source of a key: a file, which may be replaced, or a pipe.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, SystemTime},
};

use zeroize::Zeroizing;

use crate::{
    echo,
    error::config::ConfigError,
    issuer::client_auth::key::{Key, Owner},
};

/// A key.json has about 2 KiB.
const MAX_BYTES: usize = 64 * 1024;
/// Reading a pipe without a writer, or a terminal without input, would wait for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// The file that a key came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyFile {
    /// Absolute: the process may change its working directory.
    pub(crate) path: PathBuf,
    others_can_read: bool,
    stamp: Stamp,
}

/// The properties of a file that change when it is replaced or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl KeyFile {
    /// Reads the key. If the path names a pipe, there is no file to watch.
    pub(crate) fn open(path: &Path, owner: Owner) -> Result<(Key, Option<Self>), ConfigError> {
        if echo::looks_like_a_key(&path.to_string_lossy()) {
            let problem = "the path looks like the key itself".to_owned();
            let remedy = "give the path of the key.json, or hand the key in as text where text is asked for";
            return Err(ConfigError::key(None, problem, remedy));
        }
        let unreadable = |error: io::Error| {
            let problem = format!("the file cannot be read ({error})");
            let remedy = "give the path of the downloaded key.json and let this process read it";
            ConfigError::key(Some(path), problem, remedy)
        };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if metadata.is_file() {
            let stamp = Stamp::of(&metadata);
            let text = read(path).map_err(unreadable)?;
            let path = std::path::absolute(path).map_err(unreadable)?;
            let key = Key::parse(&text, owner, Some(&path))?;
            return Ok((key, Some(Self { path, others_can_read: others_can_read(&metadata), stamp })));
        }
        let text = read_in_time(path).map_err(unreadable)?;
        Ok((Key::parse(&text, owner, Some(path))?, None))
    }

    /// The same file as it is now, if it was replaced or written since.
    pub(crate) fn changed(&self) -> Option<Self> {
        let metadata = fs::metadata(&self.path).ok()?;
        let stamp = Stamp::of(&metadata);
        let others_can_read = others_can_read(&metadata);
        (stamp != self.stamp).then(|| Self { path: self.path.clone(), others_can_read, stamp })
    }

    pub(crate) fn warn_if_others_can_read(&self) {
        if self.others_can_read {
            let path = self.path.display().to_string();
            tracing::warn!(?path, "others can read the key file; set its mode to 0600");
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self { modified: metadata.modified().ok(), length: metadata.len(), inode }
    }
}

/// Reads a pipe on a thread of its own, which keeps waiting if no data comes.
fn read_in_time(path: &Path) -> io::Result<Zeroizing<String>> {
    let (done, outcome) = mpsc::channel();
    let path = path.to_owned();
    thread::Builder::new().name("zitadel-introspect-key".to_owned()).spawn(move || {
        let _ = done.send(read(&path));
    })?;
    outcome.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "it is a pipe, which did not end within 5 s"))
    })
}

/// A small text file and whether others can read it. It may be read again later, so a pipe will not do.
pub(crate) fn read_small(path: &Path) -> io::Result<(Zeroizing<String>, bool)> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok((read(path)?, others_can_read(&metadata)))
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    let limit = u64::try_from(MAX_BYTES + 1).unwrap_or(u64::MAX);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 64 KiB"));
    }
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(unix)]
fn others_can_read(metadata: &Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0
}

#[cfg(not(unix))]
fn others_can_read(_metadata: &Metadata) -> bool {
    false
}
