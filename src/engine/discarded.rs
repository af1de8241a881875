//! Scratch space that a command writes to.

use std::path::{Path, PathBuf};

use crate::sandbox::remove_tree;
use crate::store::ScratchFile;

/// A directory tree in scratch space with whatever a command has made of it, removed when dropped.
#[derive(Debug)]
pub(super) struct Discarded {
    name: ScratchFile,
}

impl Discarded {
    /// A tree at this name; it need not exist.
    pub(super) fn new(name: ScratchFile) -> Self {
        Self { name }
    }

    pub(super) fn path(&self) -> &Path {
        self.name.path()
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Discarded {
    fn drop(&mut self) {
        // What cannot be removed now is removed with the whole scratch space.
        drop(remove_tree(self.path()));
    }
}
