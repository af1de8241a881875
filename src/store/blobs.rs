//! Blobs, by digest.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Store, StoreError};
use crate::image::{Descriptor, Digest, HashingReader};

/// A blob that is read. Instead of its last bytes it gives an error where they are not those that its digest
/// stands for, so that no damaged blob is read as a whole.
#[derive(Debug)]
pub struct BlobReader {
    /// `None` when it has been read as a whole.
    reader: Option<HashingReader<File>>,
    read: u64,
    digest: Digest,
    size: u64,
}

impl BlobReader {
    fn damaged(&self) -> io::Error {
        let text = format!("blob {} of the store is damaged", self.digest);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(reader) = &mut self.reader else { return Ok(0) };
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = reader.read(buffer)?;
        self.read += count as u64;
        if self.read < self.size && count > 0 {
            return Ok(count);
        }
        // One that is longer than it should be has another digest, too, but not after its size.
        let found = self.reader.take().map(HashingReader::finish);
        let is_whole = found.is_some_and(|(mut file, digest, read)| {
            digest == self.digest && read == self.size && matches!(file.read(&mut [0]), Ok(0))
        });
        if is_whole { Ok(count) } else { Err(self.damaged()) }
    }
}

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
        fs::rename(file, &path).map_err(StoreError::at("rename", &path))
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
            return true;
        }
        // Another build may have put a good one in its place meanwhile.
        let is_same = |named: fs::Metadata| (named.dev(), named.ino()) == (read.dev(), read.ino());
        if fs::symlink_metadata(&path).is_ok_and(is_same) {
            self.drop_blob(&descriptor.digest);
        }
        false
    }

    /// Opens a blob, to be checked while it is read.
    ///
    /// # Errors
    ///
    /// Fails where it is not there, or cannot be opened.
    pub fn open_blob(&self, digest: &Digest, size: u64) -> Result<BlobReader, StoreError> {
        let path = self.used_blob(digest);
        let file = File::open(&path).map_err(StoreError::at("open", &path))?;
        Ok(BlobReader { reader: Some(HashingReader::new(file)), read: 0, digest: *digest, size })
    }

    /// Drops a blob that turned out to be damaged.
    pub fn drop_blob(&self, digest: &Digest) {
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
        let read = |size| -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            let mut blob = store.open_blob(&descriptor.digest, size).unwrap();
            blob.read_to_end(&mut bytes).map(|_| bytes)
        };
        assert_eq!(read(7).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(store.read_blob(&descriptor.digest), None);
        store.put_blob(b"content").unwrap();
        assert_eq!(store.read_blob(&descriptor.digest).as_deref(), Some(&b"content"[..]));
        assert_eq!(read(7).unwrap(), b"content");
        assert!(read(6).is_err() && read(8).is_err());
    }
}
