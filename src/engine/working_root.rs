//! Working roots: whole trees that commands change in place, one after the other.
//!
//! Where there are no overlays, a stage's file system is copied once, and each command of the stage works on
//! what the one before has left; a comparison with the metadata from before tells what it changed.

use std::io::Read;
use std::path::Path;

use super::discarded::Discarded;
use super::storage::TREE_THREADS;
use super::{Engine, EngineError, State};
use crate::image::Ownership;
use crate::layer::{Change, Compare, Compared, Journal, LayerPath, Owners, Snapshot, Tree, advance, compare};
use crate::store::LayerId;

/// Roots that are kept for a command to come, whatever the number of stages.
const KEPT: usize = 4;
/// What is not the image's while a command runs: these are ours, or the kernel's.
const EXCLUDED: [&str; 5] = ["dev", "proc", "sys", "etc/hosts", "etc/resolv.conf"];

/// A whole tree that shows a stack of layers.
#[derive(Debug)]
pub(super) struct WorkingRoot {
    place: Discarded,
    /// The stack, lowest first.
    layers: Vec<LayerId>,
    snapshot: Snapshot,
}

impl WorkingRoot {
    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Waits until what a command changes from now on can be told from what was there before.
    pub(super) fn settle_clock(&self) {
        self.snapshot.outlive_clock();
    }
}

impl Engine {
    /// A root for a stack, which nobody else uses: one that an earlier command has left, or a new one.
    pub(super) fn working_root(&self, below: &State, tree: &Tree) -> Result<WorkingRoot, EngineError> {
        let ids: Vec<LayerId> = below.layers.iter().map(|layer| layer.id).collect();
        let mut root = match self.take_root(&ids)? {
            Some(root) => root,
            None => {
                let place = Discarded::new(self.store().scratch_file());
                self.write_tree(below, tree, place.path())?;
                let snapshot = Snapshot::take(place.path(), TREE_THREADS)?;
                return Ok(WorkingRoot { place, layers: ids, snapshot });
            }
        };
        if root.layers.len() < ids.len() {
            for at in root.layers.len()..ids.len() {
                advance(root.path(), &self.layer_changes(below, at)?, self.ownership())?;
            }
            root.snapshot = Snapshot::take(root.path(), TREE_THREADS)?;
            root.layers = ids;
        }
        Ok(root)
    }

    /// The idle root that is nearest to a stack.
    fn take_root(&self, wanted: &[LayerId]) -> Result<Option<WorkingRoot>, EngineError> {
        let mut idle = self.roots.lock().map_err(|_| EngineError::Cancelled)?;
        let nearest = idle
            .iter()
            .enumerate()
            .filter(|(_, root)| wanted.starts_with(&root.layers))
            .max_by_key(|(_, root)| root.layers.len())
            .map(|(at, _)| at);
        Ok(nearest.map(|at| idle.remove(at)))
    }

    /// Leaves a root to a later command.
    fn leave_root(&self, root: WorkingRoot) -> Result<(), EngineError> {
        let mut idle = self.roots.lock().map_err(|_| EngineError::Cancelled)?;
        idle.push(root);
        let oldest = (idle.len() > KEPT).then(|| idle.remove(0));
        drop(idle);
        // Removing it takes a while, and nobody has to wait for it.
        drop(oldest);
        Ok(())
    }

    /// The changes that a layer of a stack makes, with their content.
    fn layer_changes(&self, below: &State, at: usize) -> Result<Vec<Change>, EngineError> {
        let index = self.index(&below.layers[at])?;
        let files = index.entries().filter(|entry| entry.is_file()).map(|entry| (at, entry.path));
        let contents = self.contents(below, files)?;
        index
            .entries()
            .map(|entry| {
                let content = match entry.is_file() {
                    true => contents.get(at, &entry.path)?,
                    false => crate::layer::Content::Empty,
                };
                Ok(Change { entry, content })
            })
            .collect()
    }

    /// Makes changes to a root that belong to the command's own.
    pub(super) fn prepare_root(&self, root: &WorkingRoot, changes: &[Change]) -> Result<(), EngineError> {
        advance(root.path(), changes, self.ownership())?;
        Ok(())
    }

    /// What a command has changed in its root. The content of the changes is there until the root is used
    /// again.
    pub(super) fn compare_root(
        &self,
        root: &WorkingRoot,
        below: &State,
        tree: &Tree,
        journal: &Journal,
        untouched: &[Vec<u8>],
    ) -> Result<Compared, EngineError> {
        let ours = EXCLUDED.iter().map(|path| path.as_bytes());
        let excluded = ours.chain(untouched.iter().map(Vec::as_slice)).map(LayerPath::new);
        let excluded = excluded.collect::<Result<Vec<_>, _>>()?;
        let directories: Vec<_> = below
            .layers
            .iter()
            .map(|layer| self.store().layer_directory(&layer.id, self.ownership()))
            .collect();
        let original = |path: &LayerPath| {
            let file = tree.file(path)?;
            let path = directories[file.layer].as_ref()?.join(file.path.as_os_path());
            Some(Box::new(std::fs::File::open(path).ok()?) as Box<dyn Read + Send>)
        };
        let owners = owners(self.ownership(), journal);
        let with =
            Compare { below: tree, owners, excluded: &excluded, original: &original, threads: TREE_THREADS };
        Ok(compare(root.path(), &root.snapshot, &with)?)
    }

    /// Leaves a root that a command has changed to the next one, as the stack with the command's layer.
    pub(super) fn advance_root(
        &self,
        mut root: WorkingRoot,
        layer: LayerId,
        changes: &[Change],
        mut after: Snapshot,
    ) -> Result<(), EngineError> {
        after.settle(root.path(), changes, self.settings.epoch)?;
        root.snapshot = after;
        root.layers.push(layer);
        self.leave_root(root)
    }
}

/// Where the owners of changed files stand.
pub(super) fn owners(ownership: Ownership, journal: &Journal) -> Owners<'_> {
    match ownership {
        Ownership::Kernel => Owners::Kernel,
        Ownership::Recorded => Owners::Recorded { journal },
        Ownership::Simulated => Owners::Simulated { journal },
    }
}
