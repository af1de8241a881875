//! What identifies the files that a copy takes: data and attributes, read once and in parallel.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::reader::Reader;
use super::select::Selected;
use super::stat_cache::{Clock, Recalled, StatCache};
use super::walk::processors;
use super::{Context, SourceError};
use crate::dockerfile::Selection;
use crate::image::{DataHash, Digest, Sha256};
use crate::layer::{Entry, EntryKind, LayerPath, Node, Seen, Stamp, Xattrs};

/// Data and attributes of one file, or the attributes of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) data: Option<DataHash>,
    pub(super) xattrs: Xattrs,
    /// What the system said of the file when it was read, if a later change is sure to show.
    pub(super) stat: Option<Stamp>,
    /// What the system said of the file when it was read.
    pub(super) seen: Option<Stamp>,
}

/// Below this many files, threads cost more than they save.
const WORTH_THREADS: usize = 64;
/// Threads for each processor: while one waits for the disk, others ask it for more. From a disk, 20,000
/// small files take a third of the time that one thread for each processor needs; from memory, the same.
const READERS_EACH: usize = 4;
/// Files that a thread takes at once: neighbours share a directory.
const AT_ONCE: usize = 32;
/// Bytes that are gathered before they are hashed.
const HASHED_AT_ONCE: usize = 32 << 10;

type ByPath = HashMap<LayerPath, Facts>;

/// What is known of a context's files, from this build and from earlier ones.
#[derive(Debug, Default)]
pub(super) struct Known {
    facts: RwLock<ByPath>,
    cache: Option<StatCache>,
    /// Whether the cache on disk says something else.
    changed: AtomicBool,
}

impl Known {
    /// Begins with what earlier builds knew.
    pub(super) fn recalled(cache: StatCache, recalled: Recalled) -> Self {
        let Recalled { facts, outdated } = recalled;
        Self { facts: RwLock::new(facts), cache: Some(cache), changed: AtomicBool::new(outdated) }
    }

    /// What tells the time, where that matters.
    pub(super) fn clock(&self) -> Option<Clock> {
        self.cache.as_ref().map(StatCache::clock)
    }

    fn read(&self) -> RwLockReadGuard<'_, ByPath> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, ByPath> {
        self.facts.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, learned: Vec<(LayerPath, Facts)>) {
        if learned.iter().any(|(_, facts)| facts.stat.is_some()) {
            self.changed.store(true, Ordering::Relaxed);
        }
        self.write().extend(learned);
    }
}

impl Context {
    /// Digest of all that a selection takes from the context.
    ///
    /// # Errors
    ///
    /// Fails where a word without wildcards finds nothing, and where a file cannot be read.
    pub fn digest(&self, selection: &Selection) -> Result<Digest, SourceError> {
        let selected = self.select(selection)?;
        self.learn(&selected)?;
        let known = self.known().read();
        let mut fields = Fields::default();
        for item in &selected {
            fields.add(&item.word.to_le_bytes());
            fields.add(&item.name);
            fields.add(&[item.shape as u8]);
            fields.add(&item.entries.len().to_le_bytes());
            let is_link = |node: &Node| matches!(node.entry.kind, EntryKind::HardLink { .. });
            // The files of one thing that were seen, by the name that holds their data. Without links,
            // none is seen twice.
            let mut firsts = item.entries.iter().any(is_link).then(HashMap::new);
            for Node { entry, .. } in &item.entries {
                let below = entry.path.strip_prefix(&item.path).unwrap_or_default();
                fields.add(below);
                hash_entry(&mut fields, entry, below, firsts.as_mut(), &known);
            }
        }
        Ok(fields.finish())
    }

    /// The extended attributes of a file or directory; those of a directory of the machine are
    /// known once it was part of a digest.
    pub fn xattrs(&self, path: &LayerPath) -> Xattrs {
        if self.directory().is_none() {
            return self.tree().get(path).map(|node| node.entry.xattrs).unwrap_or_default();
        }
        self.known().read().get(path).map(|facts| facts.xattrs.clone()).unwrap_or_default()
    }

    /// The hash of a file's data, where the file was part of a digest before.
    pub fn known_data(&self, path: &LayerPath) -> Option<DataHash> {
        self.known().read().get(path)?.data
    }

    /// What a file was when it was part of a digest: what it is to be still when it is copied.
    pub(super) fn known_state(&self, path: &LayerPath) -> Option<Seen> {
        let known = self.known().read();
        let facts = known.get(path)?;
        // Where a change may not show in the times, the data itself is compared.
        let data = if facts.stat.is_some() { None } else { facts.data };
        Some(Seen { stamp: facts.seen?, data })
    }

    /// Writes what is known of files for the next build, if that is more or less than was known at the
    /// beginning. What cannot be written costs the next build time, and nothing else.
    pub fn keep_stats(&self) {
        let known = self.known();
        let Some(cache) = &known.cache else { return };
        if !known.changed.swap(false, Ordering::Relaxed) {
            return;
        }
        let nodes = self.tree().walk(&LayerPath::root());
        let facts = known.read();
        let believed = nodes.iter().filter_map(|(path, _)| Some((path, facts.get(path)?)));
        drop(cache.keep(believed));
    }

    /// Reads what is not known yet, on several threads where that helps.
    fn learn(&self, selected: &[Selected]) -> Result<(), SourceError> {
        let mut unknown: Vec<LayerPath> = {
            let known = self.known().read();
            let named = selected.iter().flat_map(|item| &item.entries).filter_map(|node| source(&node.entry));
            named.filter(|path| !known.contains_key(path)).cloned().collect()
        };
        // Words may mean the same file, and links do.
        unknown.sort();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        let threads = match unknown.len() {
            0..WORTH_THREADS => 1,
            count => (processors() * READERS_EACH).min(count.div_ceil(AT_ONCE)),
        };
        let next = AtomicUsize::new(0);
        let work = || {
            let mut reader = Reader::new(self);
            let mut learned = Vec::with_capacity(unknown.len() / threads + AT_ONCE);
            loop {
                let start = next.fetch_add(AT_ONCE, Ordering::Relaxed);
                let part = unknown.iter().enumerate().skip(start).take(AT_ONCE);
                if part.len() == 0 {
                    return Ok(learned);
                }
                for (at, path) in part {
                    match reader.facts(path) {
                        Ok(facts) => learned.push((path.clone(), facts)),
                        Err(error) => return Err((at, error)),
                    }
                }
            }
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            let joined =
                others.into_iter().map(|thread| thread.join().expect("reading files does not panic"));
            joined.chain([own]).collect()
        });
        let mut first: Option<(usize, SourceError)> = None;
        for result in results {
            match result {
                Ok(learned) => self.known().learn(learned),
                // Parts are taken in order, so the first of all failures is among these.
                Err((at, error)) if first.as_ref().is_none_or(|(first, _)| at < *first) => {
                    first = Some((at, error));
                }
                Err(_) => {}
            }
        }
        first.map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// The path under which an entry's data and attributes are known, if it has any.
fn source(entry: &Entry) -> Option<&LayerPath> {
    match &entry.kind {
        EntryKind::File { .. } | EntryKind::Directory => Some(&entry.path),
        EntryKind::HardLink { target } => Some(target),
        _ => None,
    }
}

/// Fields on their way into a hash: many small ones cost more than one large.
#[derive(Default)]
struct Fields {
    hasher: Sha256,
    gathered: Vec<u8>,
}

impl Fields {
    /// Adds a field with its length before it, as [`Sha256::field`] does.
    fn add(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() > HASHED_AT_ONCE {
            self.hasher.update(&self.gathered);
            self.gathered.clear();
        }
        self.gathered.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.gathered.extend_from_slice(bytes);
    }

    fn named(&mut self, name: &str, bytes: &[u8]) {
        self.add(name.as_bytes());
        self.add(bytes);
    }

    fn finish(mut self) -> Digest {
        self.hasher.update(&self.gathered);
        self.hasher.finish()
    }
}

fn hash_entry<'a>(
    fields: &mut Fields,
    entry: &'a Entry,
    below: &'a [u8],
    firsts: Option<&mut HashMap<&'a LayerPath, &'a [u8]>>,
    known: &ByPath,
) {
    fields.named("mode", &entry.mode.to_le_bytes());
    let source = source(entry);
    match &entry.kind {
        EntryKind::File { .. } | EntryKind::HardLink { .. } => {
            // A link within the copied files is one thing, a second file of equal data another.
            match firsts.zip(source).map(|(firsts, path)| firsts.entry(path)) {
                Some(Slot::Occupied(first)) => fields.named("link", first.get()),
                Some(Slot::Vacant(slot)) => {
                    slot.insert(below);
                    fields.named("file", b"");
                }
                None => fields.named("file", b""),
            }
        }
        EntryKind::Directory => fields.named("directory", b""),
        EntryKind::Symlink { target } => fields.named("symlink", target),
        EntryKind::Fifo => fields.named("fifo", b""),
        EntryKind::Char { major, minor } | EntryKind::Block { major, minor } => {
            let kind = if matches!(entry.kind, EntryKind::Char { .. }) { "char" } else { "block" };
            fields.named(kind, &[major.to_le_bytes(), minor.to_le_bytes()].concat());
        }
        EntryKind::Whiteout | EntryKind::Opaque => {}
    }
    if let Some(facts) = source.and_then(|path| known.get(path)) {
        if let Some(data) = &facts.data {
            fields.named("data", data.raw());
        }
        for (name, value) in &facts.xattrs {
            fields.named("xattr", name);
            fields.named("value", value);
        }
    }
}
