//! [`Content`]: where the bytes of a new entry come from, and [`Change`]: an entry with them.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::beneath;
use super::entry::Entry;
use super::error::LayerError;
use super::seen::{Seen, Watched};

/// The bytes of a regular file, opened when they are needed.
#[derive(Debug, Clone)]
pub enum Content {
    /// None: also for everything that is not a regular file.
    Empty,
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// A file inside our own store, where nobody else writes.
    File(PathBuf),
    /// A file of a tree that others control, named relative to the tree's root. It is opened
    /// without following any link.
    Beneath {
        /// The tree's root directory.
        root: Arc<OwnedFd>,
        /// The file below it.
        path: PathBuf,
    },
    /// The same, of a file that was read before and is to be what it was.
    Seen {
        /// The tree's root directory.
        root: Arc<OwnedFd>,
        /// The file below it.
        path: PathBuf,
        /// What it was.
        seen: Seen,
    },
    /// A part of a file inside our own store.
    Range {
        /// The file.
        file: PathBuf,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// A part of an open file of our own, which may have no name.
    Part {
        /// The file.
        file: Arc<File>,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
}

impl Content {
    /// Opens the bytes for reading.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be opened or is not a regular file. A size other than the
    /// entry's is found by whoever reads.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, LayerError> {
        Ok(match self {
            Self::Empty => Box::new(io::empty()),
            Self::Bytes(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
            Self::File(path) => Box::new(open_own(path)?),
            Self::Beneath { root, path } => Box::new(open_beneath(root, path)?),
            Self::Seen { root, path, seen } => Box::new(Watched::new(open_beneath(root, path)?, *seen)),
            Self::Range { file: path, offset, length } => {
                let mut file = open_own(path)?;
                let seek = file.seek(SeekFrom::Start(*offset));
                seek.map_err(|error| LayerError::io("read", path.as_os_str().as_bytes(), error))?;
                Box::new(file.take(*length))
            }
            Self::Part { file, offset, length } => {
                Box::new(Part { file: Arc::clone(file), offset: *offset }.take(*length))
            }
        })
    }
}

impl Content {
    /// Opens the file whose whole content this is; `None` where it is not that of a file.
    pub(super) fn file(&self) -> Result<Option<File>, LayerError> {
        match self {
            Self::File(path) => open_own(path).map(Some),
            Self::Beneath { root, path } => open_beneath(root, path).map(Some),
            Self::Empty | Self::Bytes(_) | Self::Seen { .. } | Self::Range { .. } | Self::Part { .. } => {
                Ok(None)
            }
        }
    }
}

/// Reads an open file from a place of its own, whoever else reads it.
struct Part {
    file: Arc<File>,
    offset: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

fn open_beneath(root: &OwnedFd, path: &Path) -> Result<File, LayerError> {
    let name = path.as_os_str().as_bytes();
    // A FIFO put in place of the file must not block the open.
    let file = beneath::open(root.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
    regular(file.map_err(|error| LayerError::io("open", name, error))?.into(), path)
}

fn open_own(path: &Path) -> Result<File, LayerError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = File::options().read(true).custom_flags(flags as i32).open(path);
    regular(file.map_err(|error| LayerError::io("open", path.as_os_str().as_bytes(), error))?, path)
}

fn regular(file: File, path: &Path) -> Result<File, LayerError> {
    let shown = path.as_os_str().as_bytes();
    let metadata = file.metadata().map_err(|error| LayerError::io("read", shown, error))?;
    if !metadata.is_file() {
        return Err(LayerError::refused(shown, "it is not a regular file"));
    }
    Ok(file)
}

/// One entry of a layer to be, with its content.
#[derive(Debug, Clone)]
pub struct Change {
    /// The entry.
    pub entry: Entry,
    /// Its bytes; [`Content::Empty`] unless it is a regular file.
    pub content: Content,
}

impl Change {
    /// An entry without content of its own.
    pub fn bare(entry: Entry) -> Self {
        Self { entry, content: Content::Empty }
    }
}

/// Brings changes into the order of a layer tar.
pub fn sort_changes(changes: &mut [Change]) {
    changes.sort_by(|left, right| left.entry.tar_order(&right.entry));
}

/// The changes in the order of a layer tar, whatever order they come in.
///
/// # Errors
///
/// Fails when one path stands there twice: which of the two is meant cannot be known.
pub(super) fn in_order(changes: &[Change]) -> Result<Vec<&Change>, LayerError> {
    let mut sorted: Vec<&Change> = changes.iter().collect();
    sorted.sort_by(|left, right| left.entry.tar_order(&right.entry));
    for pair in sorted.windows(2) {
        if pair[0].entry.tar_order(&pair[1].entry).is_eq() {
            return Err(LayerError::refused(&pair[0].entry.path, "it stands in the layer twice"));
        }
    }
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn contents() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "0123456789").unwrap();
        std::os::unix::fs::symlink(&path, directory.path().join("l")).unwrap();
        let root = Arc::new(OwnedFd::from(File::open(directory.path()).unwrap()));
        let open = Arc::new(File::open(&path).unwrap());
        let beneath = |path: &str| Content::Beneath { root: Arc::clone(&root), path: path.into() };
        for (content, want) in [
            (Content::Empty, Some("")),
            (Content::Bytes(Arc::from(&b"abc"[..])), Some("abc")),
            (Content::File(path.clone()), Some("0123456789")),
            (Content::Range { file: path.clone(), offset: 3, length: 4 }, Some("3456")),
            (Content::Part { file: Arc::clone(&open), offset: 2, length: 3 }, Some("234")),
            (Content::Part { file: open, offset: 8, length: 9 }, Some("89")),
            (beneath("f"), Some("0123456789")),
            (beneath("l"), None),
            (beneath("../f"), None),
            (Content::File(directory.path().join("l")), None),
            (Content::File(directory.path().to_owned()), None),
        ] {
            let read = content.open().ok().map(|mut reader| io::read_to_string(&mut reader).unwrap());
            assert_eq!(read.as_deref(), want, "{content:?}");
        }
    }
}
