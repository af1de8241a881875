//! [`compare`]: what a step changed in a whole tree of files, where there is no overlay to tell.
//!
//! The kernel's metadata before and after the step tell which files may have changed, since nobody
//! can set the time of the last change of status; what the image below says, and at last the
//! content, tell which of them did. The result is what [`super::scan`] finds in an overlay's upper.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::AtFlags;

use super::beneath;
use super::content::{Change, Content, sort_changes};
use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::inspect::{Identity, Inspected, Inspector, Owners, kind_of};
use super::path::LayerPath;
use super::scan::{Note, Scan};
use super::snapshot::{Record, Snapshot, Visit, open_root, walk};
use super::tree::Tree;

/// Content is compared in pieces of this size.
const PIECE: u64 = 64 << 10;

/// Opens the content that a file has in the image below; `None` where it cannot be had cheaply: the
/// file then counts as changed when its metadata cannot tell.
pub type Original<'a> = dyn Fn(&LayerPath) -> Option<Box<dyn Read + Send>> + Sync + 'a;

/// What a tree is compared with.
pub struct Compare<'a> {
    /// The image that the tree was before the step.
    pub below: &'a Tree,
    /// Where owners stand.
    pub owners: Owners<'a>,
    /// Paths that count as unchanged, with all below them: what is not the image's.
    pub excluded: &'a [LayerPath],
    /// The content of files below.
    pub original: &'a Original<'a>,
    /// Threads to use, the caller's included.
    pub threads: usize,
}

impl std::fmt::Debug for Compare<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compare").field("excluded", &self.excluded).finish_non_exhaustive()
    }
}

/// What was found.
#[derive(Debug)]
pub struct Compared {
    /// The changes, as a scan of an overlay's upper gives them. Their content stands in the tree, and
    /// must be read before the tree changes again.
    pub scan: Scan,
    /// The tree as it is now, to compare with after the next step. [`Snapshot::settle`] it first.
    pub after: Snapshot,
}

/// Compares the tree at `root` with what it was `before`. Nobody may change it meanwhile.
///
/// # Errors
///
/// Fails as [`super::scan`] does, and where the original content of a file cannot be read.
pub fn compare(root: &Path, before: &Snapshot, with: &Compare<'_>) -> Result<Compared, LayerError> {
    let root = open_root(root)?;
    let moved = moved(before, with);
    let inspector = Inspector { owners: with.owners, below: with.below, moved, overlay: false };
    let parents = with.excluded.iter().filter_map(LayerPath::parent).collect();
    let comparer = Comparer { before, with, inspector, parents, found: Mutex::default() };
    let after = walk(&root, with.threads, &|visit| comparer.visit(visit))?;
    let scan = comparer.finish(&root)?;
    Ok(Compared { scan, after })
}

/// Owners of special files before the step that their metadata does not tell, so that one that is
/// moved keeps its owner.
fn moved(before: &Snapshot, with: &Compare<'_>) -> HashMap<Identity, (u32, u32)> {
    let mut moved = HashMap::new();
    if matches!(with.owners, Owners::Kernel) {
        return moved;
    }
    for (directory, listing) in &before.directories {
        for (name, record) in listing.iter().filter(|(_, record)| record.is_special()) {
            let below = directory.join(name).ok().and_then(|path| with.below.get(&path));
            let owner = below.map(|below| (below.entry.uid, below.entry.gid));
            if let Some(owner) = owner.filter(|owner| *owner != (0, 0)) {
                moved.insert((record.device, record.inode, record.mtime, record.mtime_ns), owner);
            }
        }
    }
    moved
}

struct Comparer<'a> {
    before: &'a Snapshot,
    with: &'a Compare<'a>,
    inspector: Inspector<'a>,
    /// Directories that hold something excluded.
    parents: HashSet<LayerPath>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    candidates: BTreeMap<LayerPath, Candidate>,
    deleted: BTreeSet<LayerPath>,
    /// Directories in which names came or went.
    restructured: HashSet<LayerPath>,
    notes: Vec<Note>,
}

/// A file whose metadata differs from before the step.
struct Candidate {
    entry: Entry,
    /// Device and inode number of a file with several names.
    shared: Option<(u64, u64)>,
    /// Whether it differs from what the image has.
    changed: bool,
}

impl Comparer<'_> {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_excluded(&self, path: &LayerPath) -> bool {
        self.with.excluded.iter().any(|excluded| path.starts_with(excluded))
    }

    /// Looks at one directory as it is now.
    fn visit(&self, visit: &Visit<'_>) -> Result<(), LayerError> {
        if self.is_excluded(visit.path) {
            return Ok(());
        }
        let stood = self.before.directories.get(visit.path);
        let below_excluded = self.parents.contains(visit.path);
        let mut restructured = false;
        for (name, record) in visit.listing.iter() {
            let before = stood.and_then(|stood| stood.get(name));
            if before == Some(record) || record.is_mount() || before.is_some_and(Record::is_mount) {
                continue;
            }
            let path = visit.path.join(name)?;
            if below_excluded && self.is_excluded(&path) {
                continue;
            }
            restructured |= before.is_none_or(|before| before.inode != record.inode);
            self.look(visit.at, name, path, before, record)?;
        }
        let mut gone: Vec<LayerPath> = Vec::new();
        let names = stood.into_iter().flat_map(|stood| stood.iter());
        for (name, record) in names.filter(|(name, _)| visit.listing.get(name).is_none()) {
            let path = visit.path.join(name)?;
            if !(record.is_mount() || below_excluded && self.is_excluded(&path)) {
                restructured = true;
                gone.push(path);
            }
        }
        if stood.is_none_or(|stood| stood.inode != visit.listing.inode) {
            // Another directory than before: what the image has here and could not be written to disk
            // is gone as well.
            for name in self.with.below.children(visit.path).keys() {
                let path = visit.path.join(name)?;
                if visit.listing.get(name).is_none() && !self.is_excluded(&path) {
                    gone.push(path);
                }
            }
        }
        gone.retain(|path| self.with.below.get(path).is_some());
        if restructured || !gone.is_empty() {
            let mut found = self.lock();
            found.deleted.extend(gone);
            if restructured {
                found.restructured.insert(visit.path.clone());
            }
        }
        Ok(())
    }

    /// Looks at a file that may have changed.
    fn look(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        path: LayerPath,
        before: Option<&Record>,
        record: &Record,
    ) -> Result<(), LayerError> {
        if name.starts_with(b".wh.") {
            return Err(LayerError::refused(&path, "names beginning with `.wh.` mean deletions in a layer"));
        }
        let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| LayerError::io("read", &path, error))?;
        let kind = kind_of(at, name, &path, &stat)?;
        let left_out = match &kind {
            None => Some("socket"),
            // As a file of a layer's directory it would be a deletion.
            Some(EntryKind::Char { major: 0, minor: 0 }) => Some("character device 0:0"),
            Some(_) => None,
        };
        let (Some(kind), None) = (kind, left_out) else {
            let mut found = self.lock();
            if self.with.below.get(&path).is_some() {
                found.deleted.insert(path.clone());
            }
            found.notes.extend(left_out.map(|what| Note { path, what }));
            return Ok(());
        };
        let Inspected { mut entry, access_list, file, .. } =
            self.inspector.inspect(at, name, &path, kind, &stat)?;
        let below = match entry.kind {
            EntryKind::File { .. } => self.with.below.file(&path).map(|file| file.entry),
            _ => self.with.below.get(&path).map(|node| node.entry),
        };
        if let Some(below) = &below {
            self.inherit(&mut entry, below, before, record);
        }
        let mut changed = below.is_none_or(|below| !same(&entry, &below));
        if let (false, Some(mut file)) = (changed, file)
            && record.size > 0
        {
            changed = match (self.with.original)(&path) {
                Some(mut original) => !same_content(&mut file, &mut *original).map_err(LayerError::stream)?,
                None => true,
            };
        }
        let shared = (entry.is_file() && record.links > 1).then_some((record.device, record.inode));
        let mut found = self.lock();
        if access_list {
            found.notes.push(Note { path: path.clone(), what: "access control list" });
        }
        found.candidates.insert(path, Candidate { entry, shared, changed });
        Ok(())
    }

    /// Keeps the capabilities that a user without rights could not write to disk, as long as file and
    /// owner stay what they were.
    fn inherit(&self, entry: &mut Entry, below: &Entry, before: Option<&Record>, record: &Record) {
        let simulated = matches!(self.with.owners, Owners::Simulated { .. });
        let untouched = before.is_some_and(|before| {
            (before.inode, before.size, before.mtime, before.mtime_ns)
                == (record.inode, record.size, record.mtime, record.mtime_ns)
        });
        if simulated && untouched && entry.is_file() && (entry.uid, entry.gid) == (below.uid, below.gid) {
            let kept = below.xattrs.iter().filter(|(name, _)| name.starts_with(b"security."));
            for (name, value) in kept {
                entry.xattrs.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }

    /// Joins hard links, adds the directories above the changes, and leaves out the rest.
    fn finish(self, root: &Arc<OwnedFd>) -> Result<Scan, LayerError> {
        let Found { mut candidates, deleted, restructured, mut notes } =
            self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (path, candidate) in candidates.iter_mut().filter(|(_, found)| found.entry.is_directory()) {
            // The parent of something excluded has its time from there, not from the step.
            let below = self.with.below.get(path).filter(|_| self.parents.contains(path));
            if let Some(below) = below.filter(|_| !restructured.contains(path)) {
                candidate.entry.mtime = below.entry.mtime;
                candidate.changed = !same(&candidate.entry, &below.entry);
            }
        }
        // All names of a file change together, or they would become files of their own.
        let changed = candidates.values().filter(|candidate| candidate.changed);
        let groups: HashSet<(u64, u64)> = changed.filter_map(|candidate| candidate.shared).collect();
        for candidate in candidates.values_mut() {
            candidate.changed |= candidate.shared.is_some_and(|shared| groups.contains(&shared));
        }
        let changed = candidates.iter().filter(|(_, candidate)| candidate.changed).map(|(path, _)| path);
        let mut needed: HashSet<LayerPath> = HashSet::new();
        for path in changed.chain(&deleted) {
            let mut above = path.parent();
            // What is above a directory that is known is known as well.
            while let Some(path) = above.filter(|above| !above.is_root() && needed.insert(above.clone())) {
                above = path.parent();
            }
        }
        for path in needed {
            match candidates.get_mut(&path) {
                Some(candidate) => candidate.changed = true,
                None => {
                    let below = self.with.below.get(&path).filter(|below| below.entry.is_directory());
                    let entry = match below {
                        Some(below) => below.entry,
                        None => inspect_directory(&self.inspector, root, &path)?,
                    };
                    candidates.insert(path, Candidate { entry, shared: None, changed: true });
                }
            }
        }
        let mut first: HashMap<(u64, u64), LayerPath> = HashMap::new();
        let mut changes: Vec<Change> =
            deleted.into_iter().map(|path| Change::bare(Entry::whiteout(path))).collect();
        for (path, Candidate { mut entry, shared, .. }) in
            candidates.into_iter().filter(|(_, found)| found.changed)
        {
            let known = shared.and_then(|shared| first.get(&shared));
            let mut content = Content::Empty;
            if let Some(target) = known {
                entry.kind = EntryKind::HardLink { target: target.clone() };
            } else {
                if matches!(entry.kind, EntryKind::File { size } if size > 0) {
                    content = Content::Beneath { root: Arc::clone(root), path: path.as_os_path().to_owned() };
                }
                first.extend(shared.map(|shared| (shared, path)));
            }
            changes.push(Change { entry, content });
        }
        sort_changes(&mut changes);
        notes.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(Scan { changes, notes })
    }
}

/// The entry of a directory of the tree.
fn inspect_directory(
    inspector: &Inspector<'_>,
    root: &OwnedFd,
    path: &LayerPath,
) -> Result<Entry, LayerError> {
    let parent = path.parent().unwrap_or_default();
    let name = path.file_name().unwrap_or_default();
    let at = beneath::open_directory(root.as_fd(), &parent)
        .map_err(|error| LayerError::io("read", &parent, error))?;
    let stat = rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| LayerError::io("read", path, error))?;
    let found = inspector.inspect(at.as_fd(), name, path, EntryKind::Directory, &stat)?;
    Ok(found.entry)
}

/// Whether a layer would hold the same of both, content aside.
fn same(entry: &Entry, below: &Entry) -> bool {
    let symlink = matches!(entry.kind, EntryKind::Symlink { .. });
    entry.kind == below.kind
        // A symbolic link has no mode, whatever an archive says.
        && (symlink || entry.mode == below.mode)
        && (entry.uid, entry.gid, entry.mtime) == (below.uid, below.gid, below.mtime)
        && entry.xattrs == below.xattrs
}

fn same_content(file: &mut dyn Read, original: &mut dyn Read) -> std::io::Result<bool> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        file.take(PIECE).read_to_end(&mut left)?;
        original.take(PIECE).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
