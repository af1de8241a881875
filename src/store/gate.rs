//! When things of the store were last used, and the gate between those who look them up and those who
//! remove them.
//!
//! A thing was last used at the modification time of its file or directory. A build sets it when it looks
//! the thing up, and holds the gate while it does, together with other builds. Who removes holds the gate
//! alone while it looks at that time once more and takes the thing's name away. So a build either finds a
//! thing, and it stays until that build has ended, or does not find it, and makes it.
//!
//! Source: flock(2), utimensat(2).

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FlockOperation, Timespec, Timestamps, flock, utimensat};
use rustix::io::Errno;

use super::StoreError;

/// The gate as one build has it.
#[derive(Debug)]
pub(super) struct Gate {
    file: File,
    path: PathBuf,
    /// When the build began: no use is earlier, also where a clock was set back.
    since: SystemTime,
    /// What this build has used. Such a thing is not looked at a second time.
    used: Mutex<HashSet<PathBuf>>,
}

impl Gate {
    /// The gate at `path`, which is created where it is missing.
    ///
    /// # Errors
    ///
    /// Fails where the file system has no locks.
    pub(super) fn open(path: &Path, since: SystemTime) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        let open = options.create(true).truncate(false).write(true).open(path);
        let file = open.map_err(StoreError::at("open", path))?;
        let gate = Self { file, path: path.to_owned(), since, used: Mutex::default() };
        gate.operate(FlockOperation::LockShared)?;
        gate.operate(FlockOperation::Unlock)?;
        Ok(gate)
    }

    /// When this build began.
    pub(super) fn since(&self) -> SystemTime {
        self.since
    }

    /// Marks a thing as used now, if it is there: it is not removed before this build has ended.
    pub(super) fn mark(&self, path: &Path) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.contains(path) {
            return;
        }
        // The gate was locked before, when it was opened. Where that fails now, the thing may be removed
        // too early, and a build that misses it says so.
        let held = self.operate(FlockOperation::LockShared);
        let marked = set_time(path, self.since.max(SystemTime::now()));
        drop(held.and_then(|()| self.operate(FlockOperation::Unlock)));
        if marked.is_ok() {
            used.insert(path.to_owned());
        }
    }

    /// What this build has used.
    pub(super) fn used(&self) -> HashSet<PathBuf> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something short while nobody looks anything up. What it does must not mark anything.
    pub(super) fn alone<T>(&self, work: impl FnOnce() -> T) -> Result<T, StoreError> {
        let _used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.operate(FlockOperation::LockExclusive)?;
        let done = work();
        self.operate(FlockOperation::Unlock)?;
        Ok(done)
    }

    fn operate(&self, operation: FlockOperation) -> Result<(), StoreError> {
        loop {
            match flock(&self.file, operation) {
                Err(Errno::INTR) => {}
                done => return done.map_err(|errno| StoreError::at("lock", &self.path)(errno.into())),
            }
        }
    }
}

/// Sets both times of a file or directory; of a link itself, not of what it leads to.
pub(super) fn set_time(path: &Path, time: SystemTime) -> Result<(), Errno> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = Timespec {
        tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: since.subsec_nanos().into(),
    };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn things_are_marked_once_and_never_before_the_build_began() {
        let directory = tempfile::tempdir().unwrap();
        let thing = directory.path().join("thing");
        let later = SystemTime::now() + Duration::from_secs(1000);
        let gate = Gate::open(&directory.path().join("gate"), later).unwrap();
        let time = || std::fs::metadata(&thing).unwrap().modified().unwrap();
        gate.mark(&thing);
        std::fs::write(&thing, "").unwrap();
        assert!(time() < later, "what was not there is not held to be marked");
        gate.mark(&thing);
        assert!(time().duration_since(later).unwrap_or_default() < Duration::from_secs(1));
        set_time(&thing, UNIX_EPOCH).unwrap();
        gate.mark(&thing);
        assert_eq!(time(), UNIX_EPOCH);
    }

    #[test]
    fn who_is_alone_is_alone() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Gate::open(&directory.path().join("gate"), SystemTime::now()).unwrap();
        let thing = directory.path().join("thing");
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let gate = open();
                    for _ in 0..200 {
                        // Nobody else creates or removes the thing meanwhile.
                        gate.alone(|| {
                            std::fs::create_dir(&thing).unwrap();
                            std::fs::remove_dir(&thing).unwrap();
                        })
                        .unwrap();
                        gate.mark(&thing);
                        assert!(gate.used.lock().unwrap().is_empty());
                    }
                });
            }
        });
    }
}
