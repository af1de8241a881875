//! What can go wrong on disk.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A file of the store that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} `{path}`")]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl StoreError {
    /// Adds what was tried, and where, to an error of the system.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }

    /// Whether the place cannot be written to by this user, however often it is tried.
    pub fn is_refused(&self) -> bool {
        use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
        matches!(self.source.kind(), PermissionDenied | ReadOnlyFilesystem | NotADirectory)
    }

    /// Whether there is no such file or folder.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the file system has no locks, so that no build could be told from another.
    pub fn is_without_locks(&self) -> bool {
        let errnos = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL];
        self.action == "lock"
            && errnos.iter().any(|errno| self.source.raw_os_error() == Some(errno.raw_os_error()))
    }

    /// Whether the file system or the quota is full, so that the same build may work later.
    pub fn is_disk_full(&self) -> bool {
        [Errno::NOSPC, Errno::DQUOT]
            .iter()
            .any(|errno| self.source.raw_os_error() == Some(errno.raw_os_error()))
    }
}
