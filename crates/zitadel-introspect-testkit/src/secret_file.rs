//! Files with secrets: readable only by this user, and never written over another file.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
};

pub(crate) fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}
