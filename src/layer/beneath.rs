//! Opening paths below a directory descriptor without ever following a symbolic link.
//!
//! The kernel is asked by `openat2` (Linux 5.6) to stay beneath and to refuse links; where that
//! call is missing or filtered, each component is opened by itself with `O_NOFOLLOW`. Paths longer
//! than the kernel takes at once are opened in parts.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::path::LayerPath;

/// Longest path given to the kernel at once; its own limit is 4096 with the final NUL.
const AT_ONCE: usize = 4000;

/// Opens the directory at `path`, usable as a base for further calls only.
pub(super) fn open_directory(root: BorrowedFd<'_>, path: &LayerPath) -> io::Result<OwnedFd> {
    open(root, path.as_bytes(), OFlags::PATH | OFlags::DIRECTORY)
}

/// Opens `path`, relative to `root` and without links or `..`; the empty path is `root` itself.
///
/// # Errors
///
/// Fails as the kernel does; for a link anywhere in the path with `ELOOP`, `EXDEV` or `ENOTDIR`.
pub fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let mut rest = path;
    let mut base: Option<OwnedFd> = None;
    while rest.len() > AT_ONCE {
        let slash = rest[..AT_ONCE].iter().rposition(|&byte| byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let at = base.as_ref().map_or(root, AsFd::as_fd);
        base = Some(open_part(at, &rest[..slash], OFlags::PATH | OFlags::DIRECTORY)?);
        rest = &rest[slash + 1..];
    }
    let at = base.as_ref().map_or(root, AsFd::as_fd);
    Ok(open_part(at, if rest.is_empty() { b"." } else { rest }, flags)?)
}

fn open_part(base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(base, path, flags, Mode::empty(), confined) {
        // A filter around this process may refuse the call itself.
        Err(Errno::NOSYS | Errno::PERM) => walk(base, path, flags),
        result => result,
    }
}

fn walk(base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    if names.contains(&&b".."[..]) || names.contains(&&b""[..]) {
        return Err(Errno::XDEV);
    }
    let last = names.pop().ok_or(Errno::INVAL)?;
    let mut at: Option<OwnedFd> = None;
    for name in names {
        let above = at.as_ref().map_or(base, AsFd::as_fd);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = Some(rustix::fs::openat(above, name, flags, Mode::empty())?);
    }
    rustix::fs::openat(at.as_ref().map_or(base, AsFd::as_fd), last, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_parents_are_refused_both_ways() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/f"), "inside").unwrap();
        fs::write(directory.path().join("canary"), "outside").unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("a", root.join("alias")).unwrap();
        symlink("../canary", root.join("leak")).unwrap();
        let fd: OwnedFd = fs::File::open(&root).unwrap().into();
        for way in [open_part, walk] {
            assert!(way(fd.as_fd(), b"a/b/f", OFlags::RDONLY).is_ok());
            for path in ["../canary", "up/canary", "leak", "alias/b/f", "a/../../canary", "/etc/passwd"] {
                assert!(
                    way(fd.as_fd(), path.as_bytes(), OFlags::RDONLY | OFlags::NOFOLLOW).is_err(),
                    "{path}"
                );
            }
        }
    }
}
