//! Where in an open tar file the contents of its files lie, so that they are read without unpacking.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};

use crate::layer::{EntryKind, LayerError, Mode, read_tar};

/// All headers of a tar begin at a multiple of this many bytes.
const BLOCK: u64 = 512;
/// The file is read in pieces of this size.
const PIECE: usize = 256 << 10;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// First byte.
    pub(super) offset: u64,
    /// Number of bytes.
    pub(super) length: u64,
}

/// The places of those regular files in an uncompressed tar that are wanted, by name.
///
/// A sparse file's place is not its content; whoever reads it finds out by its digest.
pub(super) fn places(
    file: &File,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<BTreeMap<Vec<u8>, Place>, LayerError> {
    let position = Cell::new(0);
    let blocks = Blocks { inner: BufReader::with_capacity(PIECE, file), position: &position };
    let mut found = BTreeMap::new();
    read_tar(blocks, Mode::Archive, &mut |entry, _| {
        let EntryKind::File { size } = entry.kind else { return Ok(()) };
        if wanted(entry.path.as_bytes()) {
            let place = Place { offset: position.get(), length: size };
            // Which of the two is meant cannot be known.
            if found.insert(entry.path.as_bytes().to_vec(), place).is_some() {
                let path = String::from_utf8_lossy(entry.path.as_bytes()).into_owned();
                return Err(LayerError::Refused { path, reason: "it stands in the archive twice" });
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Gives out a block at a time, so that whoever has read a header has been given nothing after it,
/// and the position is that of the content.
struct Blocks<'a, R> {
    inner: R,
    position: &'a Cell<u64>,
}

impl<R: Read> Read for Blocks<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = (BLOCK - self.position.get() % BLOCK) as usize;
        let most = buffer.len().min(rest);
        let count = self.inner.read(&mut buffer[..most])?;
        self.position.set(self.position.get() + count as u64);
        Ok(count)
    }
}
