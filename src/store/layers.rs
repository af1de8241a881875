//! Layers and their forms: index, directory, blob.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ScratchDir, Store, StoreError};
use crate::image::{Compression, Descriptor, DiffId, Digest, Ownership, Sha256};

/// Names a layer in the store: its diff id, so that equal results are one thing, whoever made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LayerId(Digest);

/// A layer's blob: what an image manifest and config say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// Identity of the uncompressed tar.
    pub diff_id: DiffId,
    /// The blob.
    pub descriptor: Descriptor,
}

impl LayerId {
    /// The name of the layer with this diff id.
    pub fn of(diff_id: &DiffId) -> Self {
        Self(diff_id.0)
    }

    /// The name of what a stack of layers shows, by a digest of their names.
    pub fn of_stack(stack: &Digest) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"stack");
        hasher.update(stack.raw());
        Self(hasher.finish())
    }

    /// The lock under which the layer's forms are made.
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

/// A layer that a step is making: a scratch directory that will be the layer's.
#[derive(Debug)]
pub struct NewLayer {
    scratch: ScratchDir,
}

impl NewLayer {
    /// Where the directory form is made; it does not exist yet.
    pub fn directory(&self, ownership: Ownership) -> PathBuf {
        self.scratch.path().join(directory_name(ownership))
    }
}

const INDEX: &str = "index";
/// What a layer's directory may hold beside its blobs' records; of several indexes the last is as good as
/// the first.
const FORMS: [&str; 4] = ["fs", "fs-recorded", "fs-simulated", INDEX];
/// What the names of blobs' records begin with; the name of the compression follows.
const BLOB: &str = "blob-";
const JSON: &str = ".json";
/// The record of a blob that came from elsewhere: nobody knows how it was compressed.
const FETCHED: &str = "blob-fetched.json";

/// The directory form that holds owners in this way; one layer may have several.
fn directory_name(ownership: Ownership) -> &'static str {
    match ownership {
        Ownership::Kernel => "fs",
        Ownership::Recorded => "fs-recorded",
        Ownership::Simulated => "fs-simulated",
    }
}

/// Whether a directory could not be renamed since another one has the name.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

impl Store {
    fn layer_place(&self, layer: &LayerId) -> PathBuf {
        self.place("layers", &layer.0)
    }

    /// A layer's place, marked as used now.
    fn used_layer(&self, layer: &LayerId) -> PathBuf {
        self.used("layers", &layer.0)
    }

    /// The encoded index, where it was made.
    pub fn layer_index(&self, layer: &LayerId) -> Option<Vec<u8>> {
        fs::read(self.used_layer(layer).join(INDEX)).ok()
    }

    /// The directory form, where it was made.
    pub fn layer_directory(&self, layer: &LayerId, ownership: Ownership) -> Option<PathBuf> {
        let path = self.used_layer(layer).join(directory_name(ownership));
        path.exists().then_some(path)
    }

    /// The blob form of one compression, where it was made and the blob is still here.
    pub fn layer_blob(&self, layer: &LayerId, compression: Compression) -> Option<BlobRecord> {
        let path = self.used_layer(layer).join(format!("{BLOB}{compression}{JSON}"));
        let record: BlobRecord = self.read_record(&path)?;
        self.has_blob(&record.descriptor).then_some(record)
    }

    /// The blob that came from elsewhere, if it is still here.
    pub fn fetched_blob(&self, layer: &LayerId) -> Option<BlobRecord> {
        let record: BlobRecord = self.read_record(&self.used_layer(layer).join(FETCHED))?;
        self.has_blob(&record.descriptor).then_some(record)
    }

    /// Remembers the blob of a layer that came from elsewhere.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub fn put_fetched_blob(&self, layer: &LayerId, record: &BlobRecord) -> Result<(), StoreError> {
        self.write_record(&self.prepare_layer(layer)?.join(FETCHED), record)
    }

    /// A blob form, whatever its compression: the usual one where it is there, else the first by name.
    pub fn any_layer_blob(&self, layer: &LayerId) -> Option<BlobRecord> {
        if let Some(record) = self.layer_blob(layer, Compression::DEFAULT) {
            return Some(record);
        }
        let compression = |entry: io::Result<fs::DirEntry>| -> Option<Compression> {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_prefix(BLOB)?.strip_suffix(JSON)?.parse().ok()
        };
        let mut found: Vec<_> = fs::read_dir(self.layer_place(layer)).ok()?.filter_map(compression).collect();
        found.sort_unstable();
        let made = found.into_iter().find_map(|compression| self.layer_blob(layer, compression));
        made.or_else(|| self.fetched_blob(layer))
    }

    /// Keeps a layer's index.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub fn put_layer_index(&self, layer: &LayerId, index: &[u8]) -> Result<(), StoreError> {
        self.write_whole(&self.prepare_layer(layer)?.join(INDEX), index)
    }

    /// Gives a directory tree in scratch space its name as the layer's directory form. Where
    /// another build was first, the tree is left to its scratch directory.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be renamed.
    pub fn adopt_layer_directory(
        &self,
        layer: &LayerId,
        ownership: Ownership,
        tree: &Path,
    ) -> Result<PathBuf, StoreError> {
        let path = self.prepare_layer(layer)?.join(directory_name(ownership));
        match fs::rename(tree, &path) {
            Err(error) if is_taken(&error) => {}
            other => other.map_err(StoreError::at("rename", &path))?,
        }
        Ok(path)
    }

    /// Begins a layer.
    ///
    /// # Errors
    ///
    /// Fails where its directory cannot be created.
    pub fn begin_layer(&self) -> Result<NewLayer, StoreError> {
        Ok(NewLayer { scratch: self.scratch_dir()? })
    }

    /// Gives a finished layer its name, with its index and, where it was made, its directory form. Where
    /// the same layer is there already, what it lacks is added to it.
    ///
    /// # Errors
    ///
    /// Fails where the index cannot be written or the layer cannot be renamed.
    pub fn finish_layer(&self, layer: &LayerId, new: &NewLayer, index: &[u8]) -> Result<(), StoreError> {
        let made = new.scratch.path();
        let path = made.join(INDEX);
        fs::write(&path, index).map_err(StoreError::at("write", &path))?;
        let place = self.layer_place(layer);
        loop {
            match fs::rename(made, &place) {
                Err(error) if is_taken(&error) => {}
                other => return other.map_err(StoreError::at("rename", &place)),
            }
            // From now on nobody removes it; unless somebody has by now.
            if self.used_layer(layer).exists() {
                break;
            }
        }
        for form in FORMS {
            let (from, to) = (made.join(form), place.join(form));
            match fs::rename(&from, &to) {
                Err(error) if is_taken(&error) || error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(StoreError::at("rename", &to))?,
            }
        }
        Ok(())
    }

    /// Remembers a layer's blob of one compression.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub fn put_layer_blob(
        &self,
        layer: &LayerId,
        compression: Compression,
        record: &BlobRecord,
    ) -> Result<(), StoreError> {
        self.write_record(&self.prepare_layer(layer)?.join(format!("{BLOB}{compression}{JSON}")), record)
    }

    fn prepare_layer(&self, layer: &LayerId) -> Result<PathBuf, StoreError> {
        // One that is there stays, as it is marked; one that is made now is as good as marked.
        let path = self.used_layer(layer);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(StoreError::at("create", &path)(error))
            }
            _ => Ok(path),
        }
    }
}
