//! What tells layers of equal copies: their entries and the data of their files, but not when the files
//! were made. Copies of the same files onto different images, or out of a stage that was carried out
//! again with the same outcome, are one layer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::unpacking::Stoppable;
use super::{Cancel, EngineError};
use crate::image::{DataHash, Digest, Sha256};
use crate::layer::{Change, Content, EntryKind, LayerPath};

/// Below this many files, threads cost more than they save.
const WORTH_THREADS: usize = 16;

/// Bytes that are read at once.
const AT_ONCE: usize = 64 << 10;

/// Changes whenever equal copies would get other keys, so that old records miss.
const FORMAT: &[u8] = b"fanfold copy 2";

/// How changes are compared.
pub(super) struct Equal<'a> {
    /// Directories of the stack below: their times are part of the layer.
    pub(super) kept: &'a BTreeSet<LayerPath>,
    /// Hashes of files that were read already, one for each change.
    pub(super) known: Vec<Option<DataHash>>,
    /// The bound on times.
    pub(super) clamp: Option<i64>,
    /// Ends reading.
    pub(super) cancel: &'a Cancel,
}

impl Equal<'_> {
    /// The digest of changes in path order.
    ///
    /// # Errors
    ///
    /// Fails where a file cannot be read.
    pub(super) fn digest(self, changes: &[Change]) -> Result<Digest, EngineError> {
        let (kept, clamp) = (self.kept, self.clamp);
        let mut hasher = Sha256::new();
        hasher.field(FORMAT);
        optional(&mut hasher, clamp);
        for (Change { entry, .. }, data) in changes.iter().zip(data(self.known, changes, self.cancel)?) {
            hasher.field(entry.path.as_bytes());
            kind(&mut hasher, &entry.kind);
            for number in [entry.mode, entry.uid, entry.gid] {
                hasher.field(&number.to_le_bytes());
            }
            let time = || clamp.map_or(entry.mtime, |clamp| clamp.min(entry.mtime));
            optional(&mut hasher, kept.contains(&entry.path).then(time));
            hasher.field(&entry.xattrs.len().to_le_bytes());
            for (name, value) in &entry.xattrs {
                hasher.field(name);
                hasher.field(value);
            }
            hasher.field(data.as_ref().map_or(b"", |data| data.raw()));
        }
        Ok(hasher.finish())
    }
}

/// A number that may be absent.
fn optional(hasher: &mut Sha256, number: Option<i64>) {
    match number {
        Some(number) => hasher.field(&number.to_le_bytes()),
        None => hasher.field(b""),
    }
}

fn kind(hasher: &mut Sha256, kind: &EntryKind) {
    let (name, bytes): (&[u8], &[u8]) = match kind {
        EntryKind::File { .. } => (b"file", b""),
        EntryKind::HardLink { target } => (b"link", target.as_bytes()),
        EntryKind::Symlink { target } => (b"symlink", target),
        EntryKind::Directory => (b"directory", b""),
        EntryKind::Fifo => (b"fifo", b""),
        EntryKind::Whiteout => (b"whiteout", b""),
        EntryKind::Opaque => (b"opaque", b""),
        EntryKind::Char { major, minor } | EntryKind::Block { major, minor } => {
            hasher.field(&major.to_le_bytes());
            hasher.field(&minor.to_le_bytes());
            (if matches!(kind, EntryKind::Char { .. }) { b"char" } else { b"block" }, b"")
        }
    };
    hasher.field(name);
    hasher.field(bytes);
}

/// The hash of each change's data, on several threads where that helps.
fn data(
    mut data: Vec<Option<DataHash>>,
    changes: &[Change],
    cancel: &Cancel,
) -> Result<Vec<Option<DataHash>>, EngineError> {
    let is_unread =
        |at: &usize| data[*at].is_none() && matches!(changes[*at].entry.kind, EntryKind::File { .. });
    let unread: Vec<usize> = (0..changes.len()).filter(is_unread).collect();
    let threads = match unread.len() {
        0..WORTH_THREADS => 1,
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, DataHash)>, EngineError> {
        let mut read = Vec::new();
        let mut buffer = vec![0; AT_ONCE];
        while let Some(at) = unread.get(next.fetch_add(1, Ordering::Relaxed)) {
            read.push((*at, hash(&changes[*at].content, &mut buffer, cancel)?));
        }
        Ok(read)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let joined = others.into_iter().map(|thread| thread.join().expect("reading does not panic"));
        joined.chain([own]).collect()
    });
    for result in results {
        for (at, hash) in result? {
            data[at] = Some(hash);
        }
    }
    Ok(data)
}

fn hash(content: &Content, buffer: &mut [u8], cancel: &Cancel) -> Result<DataHash, EngineError> {
    let content = Stoppable { inner: content.open()?, cancel: cancel.clone() };
    match DataHash::read(content, buffer) {
        Err(_) if cancel.is_cancelled() => Err(EngineError::Cancelled),
        read => read.map_err(EngineError::io("read a file that is copied")),
    }
}
