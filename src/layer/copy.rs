//! [`Copier`]: fills new files, the cheapest way that the file system allows.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::io::Errno;

use super::entry::Entry;
use super::error::LayerError;
use super::halt::Halt;

/// Content is copied in pieces of this size.
const PIECE: usize = 128 << 10;
/// Files up to this size are read and written: asking the kernel to copy costs more than that.
const SMALL: u64 = PIECE as u64;
/// Most that the kernel is asked to copy at once, so that a signal does not wait for long.
const AT_ONCE: u64 = 64 << 20;

/// Copies content into files, and remembers what the file system refused.
#[derive(Debug)]
pub(super) struct Copier {
    buffer: Vec<u8>,
    /// Whether files may share their blocks, as far as is known.
    clones: bool,
    /// Whether the kernel may copy between files, as far as is known.
    copies: bool,
    /// Ends copying.
    halt: Halt,
}

impl Default for Copier {
    fn default() -> Self {
        Self { buffer: vec![0; PIECE], clones: true, copies: true, halt: Halt::default() }
    }
}

impl Copier {
    /// From now on copying ends when `halt` is asked.
    pub(super) fn heed(&mut self, halt: &Halt) {
        self.halt = halt.clone();
    }

    /// Copies exactly `size` bytes out of a stream.
    pub(super) fn copy_stream(
        &mut self,
        entry: &Entry,
        size: u64,
        content: &mut dyn Read,
        file: &mut File,
    ) -> Result<(), LayerError> {
        let mut found = 0u64;
        loop {
            self.halt.check()?;
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(LayerError::stream(error)),
            };
            found += count as u64;
            if found > size {
                break;
            }
            let written = file.write_all(&self.buffer[..count]);
            written.map_err(|error| LayerError::io("write", &entry.path, error))?;
        }
        settled(entry, size, found)
    }

    /// Copies a whole file of `size` bytes: shares its blocks, or has the kernel copy them, or reads
    /// and writes.
    pub(super) fn copy_file(
        &mut self,
        entry: &Entry,
        size: u64,
        source: &File,
        file: &mut File,
    ) -> Result<(), LayerError> {
        if size <= SMALL {
            return self.copy_stream(entry, size, &mut &*source, file);
        }
        if self.clones {
            match rustix::fs::ioctl_ficlone(&*file, source) {
                Ok(()) => {
                    let found =
                        file.metadata().map_err(|error| LayerError::io("write", &entry.path, error))?;
                    return settled(entry, size, found.len());
                }
                // A full disk is the same for the other ways, which say so.
                Err(_) => self.clones = false,
            }
        }
        let mut found = 0u64;
        while self.copies && found <= size {
            self.halt.check()?;
            let wanted = (size + 1 - found).min(AT_ONCE) as usize;
            match rustix::fs::copy_file_range(source, None, &*file, None, wanted) {
                Ok(0) => break,
                Ok(count) => found += count as u64,
                Err(Errno::INTR) => {}
                Err(error) if found > 0 => return Err(LayerError::io("write", &entry.path, error)),
                Err(_) => self.copies = false,
            }
        }
        if found == 0 {
            // Also where the kernel claims to have copied nothing, as on some special file systems.
            return self.copy_stream(entry, size, &mut &*source, file);
        }
        settled(entry, size, found)
    }
}

fn settled(entry: &Entry, size: u64, found: u64) -> Result<(), LayerError> {
    if found != size {
        let found = found.min(size + 1);
        return Err(LayerError::SizeChanged { path: entry.path.to_string(), expected: size, found });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{EntryKind, LayerPath};
    use std::io::Seek;

    #[test]
    fn sizes_are_exact_both_ways() {
        for real in [0usize, 1, PIECE, PIECE + 1, 3 * PIECE + 7] {
            let bytes: Vec<u8> = (0..real).map(|at| at as u8).collect();
            for (announced, right) in [(real, true), (real + 1, false), (real.wrapping_sub(1), false)] {
                let Some(announced) = u64::try_from(announced).ok().filter(|size| *size < 1 << 40) else {
                    continue;
                };
                let entry = Entry::new(LayerPath::new("f").unwrap(), EntryKind::File { size: announced }, 0);
                let mut source = tempfile::tempfile().unwrap();
                source.write_all(&bytes).unwrap();
                for whole in [true, false] {
                    source.rewind().unwrap();
                    let mut file = tempfile::tempfile().unwrap();
                    let mut copier = Copier::default();
                    let copied = match whole {
                        true => copier.copy_file(&entry, announced, &source, &mut file),
                        false => copier.copy_stream(&entry, announced, &mut &bytes[..], &mut file),
                    };
                    assert_eq!(copied.is_ok(), right, "{real} {announced}");
                    if right {
                        let mut again = Vec::new();
                        file.rewind().unwrap();
                        file.read_to_end(&mut again).unwrap();
                        assert!(again == bytes);
                    }
                }
            }
        }
    }
}
