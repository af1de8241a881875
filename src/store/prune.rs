//! Taking things out of the store beside builds that use it.
//!
//! What is to go is chosen from an inventory, which is old as soon as it is made. So each thing is looked at
//! once more at the gate: where it was used since, it stays. Its name is taken away there; what it takes on
//! the disk is given back after the gate is open again.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::inventory::{Part, last_use};
use super::{Entry, Inventory, Lock, Store, StoreError};

/// What is to be removed. Nothing that may be in use is, whatever is said here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Criteria {
    /// Everything.
    pub all: bool,
    /// What was last used before.
    pub unused_since: Option<SystemTime>,
    /// What was used least recently, until the store has no more bytes than this.
    pub most_bytes: Option<u64>,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Positions in the inventory of what is gone.
    pub entries: Vec<usize>,
    /// Those of what was chosen, and has been used since.
    pub kept: Vec<usize>,
}

impl Inventory {
    /// What has to go, as positions, least recently used first.
    pub fn choose(&self, criteria: &Criteria) -> Vec<usize> {
        let mut left: Vec<usize> = self.parts.iter().map(|part| part.owners).collect();
        let (mut bytes, mut chosen) = (self.size, Vec::new());
        for (at, entry) in self.entries.iter().enumerate().rev() {
            let is_old = criteria.unused_since.is_some_and(|since| entry.used < since);
            let is_too_much = criteria.most_bytes.is_some_and(|most| bytes > most);
            if entry.in_use || !(criteria.all || is_old || is_too_much) {
                continue;
            }
            bytes -= self.release(entry, &mut left).iter().map(|part| part.size).sum::<u64>();
            chosen.push(at);
        }
        chosen
    }

    /// Bytes that are free when these entries are gone.
    pub fn bytes_of(&self, entries: &[usize]) -> u64 {
        let mut left: Vec<usize> = self.parts.iter().map(|part| part.owners).collect();
        let parts = entries.iter().flat_map(|at| self.release(&self.entries[*at], &mut left));
        parts.map(|part| part.size).sum()
    }

    /// Takes an entry away from its parts, and gives those that nobody has any more.
    fn release(&self, entry: &Entry, left: &mut [usize]) -> Vec<&Part> {
        let mut free = Vec::new();
        for part in &entry.parts {
            left[*part] = left[*part].saturating_sub(1);
            if left[*part] == 0 {
                free.push(&self.parts[*part]);
            }
        }
        free
    }
}

impl Store {
    /// Removes what was chosen, records that lead nowhere, and locks that nobody holds. `remove` removes a
    /// directory tree, also one that is owned by mapped ids.
    ///
    /// # Errors
    ///
    /// Fails where something cannot be renamed. What was done by then stays done.
    pub fn remove(
        &self,
        inventory: &Inventory,
        chosen: &[usize],
        remove: &dyn Fn(&Path),
    ) -> Result<Removed, StoreError> {
        let mut removed = Removed::default();
        let mut left: Vec<usize> = inventory.parts.iter().map(|part| part.owners).collect();
        for at in chosen {
            let entry = &inventory.entries[*at];
            let mut after = left.clone();
            let parts = inventory.release(entry, &mut after);
            let Some(aside) = self.take_away(&parts, inventory.since)? else {
                removed.kept.push(*at);
                continue;
            };
            left = after;
            removed.entries.push(*at);
            removed.bytes += parts.iter().map(|part| part.size).sum::<u64>();
            // What cannot be removed is tried again by the next build.
            aside.iter().for_each(|path| remove(path));
        }
        for path in self.strays(inventory, &removed)? {
            let part =
                Part { size: 0, is_whole: true, used: last_use(&path, None), lock: None, owners: 1, path };
            self.take_away(&[&part], inventory.since)?;
        }
        self.remove_locks();
        Ok(removed)
    }

    /// Records that led nowhere, and those whose layer is gone now.
    fn strays(&self, inventory: &Inventory, removed: &Removed) -> Result<BTreeSet<PathBuf>, StoreError> {
        let again = if removed.entries.is_empty() { Vec::new() } else { self.survey()?.stray };
        Ok(inventory.stray.iter().cloned().chain(again).collect())
    }

    /// Takes the names of these parts away, and gives what has to be removed; `None` where one of them was
    /// used, and all stay.
    fn take_away(&self, parts: &[&Part], since: SystemTime) -> Result<Option<Vec<PathBuf>>, StoreError> {
        let mut locks = Vec::new();
        for path in parts.iter().filter_map(|part| part.lock.as_deref()) {
            match Lock::attempt(path) {
                Ok(Some(lock)) => locks.push((lock, path)),
                Ok(None) => return Ok(None),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        let taken = self.gate().alone(|| {
            // A thing that is gone by now is not in use.
            let is_unused = |part: &&Part| {
                let now = last_use(&part.path, part.lock.as_deref());
                now == part.used && now < since || fs::symlink_metadata(&part.path).is_err()
            };
            if !parts.iter().all(is_unused) {
                return Ok(None);
            }
            let aside = parts.iter().map(|part| self.take(&part.path)).collect::<Result<Vec<_>, _>>()?;
            Ok(Some(aside.into_iter().flatten().collect()))
        })??;
        if taken.is_some() {
            // Those of git's repositories stay: who waits for one does not look whether it still has its name.
            for (_lock, path) in &locks {
                if let Some(place) = path.parent().filter(|place| !place.ends_with("git")) {
                    drop(fs::remove_file(path));
                    // The place of a cache's directories goes with the last of them.
                    drop(fs::remove_dir(place));
                }
            }
        }
        Ok(taken)
    }

    /// Takes a name away: a file is removed, a directory moved into scratch space, where it is removed later.
    pub(super) fn take(&self, path: &Path) -> Result<Option<PathBuf>, StoreError> {
        let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        let aside = self.scratch_file().path().to_owned();
        let done = if is_directory { fs::rename(path, &aside) } else { fs::remove_file(path) };
        match done {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::at("remove", path)(error)),
            _ => Ok(Some(aside).filter(|_| is_directory)),
        }
    }

    /// Removes the files of locks that nobody holds.
    fn remove_locks(&self) {
        let Ok(locks) = self.listed("locks") else { return };
        for (_, path) in locks {
            if let Ok(Some(_held)) = Lock::attempt(&path) {
                drop(fs::remove_file(&path));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::gate::set_time;
    use super::super::{BlobRecord, Grounds, Kind, LayerId, StepRecord};
    use super::*;
    use crate::image::{Compression, Descriptor, DiffId, Digest};

    /// Bytes of each blob.
    const LARGE: usize = 1 << 20;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// A layer with a blob and a record, last used at `time`.
    fn layer(store: &Store, name: &str, time: u64) -> LayerId {
        let diff_id = DiffId(Digest::of(name.as_bytes()));
        let layer = LayerId::of(&diff_id);
        store.put_layer_index(&layer, b"index").unwrap();
        let bytes = name.repeat(LARGE);
        let descriptor = Descriptor::of("x/y", bytes.as_bytes());
        store.put_blob(bytes.as_bytes()).unwrap();
        store
            .put_layer_blob(
                &layer,
                Compression::DEFAULT,
                &BlobRecord { diff_id, descriptor: descriptor.clone() },
            )
            .unwrap();
        let record = StepRecord {
            layer,
            grounds: Grounds { below: diff_id.0, inputs: Vec::new() },
            content: diff_id.0,
            created: 0,
            notes: Vec::new(),
            platform: String::new(),
            text: name.to_owned(),
        };
        store.put_step(&diff_id.0, &record).unwrap();
        for path in [
            store.place("layers", layer.digest()),
            store.place("steps", &diff_id.0),
            store.blob_path(&descriptor.digest),
        ] {
            set_time(&path, at(time)).unwrap();
        }
        layer
    }

    fn three(root: &Path) -> [LayerId; 3] {
        let store = Store::open(root).unwrap();
        [("a", 100), ("b", 200), ("c", 300)].map(|(name, time)| layer(&store, name, time))
    }

    fn remove_all(path: &Path) {
        drop(fs::remove_dir_all(path));
    }

    #[test]
    fn what_is_chosen() {
        let directory = tempfile::tempdir().unwrap();
        three(directory.path());
        let inventory = Store::open(directory.path()).unwrap().inventory().unwrap();
        let chosen = |criteria: Criteria| -> String {
            inventory.choose(&criteria).iter().map(|at| inventory.entries[*at].what.as_str()).collect()
        };
        let large = LARGE as u64;
        for (criteria, want) in [
            (Criteria::default(), ""),
            (Criteria { all: true, ..Criteria::default() }, "abc"),
            (Criteria { unused_since: Some(at(250)), ..Criteria::default() }, "ab"),
            (Criteria { unused_since: Some(at(100)), ..Criteria::default() }, ""),
            (Criteria { most_bytes: Some(4 * large), ..Criteria::default() }, ""),
            (Criteria { most_bytes: Some(2 * large + large / 2), ..Criteria::default() }, "a"),
            (Criteria { most_bytes: Some(0), ..Criteria::default() }, "abc"),
            (
                Criteria {
                    unused_since: Some(at(150)),
                    most_bytes: Some(large + large / 2),
                    ..Criteria::default()
                },
                "ab",
            ),
        ] {
            assert_eq!(chosen(criteria), want, "{criteria:?}");
        }
        assert!(inventory.bytes_of(&[0, 1]) >= 2 * large && inventory.bytes_of(&[]) == 0);
    }

    #[test]
    fn what_is_removed_is_gone_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let [a, b, c] = three(directory.path());
        let store = Store::open(directory.path()).unwrap();
        let stray = store.place("steps", &Digest::of(b"damaged"));
        fs::write(&stray, b"{").unwrap();
        set_time(&stray, at(1)).unwrap();
        drop(store.lock_until(&Digest::of(b"lock"), &|| true).unwrap());
        let inventory = store.inventory().unwrap();
        let chosen = inventory.choose(&Criteria { unused_since: Some(at(250)), ..Criteria::default() });
        let removed = store.remove(&inventory, &chosen, &remove_all).unwrap();
        assert_eq!((removed.entries.len(), removed.kept.len()), (2, 0));
        assert_eq!(removed.bytes, inventory.bytes_of(&chosen));
        for (layer, stays) in [(a, false), (b, false), (c, true)] {
            assert_eq!(store.layer_index(&layer).is_some(), stays);
            assert_eq!(store.any_layer_blob(&layer).is_some(), stays);
            assert_eq!(store.step(layer.digest()).is_some(), stays);
        }
        for (folder, count) in [("layers", 1), ("steps", 1), ("blobs/sha256", 1), ("locks", 1)] {
            assert_eq!(fs::read_dir(directory.path().join(folder)).unwrap().count(), count, "{folder}");
        }
    }

    #[test]
    fn what_a_build_has_looked_up_stays() {
        let directory = tempfile::tempdir().unwrap();
        let [a, b, c] = three(directory.path());
        let everything = Criteria { all: true, ..Criteria::default() };
        let build = Store::open(directory.path()).unwrap();
        assert!(build.layer_index(&a).is_some() && build.any_layer_blob(&a).is_some());
        let cleaner = Store::open(directory.path()).unwrap();
        let inventory = cleaner.inventory().unwrap();
        assert!(inventory.entries.iter().any(|entry| entry.what == "a" && entry.in_use));
        let chosen = inventory.choose(&everything);
        assert_eq!(chosen.len(), 2);
        // Looked up after the list was made, by one that began before, and by one that begins now.
        assert!(build.layer_index(&b).is_some());
        let later = Store::open(directory.path()).unwrap();
        assert!(later.any_layer_blob(&c).is_some());
        let removed = cleaner.remove(&inventory, &chosen, &remove_all).unwrap();
        assert_eq!((removed.entries.len(), removed.kept.len()), (0, 2));
        for layer in [a, b, c] {
            assert!(build.layer_index(&layer).is_some() && build.any_layer_blob(&layer).is_some());
        }
        drop((build, later));
        drop(cleaner);
        // The clock of files goes in steps.
        std::thread::sleep(Duration::from_millis(30));
        let cleaner = Store::open(directory.path()).unwrap();
        let inventory = cleaner.inventory().unwrap();
        let removed = cleaner.remove(&inventory, &inventory.choose(&everything), &remove_all).unwrap();
        assert_eq!(removed.entries.len(), 3);
    }

    #[test]
    fn a_blob_of_two_goes_with_the_second() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let one = layer(&store, "a", 100);
        let record = store.any_layer_blob(&one).unwrap();
        let other = layer(&store, "b", 200);
        store.put_layer_blob(&other, Compression::DEFAULT, &record).unwrap();
        for (path, time) in [
            (store.place("layers", one.digest()), 100),
            (store.place("layers", other.digest()), 200),
            (store.blob_path(&record.descriptor.digest), 90),
        ] {
            set_time(&path, at(time)).unwrap();
        }
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        let inventory = store.inventory().unwrap();
        assert_eq!(inventory.entries.iter().filter(|entry| entry.kind == Kind::Layer).count(), 2);
        let chosen = inventory.choose(&Criteria { unused_since: Some(at(150)), ..Criteria::default() });
        let bytes = store.remove(&inventory, &chosen, &remove_all).unwrap().bytes;
        assert!(bytes < LARGE as u64, "{bytes}");
        assert!(store.layer_index(&one).is_none() && store.verify_blob(&record.descriptor));
    }
}
