//! The ladder of storage: overlays over the directories of layers, and whole copies where there are none.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};

use super::{Engine, EngineError, Layer, State};
use crate::image::{Digest, Sha256};
use crate::layer::{Content, LayerPath, Tree, materialise};
use crate::sandbox::{OverlayError, RootPlace, probe_overlay};
use crate::store::{LayerId, ScratchDir};

/// Lower directories that an overlay gets at most; the kernel takes 500, and some are ours.
const LOWERS: usize = 490;
/// Threads that write and compare whole trees.
pub(super) const TREE_THREADS: usize = 4;

/// What the roots of commands are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Storage {
    /// Overlays.
    Overlay,
    /// Overlays whose changes go to this directory, as the store's own file system does not take them.
    OverlayAt(PathBuf),
    /// Whole trees, for this reason.
    Copies(String),
}

impl Engine {
    /// The storage that works here, found out once for each build.
    pub(super) fn storage(&self) -> Result<&Storage, EngineError> {
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
        let reason = match probe_overlay(scratch) {
            Ok(()) => return Storage::Overlay,
            Err(reason) => reason,
        };
        // Directories of layers stay in the store, and have to say there what is deleted.
        if matches!(reason, OverlayError::UpperOnOverlay) && holds_deletions(scratch) {
            let other = self.settings.elsewhere.iter().find(|place| probe_overlay(place).is_ok());
            if let Some(place) = other {
                return Storage::OverlayAt(place.clone());
            }
        }
        Storage::Copies(reason.to_string())
    }

    /// What people should know of how files are stored; nothing where all is as it should be.
    ///
    /// # Errors
    ///
    /// Fails where the store cannot be written to.
    pub fn storage_remark(&self) -> Result<Option<String>, EngineError> {
        Ok(match self.storage()? {
            Storage::Overlay => None,
            Storage::OverlayAt(place) => Some(format!(
                "the store lies on an overlay: changes of commands go to {} first",
                place.display()
            )),
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
        let _lock = self.store().lock(id.digest())?;
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

/// Whether a file system takes the marks by which the directory of a layer says what is deleted. An overlay
/// does not, as they would be its own.
fn holds_deletions(directory: &Path) -> bool {
    let mark = directory.join("deleted");
    let kind = FileType::CharacterDevice;
    let made = rustix::fs::mknodat(rustix::fs::CWD, &mark, kind, Mode::empty(), 0);
    made.and_then(|()| rustix::fs::unlink(&mark)).is_ok()
}

/// Names a stack by its layers.
fn stack_digest(layers: &[Layer]) -> Digest {
    let mut hasher = Sha256::new();
    for layer in layers {
        hasher.update(layer.id.digest().raw());
    }
    hasher.finish()
}

/// Where a command with an overlay writes to.
#[derive(Debug)]
pub(super) struct Upper {
    /// The directory for changes; it does not exist yet.
    pub(super) path: PathBuf,
    /// An empty one on the same file system.
    pub(super) work: PathBuf,
    _scratch: Vec<ScratchDir>,
    _elsewhere: Option<tempfile::TempDir>,
}

impl Engine {
    /// Places for the changes of a command whose layer is to stand at `own` in the end.
    pub(super) fn upper(&self, own: PathBuf) -> Result<Upper, EngineError> {
        let failed = EngineError::io("create the upper directory");
        if let Storage::OverlayAt(place) = self.storage()? {
            let elsewhere = tempfile::TempDir::with_prefix_in("fanfold-", place).map_err(failed)?;
            let work = elsewhere.path().join("work");
            std::fs::create_dir(&work).map_err(EngineError::io("create the upper directory"))?;
            let path = elsewhere.path().join("upper");
            return Ok(Upper { path, work, _scratch: Vec::new(), _elsewhere: Some(elsewhere) });
        }
        let work = self.store().scratch_dir()?;
        Ok(Upper { path: own, work: work.path().to_owned(), _scratch: vec![work], _elsewhere: None })
    }

    /// Whether changes of commands are made where their layers will stand.
    pub(super) fn changes_in_place(&self) -> Result<bool, EngineError> {
        Ok(matches!(self.storage()?, Storage::Overlay))
    }
}

/// A root that is a whole tree.
pub(super) fn whole(path: &Path) -> RootPlace {
    RootPlace::Directory { path: path.to_owned() }
}
