//! [`Watched`]: reading a file again that others may have changed since it was read first.

use std::fs::File;
use std::io::{self, Read};

use super::error::LayerError;
use super::stamp::Stamp;
use crate::image::{DataHash, DataHasher};

/// What a file was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// What the system said of it.
    pub stamp: Stamp,
    /// The hash of its data, where a change may not show in what the system says.
    pub data: Option<DataHash>,
}

/// A file that is read once more. Its end is reached only if it is what it was.
pub(super) struct Watched {
    file: File,
    seen: Seen,
    hasher: Option<DataHasher>,
    /// Whether its end was reached.
    is_read: bool,
}

impl Watched {
    pub(super) fn new(file: File, seen: Seen) -> Self {
        let hasher = seen.data.map(|_| DataHasher::new());
        Self { file, seen, hasher, is_read: false }
    }

    fn check(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_read, true) {
            return Ok(());
        }
        let same = match (self.hasher.take(), self.seen.data) {
            (Some(hasher), Some(data)) => hasher.finish() == data,
            _ => Stamp::of(&rustix::fs::fstat(&self.file)?) == self.seen.stamp,
        };
        if same { Ok(()) } else { Err(io::Error::other(LayerError::Changed { path: String::new() })) }
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        match &mut self.hasher {
            Some(hasher) if count > 0 => hasher.update(&buffer[..count]),
            _ if count == 0 && !buffer.is_empty() => self.check()?,
            _ => {}
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_changed_has_no_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "aaaa").unwrap();
        let stamp = |path: &std::path::Path| Stamp::of(&rustix::fs::stat(path).unwrap());
        let by_time = Seen { stamp: stamp(&path), data: None };
        let by_data = Seen { stamp: stamp(&path), data: Some(DataHash::of(b"aaaa")) };
        let read = |seen| {
            let mut watched = Watched::new(File::open(&path).unwrap(), seen);
            io::read_to_string(&mut watched).map_err(|error| LayerError::stream(error).to_string())
        };
        assert_eq!(read(by_time).as_deref(), Ok("aaaa"));
        assert_eq!(read(by_data).as_deref(), Ok("aaaa"));
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "aaaa").unwrap();
        assert_eq!(read(by_data).as_deref(), Ok("aaaa"), "the data is what it was");
        assert!(read(by_time).unwrap_err().contains("changed"));
        fs::write(&path, "bbbb").unwrap();
        assert!(read(by_data).unwrap_err().contains("changed"));
    }
}
