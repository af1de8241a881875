//! A file without a name that contents are gathered in.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::SourceError;
use crate::layer::Content;

/// Gathers the contents of many files in one that nobody else can open and that vanishes with the
/// last process that has it open, however that ends.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    length: u64,
    /// Many files are small: one buffer serves them all.
    buffer: Vec<u8>,
}

impl Spool {
    /// An empty one on the file system of `directory`.
    ///
    /// # Errors
    ///
    /// Fails where no file can be made there.
    pub fn new(directory: &Path) -> Result<Self, SourceError> {
        let file = tempfile::tempfile_in(directory)
            .map_err(|error| SourceError::io("make a file in", directory, error))?;
        Ok(Self { file: Arc::new(file), length: 0, buffer: vec![0; 64 << 10] })
    }

    /// Takes all that `reader` has, and gives it as a content, with its length in bytes.
    ///
    /// # Errors
    ///
    /// Fails where reading or writing fails, e.g. on a full disk.
    pub fn add(&mut self, reader: &mut dyn Read) -> io::Result<(Content, u64)> {
        let offset = self.length;
        loop {
            let count = match reader.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            (&*self.file).write_all(&self.buffer[..count])?;
            self.length += count as u64;
        }
        let length = self.length - offset;
        Ok((Content::Part { file: Arc::clone(&self.file), offset, length }, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_lie_side_by_side() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(directory.path()).unwrap();
        let (first, length) = spool.add(&mut &b"one"[..]).unwrap();
        assert_eq!(length, 3);
        let (second, _) = spool.add(&mut &b"second"[..]).unwrap();
        for (content, want) in [(&second, "second"), (&first, "one"), (&second, "second")] {
            assert_eq!(io::read_to_string(content.open().unwrap()).unwrap(), want);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
