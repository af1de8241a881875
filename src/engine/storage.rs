//! The ladder of storage: overlays over the directories of layers, and whole copies where there are none.

use std::path::{Path, PathBuf};

use super::{Engine, EngineError, Layer, State};
use crate::image::{Digest, Sha256};
use crate::layer::{Content, LayerPath, Tree, materialise};
use crate::sandbox::{RootPlace, probe_overlay_in};
use crate::store::LayerId;

/// Lower directories that an overlay gets at most; the kernel takes 500, and some are ours.
const LOWERS: usize = 490;
/// Threads that write and compare whole trees.
pub(super) const TREE_THREADS: usize = 4;

/// What the roots of commands are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Storage {
    /// Overlays.
    Overlay,
    /// Whole trees, for this reason.
    Copies(String),
}

impl Engine {
    /// The storage that works here, found out once for each build.
    pub(super) fn storage(&self) -> Result<&Storage, EngineError> {
        if let Some(known) = self.storage.get() {
            return Ok(known);
        }
        let _alone = self.mounts.lock().map_err(|_| EngineError::Cancelled)?;
        if let Some(known) = self.storage.get() {
            return Ok(known);
        }
        let scratch = self.store().scratch_dir()?;
        let found = self.find_storage(scratch.path());
        Ok(self.storage.get_or_init(|| found))
    }

    fn find_storage(&self, scratch: &Path) -> Storage {
        let isolation = self.settings.sandbox.as_ref().map(|sandbox| sandbox.isolation());
        if let Some(isolation) = isolation.filter(|isolation| !isolation.has_namespaces()) {
            return Storage::Copies(format!("the isolation {isolation} has no mounts"));
        }
        // Where the store lies on an overlay itself, changes of commands could go to another file system, but the
        // directories of layers could not: an overlay does not take the marks of what is deleted.
        match probe_overlay_in(scratch) {
            Ok(()) => Storage::Overlay,
            Err(reason) => Storage::Copies(reason.to_string()),
        }
    }

    /// Whether commands stand on overlays over the directories of layers.
    ///
    /// # Errors
    ///
    /// Fails where the store cannot be written to.
    pub fn has_overlays(&self) -> Result<bool, EngineError> {
        Ok(*self.storage()? == Storage::Overlay)
    }

    /// Makes ready what all commands need. Call it as soon as it is known that there will be one, on a thread
    /// that may wait: until the first comes, a base is fetched.
    ///
    /// Gives what people should know of how files are stored; nothing where all is as it should be.
    ///
    /// # Errors
    ///
    /// Fails where the store cannot be written to or no process can be started, as the first command would.
    pub fn warm_up(&self) -> Result<Option<String>, EngineError> {
        let storage = self.storage()?;
        self.mount_points()?;
        if let Some(sandbox) = &self.settings.sandbox {
            // Only now: what is mounted for trying would be copied into the namespaces of a command.
            sandbox.warm_up().map_err(EngineError::io("start the sandbox launcher"))?;
        }
        Ok(match storage {
            Storage::Overlay => None,
            Storage::Copies(reason) => Some(format!("{reason}: files are copied for each stage")),
        })
    }

    /// A directory with the merged content of so many layers at the bottom that an overlay takes the rest,
    /// and the number of layers that it stands for; `None` where all of them fit.
    pub(super) fn flattened(&self, below: &State) -> Result<Option<(PathBuf, usize)>, EngineError> {
        let Some(count) =
            below.layers.len().checked_sub(LOWERS).filter(|more| *more > 0).map(|more| more + 1)
        else {
            return Ok(None);
        };
        let bottom = State { layers: below.layers[..count].to_vec() };
        let id = LayerId::of_stack(&stack_digest(&bottom.layers));
        if let Some(path) = self.store().layer_directory(&id, self.ownership()) {
            return Ok(Some((path, count)));
        }
        let _lock = self.lock(id.digest())?;
        if let Some(path) = self.store().layer_directory(&id, self.ownership()) {
            return Ok(Some((path, count)));
        }
        let scratch = self.store().scratch_dir()?;
        let tree = scratch.path().join("fs");
        self.write_tree(&bottom, &self.tree(&bottom)?, &tree)?;
        Ok(Some((self.store().adopt_layer_directory(&id, self.ownership(), &tree)?, count)))
    }

    /// Writes all that a stack of layers shows into a new directory.
    pub(super) fn write_tree(&self, state: &State, tree: &Tree, into: &Path) -> Result<(), EngineError> {
        let files = tree.walk(&LayerPath::root());
        let files = files.iter().filter_map(|(path, _)| tree.file(path));
        let contents = self.contents(state, files.map(|file| (file.layer, file.path)))?;
        std::fs::create_dir(into).map_err(EngineError::io("create a directory for a whole tree"))?;
        // All of them were asked for.
        let content = |layer: usize, path: &LayerPath| contents.get(layer, path).unwrap_or(Content::Empty);
        materialise(tree, &content, self.ownership(), into, TREE_THREADS)?;
        Ok(())
    }
}

/// Names a stack by its layers.
fn stack_digest(layers: &[Layer]) -> Digest {
    let mut hasher = Sha256::new();
    for layer in layers {
        hasher.update(layer.id.digest().raw());
    }
    hasher.finish()
}

/// A root that is a whole tree.
pub(super) fn whole(path: &Path) -> RootPlace {
    RootPlace::Directory { path: path.to_owned() }
}
