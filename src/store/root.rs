//! The store's root directory and the places below it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::scratch::Scratch;
use super::{Leftovers, Lock, ScratchDir, ScratchFile, StoreError};
use crate::image::Digest;

/// The directories below the root, closed to everybody else.
const PLACES: [&str; 10] =
    ["blobs", "layers", "steps", "refs", "downloads", "git", "caches", "contexts", "locks", "scratch"];
/// Where the blobs of the only algorithm are.
const BLOBS: &str = "blobs/sha256";

/// A store on disk, open for one build.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    scratch: Scratch,
}

impl Store {
    /// Opens the store below `root`, creating what is missing.
    ///
    /// # Errors
    ///
    /// Fails where the directories cannot be created.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        for place in PLACES {
            let path = root.join(place);
            fs::create_dir_all(&path).map_err(StoreError::at("create", &path))?;
            // Images hold programs that run as their owner, and layers are unpacked with real owners:
            // nobody else may reach them.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
                .map_err(StoreError::at("protect", &path))?;
        }
        let blobs = root.join(BLOBS);
        fs::create_dir_all(&blobs).map_err(StoreError::at("create", &blobs))?;
        let root = fs::canonicalize(root).map_err(StoreError::at("open", root))?;
        let scratch = Scratch::new(&root.join("scratch"))?;
        Ok(Self { root, scratch })
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

    /// Waits until no other build, nor another part of this one, makes the thing named `digest`.
    ///
    /// # Errors
    ///
    /// Fails where the lock file cannot be used.
    pub fn lock(&self, digest: &Digest) -> Result<Lock, StoreError> {
        Lock::wait(&self.place("locks", digest))
    }

    /// The same, if nobody makes it at present.
    ///
    /// # Errors
    ///
    /// As [`Store::lock`].
    pub fn try_lock(&self, digest: &Digest) -> Result<Option<Lock>, StoreError> {
        Lock::attempt(&self.place("locks", digest))
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

    /// What killed builds left behind.
    pub fn leftovers(&self) -> Leftovers {
        self.scratch.leftovers()
    }

    /// Writes a small file under its final name in one step.
    pub(super) fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.scratch.file_path();
        fs::write(&temporary, bytes).map_err(StoreError::at("write", &temporary))?;
        fs::rename(&temporary, path).map_err(StoreError::at("rename", path))
    }
}
