//! Directories that outlive builds: RUN --mount=type=cache.
//!
//! Who may use one cache at the same time:
//!
//! | has it | shared wants it | private wants it | locked wants it |
//! |---|---|---|---|
//! | nobody | gets it | gets it | gets it |
//! | shared | gets it too | gets the next one | waits |
//! | private | waits, if it is the first one | gets the next one | waits, if it is the first one |
//! | locked | waits | gets the next one | waits |
//!
//! Shared and locked always mean the first directory, so that what one build has put there is found by
//! the next one. A shared user waits for one that wants to be alone: two that disagree must not meet.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Lock, Store, StoreError};
use crate::image::Digest;

/// How a cache directory is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheSharing {
    /// With everybody who shares.
    Shared,
    /// With nobody: another one is used while this one is.
    Private,
    /// With nobody, who comes second waits.
    Locked,
}

/// A cache directory in use. It is given up when this is dropped, or when the process dies.
#[derive(Debug)]
pub struct CacheDirectory {
    path: PathBuf,
    _lock: Lock,
}

impl CacheDirectory {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A lock that another build holds is asked for again after this time, and then less and less often.
const SHORTEST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_millis(100);

impl Store {
    /// A directory of the cache, for as long as the result lives. One that does not exist yet is an
    /// empty directory of mode 0755 that `fill` may change; it gets its name when that is done.
    ///
    /// Gives `None` when `stop` said so while the directory was waited for. Who needs several takes
    /// them in the order of their digests, as everybody else does: else two could wait for each other.
    ///
    /// # Errors
    ///
    /// Fails where the directory cannot be created, and as `fill` does.
    pub fn cache_directory<E: From<StoreError>>(
        &self,
        cache: &Digest,
        sharing: CacheSharing,
        fill: &dyn Fn(&Path) -> Result<(), E>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<CacheDirectory>, E> {
        let place = self.place("caches", cache);
        make(&place)?;
        let Some((number, lock)) = take(&place, sharing, stop)? else { return Ok(None) };
        // Who removes directories takes this lock first. The time of its file is that of the last use.
        self.gate().mark(&place.join(format!("{number}.lock")));
        let path = place.join(number.to_string());
        if !path.exists() {
            let scratch = self.scratch_dir()?;
            let new = scratch.path().join("new");
            make(&new)?;
            fill(&new)?;
            match renameat_with(CWD, &new, CWD, &path, RenameFlags::NOREPLACE) {
                // Another one who shares it was first.
                Err(Errno::EXIST) => {}
                renamed => renamed.map_err(|errno| StoreError::at("rename", &path)(errno.into()))?,
            }
        }
        Ok(Some(CacheDirectory { path, _lock: lock }))
    }
}

fn make(path: &Path) -> Result<(), StoreError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(StoreError::at("create", path)),
    }
}

/// Takes the lock of one of the directories; `None` when told to stop.
fn take(
    place: &Path,
    sharing: CacheSharing,
    stop: &dyn Fn() -> bool,
) -> Result<Option<(u64, Lock)>, StoreError> {
    let lock = |number: u64| place.join(format!("{number}.lock"));
    let mut wait = SHORTEST_WAIT;
    for attempt in 0.. {
        let number = if sharing == CacheSharing::Private { attempt } else { 0 };
        let take = || match sharing {
            CacheSharing::Shared => Lock::attempt_shared(&lock(number)),
            CacheSharing::Locked | CacheSharing::Private => Lock::attempt(&lock(number)),
        };
        let taken = match take() {
            // Somebody has removed all directories of this cache, and the place with the last of them.
            Err(error) if error.is_missing() => {
                make(place)?;
                take()?
            }
            taken => taken?,
        };
        if let Some(taken) = taken {
            return Ok(Some((number, taken)));
        }
        if sharing == CacheSharing::Private {
            continue;
        }
        if stop() {
            break;
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn open(root: &tempfile::TempDir, sharing: CacheSharing) -> Option<CacheDirectory> {
        let store = Store::open(root.path()).unwrap();
        let fill = |path: &Path| {
            fs::write(path.join("first"), "").unwrap();
            Ok::<_, StoreError>(())
        };
        store.cache_directory(&Digest::of(b"cache"), sharing, &fill, &|| true).unwrap()
    }

    fn number(directory: Option<&CacheDirectory>) -> Option<String> {
        Some(directory?.path().file_name()?.to_str()?.to_owned())
    }

    #[test]
    fn users_meet_as_the_table_says() {
        use CacheSharing::{Locked, Private, Shared};
        for (first, second, want) in [
            (Shared, Shared, Some("0")),
            (Shared, Private, Some("1")),
            (Shared, Locked, None),
            (Private, Shared, None),
            (Private, Private, Some("1")),
            (Private, Locked, None),
            (Locked, Shared, None),
            (Locked, Private, Some("1")),
            (Locked, Locked, None),
        ] {
            let root = tempfile::tempdir().unwrap();
            let held = open(&root, first);
            assert_eq!(number(held.as_ref()).as_deref(), Some("0"), "{first:?}");
            assert_eq!(number(open(&root, second).as_ref()).as_deref(), want, "{first:?} {second:?}");
            drop(held);
            assert_eq!(number(open(&root, second).as_ref()).as_deref(), Some("0"), "{second:?}");
        }
    }

    #[test]
    fn content_is_made_once_and_stays() {
        let root = tempfile::tempdir().unwrap();
        let first = open(&root, CacheSharing::Locked).unwrap();
        fs::remove_file(first.path().join("first")).unwrap();
        fs::write(first.path().join("more"), "kept").unwrap();
        drop(first);
        let second = open(&root, CacheSharing::Shared).unwrap();
        assert!(!second.path().join("first").exists());
        assert_eq!(fs::read(second.path().join("more")).unwrap(), b"kept");
    }

    #[test]
    fn what_cannot_be_filled_does_not_exist() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let fill = |path: &Path| {
            fs::write(path.join("half"), "").unwrap();
            Err(StoreError::at("fill", path)(io::ErrorKind::Other.into()))
        };
        let sharing = CacheSharing::Shared;
        assert!(store.cache_directory(&Digest::of(b"cache"), sharing, &fill, &|| true).is_err());
        assert!(open(&root, sharing).unwrap().path().join("first").exists());
    }

    #[test]
    fn a_directory_that_is_given_up_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let held = Cell::new(open(&root, CacheSharing::Locked));
        let store = Store::open(root.path()).unwrap();
        let asked = Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            if asked.get() == 3 {
                held.take();
            }
            false
        };
        let fill = |_: &Path| Ok::<_, StoreError>(());
        let waited = store.cache_directory(&Digest::of(b"cache"), CacheSharing::Locked, &fill, &stop);
        assert!(waited.unwrap().is_some() && asked.get() == 3);
    }
}
