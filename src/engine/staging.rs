//! A layer in the making: changes on top of a tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{EngineError, StepFailure};
use crate::image::DataHash;
use crate::layer::{Change, Content, Entry, EntryKind, LayerError, LayerPath, Tree};

/// Which of several names of one file this is: the source's number and the file's own path in it.
pub(super) type LinkGroup = (usize, usize, LayerPath);

/// Changes on top of a tree, by path.
pub(super) struct Staging<'t> {
    tree: &'t Tree,
    now: i64,
    changes: BTreeMap<LayerPath, Staged>,
    /// Files of archives that have several names, counted.
    linked: usize,
}

struct Staged {
    change: Change,
    group: Option<LinkGroup>,
    /// Whether it stands there for the sake of what is below it, as it was before.
    kept: bool,
    /// The hash of its data, where that is known.
    data: Option<DataHash>,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Directory,
    Other,
}

impl<'t> Staging<'t> {
    pub(super) fn new(tree: &'t Tree, now: i64) -> Self {
        Self { tree, now, changes: BTreeMap::new(), linked: 0 }
    }

    /// Where an absolute path leads, with links followed inside the root.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<LayerPath, EngineError> {
        match self.tree.resolve(path, &LayerPath::root(), true) {
            Ok(resolved) => Ok(resolved.path),
            Err(error @ (LayerError::NotADirectory { .. } | LayerError::LinkLoop { .. })) => {
                Err(StepFailure::refused(error.to_string()).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is at a canonical path, changes included.
    pub(super) fn found(&self, path: &LayerPath) -> Found {
        if path.is_root() {
            return Found::Directory;
        }
        let kind = match self.changes.get(path) {
            Some(staged) => Some(staged.change.entry.is_directory()),
            None => self.tree.get(path).map(|node| node.entry.is_directory()),
        };
        match kind {
            None => Found::Nothing,
            Some(true) => Found::Directory,
            Some(false) => Found::Other,
        }
    }

    /// The target of the link at a path, changes included.
    pub(super) fn link_target(&self, path: &LayerPath) -> Option<Vec<u8>> {
        let kind = match self.changes.get(path) {
            Some(staged) => staged.change.entry.kind.clone(),
            None => self.tree.get(path)?.entry.kind,
        };
        match kind {
            EntryKind::Symlink { target } => Some(target),
            _ => None,
        }
    }

    /// Makes a directory and the parents that are missing; those that are there stay as they are.
    ///
    /// # Errors
    ///
    /// Fails where something else than a directory is in the way.
    pub(super) fn make_directories(
        &mut self,
        path: &LayerPath,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<(), EngineError> {
        let mut missing = vec![path.clone()];
        while let Some(parent) = missing.last().and_then(LayerPath::parent) {
            if self.found(&parent) == Found::Directory {
                break;
            }
            missing.push(parent);
        }
        for directory in missing.into_iter().rev() {
            match self.found(&directory) {
                Found::Directory => {}
                Found::Nothing => {
                    let mut entry = Entry::new(directory.clone(), EntryKind::Directory, mode);
                    (entry.uid, entry.gid) = owner;
                    entry.mtime = self.now;
                    self.put(entry, Content::Empty, None);
                }
                Found::Other => {
                    return Err(StepFailure::refused(format!("{directory} is not a directory")).into());
                }
            }
        }
        Ok(())
    }

    /// Puts an entry in its place, over what was there, with its parents in front of it.
    pub(super) fn put(&mut self, entry: Entry, content: Content, group: Option<LinkGroup>) {
        self.keep_parents(&entry.path);
        let path = entry.path.clone();
        if !entry.is_directory() {
            self.forget_below(&path);
        }
        self.changes
            .insert(path, Staged { change: Change { entry, content }, group, kept: false, data: None });
    }

    /// What was staged below a directory goes when something else takes the directory's place.
    fn forget_below(&mut self, path: &LayerPath) {
        let below: Vec<LayerPath> = self
            .changes
            .range(path.clone()..)
            .skip_while(|(candidate, _)| *candidate == path)
            .take_while(|(candidate, _)| candidate.starts_with(path))
            .map(|(candidate, _)| candidate.clone())
            .collect();
        for path in below {
            self.changes.remove(&path);
        }
    }

    /// Every parent of a changed entry stands in the layer, with its own metadata.
    fn keep_parents(&mut self, path: &LayerPath) {
        let mut above = path.parent();
        // A parent that is there has its own parents.
        while let Some(parent) =
            above.filter(|parent| !parent.is_root() && !self.changes.contains_key(parent))
        {
            above = parent.parent();
            if let Some(node) = self.tree.get(&parent) {
                let mut entry = node.entry;
                entry.path = parent.clone();
                let change = Change { entry, content: Content::Empty };
                self.changes.insert(parent, Staged { change, group: None, kept: true, data: None });
            }
        }
    }

    /// Sets a directory's time, as a copy of its contents does.
    pub(super) fn touch(&mut self, path: &LayerPath, mtime: i64) {
        if path.is_root() {
            return;
        }
        if !self.changes.contains_key(path)
            && let Some(node) = self.tree.get(path)
        {
            let mut entry = node.entry;
            entry.path = path.clone();
            self.put(entry, Content::Empty, None);
        }
        if let Some(staged) = self.changes.get_mut(path) {
            staged.change.entry.mtime = mtime;
            staged.kept = false;
        }
    }

    /// Puts a file in its place, as [`Staging::put`], of whose data this is the hash.
    pub(super) fn put_known(
        &mut self,
        entry: Entry,
        content: Content,
        group: Option<LinkGroup>,
        data: Option<DataHash>,
    ) {
        let path = entry.path.clone();
        self.put(entry, content, group);
        if let Some(staged) = self.changes.get_mut(&path) {
            staged.data = data;
        }
    }

    /// What is known of files' data, in path order of all changes.
    pub(super) fn known_data(&self) -> Vec<Option<DataHash>> {
        let data = |staged: &Staged| staged.data.filter(|_| staged.change.entry.is_file());
        self.changes.values().map(data).collect()
    }

    /// The directories that are among the changes for the sake of what is below them alone, with all their
    /// attributes as they were before.
    pub(super) fn kept(&self) -> BTreeSet<LayerPath> {
        self.changes.iter().filter(|(_, staged)| staged.kept).map(|(path, _)| path.clone()).collect()
    }

    /// The changes in path order. The first name of a file that was copied under several carries
    /// its content, the others are links to it.
    pub(super) fn into_changes(self) -> Vec<Change> {
        let mut firsts: BTreeMap<LinkGroup, LayerPath> = BTreeMap::new();
        let mut changes = Vec::with_capacity(self.changes.len());
        for (path, staged) in self.changes {
            let mut change = staged.change;
            if let Some(group) = staged.group {
                match firsts.get(&group) {
                    Some(first) => {
                        change.entry.kind = EntryKind::HardLink { target: first.clone() };
                        change.content = Content::Empty;
                    }
                    None => drop(firsts.insert(group, path)),
                }
            }
            changes.push(change);
        }
        changes
    }

    /// Makes `to` another name of the staged file `from`; false where there is no such file.
    pub(super) fn link(&mut self, from: &LayerPath, to: LayerPath) -> bool {
        let Some(staged) = self.changes.get_mut(from) else { return false };
        if !matches!(staged.change.entry.kind, EntryKind::File { .. }) {
            return false;
        }
        // Numbered, since a later file under the same name is another one.
        self.linked += 1;
        let linked = self.linked;
        let group = staged.group.get_or_insert_with(|| (usize::MAX, linked, from.clone())).clone();
        let mut change = staged.change.clone();
        change.entry.path = to;
        self.put(change.entry, change.content, Some(group));
        true
    }

    /// Adds a file from memory.
    pub(super) fn put_bytes(&mut self, mut entry: Entry, bytes: &[u8]) {
        entry.kind = EntryKind::File { size: bytes.len() as u64 };
        self.put(entry, Content::Bytes(Arc::from(bytes)), None);
    }
}
