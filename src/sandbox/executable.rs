//! This executable, open for starting it again in a form that no command can write to.
//!
//! A command that is started as `/proc/self/exe` is a process of this executable, and whoever reaches
//! it by /proc could write to the file once nobody executes it any more. So what commands come from is
//! never the file itself.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};

use super::sys;

const OWN: &str = "/proc/self/exe";

/// A descriptor on a read-only mount that no path leads to.
pub(super) fn on_read_only_mount() -> io::Result<OwnedFd> {
    let path: PathBuf = fs::read_link(OWN)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, &path, flags)?;
    let found = rustix::fs::fstat(&tree)?;
    let running = rustix::fs::stat(OWN)?;
    if (found.st_dev, found.st_ino) != (running.st_dev, running.st_ino) {
        return Err(io::Error::other("the executable was replaced while it started"));
    }
    sys::set_mount_attributes(&tree, MountAttrFlags::MOUNT_ATTR_RDONLY, false)?;
    Ok(tree)
}

/// A sealed copy in memory, for where nothing can be mounted. Costs ten milliseconds and the size of
/// the program, once for each build.
pub(super) fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = match rustix::fs::memfd_create("fanfold", flags | MemfdFlags::EXEC) {
        // Linux before 6.3 does not know the flag, and lets every copy be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create("fanfold", flags)?,
        other => other?,
    };
    let mut copy = fs::File::from(copy);
    io::copy(&mut fs::File::open(OWN)?, &mut copy)?;
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(0o555))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    // What is open for writing cannot be executed.
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}
