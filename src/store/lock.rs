//! Locks between builds that share a store.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::StoreError;

/// The first pause between two tries for a lock that somebody has, and the longest: short beside what is done
/// under a lock, and long enough that waiting costs nothing.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// A lock, exclusive unless something else is said, given up when dropped or when its process dies, however it dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that was forked meanwhile has the file open until it executes a program. What cannot be
        // unlocked is when the last of them closes it.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Waits for the lock of the file at `path`, which is created where it is missing. Gives `None` soon after
    /// `give_up` has become true.
    ///
    /// The kernel cannot be asked to wait: nothing would end that.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be created or the file system has no locks.
    pub fn wait(path: &Path, give_up: &dyn Fn() -> bool) -> Result<Option<Self>, StoreError> {
        let (mut pause, longest) = PAUSES;
        loop {
            if let Some(lock) = Self::attempt(path)? {
                return Ok(Some(lock));
            }
            if give_up() {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(longest);
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

    /// Whether somebody holds the lock of the file at `path` alone, as far as can be told. Nothing is created.
    pub(super) fn is_held(path: &Path) -> bool {
        match OpenOptions::new().write(true).open(path) {
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
            Ok(file) => {
                let held = flock(&file, FlockOperation::NonBlockingLockShared).is_err();
                drop(Self { file });
                held
            }
        }
    }

    fn attempt_as(path: &Path, operation: FlockOperation) -> Result<Option<Self>, StoreError> {
        loop {
            let file = open(path)?;
            match flock(&file, operation) {
                Ok(()) if is_at(&file, path) => return Ok(Some(Self { file })),
                Ok(()) => {}
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(StoreError::at("lock", path)(errno.into())),
            }
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

/// Whether the file still has its name. Who held the lock before may have removed it between our opening
/// it and our locking it; the lock of a file without a name keeps nobody out.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excludes_others_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::wait(&path, &|| false).unwrap();
        assert!(held.is_some() && Lock::attempt(&path).unwrap().is_none() && Lock::is_held(&path));
        let asked = std::cell::Cell::new(0);
        let give_up = || {
            asked.set(asked.get() + 1);
            asked.get() == 3
        };
        assert!(Lock::wait(&path, &give_up).unwrap().is_none() && asked.get() == 3);
        drop(held);
        assert!(!Lock::is_held(&path) && !Lock::is_held(&dir.path().join("none")));
        assert!(Lock::attempt(&path).unwrap().is_some());
    }

    #[test]
    fn a_removed_file_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let file = open(&path).unwrap();
        assert!(is_at(&file, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path));
        let _other = Lock::attempt(&path).unwrap().unwrap();
        assert!(!is_at(&file, &path));
    }

    #[test]
    fn only_one_has_a_lock_that_its_holders_remove() {
        let dir = tempfile::tempdir().unwrap();
        let (path, alone) = (dir.path().join("lock"), dir.path().join("alone"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let held = Lock::wait(&path, &|| false).unwrap().unwrap();
                        std::fs::create_dir(&alone).unwrap();
                        std::fs::remove_dir(&alone).unwrap();
                        std::fs::remove_file(&path).unwrap();
                        drop(held);
                    }
                });
            }
        });
    }
}
