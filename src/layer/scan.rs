//! [`scan_upper`]: reads what a RUN step left in the upper directory of its overlay.
//!
//! Rules: OCI image-spec, `layer.md`; Linux `overlayfs.rst`, sections on whiteouts and opaque
//! directories. Only the upper is walked, never the merged file system.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Timespec, Timestamps};

use super::beneath;
use super::content::{Change, Content, sort_changes};
use super::entry::{Entry, EntryKind, clamped};
use super::error::LayerError;
use super::inspect::{Inspected, Inspector, Owners, kind_of};
use super::path::LayerPath;
use super::tree::Tree;

/// Mounted over during RUN: what stands below these belongs to no image.
const MOUNTED: [&[u8]; 3] = [b"proc", b"sys", b"dev"];
/// Longer paths are opened in parts.
const LONGEST_PLAIN: usize = 4000;

/// What a step changed.
#[derive(Debug)]
pub struct Scan {
    /// The layer to be, in the order of its tar.
    pub changes: Vec<Change>,
    /// What a layer cannot hold, for a warning.
    pub notes: Vec<Note>,
}

/// Something in the upper directory that does not get into the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub path: LayerPath,
    /// What: `socket` or `access control list`.
    pub what: &'static str,
}

/// The changes that an overlay's upper directory holds against the layers `below`.
///
/// `stubs` are the files and directories that were made as mount points; they are dropped when they
/// are still empty and `below` does not have them. So are directories that only were copied up.
///
/// To be called inside the user namespace of the step, where ids are those of the image, after all
/// its processes have ended.
///
/// # Errors
///
/// Fails for names that a layer cannot express (`.wh.` prefix, more than 4096 bytes in all), and
/// when the directory cannot be read.
pub fn scan_upper(upper: &Path, below: &Tree, stubs: &[LayerPath]) -> Result<Vec<Change>, LayerError> {
    Ok(scan(upper, below, stubs, Owners::Kernel)?.changes)
}

/// As [`scan_upper`], with notes on what was left out; `owners` says where owners stand.
///
/// # Errors
///
/// As [`scan_upper`].
pub fn scan(upper: &Path, below: &Tree, stubs: &[LayerPath], owners: Owners<'_>) -> Result<Scan, LayerError> {
    let shown = upper.as_os_str().as_bytes();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, upper, flags, Mode::empty());
    let root = Arc::new(root.map_err(|error| LayerError::io("open", shown, error))?);
    let inspector = Inspector { owners, below, moved: HashMap::new(), overlay: true };
    let mut scanner = Scanner { root, upper, below, inspector, found: BTreeMap::new(), notes: Vec::new() };
    scanner.collect()?;
    let notes = std::mem::take(&mut scanner.notes);
    let mut changes = scanner.keep(&stubs.iter().collect());
    sort_changes(&mut changes);
    Ok(Scan { changes, notes })
}

/// Gives the changed files in `directory` the times that a layer sealed from `changes` carries, so
/// that a later step sees the same whether it runs above this directory or above the layer.
///
/// # Errors
///
/// Fails when a time cannot be set.
pub fn settle_times(directory: &Path, changes: &[Change], clamp: Option<i64>) -> Result<(), LayerError> {
    let shown = directory.as_os_str().as_bytes();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, directory, flags, Mode::empty());
    let root = root.map_err(|error| LayerError::io("open", shown, error))?;
    let mut at: Option<(LayerPath, OwnedFd)> = None;
    for entry in changes.iter().map(|change| &change.entry).filter(|entry| !entry.is_marker()) {
        let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) else { continue };
        let failed = |error| LayerError::io("set the time of", &entry.path, error);
        if at.as_ref().is_none_or(|(current, _)| *current != parent) {
            let opened = beneath::open_directory(root.as_fd(), &parent);
            at = Some((
                parent,
                opened.map_err(|error| LayerError::io("set the time of", &entry.path, error))?,
            ));
        }
        let Some((_, directory)) = &at else { continue };
        let time = Timespec { tv_sec: clamped(entry.mtime, clamp), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    }
    Ok(())
}

struct Scanner<'a> {
    root: Arc<OwnedFd>,
    upper: &'a Path,
    below: &'a Tree,
    inspector: Inspector<'a>,
    found: BTreeMap<LayerPath, Found>,
    notes: Vec<Note>,
}

struct Found {
    entry: Entry,
    opaque: bool,
    /// Device and inode of a file with several names.
    shared: Option<(u64, u64)>,
}

impl Scanner<'_> {
    /// Reads the whole directory, one part of it open at a time, so that depth costs no descriptors.
    fn collect(&mut self) -> Result<(), LayerError> {
        let mut open = vec![LayerPath::root()];
        while let Some(directory) = open.pop() {
            let failed = |error| LayerError::io("read", &directory, error);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = beneath::open(self.root.as_fd(), directory.as_bytes(), flags)
                .map_err(|error| LayerError::io("read", &directory, error))?;
            for entry in Dir::read_from(&fd).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let path = directory.join(name)?;
                if name.starts_with(b".wh.") {
                    return Err(LayerError::refused(
                        &path,
                        "names beginning with `.wh.` mean deletions in a layer",
                    ));
                }
                if let Some(found) = self.look(fd.as_fd(), name, &path)? {
                    if found.entry.is_directory() && !MOUNTED.contains(&path.as_bytes()) {
                        open.push(path.clone());
                    }
                    self.found.insert(path, found);
                }
            }
        }
        Ok(())
    }

    fn look(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        path: &LayerPath,
    ) -> Result<Option<Found>, LayerError> {
        let failed = |error| LayerError::io("read", path, error);
        let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let Some(kind) = kind_of(at, name, path, &stat)? else {
            self.notes.push(Note { path: path.clone(), what: "socket" });
            return Ok(None);
        };
        if kind == (EntryKind::Char { major: 0, minor: 0 }) {
            // Deleting a stub of ours deletes nothing of the image.
            let deleted = self.below.get(path).map(|_| Entry::whiteout(path.clone()));
            return Ok(deleted.map(|entry| Found { entry, opaque: false, shared: None }));
        }
        let Inspected { entry, opaque, access_list, .. } =
            self.inspector.inspect(at, name, path, kind, &stat)?;
        if access_list {
            self.notes.push(Note { path: path.clone(), what: "access control list" });
        }
        let opaque = opaque && !self.below.children(path).is_empty();
        let shared = (entry.is_file() && stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        Ok(Some(Found { entry, opaque, shared }))
    }

    /// Leaves out stubs and directories that hold no change, and joins hard links.
    fn keep(self, stubs: &BTreeSet<&LayerPath>) -> Vec<Change> {
        // Directories with something to keep below them, and directories whose time our own stubs changed.
        let mut needed: BTreeSet<LayerPath> = BTreeSet::new();
        let mut touched: BTreeSet<LayerPath> = BTreeSet::new();
        touched.extend(MOUNTED.iter().filter_map(|name| LayerPath::new(name).ok()));
        let mut dropped: BTreeSet<LayerPath> = BTreeSet::new();
        for (path, found) in self.found.iter().rev() {
            let below = || self.below.get(path);
            let stub = stubs.contains(path) || MOUNTED.contains(&path.as_bytes());
            let drop = match &found.entry.kind {
                EntryKind::Directory if found.opaque || needed.contains(path) => false,
                EntryKind::Directory => match below() {
                    None => stub,
                    Some(node) => unchanged(&found.entry, &node.entry, touched.contains(path)),
                },
                EntryKind::File { size: 0 } => stub && below().is_none(),
                _ => false,
            };
            let parent = path.parent().unwrap_or_default();
            if !drop {
                needed.insert(parent);
            } else {
                dropped.insert(path.clone());
                if !found.entry.is_directory() || stub {
                    touched.insert(parent);
                }
            }
        }

        let mut first: HashMap<(u64, u64), LayerPath> = HashMap::new();
        let mut changes = Vec::new();
        for (path, found) in self.found {
            if dropped.contains(&path) {
                continue;
            }
            let mut content = Content::Empty;
            let mut entry = found.entry;
            if let EntryKind::File { size } = entry.kind {
                match found.shared.map(|file| first.entry(file)) {
                    Some(std::collections::hash_map::Entry::Occupied(known)) => {
                        entry.kind = EntryKind::HardLink { target: known.get().clone() };
                    }
                    other => {
                        if let Some(std::collections::hash_map::Entry::Vacant(new)) = other {
                            new.insert(path.clone());
                        }
                        if size > 0 {
                            content = file_content(&self.root, self.upper, &path);
                        }
                    }
                }
            }
            if found.opaque {
                changes.push(Change::bare(Entry::opaque(path)));
            }
            changes.push(Change { entry, content });
        }
        changes
    }
}

fn file_content(root: &Arc<OwnedFd>, upper: &Path, path: &LayerPath) -> Content {
    let plain = upper.join(path.as_os_path());
    if plain.as_os_str().len() < LONGEST_PLAIN {
        Content::File(plain)
    } else {
        Content::Beneath { root: Arc::clone(root), path: path.as_os_path().to_owned() }
    }
}

/// Whether a directory was copied up without a change.
fn unchanged(upper: &Entry, below: &Entry, touched: bool) -> bool {
    below.is_directory()
        && (upper.mode, upper.uid, upper.gid) == (below.mode, below.uid, below.gid)
        && upper.xattrs == below.xattrs
        && (touched || upper.mtime == below.mtime)
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
