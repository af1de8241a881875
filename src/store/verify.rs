//! Reading all that is in a store again, and dropping what is not what it should be.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::gate::set_time;
use super::survey::{LayerFacts, blob_records};
use super::{BlobRecord, DownloadRecord, ReferenceRecord, StepRecord, Store, StoreError};
use crate::image::{Digest, HashingReader};

/// Something that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it is: `blob`, `index`, `directory` or `record`.
    pub kind: &'static str,
    /// Where it is, below the store's folder.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
    /// Whether it was dropped; it is not where a running build may use it.
    pub dropped: bool,
}

/// What was found by reading everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records that were read.
    pub records: u64,
    /// Blobs that were read.
    pub blobs: u64,
    /// Layers of which all forms were read.
    pub layers: u64,
    /// What is damaged, by place.
    pub damaged: Vec<Damage>,
    /// What could not be told, with the reason, by place.
    pub unknown: Vec<(String, String)>,
}

/// What came of looking at one thing.
#[derive(Debug)]
pub(super) enum Finding {
    /// It is not what it should be.
    Damaged { kind: &'static str, path: PathBuf, reason: String },
    /// It cannot be told whether it is.
    Unknown { path: PathBuf, reason: String },
}

/// One thing to look at.
enum Task {
    Record(&'static str, PathBuf),
    Blob(Digest, PathBuf),
    Layer(Digest, LayerFacts),
}

impl Store {
    /// Reads every record, blob and layer, on so many threads. What is damaged is dropped, so that the next
    /// build makes or fetches it again. `heard` is told how many of how many things were read; `remove`
    /// removes a directory tree, also one that is owned by mapped ids.
    ///
    /// # Errors
    ///
    /// Fails where a folder of the store cannot be listed, or what is damaged cannot be removed.
    pub fn verify(
        &self,
        threads: usize,
        heard: &(dyn Fn(usize, usize) + Sync),
        remove: &dyn Fn(&Path),
    ) -> Result<Verified, StoreError> {
        self.verify_tasks(self.tasks()?, threads, heard, remove)
    }

    /// As [`Store::verify`], but only what this build has used.
    ///
    /// # Errors
    ///
    /// As [`Store::verify`].
    pub fn verify_used(&self, threads: usize, remove: &dyn Fn(&Path)) -> Result<Verified, StoreError> {
        let used = self.gate().used();
        let is_used = |task: &Task| match task {
            Task::Layer(_, facts) => facts.place.as_ref().is_some_and(|place| used.contains(place)),
            Task::Record("layers", path) => path.parent().is_some_and(|place| used.contains(place)),
            Task::Record(_, path) | Task::Blob(_, path) => used.contains(path),
        };
        let tasks = self.tasks()?.into_iter().filter(is_used).collect();
        self.verify_tasks(tasks, threads, &|_, _| {}, remove)
    }

    fn verify_tasks(
        &self,
        tasks: Vec<Task>,
        threads: usize,
        heard: &(dyn Fn(usize, usize) + Sync),
        remove: &dyn Fn(&Path),
    ) -> Result<Verified, StoreError> {
        let tasks: Vec<Mutex<Option<Task>>> = tasks.into_iter().map(|task| Mutex::new(Some(task))).collect();
        let (next, read) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let counts = [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)];
        let work = || {
            let mut found = Vec::new();
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some(task) = task else { continue };
                counts[task.number()].fetch_add(1, Ordering::Relaxed);
                found.extend(self.look_at(task));
                heard(read.fetch_add(1, Ordering::Relaxed) + 1, tasks.len());
            }
            found
        };
        let findings: Vec<Finding> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("reading does not panic")).collect()
        });
        let [records, blobs, layers] = counts.map(AtomicU64::into_inner);
        let mut verified = Verified { records, blobs, layers, ..Verified::default() };
        for finding in findings {
            match finding {
                Finding::Damaged { kind, path, reason } => {
                    let dropped = self.drop_unused(&path, remove)?;
                    verified.damaged.push(Damage { kind, place: self.shown(&path), reason, dropped });
                }
                Finding::Unknown { path, reason } => verified.unknown.push((self.shown(&path), reason)),
            }
        }
        verified.damaged.sort_by(|one, other| one.place.cmp(&other.place));
        verified.unknown.sort();
        Ok(verified)
    }

    fn tasks(&self) -> Result<Vec<Task>, StoreError> {
        let mut tasks = Vec::new();
        // What takes longest comes first.
        for (id, facts) in self.survey()?.layers {
            let Some(place) = facts.place.clone() else { continue };
            tasks.extend(blob_records(&place).into_iter().map(|path| Task::Record("layers", path)));
            tasks.insert(0, Task::Layer(id, facts));
        }
        let blobs = self.listed("blobs/sha256")?;
        tasks.extend(blobs.into_iter().map(|(digest, path)| Task::Blob(digest, path)));
        for kind in ["steps", "refs", "downloads"] {
            tasks.extend(self.listed(kind)?.into_iter().map(|(_, path)| Task::Record(kind, path)));
        }
        Ok(tasks)
    }

    fn look_at(&self, task: Task) -> Vec<Finding> {
        match task {
            Task::Layer(id, facts) => self.verify_layer(&id, &facts),
            Task::Record(kind, path) => self.verify_record(kind, path).into_iter().collect(),
            Task::Blob(digest, path) => verify_blob(&digest, path).into_iter().collect(),
        }
    }

    fn verify_record(&self, kind: &str, path: PathBuf) -> Option<Finding> {
        let is_read = match kind {
            "steps" => self.read_record::<StepRecord>(&path).is_some(),
            "refs" => self.read_record::<ReferenceRecord>(&path).is_some(),
            "downloads" => self.read_record::<DownloadRecord>(&path).is_some(),
            _ => self.read_record::<BlobRecord>(&path).is_some(),
        };
        if is_read || !path.exists() {
            return None;
        }
        let reason = "its digest does not match, or it is of another version".to_owned();
        Some(Finding::Damaged { kind: "record", path, reason })
    }

    /// Drops a thing, unless a build that runs may use it; true where it is gone.
    fn drop_unused(&self, path: &Path, remove: &dyn Fn(&Path)) -> Result<bool, StoreError> {
        // The forms of a layer are used together with the layer.
        let parent = path.parent().unwrap_or(path);
        let unit = if parent.parent() == Some(&self.root().join("layers")) { parent } else { path };
        let taken = self.gate().alone(|| {
            let Ok(used) = fs::symlink_metadata(unit).and_then(|metadata| metadata.modified()) else {
                return Ok(Some(None));
            };
            if self.others_since()?.is_some_and(|since| used >= since) {
                return Ok(None);
            }
            let aside = self.take(path)?;
            // That something of it was dropped is no use of a layer.
            let _ = set_time(unit, used);
            Ok::<_, StoreError>(Some(aside))
        })??;
        if let Some(Some(aside)) = &taken {
            remove(aside);
        }
        Ok(taken.is_some())
    }

    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(self.root()).unwrap_or(path).display().to_string()
    }
}

impl Task {
    fn number(&self) -> usize {
        match self {
            Self::Record(..) => 0,
            Self::Blob(..) => 1,
            Self::Layer(..) => 2,
        }
    }
}

fn verify_blob(digest: &Digest, path: PathBuf) -> Option<Finding> {
    let read = || -> io::Result<(u64, Digest)> {
        let file = File::open(&path)?;
        let number = file.metadata()?.ino();
        let mut reader = HashingReader::new(file);
        io::copy(&mut reader, &mut io::sink())?;
        Ok((number, reader.finish().1))
    };
    match read() {
        Ok((_, found)) if found == *digest => None,
        // Another build has put a new one in its place, which it has checked.
        Ok((number, _)) if fs::metadata(&path).is_ok_and(|named| named.ino() != number) => None,
        Ok((_, found)) => {
            let reason = format!("its bytes hash to {found}");
            Some(Finding::Damaged { kind: "blob", path, reason })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Finding::Unknown { path, reason: format!("cannot be read: {error}") }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::image::media_type::{LayerEncoding, oci_layer};
    use crate::image::{Compression, Descriptor, Ownership};
    use crate::layer::{
        Change, Content, Entry, EntryKind, Halt, LayerIndex, LayerPath, Pool, Seal, diff_id, seal,
        write_directory,
    };
    use crate::store::{Grounds, LayerId};

    fn changes() -> Vec<Change> {
        let entry = |path: &str, kind, mode| Entry::new(LayerPath::new(path).unwrap(), kind, mode);
        let file = |path: &str, text: &str| Change {
            entry: entry(path, EntryKind::File { size: text.len() as u64 }, 0o644),
            content: Content::Bytes(text.as_bytes().into()),
        };
        let target = LayerPath::new("d/file").unwrap();
        vec![
            Change { entry: entry("d", EntryKind::Directory, 0o755), content: Content::Empty },
            file("d/file", "content"),
            Change { entry: entry("d/link", EntryKind::HardLink { target }, 0o644), content: Content::Empty },
            file("empty", ""),
        ]
    }

    /// A layer with its index, directory, blob where it is wanted, and a record.
    fn store(root: &Path, with_blob: bool) -> (Store, LayerId) {
        let store = Store::open(root).unwrap();
        let changes = changes();
        let diff_id = diff_id(&changes, None, &Halt::default()).unwrap();
        let layer = LayerId::of(&diff_id);
        store.put_layer_index(&layer, &LayerIndex::from_changes(&changes, None).unwrap().encode()).unwrap();
        let scratch = store.scratch_dir().unwrap();
        let tree = scratch.path().join("fs");
        fs::create_dir(&tree).unwrap();
        write_directory(&changes, None, &tree, Ownership::Recorded, &Halt::default()).unwrap();
        store.adopt_layer_directory(&layer, Ownership::Recorded, &tree).unwrap();
        if with_blob {
            let pool = Pool::new(1).unwrap();
            let file = store.scratch_file();
            let encoding = LayerEncoding::Gzip;
            let options =
                Seal { clamp: None, compression: Compression::DEFAULT, pool: &pool, halt: &Halt::default() };
            let sealed = seal(&changes, &options, file.path()).unwrap();
            assert_eq!(sealed.diff_id, diff_id);
            store.adopt_blob(file.path(), &sealed.digest).unwrap();
            let descriptor = Descriptor::new(oci_layer(encoding), sealed.digest, sealed.size);
            store.put_layer_blob(&layer, Compression::DEFAULT, &BlobRecord { diff_id, descriptor }).unwrap();
        }
        let record = StepRecord {
            layer,
            grounds: Grounds { below: diff_id.0, inputs: Vec::new() },
            content: diff_id.0,
            created: 0,
            notes: Vec::new(),
            platform: String::new(),
            text: "COPY . /".to_owned(),
        };
        store.put_step(&diff_id.0, &record).unwrap();
        (store, layer)
    }

    fn verify(store: &Store) -> Verified {
        store.verify(2, &|_, _| {}, &|path| drop(fs::remove_dir_all(path))).unwrap()
    }

    fn flip(path: &Path) {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let middle = file.metadata().unwrap().len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle).unwrap();
        file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    }

    #[test]
    fn what_is_whole_is_found_whole() {
        for with_blob in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let (store, _) = store(directory.path(), with_blob);
            let verified = verify(&store);
            assert_eq!((verified.damaged, verified.unknown), (Vec::new(), Vec::new()));
            let with_blob = u64::from(with_blob);
            assert_eq!((verified.layers, verified.blobs, verified.records), (1, with_blob, 1 + with_blob));
        }
    }

    #[test]
    fn flipped_bits_are_found_and_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let (_, layer) = store(directory.path(), true);
        let hex = layer.digest().hex();
        let blob = fs::read_dir(directory.path().join("blobs/sha256")).unwrap().next().unwrap().unwrap();
        let blob = format!("blobs/sha256/{}", blob.file_name().to_str().unwrap());
        let own = blob_records(&directory.path().join("layers").join(&hex)).remove(0);
        let own = own.strip_prefix(directory.path()).unwrap().display().to_string();
        let form = format!("layers/{hex}/fs-recorded");
        let table = BTreeMap::from([
            (blob.clone(), ("blob", blob)),
            (format!("layers/{hex}/index"), ("index", format!("layers/{hex}/index"))),
            (format!("layers/{hex}/fs-recorded/d/file"), ("directory", form)),
            (format!("steps/{hex}"), ("record", format!("steps/{hex}"))),
            (own.clone(), ("record", own)),
        ]);
        for (path, (kind, place)) in table {
            let directory = tempfile::tempdir().unwrap();
            let (store, _) = store(directory.path(), true);
            flip(&directory.path().join(&path));
            // One that runs may use it.
            let user = Store::open(directory.path()).unwrap();
            user.used("layers", layer.digest());
            user.used("steps", layer.digest());
            for (digest, _) in user.listed("blobs/sha256").unwrap() {
                user.gate().mark(&user.blob_path(&digest));
            }
            let verified = verify(&store);
            let found: Vec<_> =
                verified.damaged.iter().map(|damage| (damage.kind, damage.place.as_str())).collect();
            assert_eq!(found, [(kind, place.as_str())], "{path}: {verified:?}");
            assert!(!verified.damaged[0].dropped, "{path}");
            drop((user, store));
            let store = Store::open(directory.path()).unwrap();
            let verified = verify(&store);
            assert!(matches!(&verified.damaged[..], [damage] if damage.dropped), "{path}: {verified:?}");
            assert!(!directory.path().join(place).exists());
            assert_eq!(verify(&store).damaged, []);
        }
    }
}
