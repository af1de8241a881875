//! What tells layers of equal copies: their entries and the data of their files, but not when the files
//! were made. Copies of the same files onto different images, or out of a stage that was carried out
//! again with the same outcome, are one layer.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::unpacking::Stoppable;
use super::{Cancel, EngineError};
use crate::image::{Digest, HashingReader, Sha256};
use crate::layer::{Change, Content, EntryKind, LayerPath};

/// Below this many files, threads cost more than they save.
const WORTH_THREADS: usize = 16;

/// How changes are compared.
pub(super) struct Equal<'a> {
    /// Directories of the stack below: their times are part of the layer.
    pub(super) kept: &'a BTreeSet<LayerPath>,
    /// Digests of files that were read already.
    pub(super) known: &'a HashMap<LayerPath, Digest>,
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
    pub(super) fn digest(&self, changes: &[Change]) -> Result<Digest, EngineError> {
        let data = self.data(changes)?;
        let mut hasher = Sha256::new();
        hasher.field(b"copy 1");
        hasher.field(format!("{:?}", self.clamp).as_bytes());
        for (Change { entry, .. }, data) in changes.iter().zip(data) {
            hasher.field(entry.path.as_bytes());
            match &entry.kind {
                EntryKind::HardLink { target } => {
                    hasher.field(b"link");
                    hasher.field(target.as_bytes());
                }
                EntryKind::Symlink { target } => {
                    hasher.field(b"symlink");
                    hasher.field(target);
                }
                kind => hasher.field(format!("{kind:?}").as_bytes()),
            }
            for number in [entry.mode, entry.uid, entry.gid] {
                hasher.field(&number.to_le_bytes());
            }
            let time = self
                .kept
                .contains(&entry.path)
                .then(|| self.clamp.map_or(entry.mtime, |clamp| clamp.min(entry.mtime)));
            hasher.field(format!("{time:?}").as_bytes());
            hasher.field(&entry.xattrs.len().to_le_bytes());
            for (name, value) in &entry.xattrs {
                hasher.field(name);
                hasher.field(value);
            }
            hasher.field(data.as_ref().map_or(b"", |digest| digest.raw()));
        }
        Ok(hasher.finish())
    }

    /// The digest of each change's data, on several threads where that helps.
    fn data(&self, changes: &[Change]) -> Result<Vec<Option<Digest>>, EngineError> {
        let mut data: Vec<Option<Digest>> =
            changes.iter().map(|change| self.known.get(&change.entry.path).copied()).collect();
        let is_unread =
            |at: &usize| data[*at].is_none() && matches!(changes[*at].entry.kind, EntryKind::File { .. });
        let unread: Vec<usize> = (0..changes.len()).filter(is_unread).collect();
        let threads = match unread.len() {
            0..WORTH_THREADS => 1,
            _ => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Digest)>, EngineError> {
            let mut read = Vec::new();
            while let Some(at) = unread.get(next.fetch_add(1, Ordering::Relaxed)) {
                read.push((*at, self.digest_of(&changes[*at].content)?));
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
            for (at, digest) in result? {
                data[at] = Some(digest);
            }
        }
        Ok(data)
    }

    fn digest_of(&self, content: &Content) -> Result<Digest, EngineError> {
        let content = Stoppable { inner: content.open()?, cancel: self.cancel.clone() };
        let mut reader = HashingReader::new(content);
        match io::copy(&mut reader, &mut io::sink()) {
            Err(_) if self.cancel.is_cancelled() => Err(EngineError::Cancelled),
            read => read.map(|_| reader.finish().1).map_err(EngineError::io("read a file that is copied")),
        }
    }
}
