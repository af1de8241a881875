//! What identifies the files that a copy takes: data and attributes, read once and in parallel.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, fgetxattr, flistxattr, openat2};

use super::{Context, SourceError};
use crate::dockerfile::Selection;
use crate::image::{Digest, HashingReader, Sha256};
use crate::layer::{Entry, EntryKind, LayerPath, Node, Xattrs, keep_xattr};

/// Data and attributes of one file, or the attributes of a directory.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    digest: Option<Digest>,
    xattrs: Xattrs,
}

/// Below this many files, threads cost more than they save.
const WORTH_THREADS: usize = 64;

impl Context {
    /// Digest of all that a selection takes from the context.
    ///
    /// # Errors
    ///
    /// Fails where a word without wildcards finds nothing, and where a file cannot be read.
    pub fn digest(&self, selection: &Selection) -> Result<Digest, SourceError> {
        let selected = self.select(selection)?;
        let mut wanted = BTreeSet::new();
        for node in selected.iter().flat_map(|item| &item.entries) {
            match &node.entry.kind {
                EntryKind::File { .. } | EntryKind::Directory => {
                    wanted.insert(node.entry.path.clone());
                }
                EntryKind::HardLink { target } => {
                    wanted.insert(target.clone());
                }
                _ => {}
            }
        }
        self.learn(&wanted)?;
        let mut hasher = Sha256::new();
        for item in &selected {
            hasher.field(&item.word.to_le_bytes());
            hasher.field(&item.name);
            hasher.field(&[item.shape as u8]);
            hasher.field(&item.entries.len().to_le_bytes());
            // The files of one thing that were seen, by the name that holds their data.
            let mut firsts = HashMap::new();
            for Node { entry, .. } in &item.entries {
                let below = entry.path.strip_prefix(&item.path).unwrap_or_default();
                hasher.field(below);
                self.hash_entry(&mut hasher, entry, below, &mut firsts);
            }
        }
        Ok(hasher.finish())
    }

    /// The extended attributes of a file or directory; those of a directory of the machine are
    /// known once it was part of a digest.
    pub fn xattrs(&self, path: &LayerPath) -> Xattrs {
        if self.directory().is_none() {
            return self.tree().get(path).map(|node| node.entry.xattrs).unwrap_or_default();
        }
        self.facts(path).map(|facts| facts.xattrs.clone()).unwrap_or_default()
    }

    /// The digest of a file's data, where the file was part of a digest before.
    pub fn known_digest(&self, path: &LayerPath) -> Option<Digest> {
        self.facts(path)?.digest
    }

    fn facts(&self, path: &LayerPath) -> Option<Arc<Facts>> {
        self.known_facts().lock().ok()?.get(path).cloned()
    }

    fn hash_entry<'a>(
        &self,
        hasher: &mut Sha256,
        entry: &'a Entry,
        below: &'a [u8],
        firsts: &mut HashMap<&'a LayerPath, &'a [u8]>,
    ) {
        let mut field = |tag: &str, bytes: &[u8]| {
            hasher.field(tag.as_bytes());
            hasher.field(bytes);
        };
        field("mode", &entry.mode.to_le_bytes());
        let mut file = None;
        match &entry.kind {
            EntryKind::File { .. } | EntryKind::HardLink { .. } => {
                let path = match &entry.kind {
                    EntryKind::HardLink { target } => target,
                    _ => &entry.path,
                };
                // A link within the copied files is one thing, a second file of equal data another.
                match firsts.entry(path) {
                    Slot::Occupied(first) => field("link", first.get()),
                    Slot::Vacant(slot) => {
                        slot.insert(below);
                        field("file", b"");
                    }
                }
                file = Some(path);
            }
            EntryKind::Directory => {
                field("directory", b"");
                file = Some(&entry.path);
            }
            EntryKind::Symlink { target } => field("symlink", target),
            EntryKind::Fifo => field("fifo", b""),
            EntryKind::Char { major, minor } | EntryKind::Block { major, minor } => {
                let kind = if matches!(entry.kind, EntryKind::Char { .. }) { "char" } else { "block" };
                field(kind, &[major.to_le_bytes(), minor.to_le_bytes()].concat());
            }
            EntryKind::Whiteout | EntryKind::Opaque => {}
        }
        if let Some(facts) = file.and_then(|path| self.facts(path)) {
            if let Some(digest) = &facts.digest {
                field("data", digest.raw());
            }
            for (name, value) in &facts.xattrs {
                field("xattr", name);
                field("value", value);
            }
        }
    }

    /// Reads what is not known yet, on several threads where that helps.
    fn learn(&self, paths: &BTreeSet<LayerPath>) -> Result<(), SourceError> {
        let unknown: Vec<&LayerPath> = paths.iter().filter(|path| self.facts(path).is_none()).collect();
        let threads = match unknown.len() {
            0..WORTH_THREADS => 1,
            _ => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(LayerPath, Arc<Facts>)>, SourceError> {
            let mut learned = Vec::new();
            while let Some(path) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
                learned.push(((*path).clone(), Arc::new(self.read_facts(path)?)));
            }
            Ok(learned)
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            let joined =
                others.into_iter().map(|thread| thread.join().expect("reading files does not panic"));
            joined.chain([own]).collect()
        });
        for result in results {
            let learned = result?;
            if let Ok(mut facts) = self.known_facts().lock() {
                facts.extend(learned);
            }
        }
        Ok(())
    }

    fn read_facts(&self, path: &LayerPath) -> Result<Facts, SourceError> {
        let fail = |error: io::Error| SourceError::io("read", path.as_os_path(), error);
        let Some(root) = self.directory() else {
            let node = self.tree().get(path);
            let xattrs = node.map(|node| node.entry.xattrs).unwrap_or_default();
            let digest = match self.tree().file(path) {
                Some(_) => Some(digest(self.content(path).open()?).map_err(fail)?),
                None => None,
            };
            return Ok(Facts { digest, xattrs });
        };
        let file = open_beneath(root, path).map_err(fail)?;
        let xattrs = read_xattrs(&file).map_err(fail)?;
        let file = File::from(file);
        if !file.metadata().map_err(fail)?.file_type().is_file() {
            return Ok(Facts { digest: None, xattrs });
        }
        Ok(Facts { digest: Some(digest(file).map_err(fail)?), xattrs })
    }
}

/// Opens a file or directory without following any link and without waiting for anybody.
fn open_beneath(root: BorrowedFd<'_>, path: &LayerPath) -> io::Result<OwnedFd> {
    let name = if path.is_root() { Path::new(".") } else { path.as_os_path() };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, name, flags, Mode::empty(), resolve)?)
}

fn digest(file: impl Read) -> io::Result<Digest> {
    let mut reader = HashingReader::new(file);
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.finish().1)
}

/// The attributes that belong into an image. File systems without any have none.
fn read_xattrs(file: &OwnedFd) -> io::Result<Xattrs> {
    let mut names = [0; 4096];
    let length = match flistxattr(file.as_fd(), &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let mut xattrs = Xattrs::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let size = fgetxattr(file.as_fd(), name, &mut value)?;
        if let Some(kept) = keep_xattr(name, &value[..size]) {
            xattrs.insert(name.to_vec(), kept);
        }
    }
    Ok(xattrs)
}
