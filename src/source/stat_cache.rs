//! [`StatCache`]: what builds before this one knew of a folder's files.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::facts::Facts;
use super::stat_records::{Decoder, Encoder};
use crate::image::Sha256;
use crate::layer::{LayerPath, Stamp};

/// The largest cache that is read, in bytes: one of some ten million files.
const LARGEST: u64 = 1 << 30;
/// A file of work in progress that is older than this was left by a build that was killed.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// What tells the time.
pub(super) type Clock = fn() -> SystemTime;

/// A file that says, for each file of a folder, what its data and attributes were when it had a
/// certain inode, size, modification and change time, so that a file of which all these are still
/// the same need not be opened.
///
/// Nothing depends on it: where it is missing, damaged, or of another time (the clock went
/// backwards), files are read. Two builds that write it at once do not harm each other.
#[derive(Debug, Clone)]
pub struct StatCache {
    file: PathBuf,
    clock: Clock,
}

/// What a cache knows of the files that are there.
#[derive(Debug, Default)]
pub(super) struct Recalled {
    pub(super) facts: HashMap<LayerPath, Facts>,
    /// Whether the cache speaks of files that are gone or have changed.
    pub(super) outdated: bool,
}

impl StatCache {
    /// The cache in this file, which need not exist; its directory does, and nobody else writes there.
    pub fn at(file: PathBuf) -> Self {
        Self { file, clock: SystemTime::now }
    }

    /// The cache for a folder, in `directory` under a name of 64 hex digits: the digest of the folder's
    /// canonical path, its device and its inode.
    ///
    /// # Errors
    ///
    /// Fails where there is no such folder.
    pub fn of(directory: &Path, folder: &Path) -> io::Result<Self> {
        let canonical = fs::canonicalize(folder)?;
        let metadata = fs::metadata(&canonical)?;
        let mut name = Sha256::new();
        name.field(canonical.as_os_str().as_bytes());
        name.field(&metadata.dev().to_le_bytes());
        name.field(&metadata.ino().to_le_bytes());
        Ok(Self::at(directory.join(name.finish().hex())))
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// What is known of files that are as they were. `found` is in the order of paths.
    pub(super) fn recall<'a>(&self, found: impl Iterator<Item = (&'a LayerPath, &'a Stamp)>) -> Recalled {
        let mut recalled = Recalled::default();
        let is_small = fs::metadata(&self.file).is_ok_and(|metadata| metadata.len() <= LARGEST);
        let Some(bytes) = is_small.then(|| fs::read(&self.file).ok()).flatten() else { return recalled };
        let now = seconds((self.clock)());
        let Some(mut records) = Decoder::new(&bytes).filter(|records| records.written() <= now) else {
            recalled.outdated = true;
            return recalled;
        };
        recalled.facts.reserve(found.size_hint().0);
        let mut next = records.read();
        'found: for (path, stat) in found {
            while let Some(facts) = next.take() {
                if records.path() != path.as_bytes() {
                    let is_later = LayerPath::new(records.path()).is_ok_and(|recorded| recorded > *path);
                    if is_later {
                        next = Some(facts);
                        continue 'found;
                    }
                    recalled.outdated = true;
                } else if facts.stat == Some(*stat) {
                    recalled.facts.insert(path.clone(), facts);
                    next = records.read();
                    continue 'found;
                } else {
                    recalled.outdated = true;
                }
                next = records.read();
            }
            break;
        }
        recalled.outdated |= next.is_some();
        recalled
    }

    /// Writes what is known of files, given in the order of paths, in place of what was written before.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be written, and where another build is about to write it.
    pub(super) fn keep<'a>(&self, known: impl Iterator<Item = (&'a LayerPath, &'a Facts)>) -> io::Result<()> {
        let mut encoder = Encoder::new(seconds((self.clock)()));
        for (path, facts) in known {
            if let Some(stat) = &facts.stat {
                encoder.add(path.as_bytes(), stat, facts);
            }
        }
        let mut temporary = OsString::from(&self.file);
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let mut file = create(&temporary)?;
        let written = file.write_all(&encoder.finish()).and_then(|()| fs::rename(&temporary, &self.file));
        if written.is_err() {
            drop(fs::remove_file(&temporary));
        }
        written
    }
}

/// Creates a file that does not exist, or was left behind.
fn create(path: &Path) -> io::Result<File> {
    let create = || File::options().write(true).create_new(true).mode(0o600).open(path);
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let age = fs::symlink_metadata(path)?.modified()?.elapsed();
            if age.is_ok_and(|age| age < LEFT_BEHIND) {
                return Err(error);
            }
            // Where two builds come here at once, the checksum tells what one left of the other's.
            fs::remove_file(path)?;
            create()
        }
        created => created,
    }
}

/// Whole seconds since 1970; 0 for times before.
pub(super) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "stat_cache_tests.rs"]
mod tests;
