//! Blobs, by digest.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Store, StoreError};
use crate::image::{Descriptor, Digest};

impl Store {
    /// Where the blob lies, or would lie.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs/sha256").join(digest.hex())
    }

    /// Whether the blob is here, with the size that its descriptor says.
    pub fn has_blob(&self, descriptor: &Descriptor) -> bool {
        fs::metadata(self.blob_path(&descriptor.digest))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == descriptor.size)
    }

    /// Keeps a small blob.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes.len() as u64) {
            return Ok(digest);
        }
        self.write_whole(&path, bytes)?;
        Ok(digest)
    }

    /// Reads a small blob and checks it against its digest; `None` where it is missing or damaged.
    pub fn read_blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        fs::read(self.blob_path(digest)).ok().filter(|bytes| Digest::of(bytes) == *digest)
    }

    /// Gives a verified file in scratch space its name as a blob.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be renamed.
    pub fn adopt_blob(&self, file: &Path, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        fs::rename(file, &path).map_err(StoreError::at("rename", &path))
    }

    /// Drops a blob that turned out to be damaged.
    pub fn drop_blob(&self, digest: &Digest) {
        drop(fs::remove_file(self.blob_path(digest)));
    }
}
