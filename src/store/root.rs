//! The store's root directory and the places below it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags};

use super::gate::Gate;
use super::scratch::Scratch;
use super::{Leftovers, Lock, ScratchDir, ScratchFile, StoreError};
use crate::image::Digest;

/// The directories below the root, closed to everybody else.
const PLACES: [&str; 10] =
    ["blobs", "layers", "steps", "refs", "downloads", "git", "caches", "contexts", "locks", "scratch"];
/// Where the blobs of the only algorithm are.
const BLOBS: &str = "blobs/sha256";
/// Held by who looks things up, and alone by who removes them.
const GATE: &str = "locks/gate";
/// Tells programs that make backups that nothing here is worth one. Its first line is that of the
/// specification, <https://bford.info/cachedir/>.
const TAG: (&str, &str) = (
    "CACHEDIR.TAG",
    "Signature: 8a477f597d28d172789f06886806bc55\n# All that is here can be made again: the store of fanfold.\n",
);

/// A store on disk, open for one build.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    scratch: Scratch,
    gate: Gate,
    /// Blobs that this process has written, or compared, itself.
    compared: Mutex<HashSet<Digest>>,
}

impl Store {
    /// Opens the store below `root`, creating what is missing.
    ///
    /// # Errors
    ///
    /// Fails where the directories cannot be created.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let mut is_new = false;
        for place in PLACES.into_iter().chain([BLOBS]) {
            is_new |= prepare(&root.join(place))?;
        }
        let root = fs::canonicalize(root).map_err(StoreError::at("open", root))?;
        let scratch = Scratch::new(&root.join("scratch"))?;
        let gate = Gate::open(&root.join(GATE), scratch.begun()?)?;
        let store = Self { root, scratch, gate, compared: Mutex::default() };
        if is_new {
            store.write_whole(&store.root.join(TAG.0), TAG.1.as_bytes())?;
        }
        Ok(store)
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn compared(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a thing is, marked as used now if it is there.
    pub(super) fn used(&self, kind: &str, digest: &Digest) -> PathBuf {
        let path = self.place(kind, digest);
        self.gate.mark(&path);
        path
    }

    /// When the oldest other build on this store began that still lives. Whatever was used since then may
    /// be in use.
    ///
    /// # Errors
    ///
    /// Fails where scratch space cannot be looked at.
    pub fn others_since(&self) -> Result<Option<SystemTime>, StoreError> {
        self.scratch.others_since()
    }

    /// The absolute path of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where bare git repositories are kept between builds.
    pub fn repositories(&self) -> PathBuf {
        self.root.join("git")
    }

    /// Where it is kept what files of contexts were, so that those that did not change are not read again.
    pub fn contexts(&self) -> PathBuf {
        self.root.join("contexts")
    }

    pub(super) fn place(&self, kind: &str, digest: &Digest) -> PathBuf {
        self.root.join(kind).join(digest.hex())
    }

    /// Waits until no other build, nor another part of this one, makes the thing named `digest`. Gives `None`
    /// soon after `give_up` has become true.
    ///
    /// # Errors
    ///
    /// Fails where the lock file cannot be used.
    pub fn lock_until(
        &self,
        digest: &Digest,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Option<Lock>, StoreError> {
        Lock::wait(&self.place("locks", digest), give_up)
    }

    /// A fresh directory for work in progress, removed when dropped.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be created.
    pub fn scratch_dir(&self) -> Result<ScratchDir, StoreError> {
        self.scratch.directory()
    }

    /// A name for a file of work in progress.
    pub fn scratch_file(&self) -> ScratchFile {
        self.scratch.file()
    }

    /// From now on, removes what is dropped in scratch space on a thread of its own. Call it once the process
    /// forks no more.
    pub fn sweep_in_background(&self) {
        self.scratch.sweep_in_background();
    }

    /// What killed builds left behind.
    pub fn leftovers(&self) -> Leftovers {
        self.scratch.leftovers()
    }

    /// Writes a small file under its final name in one step.
    pub(super) fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.scratch.file_path();
        let written = fs::write(&temporary, bytes).map_err(StoreError::at("write", &temporary));
        // Renaming over a file makes some file systems write out the new one first, which takes milliseconds;
        // changing places is as good, and a name without a file is the usual case.
        if written.is_ok()
            && rustix::fs::renameat_with(CWD, &temporary, CWD, path, RenameFlags::EXCHANGE).is_ok()
        {
            self.scratch.discard(temporary);
            return Ok(());
        }
        let renamed =
            written.and_then(|()| fs::rename(&temporary, path).map_err(StoreError::at("rename", path)));
        if renamed.is_err() {
            // Half a file takes space, which may be what is missing.
            drop(fs::remove_file(&temporary));
        }
        renamed
    }
}

/// Creates a directory that only we may enter; true where it was not there. Images hold programs that run
/// as their owner, and layers are unpacked with real owners: nobody else may reach them.
fn prepare(path: &Path) -> Result<bool, StoreError> {
    let open_to = |mode: u32| mode & 0o777 & !0o700;
    match fs::metadata(path) {
        Ok(found) if found.is_dir() && open_to(found.mode()) == 0 => return Ok(false),
        Ok(found) if found.is_dir() => {}
        _ => fs::create_dir_all(path).map_err(StoreError::at("create", path))?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(StoreError::at("protect", path))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_closed_and_mends_itself() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        for _ in 0..3 {
            let store = Store::open(&root).unwrap();
            for place in PLACES.into_iter().chain([BLOBS]) {
                assert_eq!(fs::metadata(store.root().join(place)).unwrap().mode() & 0o7777, 0o700, "{place}");
            }
            assert!(fs::read_to_string(root.join(TAG.0)).unwrap().starts_with("Signature: 8a477f597d28d17"));
            fs::remove_dir_all(root.join("steps")).unwrap();
            fs::set_permissions(root.join("refs"), fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(store.others_since().unwrap(), None);
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert!(store.write_whole(&directory.path().join("none/file"), b"x").is_err());
        let scratch = store.scratch_dir().unwrap();
        assert_eq!(fs::read_dir(scratch.path().parent().unwrap()).unwrap().count(), 1);
    }
}
