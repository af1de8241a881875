//! Removing whole trees, whatever a build has left in them.
//!
//! Invariants:
//! - No link is followed and no mount is entered.
//! - The number of open descriptors does not grow with the depth of the tree, and no path is
//!   longer than one name: what lies too deep is first moved up.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

/// Directories that are open at once. What lies deeper is moved to the top.
const DEPTH: usize = 32;

/// Removes `path` and all below it; nothing there is no error.
///
/// Trees with ids of the build's user namespace can only be removed inside of it.
///
/// # Errors
///
/// Stops at the first entry that cannot be removed, such as a mount point.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(rustix::fs::unlink(path)?),
        other => other?,
    };
    let mut tree = Tree { top: readable(&top)?, moved: 0 };
    let first = tree.top.try_clone()?;
    // What was moved to the top is met by a further reading of the top.
    while !tree.empty(first.try_clone()?)? {}
    Ok(rustix::fs::rmdir(path)?)
}

struct Tree {
    top: OwnedFd,
    moved: u64,
}

/// A directory that is being emptied.
struct Frame {
    directory: OwnedFd,
    entries: Dir,
    /// Its name in the directory before it on the stack.
    name: Vec<u8>,
}

impl Frame {
    fn new(directory: OwnedFd, name: Vec<u8>) -> io::Result<Self> {
        let entries = Dir::read_from(&directory)?;
        Ok(Self { directory, entries, name })
    }
}

impl Tree {
    /// Removes all in `directory`, which is the top; false when it has to be read once more.
    fn empty(&mut self, directory: OwnedFd) -> io::Result<bool> {
        let moved = self.moved;
        let mut stack = vec![Frame::new(directory, Vec::new())?];
        while let Some(frame) = stack.last_mut() {
            let Some(entry) = frame.entries.next() else {
                let name = std::mem::take(&mut frame.name);
                stack.pop();
                if let Some(parent) = stack.last() {
                    rustix::fs::unlinkat(&parent.directory, &name, AtFlags::REMOVEDIR)?;
                }
                continue;
            };
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if entry.file_type() != FileType::Directory && remove_file(&frame.directory, name)? {
                continue;
            }
            let name = name.to_vec();
            if stack.len() < DEPTH {
                let frame = stack.last().expect("the loop has a frame");
                let directory = open_directory(&frame.directory, &name)?;
                stack.push(Frame::new(directory, name)?);
            } else {
                let frame = stack.last().expect("the loop has a frame");
                self.move_up(&frame.directory, &name)?;
            }
        }
        Ok(self.moved == moved)
    }

    fn move_up(&mut self, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let mut permitted = false;
        loop {
            self.moved += 1;
            let new = format!(".moved-{}", self.moved);
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(parent, name, &self.top, &new, flags) {
                Err(Errno::EXIST) => {}
                // Moving a directory writes to it, to where it is and to where it goes.
                Err(Errno::ACCESS) if !permitted => {
                    permitted = true;
                    permit(parent)?;
                    open_directory(parent, name)?;
                }
                result => return Ok(result?),
            }
        }
    }
}

/// Removes anything but a directory; false when it is one.
fn remove_file(parent: &OwnedFd, name: &[u8]) -> io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => Ok(false),
        Err(Errno::ACCESS) => {
            permit(parent)?;
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            Ok(true)
        }
        result => Ok(result.map(|()| true)?),
    }
}

/// Opens a directory to read and change, which gives its owner the permission to.
fn open_directory(parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let directory = rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)?;
    readable(&directory)
}

fn readable(directory: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mode = rustix::fs::fstat(directory)?.st_mode;
    if mode & 0o700 != 0o700 {
        permit(directory)?;
    }
    Ok(rustix::fs::openat(directory, ".", flags, Mode::empty())?)
}

/// Gives the owner of a directory all permissions.
fn permit(directory: &OwnedFd) -> io::Result<()> {
    // fchmod refuses descriptors that are open as a path only.
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    Ok(rustix::fs::chmodat(CWD, path, Mode::RWXU, AtFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn hostile_trees() {
        let base = tempfile::tempdir().unwrap();
        let canary = base.path().join("canary");
        fs::create_dir(&canary).unwrap();
        fs::write(canary.join("file"), "kept").unwrap();
        let tree = base.path().join("tree");
        fs::create_dir_all(tree.join("closed/inner")).unwrap();
        fs::create_dir(tree.join(".moved-1")).unwrap();
        fs::write(tree.join("closed/inner/file"), "").unwrap();
        symlink(&canary, tree.join("closed/link")).unwrap();
        fs::set_permissions(tree.join("closed/inner"), PermissionsExt::from_mode(0o000)).unwrap();
        fs::set_permissions(tree.join("closed"), PermissionsExt::from_mode(0o500)).unwrap();
        let mut deep = rustix::fs::open(&tree, OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "deep", Mode::RWXU).unwrap();
            deep = rustix::fs::openat(&deep, "deep", OFlags::PATH, Mode::empty()).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read(canary.join("file")).unwrap(), b"kept");
    }

    #[test]
    fn other_things_than_directories() {
        let base = tempfile::tempdir().unwrap();
        remove_tree(&base.path().join("nothing")).unwrap();
        let link = base.path().join("link");
        symlink(base.path(), &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(fs::symlink_metadata(&link).is_err() && base.path().exists());
    }
}
