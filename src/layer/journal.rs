//! [`Journal`]: owners that were given to files which can carry no record.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, StatxFlags};

/// When a file came into being: seconds since 1970 and nanoseconds.
pub type Birth = (i64, u32);

/// Owners of symbolic links, pipes, sockets and devices, by the file they stand for.
///
/// A file is known by its inode number and, where the file system tells it, its time of birth: a
/// number is used again after its file is gone. Numbers are those of the directory that is scanned
/// (an overlay's upper, or a working root), not those that a mount shows.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    files: HashMap<u64, Vec<Owned>>,
}

#[derive(Debug, Clone, Copy)]
struct Owned {
    birth: Option<Birth>,
    owner: (u32, u32),
}

impl Journal {
    /// Notes an owner; what was noted for the same file is forgotten.
    pub fn insert(&mut self, inode: u64, birth: Option<Birth>, uid: u32, gid: u32) {
        let files = self.files.entry(inode).or_default();
        files.retain(|file| !same(file.birth, birth));
        files.push(Owned { birth, owner: (uid, gid) });
    }

    /// User and group noted for a file.
    pub fn owner(&self, inode: u64, birth: Option<Birth>) -> Option<(u32, u32)> {
        let files = self.files.get(&inode)?;
        files.iter().rev().find(|file| same(file.birth, birth)).map(|file| file.owner)
    }

    /// User and group noted for the file at `name` of an open directory, whose inode number is known.
    pub(super) fn look_up(&self, at: BorrowedFd<'_>, name: &[u8], inode: u64) -> Option<(u32, u32)> {
        if !self.files.contains_key(&inode) {
            return None;
        }
        let wanted = StatxFlags::BTIME | StatxFlags::INO;
        // Without the call, or a file system that tells it, the number alone has to do.
        let birth = rustix::fs::statx(at, name, AtFlags::SYMLINK_NOFOLLOW, wanted)
            .ok()
            .filter(|found| found.stx_mask & StatxFlags::BTIME.bits() != 0)
            .map(|found| (found.stx_btime.tv_sec, found.stx_btime.tv_nsec));
        self.owner(inode, birth)
    }
}

/// Whether two times of birth can be those of one file.
fn same(left: Option<Birth>, right: Option<Birth>) -> bool {
    left.is_none() || right.is_none() || left == right
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn numbers_that_are_used_again_are_other_files() {
        let mut journal = Journal::default();
        journal.insert(5, Some((100, 1)), 7, 8);
        journal.insert(5, Some((200, 0)), 9, 9);
        journal.insert(6, None, 1, 2);
        for (inode, birth, want) in [
            (5, Some((100, 1)), Some((7, 8))),
            (5, Some((100, 2)), None),
            (5, None, Some((9, 9))),
            (6, Some((1, 1)), Some((1, 2))),
            (7, None, None),
        ] {
            assert_eq!(journal.owner(inode, birth), want, "{inode} {birth:?}");
        }
        journal.insert(5, Some((100, 1)), 0, 0);
        assert_eq!(journal.owner(5, Some((100, 1))), Some((0, 0)));
    }

    #[test]
    fn files_are_asked_for_their_birth() {
        let place = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("x", place.path().join("l")).unwrap();
        let metadata = std::fs::symlink_metadata(place.path().join("l")).unwrap();
        let directory = std::fs::File::open(place.path()).unwrap();
        let mut journal = Journal::default();
        journal.insert(metadata.ino(), None, 3, 4);
        assert_eq!(journal.look_up(directory.as_fd(), b"l", metadata.ino()), Some((3, 4)));
        let born = metadata.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        if let Some(born) = born {
            let mut journal = Journal::default();
            let seconds = born.as_secs() as i64;
            journal.insert(metadata.ino(), Some((seconds, born.subsec_nanos())), 3, 4);
            assert_eq!(journal.look_up(directory.as_fd(), b"l", metadata.ino()), Some((3, 4)));
            let mut journal = Journal::default();
            journal.insert(metadata.ino(), Some((seconds - 1, 0)), 3, 4);
            assert_eq!(journal.look_up(directory.as_fd(), b"l", metadata.ino()), None);
        }
    }
}
