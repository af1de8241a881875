//! [`LayerIndex`]: the metadata of one layer, for look-ups without unpacking it.

use std::collections::HashMap;
use std::sync::Arc;

use super::build::Builder;
use super::content::Change;
use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::path::LayerPath;

/// What one layer holds, by path.
///
/// Paths are canonical: an entry that the archive names through a symbolic link of the same layer
/// stands where the link leads. Directories that only exist because something stands below them
/// are there as well; a [`super::Tree`] takes their metadata from the layers below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerIndex {
    /// In path order, so that a directory stands directly before what is below it. Never empty:
    /// the first is the root.
    slots: Vec<Slot>,
    lookup: HashMap<Arc<[u8]>, u32>,
    /// Slots whose directory on disk cannot show what a [`super::Tree`] shows: implicit directories
    /// and hard links to files of lower layers.
    incomplete: Vec<u32>,
}

/// One path of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) path: LayerPath,
    pub(super) shape: Shape,
    /// Whether a directory hides what lower layers hold below it.
    pub(super) opaque: bool,
    /// Position after the last slot below this one.
    pub(super) end: u32,
}

/// What a layer says about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// It is this.
    Real(Entry),
    /// Only that it is a directory.
    Implicit,
    /// That it is deleted.
    Deleted,
}

impl Slot {
    pub(super) fn new(path: LayerPath, shape: Shape, opaque: bool) -> Self {
        Self { path, shape, opaque, end: 0 }
    }

    pub(super) fn is_directory(&self) -> bool {
        match &self.shape {
            Shape::Real(entry) => entry.is_directory(),
            Shape::Implicit => true,
            Shape::Deleted => false,
        }
    }
}

impl LayerIndex {
    /// The index of a layer that is sealed or written from these changes under the same time bound.
    ///
    /// # Errors
    ///
    /// Fails where reading the layer back would: a file below a file, a hard link without target.
    pub fn from_changes(changes: &[Change], clamp: Option<i64>) -> Result<Self, LayerError> {
        let mut builder = Builder::new();
        let mut sorted: Vec<&Entry> = changes.iter().map(|change| &change.entry).collect();
        sorted.sort_by(|left, right| left.tar_order(right));
        for entry in sorted {
            builder.place(entry.clamped(clamp))?;
        }
        builder.finish()
    }

    /// `slots` in path order, every parent present, the root first.
    pub(super) fn from_slots(mut slots: Vec<Slot>) -> Self {
        let mut open: Vec<usize> = Vec::new();
        let mut lookup = HashMap::with_capacity(slots.len());
        for at in 0..slots.len() {
            while let Some(&above) = open.last()
                && !slots[at].path.starts_with(&slots[above].path)
            {
                slots[above].end = at as u32;
                open.pop();
            }
            open.push(at);
            lookup.insert(slots[at].path.shared(), at as u32);
        }
        for above in open {
            slots[above].end = slots.len() as u32;
        }
        let mut index = Self { slots, lookup, incomplete: Vec::new() };
        let incomplete = |slot: &Slot| match &slot.shape {
            Shape::Real(entry) => !index.holds_target(entry),
            Shape::Implicit => !slot.path.is_root(),
            Shape::Deleted => false,
        };
        let found = index.slots.iter().zip(0..).filter(|(slot, _)| incomplete(slot)).map(|(_, at)| at);
        index.incomplete = found.collect();
        index
    }

    /// Every entry in path order, markers after their directory; implicit directories are left out.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.slots.iter().flat_map(|slot| {
            let own = match &slot.shape {
                Shape::Real(entry) => Some(entry.clone()),
                Shape::Implicit => None,
                Shape::Deleted => Some(Entry::whiteout(slot.path.clone())),
            };
            let opaque = slot.opaque.then(|| Entry::opaque(slot.path.clone()));
            own.into_iter().chain(opaque)
        })
    }

    /// The entry at a canonical path; `None` for implicit directories and deletions.
    pub fn get(&self, path: &LayerPath) -> Option<&Entry> {
        match &self.slot(self.find(path.as_bytes())?).shape {
            Shape::Real(entry) => Some(entry),
            Shape::Implicit | Shape::Deleted => None,
        }
    }

    /// The number of paths, implicit directories and the root included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the layer hides everything that lower layers hold.
    pub fn hides_all(&self) -> bool {
        self.slots[0].opaque
    }

    /// Whether the layer changes nothing.
    pub fn is_empty(&self) -> bool {
        matches!(&self.slots[..], [root] if root.shape == Shape::Implicit && !root.opaque)
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn slot(&self, at: u32) -> &Slot {
        &self.slots[at as usize]
    }

    pub(super) fn incomplete(&self) -> &[u32] {
        &self.incomplete
    }

    pub(super) fn find(&self, path: &[u8]) -> Option<u32> {
        self.lookup.get(path).copied()
    }

    /// Positions of what stands directly below the slot at `at`.
    pub(super) fn below(&self, at: u32) -> impl Iterator<Item = u32> + '_ {
        let end = self.slot(at).end;
        let first = (at + 1 < end).then_some(at + 1);
        std::iter::successors(first, move |&child| Some(self.slot(child).end).filter(|&next| next < end))
    }

    /// Whether the hard link's target is in this layer; if not, the link names a file below.
    pub(super) fn holds_target(&self, entry: &Entry) -> bool {
        match &entry.kind {
            EntryKind::HardLink { target } => self.get(target).is_some(),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::content::Content;

    #[test]
    fn children_and_entries() {
        let file = |path: &str| Change {
            entry: Entry::new(LayerPath::new(path).unwrap(), EntryKind::File { size: 0 }, 0o644),
            content: Content::Empty,
        };
        let marker = |entry| Change { entry, content: Content::Empty };
        let changes = [
            file("a/b/c"),
            file("a/d"),
            marker(Entry::whiteout(LayerPath::new("a/e").unwrap())),
            marker(Entry::opaque(LayerPath::new("a/b").unwrap())),
            file("z"),
        ];
        let index = LayerIndex::from_changes(&changes, None).unwrap();
        let names = |at| index.below(at).map(|at| index.slot(at).path.to_string()).collect::<Vec<_>>();
        assert_eq!(names(0), ["/a", "/z"]);
        assert_eq!(names(index.find(b"a").unwrap()), ["/a/b", "/a/d", "/a/e"]);
        assert!(names(index.find(b"z").unwrap()).is_empty());
        let kinds: Vec<_> =
            index.entries().map(|entry| (entry.path.to_string(), entry.is_marker())).collect();
        let want = [("/a/b", true), ("/a/b/c", false), ("/a/d", false), ("/a/e", true), ("/z", false)];
        assert_eq!(kinds, want.map(|(path, marker)| (path.to_owned(), marker)));
        assert!(!index.is_empty());
        assert!(LayerIndex::from_changes(&[], None).unwrap().is_empty());
    }
}
