//! Locks between builds that share a store.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::StoreError;

/// A lock, exclusive unless something else is said, given up when dropped or when its process dies, however it dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of the file at `path`, which is created where it is missing.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be created or the file system has no locks.
    pub fn wait(path: &Path) -> Result<Self, StoreError> {
        let file = open(path)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(StoreError::at("lock", path)(errno.into())),
            }
        }
    }

    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    ///
    /// As [`Lock::wait`].
    pub fn attempt(path: &Path) -> Result<Option<Self>, StoreError> {
        Self::attempt_as(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock together with others who share it, if nobody has it alone.
    ///
    /// # Errors
    ///
    /// As [`Lock::wait`].
    pub fn attempt_shared(path: &Path) -> Result<Option<Self>, StoreError> {
        Self::attempt_as(path, FlockOperation::NonBlockingLockShared)
    }

    fn attempt_as(path: &Path, operation: FlockOperation) -> Result<Option<Self>, StoreError> {
        let file = open(path)?;
        match flock(&file, operation) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(StoreError::at("lock", path)(errno.into())),
        }
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(StoreError::at("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excludes_others_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::wait(&path).unwrap();
        assert!(Lock::attempt(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::attempt(&path).unwrap().is_some());
    }
}
