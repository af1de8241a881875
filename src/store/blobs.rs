//! Blobs, by digest.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Store, StoreError};
use crate::image::{Descriptor, Digest, HashingReader};

impl Store {
    /// Where the blob lies, or would lie.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs/sha256").join(digest.hex())
    }

    /// Where the blob lies, marked as used now.
    fn used_blob(&self, digest: &Digest) -> PathBuf {
        let path = self.blob_path(digest);
        self.gate().mark(&path);
        path
    }

    /// Whether the blob is here, with the size that its descriptor says. Who uses its bytes finds out
    /// whether they are the right ones, and if they are not, says so to [`Store::verify_blob`].
    pub fn has_blob(&self, descriptor: &Descriptor) -> bool {
        fs::metadata(self.used_blob(&descriptor.digest))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == descriptor.size)
    }

    /// Keeps a small blob.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.used_blob(&digest);
        // It is read again later, by digest: one that was damaged is written again here.
        if fs::read(&path).is_ok_and(|known| known == bytes) {
            return Ok(digest);
        }
        self.write_whole(&path, bytes)?;
        Ok(digest)
    }

    /// Reads a small blob and checks it against its digest; `None` where it is missing or damaged.
    pub fn read_blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        fs::read(self.used_blob(digest)).ok().filter(|bytes| Digest::of(bytes) == *digest)
    }

    /// Gives a verified file in scratch space its name as a blob.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be renamed.
    pub fn adopt_blob(&self, file: &Path, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        fs::rename(file, &path).map_err(StoreError::at("rename", &path))?;
        self.compared().insert(*digest);
        Ok(())
    }

    /// Whether this process has written the blob, or compared it with its digest, itself: nothing is won by
    /// doing so again.
    pub fn has_compared(&self, digest: &Digest) -> bool {
        self.compared().contains(digest)
    }

    /// Whether the blob is here as its descriptor says, after reading it as a whole. One that is damaged is
    /// dropped, so that it is fetched or made again.
    pub fn verify_blob(&self, descriptor: &Descriptor) -> bool {
        let path = self.used_blob(&descriptor.digest);
        let Ok(file) = File::open(&path) else { return false };
        let Ok(read) = file.metadata() else { return false };
        let mut reader = HashingReader::new(file);
        let whole = io::copy(&mut reader, &mut io::sink()).is_ok();
        let (_, digest, length) = reader.finish();
        if whole && digest == descriptor.digest && length == descriptor.size {
            self.compared().insert(digest);
            return true;
        }
        // Another build may have put a good one in its place meanwhile.
        let is_same = |named: fs::Metadata| (named.dev(), named.ino()) == (read.dev(), read.ino());
        if fs::symlink_metadata(&path).is_ok_and(is_same) {
            self.drop_blob(&descriptor.digest);
        }
        false
    }

    /// Drops a blob that turned out to be damaged.
    pub fn drop_blob(&self, digest: &Digest) {
        self.compared().remove(digest);
        drop(fs::remove_file(self.blob_path(digest)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_blobs_are_dropped_and_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let descriptor = Descriptor::of("x/y", b"content");
        assert!(!store.verify_blob(&descriptor));
        store.put_blob(b"content").unwrap();
        assert!(store.verify_blob(&descriptor));
        let damage = || fs::write(store.blob_path(&descriptor.digest), b"c0ntent").unwrap();
        damage();
        assert!(store.has_blob(&descriptor), "the size is right");
        assert!(!store.verify_blob(&descriptor));
        assert!(!store.has_blob(&descriptor));
        damage();
        assert_eq!(store.read_blob(&descriptor.digest), None);
        store.put_blob(b"content").unwrap();
        assert_eq!(store.read_blob(&descriptor.digest).as_deref(), Some(&b"content"[..]));
    }

    #[test]
    fn what_was_compared_is_known_to_this_process_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (store, other) = (Store::open(directory.path()).unwrap(), Store::open(directory.path()).unwrap());
        let digest = Digest::of(b"content");
        let file = store.scratch_file();
        fs::write(file.path(), b"content").unwrap();
        assert!(!store.has_compared(&digest));
        store.adopt_blob(file.path(), &digest).unwrap();
        assert!(store.has_compared(&digest));
        assert!(!other.has_compared(&digest));
        assert!(other.verify_blob(&Descriptor::of("x/y", b"content")));
        assert!(other.has_compared(&digest));
        store.drop_blob(&digest);
        assert!(!store.has_compared(&digest));
    }
}
