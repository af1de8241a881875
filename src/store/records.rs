//! Records: which layer a step made, which digest a name stood for.

use std::fs;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{LayerId, Store, StoreError};
use crate::image::{Descriptor, Digest, Reference};

/// The result of a step, under the step's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The layer that the step made.
    pub layer: LayerId,
    /// Digest of the results that it was made on and of. Where one of them was made anew since, this
    /// one does not fit any more.
    pub grounds: Digest,
    /// When, in seconds since 1970: the history of later builds says the same.
    pub created: i64,
    /// What is to be said of the step beside its layer: a later build that uses it says it again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What an image name stood for when a registry was last asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceRecord {
    /// The name, complete.
    pub reference: String,
    /// The manifest or index.
    pub descriptor: Descriptor,
}

impl Store {
    /// What the step with this key made, if it was ever carried out here.
    pub fn step(&self, key: &Digest) -> Option<StepRecord> {
        read(&self.place("steps", key))
    }

    /// Remembers what a step made.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub fn put_step(&self, key: &Digest, record: &StepRecord) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(record).expect("records hold only text keys");
        self.write_whole(&self.place("steps", key), &bytes)
    }

    /// What the name stood for when it was last resolved.
    pub fn reference(&self, reference: &Reference) -> Option<Descriptor> {
        let name = reference.to_string();
        let record: ReferenceRecord = read(&self.place("refs", &Digest::of(name.as_bytes())))?;
        (record.reference == name).then_some(record.descriptor)
    }

    /// Remembers what a name stands for.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub fn put_reference(&self, reference: &Reference, descriptor: &Descriptor) -> Result<(), StoreError> {
        let name = reference.to_string();
        let place = self.place("refs", &Digest::of(name.as_bytes()));
        let record = ReferenceRecord { reference: name, descriptor: descriptor.clone() };
        let bytes = serde_json::to_vec(&record).expect("records hold only text keys");
        self.write_whole(&place, &bytes)
    }
}

/// Reads a record; a missing or damaged one is a miss.
fn read<T: DeserializeOwned>(path: &std::path::Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_again_and_damage_is_a_miss() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Digest::of(b"key");
        assert_eq!(store.step(&key), None);
        let mut record = StepRecord {
            layer: LayerId::fresh(&key),
            grounds: Digest::of(b"below"),
            created: 7,
            notes: vec!["no file matches \"x*\"".to_owned()],
        };
        store.put_step(&key, &record).unwrap();
        assert_eq!(store.step(&key), Some(record.clone()));
        // Records of versions that kept no notes are of use still: they look as those without any.
        record.notes.clear();
        store.put_step(&key, &record).unwrap();
        let place = dir.path().join("steps").join(key.hex());
        assert!(!fs::read_to_string(place).unwrap().contains("notes"));
        assert_eq!(store.step(&key), Some(record));
        fs::write(dir.path().join("steps").join(key.hex()), b"{\"layer\":").unwrap();
        assert_eq!(store.step(&key), None);
    }

    #[test]
    fn references_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let reference: Reference = "localhost:5000/a:1".parse().unwrap();
        let descriptor = Descriptor::of("x/y", b"{}");
        store.put_reference(&reference, &descriptor).unwrap();
        assert_eq!(store.reference(&reference), Some(descriptor));
        assert_eq!(store.reference(&"localhost:5000/a:2".parse().unwrap()), None);
    }
}
