//! Work in progress of one build.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::sweeper::Sweeper;
use super::{Lock, StoreError};

/// One build's scratch space: a directory, and beside it a lock that shows that its owner lives.
#[derive(Debug)]
pub(super) struct Scratch {
    places: PathBuf,
    directory: PathBuf,
    next: AtomicU64,
    sweeper: Arc<Sweeper>,
    _alive: Lock,
}

/// A directory in scratch space, removed with all its contents when dropped.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    sweeper: Arc<Sweeper>,
}

/// A name for a file in scratch space; the file is removed when this is dropped.
#[derive(Debug)]
pub struct ScratchFile {
    path: PathBuf,
}

const LOCK_SUFFIX: &str = ".lock";

impl Scratch {
    pub(super) fn new(places: &Path) -> Result<Self, StoreError> {
        // A process id alone may be that of an earlier build, or of one in another pid namespace.
        for attempt in 0_u32.. {
            let name = format!("{}-{attempt}", std::process::id());
            let directory = places.join(&name);
            let lock = places.join(name + LOCK_SUFFIX);
            let Some(alive) = Lock::attempt(&lock)? else { continue };
            match fs::create_dir(&directory) {
                Ok(()) => {
                    return Ok(Self {
                        places: places.to_owned(),
                        directory,
                        next: AtomicU64::new(0),
                        sweeper: Arc::default(),
                        _alive: alive,
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StoreError::at("create", &directory)(error)),
            }
        }
        unreachable!("one of four thousand million names is free")
    }

    /// When this build began, by the clock of the file system; what it uses is used later.
    pub(super) fn begun(&self) -> Result<SystemTime, StoreError> {
        let lock = self.lock_path();
        fs::metadata(&lock).and_then(|lock| lock.modified()).map_err(StoreError::at("look at", &lock))
    }

    fn lock_path(&self) -> PathBuf {
        let mut lock = self.directory.clone().into_os_string();
        lock.push(LOCK_SUFFIX);
        lock.into()
    }

    /// When the oldest other build began that still lives.
    pub(super) fn others_since(&self) -> Result<Option<SystemTime>, StoreError> {
        let failed = || StoreError::at("look at", &self.places);
        let (own, mut oldest) = (self.lock_path(), None::<SystemTime>);
        for place in fs::read_dir(&self.places).map_err(failed())? {
            let path = place.map_err(failed())?.path();
            if path.extension().is_none_or(|suffix| suffix != "lock") || path == own || !Lock::is_held(&path)
            {
                continue;
            }
            // One that is gone by now has ended.
            let Ok(begun) = fs::metadata(&path).and_then(|lock| lock.modified()) else { continue };
            oldest = Some(oldest.map_or(begun, |oldest| oldest.min(begun)));
        }
        Ok(oldest)
    }

    pub(super) fn file_path(&self) -> PathBuf {
        self.directory.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    pub(super) fn directory(&self) -> Result<ScratchDir, StoreError> {
        let path = self.file_path();
        fs::create_dir(&path).map_err(StoreError::at("create", &path))?;
        Ok(ScratchDir { path, sweeper: Arc::clone(&self.sweeper) })
    }

    pub(super) fn file(&self) -> ScratchFile {
        ScratchFile { path: self.file_path() }
    }

    /// Removes what is in this scratch space, or has it removed.
    pub(super) fn discard(&self, path: PathBuf) {
        self.sweeper.remove(path);
    }

    pub(super) fn sweep_in_background(&self) {
        self.sweeper.start();
    }

    pub(super) fn leftovers(&self) -> Leftovers {
        Leftovers { places: self.places.clone() }
    }
}

/// What builds left behind that were killed. Apart from the store, so that removing it keeps
/// neither the store nor the end of a build waiting.
#[derive(Debug)]
pub struct Leftovers {
    places: PathBuf,
}

impl Leftovers {
    /// Removes them. `remove` removes a directory tree, also one that is owned by mapped ids.
    pub fn remove(&self, remove: &dyn Fn(&Path)) {
        let Ok(places) = fs::read_dir(&self.places) else { return };
        for place in places.flatten() {
            let path = place.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let lock_path = match name.strip_suffix(LOCK_SUFFIX) {
                Some(stem) if !self.places.join(stem).exists() => path.clone(),
                Some(_) => continue,
                None => self.places.join(format!("{name}{LOCK_SUFFIX}")),
            };
            // Who holds the lock removes; a lock that is held belongs to a living build.
            if let Ok(Some(_held)) = Lock::attempt(&lock_path) {
                remove(&path);
                drop(fs::remove_file(&lock_path));
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.sweeper.finish();
        // What cannot be removed now is removed by a later build.
        drop(fs::remove_dir_all(&self.directory));
        drop(fs::remove_file(self.lock_path()));
    }
}

impl ScratchFile {
    /// Where it is, or will be.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        // A file that has got its final name is no longer here.
        drop(fs::remove_file(&self.path));
    }
}

impl ScratchDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        self.sweeper.remove(std::mem::take(&mut self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dead_owners_lose_their_space() {
        let root = tempfile::tempdir().unwrap();
        let living = Scratch::new(root.path()).unwrap();
        let kept = living.directory().unwrap();
        fs::create_dir(root.path().join("4242-0")).unwrap();
        fs::write(root.path().join("4242-0.lock"), b"").unwrap();
        assert_eq!(living.others_since().unwrap(), None);
        let other = Scratch::new(root.path()).unwrap();
        assert_eq!(living.others_since().unwrap(), Some(other.begun().unwrap()));
        living.leftovers().remove(&|path| drop(fs::remove_dir_all(path)));
        assert!(other.directory().unwrap().path().exists());
        assert!(kept.path().exists());
        assert!(!root.path().join("4242-0").exists());
        assert!(!root.path().join("4242-0.lock").exists());
    }

    #[test]
    fn nothing_is_left_by_a_build_that_ends() {
        let root = tempfile::tempdir().unwrap();
        drop(Scratch::new(root.path()).unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_dropped_is_removed_in_the_background_and_at_the_end() {
        let root = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(root.path()).unwrap();
        scratch.sweep_in_background();
        let [dropped, kept] = [scratch.directory().unwrap(), scratch.directory().unwrap()];
        let path = dropped.path().to_owned();
        fs::create_dir_all(path.join("a/b")).unwrap();
        drop(dropped);
        while path.exists() {
            std::thread::yield_now();
        }
        assert!(kept.path().exists());
        drop(scratch);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        drop(kept);
    }
}
