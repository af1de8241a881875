//! What a command stands on, and what it has changed there: an overlay, or a whole tree.

use std::path::{Path, PathBuf};

use super::discarded::Discarded;
use super::run::{MERGED, STUBS, make_upper};
use super::staging::{Found, Staging};
use super::storage::whole;
use super::working_root::{WorkingRoot, owners};
use super::{Engine, EngineError, Layer, Needs, State};
use crate::layer::{
    Change, Compared, Journal, LayerIndex, LayerPath, Note, Scan, Tree, diff_id, scan, settle_times,
    write_directory,
};
use crate::plan::RunOp;
use crate::sandbox::{RootPlace, RunEnd};
use crate::store::{LayerId, NewLayer, ScratchDir};

/// The root of one command.
#[derive(Debug)]
pub(super) enum Ground {
    /// Directories of layers.
    Layers {
        new: NewLayer,
        upper: PathBuf,
        _work: ScratchDir,
        /// What the layers' own directories get wrong.
        _repairs: Discarded,
        place: RootPlace,
    },
    /// A tree.
    Whole(WorkingRoot),
}

impl Ground {
    /// For the sandbox.
    pub(super) fn place(&self) -> RootPlace {
        match self {
            Self::Layers { place, .. } => place.clone(),
            Self::Whole(root) => whole(root.path()),
        }
    }
}

impl Engine {
    /// Makes the root of a command, with its working directory. `mounts` is the directory that all commands
    /// share; `None` where they have no overlays.
    pub(super) fn ground(
        &self,
        op: &RunOp,
        below: &State,
        tree: &Tree,
        mounts: Option<&Path>,
    ) -> Result<Ground, EngineError> {
        let cwd = self.missing_cwd(op, below, tree)?;
        let Some(mounts) = mounts else {
            let root = self.working_root(below, tree)?;
            self.prepare_root(&root, &cwd)?;
            return Ok(Ground::Whole(root));
        };
        let new = self.store().begin_layer()?;
        let upper = new.directory(self.ownership());
        let work = self.store().scratch_dir()?;
        make_upper(&upper, tree).map_err(EngineError::io("create the upper directory"))?;
        write_directory(&cwd, self.settings.epoch, &upper, self.ownership(), self.cancel.halt())?;
        let repairs = Discarded::new(self.store().scratch_file());
        let place = RootPlace::Overlay {
            lowers: self.lowers(below, tree, mounts.join(STUBS), repairs.path())?,
            upper: upper.clone(),
            work: work.path().to_owned(),
            merged: mounts.join(MERGED),
        };
        Ok(Ground::Layers { new, upper, _work: work, _repairs: repairs, place })
    }

    /// The working directory where it is missing, as part of the command's changes: an image may name one
    /// that it does not hold, and an earlier command may have removed it.
    fn missing_cwd(&self, op: &RunOp, below: &State, tree: &Tree) -> Result<Vec<Change>, EngineError> {
        let mut staging = Staging::new(tree, self.file_time());
        let path = staging.resolve(op.cwd.as_bytes())?;
        if staging.found(&path) == Found::Directory {
            return Ok(Vec::new());
        }
        let owner = self.user(below, tree, &op.user)?;
        staging.make_directories(&path, 0o755, owner)?;
        Ok(staging.into_changes())
    }

    /// The lower directories for an overlay of a stack, above the directory `bottom`. What the layers'
    /// own directories get wrong is put right in `repairs`, which is made where that is needed.
    pub(super) fn lowers(
        &self,
        below: &State,
        tree: &Tree,
        bottom: PathBuf,
        repairs: &Path,
    ) -> Result<Vec<PathBuf>, EngineError> {
        let flat = self.flattened(below)?;
        let merged = flat.as_ref().map_or(0, |(_, count)| *count);
        let directories = below
            .layers
            .iter()
            .enumerate()
            .map(|(at, layer)| match &flat {
                // One directory stands for all of them.
                Some((path, count)) if at < *count => Ok(path.clone()),
                _ => self.directory(layer),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let content = |layer: usize, path: &LayerPath| {
            crate::layer::Content::File(directories[layer].join(path.as_os_path()))
        };
        let changes = tree.repairs(&content)?;
        // An overlay shows the top directories of all layers, whatever a layer says to hide.
        let first = tree.layers().iter().rposition(|index| index.hides_all()).unwrap_or(0);
        // A layer may stand in an image twice, and an overlay takes each directory once: what the lower
        // one says, the upper one says again.
        let is_last = |at: usize| !directories[at + 1..].contains(&directories[at]);
        let from = if first < merged { 0 } else { first };
        let distinct = directories.iter().enumerate().skip(from).filter(|(at, _)| is_last(*at));
        let mut lowers = vec![bottom];
        lowers.extend(distinct.map(|(_, directory)| directory.clone()));
        if !changes.is_empty() {
            std::fs::create_dir(repairs).map_err(EngineError::io("create a lower directory"))?;
            write_directory(&changes, None, repairs, self.ownership(), self.cancel.halt())?;
            lowers.push(repairs.to_owned());
        }
        Ok(lowers)
    }

    /// Makes a layer of what a command has changed. Gives it, and what was left out of it.
    pub(super) fn harvest(
        &self,
        ground: Ground,
        below: &State,
        tree: &Tree,
        end: &RunEnd,
        needs: Needs,
    ) -> Result<(Layer, Vec<Note>), EngineError> {
        let mut journal = Journal::default();
        for entry in &end.journal {
            journal.insert(entry.inode, entry.birth, entry.uid, entry.gid);
        }
        match ground {
            Ground::Layers { new, upper, .. } => {
                let stubs = end.stubs_left.iter().map(LayerPath::new).collect::<Result<Vec<_>, _>>()?;
                let owners = owners(self.ownership(), &journal);
                let Scan { changes, notes } = scan(&upper, tree, &stubs, owners)?;
                settle_times(&upper, &changes, self.settings.epoch)?;
                let id = LayerId::of(&diff_id(&changes, self.settings.epoch, self.cancel.halt())?);
                let index = LayerIndex::from_changes(&changes, self.settings.epoch)?;
                self.store().finish_layer(&id, &new, &index.encode())?;
                self.remember(&id, index);
                Ok((Layer::made(id), notes))
            }
            Ground::Whole(root) => {
                let Compared { scan, after } =
                    self.compare_root(&root, below, tree, &journal, &end.untouched)?;
                // The next command changes the files: what they are now is kept elsewhere.
                // A directory may not be able to say what is deleted, as on an overlay.
                let deletes = scan.changes.iter().any(|change| change.entry.is_marker());
                let blob = needs.blob || deletes;
                let needs = Needs { directory: !blob, blob };
                let layer = self.keep(&scan.changes, needs)?;
                self.advance_root(root, layer.id, &scan.changes, after)?;
                Ok((layer, scan.notes))
            }
        }
    }
}
