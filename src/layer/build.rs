//! [`Builder`]: places the entries of one archive, in their order, as they would land on disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::index::{LayerIndex, Shape, Slot};
use super::path::LayerPath;

/// Symbolic links followed for one path.
pub(super) const MOST_LINKS: usize = 40;

/// Directories that are remembered: a bound on memory for layers of very many.
const MOST_KNOWN: usize = 4096;

/// Collects one layer. Rules: OCI image-spec, `layer.md`.
#[derive(Debug, Default)]
pub(super) struct Builder {
    placed: BTreeMap<LayerPath, Placed>,
    deleted: BTreeSet<LayerPath>,
    opaque: BTreeSet<LayerPath>,
    /// Numbers files in the order they came, to tell a link's target from what replaced it.
    next: u64,
    /// Directories that the archive named lately and where they lead.
    known: HashMap<LayerPath, LayerPath>,
}

#[derive(Debug)]
struct Placed {
    /// `None` for a directory that only has something below it.
    entry: Option<Entry>,
    number: u64,
    /// The number of the file that a hard link names.
    target: Option<u64>,
}

impl Placed {
    fn is_directory(&self) -> bool {
        self.entry.as_ref().is_none_or(Entry::is_directory)
    }
}

impl Builder {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Takes the next entry and gives it back at its canonical path; `None` for a marker, which
    /// takes effect at the end, since it acts on lower layers wherever it stands.
    ///
    /// A hard link comes back with the metadata of its file; a hard link to anything but a file
    /// comes back as a copy of that.
    ///
    /// # Errors
    ///
    /// Fails for an entry below something that is not a directory, and for impossible hard links.
    pub(super) fn place(&mut self, entry: Entry) -> Result<Option<Entry>, LayerError> {
        Ok(self.place_over(entry)?.map(|(entry, _)| entry))
    }

    /// As [`Builder::place`]; also says whether the entry takes the place of another one, with all that
    /// is below that. A directory that is named again takes nobody's place.
    ///
    /// # Errors
    ///
    /// As [`Builder::place`].
    pub(super) fn place_over(&mut self, mut entry: Entry) -> Result<Option<(Entry, bool)>, LayerError> {
        match entry.kind {
            EntryKind::Whiteout => {
                if entry.path.is_root() {
                    return Err(LayerError::refused("", "the root directory cannot be deleted"));
                }
                self.deleted.insert(entry.path);
                return Ok(None);
            }
            EntryKind::Opaque => {
                self.opaque.insert(entry.path);
                return Ok(None);
            }
            _ => {}
        }
        if let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) {
            entry.path = self.directory(&parent)?.join(name)?;
        } else if !entry.is_directory() {
            return Err(LayerError::refused("", "it would replace the root directory"));
        }
        let target = self.link(&mut entry)?;
        let stood = self.placed.get(&entry.path).map(Placed::is_directory);
        let replaces = stood.is_some() && !(stood == Some(true) && entry.is_directory());
        if replaces {
            // What is replaced may be a link or directory on the way that was looked up last.
            self.known.clear();
            self.clear(&entry.path);
        }
        self.next += 1;
        let placed = Placed { entry: Some(entry.clone()), number: self.next, target };
        self.placed.insert(entry.path.clone(), placed);
        Ok(Some((entry, replaces)))
    }

    /// Removes what stands at `path` and below.
    fn clear(&mut self, path: &LayerPath) {
        let below = self.placed.range(path.clone()..).map(|(path, _)| path);
        let gone: Vec<_> = below.take_while(|below| below.starts_with(path)).cloned().collect();
        gone.iter().for_each(|path| _ = self.placed.remove(path));
    }

    /// Where the directory `path` of the archive stands; missing ones are made.
    fn directory(&mut self, path: &LayerPath) -> Result<LayerPath, LayerError> {
        let canonical = self.canonical(path)?;
        // A directory that is there has its parents.
        let mut missing = Some(canonical.clone());
        while let Some(path) = missing.filter(|path| !self.placed.contains_key(path)) {
            missing = path.parent();
            self.placed.insert(path, Placed { entry: None, number: 0, target: None });
        }
        Ok(canonical)
    }

    /// Follows the symbolic links of this layer, inside its root; what is missing is taken as it stands.
    fn canonical(&mut self, path: &LayerPath) -> Result<LayerPath, LayerError> {
        if let Some(known) = self.known.get(path) {
            return Ok(known.clone());
        }
        // Archives go down their directories: what leads to the deepest known one is known.
        let mut known = LayerPath::root();
        let mut at = LayerPath::root();
        let mut above = path.parent();
        while let Some(parent) = above {
            if let Some(canonical) = self.known.get(&parent) {
                at = canonical.clone();
                known = parent;
                break;
            }
            above = parent.parent();
        }
        let rest = path.strip_prefix(&known).unwrap_or_default();
        let mut rest: Vec<Vec<u8>> = rest.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    at = at.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = at.join(&name)?;
            match self.placed.get(&next).and_then(|placed| placed.entry.as_ref()).map(|entry| &entry.kind) {
                None | Some(EntryKind::Directory) => at = next,
                Some(EntryKind::Symlink { target }) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(LayerError::LinkLoop { path: path.to_string() });
                    }
                    if target.starts_with(b"/") {
                        at = LayerPath::root();
                    }
                    rest.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
                }
                Some(_) => return Err(LayerError::NotADirectory { path: next.to_string() }),
            }
        }
        if self.known.len() == MOST_KNOWN {
            self.known.clear();
        }
        self.known.insert(path.clone(), at.clone());
        Ok(at)
    }

    /// Completes a hard link from its target and gives the target's number, when it is in this layer.
    fn link(&mut self, entry: &mut Entry) -> Result<Option<u64>, LayerError> {
        let EntryKind::HardLink { target } = &mut entry.kind else {
            return Ok(None);
        };
        let parent = self.canonical(&target.parent().unwrap_or_default())?;
        *target = parent.join(target.file_name().unwrap_or_default())?;
        if *target == entry.path {
            return Err(LayerError::refused(&entry.path, "it is a hard link to itself"));
        }
        let Some(found) = self.placed.get(target) else {
            return Ok(None);
        };
        let Some(file) = found.entry.as_ref().filter(|found| !found.is_directory()) else {
            return Err(LayerError::refused(&entry.path, "it is a hard link to a directory"));
        };
        let (number, kind) = match &file.kind {
            EntryKind::File { .. } => (Some(found.number), EntryKind::HardLink { target: file.path.clone() }),
            // A link to a link names the first file.
            EntryKind::HardLink { target } if *target == entry.path => {
                return Err(LayerError::refused(&entry.path, "it is a hard link to itself"));
            }
            other @ EntryKind::HardLink { .. } => (found.target, other.clone()),
            other => (None, other.clone()),
        };
        *entry = Entry { path: entry.path.clone(), kind, ..file.clone() };
        Ok(number)
    }

    /// The finished index, markers applied.
    ///
    /// # Errors
    ///
    /// Fails when a later entry replaced the file that a hard link shares: the two names then hold
    /// different files, which an index by path cannot express.
    pub(super) fn finish(mut self) -> Result<LayerIndex, LayerError> {
        for placed in self.placed.values() {
            if let Some(entry) = &placed.entry
                && let EntryKind::HardLink { target } = &entry.kind
            {
                let now = self.placed.get(target).map(|target| target.number);
                if now != placed.target {
                    return Err(LayerError::refused(&entry.path, "the file it links to is replaced later"));
                }
            }
        }
        let opaque = std::mem::take(&mut self.opaque);
        let deleted = std::mem::take(&mut self.deleted);
        let mut markers: BTreeMap<LayerPath, bool> = BTreeMap::new();
        markers.extend(opaque.into_iter().map(|path| (path, true)));
        for path in deleted {
            // A deletion beside a new directory of the same name hides the old one's content.
            let renewed = self.placed.get(&path).map(Placed::is_directory);
            match renewed {
                Some(true) => _ = markers.insert(path, true),
                Some(false) => {}
                None => _ = markers.entry(path).or_insert(false),
            }
        }
        // What stands below a file of this layer is hidden by that file already.
        let hidden = |path: &LayerPath, placed: &BTreeMap<LayerPath, Placed>| {
            path.ancestors().any(|above| placed.get(&above).is_some_and(|placed| !placed.is_directory()))
        };
        markers.retain(|path, _| !hidden(path, &self.placed));
        for (path, opaque) in &markers {
            let own = opaque.then(|| path.clone());
            for path in path.ancestors().chain(own) {
                self.placed.entry(path).or_insert(Placed { entry: None, number: 0, target: None });
            }
        }
        self.placed.entry(LayerPath::root()).or_insert(Placed { entry: None, number: 0, target: None });

        let mut slots: Vec<Slot> = Vec::with_capacity(self.placed.len() + markers.len());
        for (path, placed) in self.placed {
            let opaque = placed.is_directory() && markers.remove(&path).is_some();
            slots.push(Slot::new(path, placed.entry.map_or(Shape::Implicit, Shape::Real), opaque));
        }
        if !markers.is_empty() {
            let deleted = markers.into_iter().filter(|(_, opaque)| !opaque);
            slots.extend(deleted.map(|(path, _)| Slot::new(path, Shape::Deleted, false)));
            slots.sort_by(|left, right| left.path.cmp(&right.path));
        }
        Ok(LayerIndex::from_slots(slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> LayerPath {
        LayerPath::new(path).unwrap()
    }

    fn file(at: &str) -> Entry {
        Entry::new(path(at), EntryKind::File { size: 1 }, 0o644)
    }

    fn directory(at: &str) -> Entry {
        Entry::new(path(at), EntryKind::Directory, 0o700)
    }

    fn symlink(at: &str, target: &str) -> Entry {
        Entry::new(path(at), EntryKind::Symlink { target: target.into() }, 0o777)
    }

    fn link(at: &str, target: &str) -> Entry {
        Entry::new(path(at), EntryKind::HardLink { target: path(target) }, 0)
    }

    fn build(entries: &[Entry]) -> Result<LayerIndex, LayerError> {
        let mut builder = Builder::new();
        for entry in entries {
            builder.place(entry.clone())?;
        }
        builder.finish()
    }

    fn shapes(entries: &[Entry]) -> Vec<String> {
        let describe = |slot: &Slot| {
            let kind = match &slot.shape {
                Shape::Implicit => "+".to_owned(),
                Shape::Deleted => "-".to_owned(),
                Shape::Real(entry) => match &entry.kind {
                    EntryKind::Directory => "d".to_owned(),
                    EntryKind::Symlink { .. } => "l".to_owned(),
                    EntryKind::HardLink { target } => format!("={target}"),
                    _ => "f".to_owned(),
                },
            };
            format!("{}{} {kind}", slot.path, if slot.opaque { "!" } else { "" })
        };
        build(entries).unwrap().slots().iter().skip(1).map(describe).collect()
    }

    #[test]
    fn entries_land_where_links_lead() {
        for (entries, want) in [
            (
                vec![symlink("lib", "usr/lib"), file("lib/x")],
                vec!["/lib l", "/usr +", "/usr/lib +", "/usr/lib/x f"],
            ),
            (vec![symlink("a", "/../../b"), file("a/x")], vec!["/a l", "/b +", "/b/x f"]),
            (vec![directory("d"), symlink("d/up", "../.."), file("d/up/x")], vec!["/d d", "/d/up l", "/x f"]),
            // A directory over a link replaces the link.
            (vec![symlink("lib", "usr"), directory("lib"), file("lib/x")], vec!["/lib d", "/lib/x f"]),
            (
                vec![symlink("a", "b"), file("a/x"), directory("a"), file("a/x")],
                vec!["/a d", "/a/x f", "/b +", "/b/x f"],
            ),
            // A file over a directory removes the tree.
            (vec![file("d/e/x"), file("d/y"), file("d")], vec!["/d f"]),
            (vec![file("d/x"), symlink("d", "e"), file("d/x")], vec!["/d l", "/e +", "/e/x f"]),
            (vec![file("f"), directory("f"), file("f/x")], vec!["/f d", "/f/x f"]),
        ] {
            assert_eq!(shapes(&entries), want);
        }
    }

    #[test]
    fn markers_act_on_lower_layers_alone() {
        let gone = |at: &str| Entry::whiteout(path(at));
        for (entries, want) in [
            (vec![gone("a/x"), file("a/y")], vec!["/a +", "/a/x -", "/a/y f"]),
            (vec![file("a"), gone("a")], vec!["/a f"]),
            (vec![file("d/x"), gone("d")], vec!["/d! +", "/d/x f"]),
            (vec![gone("d/x"), gone("d")], vec!["/d! +", "/d/x -"]),
            (vec![Entry::opaque(path("d/e")), file("d/e/x")], vec!["/d +", "/d/e! +", "/d/e/x f"]),
            // Through a link or a file of the same layer: nothing is left to hide.
            (vec![symlink("a", "/b"), gone("a/x"), Entry::opaque(path("a"))], vec!["/a l"]),
        ] {
            let shapes = shapes(&entries);
            assert_eq!(shapes, want, "{entries:?}");
        }
    }

    #[test]
    fn hard_links() {
        assert_eq!(shapes(&[file("a"), link("b", "a"), link("c", "b")]), ["/a f", "/b =/a", "/c =/a"]);
        assert_eq!(shapes(&[symlink("a", "x"), link("b", "a")]), ["/a l", "/b l"]);
        assert_eq!(shapes(&[link("b", "below")]), ["/b =/below"]);
        assert_eq!(
            shapes(&[symlink("l", "d"), file("d/x"), link("b", "l/x")]),
            ["/b =/d/x", "/d +", "/d/x f", "/l l"]
        );
        let index = build(&[Entry { uid: 7, ..file("a") }, link("b", "a")]).unwrap();
        assert_eq!(index.get(&path("b")).unwrap().uid, 7);
    }

    #[test]
    fn refusals() {
        for entries in [
            vec![file("a"), file("a/x")],
            vec![symlink("a", "b"), symlink("b", "a"), file("a/x")],
            vec![directory("d"), link("b", "d")],
            vec![link("a", "a")],
            vec![file("a"), link("b", "a"), file("a")],
            vec![link("b", "a"), file("a")],
            vec![file("")],
            vec![symlink("", "/etc")],
            vec![Entry::whiteout(LayerPath::root())],
        ] {
            assert!(build(&entries).is_err(), "{entries:?}");
        }
    }
}
