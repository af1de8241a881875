//! What a store holds: entries of several kinds, each with what it takes on the disk and when it was last
//! used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::survey::{LayerFacts, Survey};
use super::{Lock, Store, StoreError, disk_usage};
use crate::image::Digest;

/// Threads that look at trees.
const THREADS: usize = 8;

/// Kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A layer that a step made.
    Layer,
    /// A layer of an image that was pulled.
    Base,
    /// What a name stands for: index, manifests and configs.
    Image,
    /// A directory of RUN --mount=type=cache.
    Mount,
    /// A git repository.
    Git,
    /// A file of a web server.
    Download,
    /// What files of a folder were when they were last read.
    Context,
    /// Blobs that nothing leads to.
    Blob,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Layer,
        Self::Base,
        Self::Image,
        Self::Mount,
        Self::Git,
        Self::Download,
        Self::Context,
        Self::Blob,
    ];

    /// The name that people and programs read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Base => "base",
            Self::Image => "image",
            Self::Mount => "mount",
            Self::Git => "git",
            Self::Download => "download",
            Self::Context => "context",
            Self::Blob => "blob",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something that is kept or removed as a whole.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// A layer's diff id, or the digest of what else it is found by.
    pub id: Digest,
    /// Bytes that it takes on the disk. What several entries have is counted for each of them.
    pub size: u64,
    /// Whether all of it could be looked at; else the size is too small.
    pub is_whole: bool,
    /// When a build has last used it.
    pub used: SystemTime,
    /// Platforms that it belongs to; none where it does not matter.
    pub platforms: BTreeSet<String>,
    /// For people: an instruction, the names of images.
    pub what: String,
    /// Whether a build that still runs may use it.
    pub in_use: bool,
    /// What it consists of: positions in the inventory.
    pub(super) parts: Vec<usize>,
}

/// A file or directory that has its own time of use.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) is_whole: bool,
    pub(super) used: SystemTime,
    /// Who uses it holds this lock.
    pub(super) lock: Option<PathBuf>,
    /// Number of entries that have it.
    pub(super) owners: usize,
}

/// A list of what a store holds.
#[derive(Debug)]
pub struct Inventory {
    /// The entries, last used first.
    pub entries: Vec<Entry>,
    /// Bytes on the disk; what several entries have is counted once.
    pub size: u64,
    pub(super) parts: Vec<Part>,
    /// Records that lead nowhere.
    pub(super) stray: Vec<PathBuf>,
    /// What was used since then may be in use.
    pub(super) since: SystemTime,
}

impl Store {
    /// Lists all that is in the store. Nothing is marked as used by that.
    ///
    /// # Errors
    ///
    /// Fails where a folder of the store cannot be listed.
    pub fn inventory(&self) -> Result<Inventory, StoreError> {
        let own = self.gate().since();
        // Before anything is listed: what a build uses that begins later has another time then.
        let since = self.others_since()?.map_or(own, |others| others.min(own));
        let survey = self.survey()?;
        let mut list = List::default();
        let others = self.others()?;
        let stray = survey.stray.clone();
        self.surveyed(survey, &mut list);
        for (digest, path) in self.listed("blobs/sha256")? {
            let part = list.part(&path, None);
            if list.owners[part] == 0 {
                list.add(Kind::Blob, digest, BTreeSet::new(), String::new(), [part]);
            }
        }
        for (kind, digest, path, lock) in others {
            let part = list.part(&path, lock);
            list.add(kind, digest, BTreeSet::new(), String::new(), [part]);
        }
        Ok(list.finish(stray, since))
    }

    /// Entries for layers, images and downloads.
    fn surveyed(&self, survey: Survey, list: &mut List) {
        for (id, facts) in survey.layers {
            let blobs = facts.blobs.iter().map(|blob| self.blob_path(&blob.descriptor.digest));
            let steps = facts.steps.iter().map(|(path, _)| path.clone());
            let paths = facts.place.clone().into_iter().chain(blobs).chain(steps);
            let parts: Vec<usize> =
                paths.filter(|path| path.exists()).map(|path| list.part(&path, None)).collect();
            let kind =
                if facts.steps.is_empty() && !facts.images.is_empty() { Kind::Base } else { Kind::Layer };
            let (platforms, what) = describe(facts);
            list.add(kind, id, platforms, what, parts);
        }
        for image in survey.images {
            let documents = image.documents.iter().map(|digest| self.blob_path(digest));
            let parts: Vec<usize> =
                [image.record].into_iter().chain(documents).map(|path| list.part(&path, None)).collect();
            list.add(Kind::Image, image.id, image.platforms, image.name, parts);
        }
        for (url, record) in survey.downloads {
            let paths = [self.place("downloads", &url), self.blob_path(&record.digest)];
            let parts: Vec<usize> =
                paths.iter().filter(|path| path.exists()).map(|path| list.part(path, None)).collect();
            list.add(Kind::Download, url, BTreeSet::new(), String::new(), parts);
        }
    }

    /// Repositories, directories of caches, and what is known of contexts.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn others(&self) -> Result<Vec<(Kind, Digest, PathBuf, Option<PathBuf>)>, StoreError> {
        let mut found = Vec::new();
        for (digest, path) in self.listed("git")? {
            let lock = path.with_extension("lock");
            found.push((Kind::Git, digest, path, Some(lock)));
        }
        for (digest, place) in self.listed("caches")? {
            let Ok(entries) = fs::read_dir(&place) else { continue };
            let mut directories: Vec<PathBuf> = entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_none() && path.is_dir())
                .collect();
            directories.sort();
            for path in directories {
                let lock = path.with_extension("lock");
                found.push((Kind::Mount, digest, path, Some(lock)));
            }
        }
        for (digest, path) in self.listed("contexts")? {
            found.push((Kind::Context, digest, path, None));
        }
        Ok(found)
    }
}

/// Platforms and words for a layer.
fn describe(facts: LayerFacts) -> (BTreeSet<String>, String) {
    let (mut platforms, mut texts) = (facts.platforms, Vec::new());
    for (_, record) in facts.steps {
        platforms.extend(Some(record.platform).filter(|platform| !platform.is_empty()));
        if !record.text.is_empty() && !texts.contains(&record.text) {
            texts.push(record.text);
        }
    }
    if texts.is_empty() {
        texts = facts.images.into_iter().collect();
    }
    (platforms, texts.join(", "))
}

/// An inventory in the making.
#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    paths: Vec<(PathBuf, Option<PathBuf>)>,
    owners: Vec<usize>,
    known: BTreeMap<PathBuf, usize>,
}

impl List {
    fn part(&mut self, path: &Path, lock: Option<PathBuf>) -> usize {
        *self.known.entry(path.to_owned()).or_insert_with(|| {
            self.paths.push((path.to_owned(), lock));
            self.owners.push(0);
            self.paths.len() - 1
        })
    }

    fn add(
        &mut self,
        kind: Kind,
        id: Digest,
        platforms: BTreeSet<String>,
        what: String,
        parts: impl IntoIterator<Item = usize>,
    ) {
        let parts: Vec<usize> = parts.into_iter().collect();
        if parts.is_empty() {
            // A layer of an image of which nothing was ever needed.
            return;
        }
        for part in &parts {
            self.owners[*part] += 1;
        }
        let (size, is_whole, used, in_use) = (0, true, UNIX_EPOCH, false);
        self.entries.push(Entry { kind, id, size, is_whole, used, platforms, what, in_use, parts });
    }

    /// Looks at all the files.
    fn finish(self, stray: Vec<PathBuf>, since: SystemTime) -> Inventory {
        let parts = measure(self.paths, &self.owners);
        let mut entries = self.entries;
        for entry in &mut entries {
            let parts = || entry.parts.iter().map(|part| &parts[*part]);
            let is_locked = |part: &Part| part.lock.as_deref().is_some_and(is_used);
            (entry.size, entry.is_whole) =
                (parts().map(|part| part.size).sum(), parts().all(|part| part.is_whole));
            let used = parts().map(|part| part.used).max().unwrap_or(UNIX_EPOCH);
            let in_use = used >= since || parts().any(is_locked);
            (entry.used, entry.in_use) = (used, in_use);
        }
        entries.sort_by(|one, other| {
            other.used.cmp(&one.used).then(one.kind.cmp(&other.kind)).then(one.id.cmp(&other.id))
        });
        let size = parts.iter().map(|part| part.size).sum();
        Inventory { entries, size, parts, stray, since }
    }
}

/// Whether somebody holds this lock, alone or with others.
fn is_used(lock: &Path) -> bool {
    lock.exists() && !matches!(Lock::attempt(lock), Ok(Some(_)))
}

/// Measures all parts, on several threads.
fn measure(paths: Vec<(PathBuf, Option<PathBuf>)>, owners: &[usize]) -> Vec<Part> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((path, lock)) = paths.get(at) else { return found };
            let usage = disk_usage::of(path);
            let used = last_use(path, lock.as_deref());
            let part = Part {
                path: path.clone(),
                size: usage.bytes,
                is_whole: usage.is_whole,
                used,
                lock: lock.clone(),
                owners: owners[at],
            };
            found.push((at, part));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let mut found: Vec<(usize, Part)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("measuring does not panic")).collect()
    });
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, part)| part).collect()
}

/// When a part was last used. A directory that commands or git write to says nothing of that; its lock
/// does. What is known of a context is only read while the context stays the same.
pub(super) fn last_use(path: &Path, lock: Option<&Path>) -> SystemTime {
    if let Some(time) = lock.and_then(|lock| fs::symlink_metadata(lock).ok()?.modified().ok()) {
        return time;
    }
    let Ok(metadata) = fs::symlink_metadata(path) else { return UNIX_EPOCH };
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    let is_context = path.parent().is_some_and(|folder| folder.ends_with("contexts"));
    let read = metadata.accessed().ok().filter(|_| is_context);
    read.map_or(modified, |read| read.max(modified))
}

#[cfg(test)]
mod tests {
    use super::super::gate::set_time;
    use super::super::{CacheSharing, Grounds, LayerId, StepRecord};
    use super::*;
    use crate::image::{Compression, Descriptor, DiffId, Reference};
    use crate::store::BlobRecord;

    #[test]
    fn entries_have_what_leads_to_them() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let diff_id = DiffId(Digest::of(b"layer"));
        let layer = LayerId::of(&diff_id);
        store.put_layer_index(&layer, b"index").unwrap();
        let blob = store.put_blob(&[7; 10_000]).unwrap();
        let descriptor = Descriptor::new("x/y", blob, 10_000);
        store.put_layer_blob(&layer, Compression::DEFAULT, &BlobRecord { diff_id, descriptor }).unwrap();
        for (key, platform) in [("a", "linux/amd64"), ("b", "linux/arm64")] {
            let record = StepRecord {
                layer,
                grounds: Grounds { below: Digest::of(b""), inputs: Vec::new() },
                content: Digest::of(b""),
                created: 0,
                notes: Vec::new(),
                platform: platform.to_owned(),
                text: "RUN x".to_owned(),
            };
            store.put_step(&Digest::of(key.as_bytes()), &record).unwrap();
        }
        let reference: Reference = "localhost:5000/a:1".parse().unwrap();
        let manifest = store.put_blob(b"{}").unwrap();
        store.put_reference(&reference, &Descriptor::new("x/y", manifest, 2)).unwrap();
        store.put_blob(b"nobody's").unwrap();
        let fill = |_: &Path| Ok::<_, StoreError>(());
        let cache = store.cache_directory(&Digest::of(b"c"), CacheSharing::Shared, &fill, &|| false);
        let kinds = |inventory: &Inventory| {
            let mut kinds: Vec<_> = inventory.entries.iter().map(|entry| entry.kind).collect();
            kinds.sort();
            kinds
        };
        let listed = store.inventory().unwrap();
        assert_eq!(kinds(&listed), [Kind::Layer, Kind::Image, Kind::Mount, Kind::Blob]);
        assert!(listed.entries.iter().all(|entry| entry.is_whole && entry.in_use));
        let of_layer = listed.entries.iter().find(|entry| entry.kind == Kind::Layer).unwrap();
        assert_eq!(of_layer.what, "RUN x");
        assert_eq!(of_layer.platforms.iter().cloned().collect::<Vec<_>>(), ["linux/amd64", "linux/arm64"]);
        assert!(of_layer.size >= 10_000 && listed.size >= of_layer.size);
        assert_eq!(of_layer.id, *layer.digest());

        // A lock that is held says that its directory is in use, however old it is.
        let place = directory.path().join("caches").join(Digest::of(b"c").hex());
        set_time(&place.join("0.lock"), UNIX_EPOCH).unwrap();
        let mount = |inventory: &Inventory| {
            let mount = inventory.entries.iter().find(|entry| entry.kind == Kind::Mount).unwrap();
            (mount.used, mount.in_use)
        };
        assert_eq!(mount(&store.inventory().unwrap()), (UNIX_EPOCH, true));
        drop(cache);
        assert_eq!(mount(&store.inventory().unwrap()), (UNIX_EPOCH, false));
    }
}
