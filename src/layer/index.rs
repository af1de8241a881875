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

    /// The index of entries that stand in path order already, each below a directory that is among them
    /// or the root. Links are where they are, and nothing of it is a marker: what a walk finds.
    ///
    /// # Errors
    ///
    /// Fails where the order or a parent is not as it must be, for a hard link to what is no file, and
    /// for markers.
    pub fn of_sorted(entries: Vec<Entry>) -> Result<Self, LayerError> {
        let root = Slot::new(LayerPath::root(), Shape::Implicit, false);
        let mut slots = Vec::with_capacity(entries.len() + 1);
        slots.push(root);
        // The directories that lead to the entry before.
        let mut open: Vec<usize> = vec![0];
        for entry in entries {
            if entry.is_marker() || slots.last().is_some_and(|last: &Slot| last.path >= entry.path) {
                return Err(LayerError::refused(&entry.path, "it is not in the order of a walk"));
            }
            while open.last().is_some_and(|&above| !entry.path.starts_with(&slots[above].path)) {
                open.pop();
            }
            let above = open.last().map_or(0, |&above| slots[above].path.as_bytes().len());
            let name = entry.path.as_bytes().get(above..).unwrap_or_default();
            if name.strip_prefix(b"/").unwrap_or(name).contains(&b'/') {
                return Err(LayerError::refused(&entry.path, "the directory above it is missing"));
            }
            if entry.is_directory() {
                open.push(slots.len());
            }
            slots.push(Slot::new(entry.path.clone(), Shape::Real(entry), false));
        }
        let index = Self::from_slots(slots);
        for slot in &index.slots {
            if let Shape::Real(Entry { kind: EntryKind::HardLink { target }, .. }) = &slot.shape
                && !index.get(target).is_some_and(Entry::is_file)
            {
                return Err(LayerError::refused(&slot.path, "the file it links to is missing"));
            }
        }
        Ok(index)
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
    fn what_is_sorted_gives_the_same_index() {
        let path = |path: &str| LayerPath::new(path).unwrap();
        let file = |at: &str| Entry::new(path(at), EntryKind::File { size: 1 }, 0o644);
        let directory = |at: &str| Entry::new(path(at), EntryKind::Directory, 0o700);
        let link = |at: &str, to: &str| Entry::new(path(at), EntryKind::HardLink { target: path(to) }, 0o644);
        let sorted = [
            directory("a"),
            directory("a/b"),
            file("a/b/c"),
            file("a/d"),
            file("a!"),
            file("a.txt"),
            link("z", "a/d"),
        ];
        let changes = sorted.clone().map(Change::bare);
        let index = LayerIndex::of_sorted(sorted.to_vec()).unwrap();
        assert_eq!(index, LayerIndex::from_changes(&changes, None).unwrap());
        assert_eq!(LayerIndex::of_sorted(Vec::new()).unwrap(), LayerIndex::from_changes(&[], None).unwrap());
        for wrong in [
            vec![file("b"), file("a")],
            vec![file("a"), file("a")],
            vec![file("a/b")],
            vec![file("a"), file("a/b")],
            vec![directory("a"), file("a/b/c")],
            vec![directory("a"), file("b"), file("b/c")],
            vec![file("")],
            vec![link("a", "b")],
            vec![directory("a"), link("b", "a")],
            vec![Entry::whiteout(path("a"))],
            vec![Entry::opaque(path("a"))],
        ] {
            assert!(LayerIndex::of_sorted(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

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
