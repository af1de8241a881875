//! Records: which layer a step made, which digest a name stood for.

use serde::{Deserialize, Serialize};

use super::{LayerId, Store, StoreError};
use crate::image::{Descriptor, Digest, Reference};

/// The result of a step, under the step's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The layer that the step made.
    pub layer: LayerId,
    /// The results that it was made on and of. Where one of them was made anew since, this one does not
    /// fit any more.
    pub grounds: Grounds,
    /// The key of the same result by what was really read, beside the key that it is found under by what
    /// the Dockerfile says.
    pub content: Digest,
    /// When, in seconds since 1970: the history of later builds says the same.
    pub created: i64,
    /// What is to be said of the step beside its layer: a later build that uses it says it again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The platform that the step was carried out for, e.g. `linux/arm64`: for people.
    #[serde(default)]
    pub platform: String,
    /// The instruction, as the Dockerfile has it: for people.
    #[serde(default)]
    pub text: String,
}

/// Identities of the results that a step was carried out on and of. The identity of a stack of layers is
/// a digest of their diff ids, so that it is the same on all machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grounds {
    /// Of the stack below.
    pub below: Digest,
    /// Of the stacks that files were read from, in the order of the step's inputs.
    pub inputs: Vec<Digest>,
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
        self.read_record(&self.used("steps", key))
    }

    /// Remembers what a step made.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub fn put_step(&self, key: &Digest, record: &StepRecord) -> Result<(), StoreError> {
        self.write_record(&self.place("steps", key), record)
    }

    /// What the name stood for when it was last resolved.
    pub fn reference(&self, reference: &Reference) -> Option<Descriptor> {
        let name = reference.to_string();
        let record: ReferenceRecord = self.read_record(&self.used("refs", &Digest::of(name.as_bytes())))?;
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
        self.write_record(&place, &record)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::image::DiffId;

    #[test]
    fn records_are_found_again_and_damage_is_a_miss() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Digest::of(b"key");
        assert_eq!(store.step(&key), None);
        let mut record = StepRecord {
            layer: LayerId::of(&DiffId(key)),
            grounds: Grounds { below: Digest::of(b"below"), inputs: vec![Digest::of(b"input")] },
            content: Digest::of(b"content"),
            created: 7,
            notes: vec!["no file matches \"x*\"".to_owned()],
            platform: "linux/arm64".to_owned(),
            text: "RUN x".to_owned(),
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
