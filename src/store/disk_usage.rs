//! How much of a disk a tree takes.
//!
//! Invariants:
//! - No link is followed, whoever changes the tree meanwhile: what is in a cache directory is hostile.
//! - A file with several names is counted once.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};

/// Directories in directories that are looked into: each takes a descriptor.
const DEEPEST: usize = 100;
/// The unit of `st_blocks`, whatever the file system's own blocks are.
const BLOCK: u64 = 512;

/// What a tree takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes of the blocks that its files and directories have.
    pub(super) bytes: u64,
    /// Whether all of it could be looked at.
    pub(super) is_whole: bool,
}

/// Measures a file, or a directory with all that is below it.
pub(super) fn of(path: &Path) -> Usage {
    let mut walk = Walk { seen: HashSet::new(), usage: Usage { bytes: 0, is_whole: true } };
    walk.count(CWD, path.as_os_str().as_encoded_bytes(), 0);
    walk.usage
}

struct Walk {
    /// Device and number of files with several names.
    seen: HashSet<(u64, u64)>,
    usage: Usage,
}

impl Walk {
    fn count(&mut self, at: BorrowedFd<'_>, name: &[u8], depth: usize) {
        let Ok(stat) = statat(at, name, AtFlags::SYMLINK_NOFOLLOW) else {
            self.usage.is_whole = false;
            return;
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory || stat.st_nlink < 2 || self.seen.insert(identity(&stat)) {
            self.usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK;
        }
        if is_directory && self.descend(at, name, depth).is_none() {
            self.usage.is_whole = false;
        }
    }

    fn descend(&mut self, at: BorrowedFd<'_>, name: &[u8], depth: usize) -> Option<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(at, name, flags, Mode::empty()).ok().filter(|_| depth < DEEPEST)?;
        for entry in Dir::read_from(&directory).ok()? {
            let entry = entry.ok()?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.count(directory.as_fd(), name, depth + 1);
            }
        }
        Some(())
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn blocks_are_counted_once_and_links_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("inner")).unwrap();
        let empty = of(&tree);
        assert!(empty.is_whole);
        fs::write(tree.join("inner/file"), vec![1; 100_000]).unwrap();
        let one = of(&tree);
        assert!((100_000..140_000).contains(&(one.bytes - empty.bytes)), "{one:?} {empty:?}");
        fs::hard_link(tree.join("inner/file"), tree.join("again")).unwrap();
        fs::write(directory.path().join("large"), vec![1; 1_000_000]).unwrap();
        symlink("../large", tree.join("link")).unwrap();
        symlink("..", tree.join("up")).unwrap();
        let more = of(&tree);
        assert!(more.bytes - one.bytes < 50_000 && more.is_whole, "{one:?} {more:?}");
        assert!(!of(&directory.path().join("none")).is_whole);
    }

    #[test]
    fn trees_that_are_too_deep_are_not_counted_to_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut path = directory.path().to_owned();
        for _ in 0..DEEPEST + 5 {
            path.push("d");
            fs::create_dir(&path).unwrap();
        }
        assert!(!of(directory.path()).is_whole);
    }
}
