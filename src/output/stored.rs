//! Blobs of the store on their way into an output: compared with their digest while they are copied, unless
//! this build has made or fetched them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::OutputError;
use crate::image::{Digest, Sha256};
use crate::layer::{Entry, EntryKind, LayerError, LayerPath, TarWriter};
use crate::store::Store;

/// Bytes are copied in pieces of this size.
const PIECE: usize = 256 << 10;

/// A blob of the store that is being read.
#[derive(Debug)]
pub(super) struct Stored {
    digest: Digest,
    file: File,
    /// What was read; `None` where there is no need to compare it.
    hasher: Option<Sha256>,
    /// Why it could not be read any further.
    failed: Option<String>,
}

impl Stored {
    /// Opens a blob.
    ///
    /// # Errors
    ///
    /// Fails where it is missing.
    pub(super) fn open(store: &Store, digest: &Digest) -> Result<Self, OutputError> {
        let file = File::open(store.blob_path(digest))
            .map_err(|error| OutputError::damaged(digest, format!("it cannot be opened: {error}")))?;
        let hasher = (!store.has_compared(digest)).then(Sha256::new);
        Ok(Self { digest: *digest, file, hasher, failed: None })
    }

    /// Reads a blob to its end, for nothing but its digest, where it was not compared yet.
    ///
    /// # Errors
    ///
    /// Fails where it is damaged.
    pub(super) fn check(store: &Store, digest: &Digest) -> Result<(), OutputError> {
        let blob = Self::open(store, digest)?;
        if blob.hasher.is_none() { Ok(()) } else { blob.copy_to(&mut io::sink(), Path::new("")) }
    }

    /// Copies the blob into a file that will be at `path`.
    ///
    /// # Errors
    ///
    /// Fails where the blob is damaged, or the file cannot be written: what was copied is of no use then.
    pub(super) fn copy_to(mut self, file: &mut dyn Write, path: &Path) -> Result<(), OutputError> {
        let digest = self.digest;
        let unreadable = |error| OutputError::damaged(&digest, format!("it cannot be read: {error}"));
        copy(&mut self, file, unreadable, OutputError::at("write", path))?;
        self.finish()
    }

    /// Copies the blob into a tar, as a file of `size` bytes.
    ///
    /// # Errors
    ///
    /// As [`Stored::copy_to`].
    pub(super) fn append_to<W: Write>(
        mut self,
        tar: &mut TarWriter<W>,
        path: LayerPath,
        size: u64,
    ) -> Result<(), OutputError> {
        match tar.append(&Entry::new(path, EntryKind::File { size }, 0o644), &mut self) {
            Ok(()) => self.finish(),
            Err(LayerError::SizeChanged { .. }) => {
                Err(OutputError::damaged(&self.digest, "it has another size".to_owned()))
            }
            Err(error) => Err(match self.failed {
                Some(reason) => OutputError::damaged(&self.digest, reason),
                None => error.into(),
            }),
        }
    }

    fn finish(self) -> Result<(), OutputError> {
        match self.hasher.map(Sha256::finish) {
            Some(found) if found != self.digest => {
                Err(OutputError::damaged(&self.digest, format!("its bytes hash to {found}")))
            }
            _ => Ok(()),
        }
    }
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer);
        match (&read, &mut self.hasher) {
            (Ok(count), Some(hasher)) => hasher.update(&buffer[..*count]),
            (Err(error), _) if error.kind() != io::ErrorKind::Interrupted => {
                self.failed = Some(format!("it cannot be read: {error}"));
            }
            _ => {}
        }
        read
    }
}

/// Copies all bytes, and tells failures to read from failures to write. Gives their number.
pub(super) fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    unreadable: impl FnOnce(io::Error) -> OutputError,
    unwritable: impl FnOnce(io::Error) -> OutputError,
) -> Result<u64, OutputError> {
    let mut buffer = vec![0; PIECE];
    let mut copied = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        if let Err(error) = to.write_all(&buffer[..count]) {
            return Err(unwritable(error));
        }
        copied += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_blobs_are_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = store.put_blob(b"content").unwrap();
        let append = || {
            let mut tar = TarWriter::new(Vec::new());
            Stored::open(&store, &digest)?.append_to(&mut tar, LayerPath::new("blob").unwrap(), 7)
        };
        Stored::check(&store, &digest).unwrap();
        append().unwrap();
        for damaged in ["c0ntent", "content and more", "cont"] {
            std::fs::write(store.blob_path(&digest), damaged).unwrap();
            let is_told = |result| matches!(result, Err(OutputError::Damaged { .. }));
            assert!(is_told(Stored::check(&store, &digest)), "{damaged}");
            assert!(is_told(append()), "{damaged}");
        }
        store.drop_blob(&digest);
        assert!(matches!(Stored::check(&store, &digest), Err(OutputError::Damaged { .. })));
    }
}
