//! The mounts that one command has asked for.
//!
//! Invariants:
//! - Sources are resolved in the stack of layers that they lie in, targets in the root of the command:
//!   no link of an image, a context or a cache leads out of either.
//! - What is mounted aside is left behind with the old root: the command sees its mounts alone.
//! - The content of a file is written to memory, and to a file system that is never swapped out where
//!   the kernel has one.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags};

use super::identity::unmapped;
use super::isolation::Isolation;
use super::mount::{Discard, Mount};
use super::mounts::{attach, clone, new_file_system};
use super::overlay;
use super::root::{Kind, Root};
use super::run::MOUNT;
use super::spec::RunSpec;
use super::sys;
use super::wire::{Failure, Step};

const NO_DEVICES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
const NO_SETUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NO_PROGRAMS: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;

/// Mode of a temporary directory that anybody may use.
pub(super) const FOR_ALL: u32 = 0o1777;
/// The bits of a mode that are not the type.
pub(super) const PERMISSIONS: u32 = 0o7777;

/// Mounts what the command has asked for, in order. /proc, /sys and /dev are there already.
pub(super) fn mount(spec: &RunSpec, root: &mut Root) -> Result<(), Failure> {
    if spec.mounts.is_empty() {
        return Ok(());
    }
    for path in ["/proc", "/sys"] {
        root.close(path.as_bytes()).step(path)?;
    }
    let simulated = spec.isolation == Isolation::OneId;
    let mut files = Files { aside: &spec.aside, simulated, directory: None, made: 0 };
    for mount in &spec.mounts {
        let made = match mount {
            Mount::Layers { lowers, discard, source, target } => {
                layers(lowers, discard.as_ref(), source, &spec.aside, root, target)
            }
            Mount::Directory { path, target, read_only } => directory(path, root, target, *read_only),
            Mount::Tmpfs { target, size } => tmpfs(root, target, *size),
            Mount::File { content, target, mode, uid, gid, .. } => {
                files.make(content.bytes(), *mode, (*uid, *gid)).and_then(|tree| file(&tree, root, target))
            }
            Mount::Socket { path, target, .. } => socket(path, root, target),
        };
        made.map_err(|error| failure(mount.target(), &error))?;
    }
    Ok(())
}

/// What the system says is a fault of the system; what was found out here is one of the Dockerfile.
pub(super) fn failure(target: &[u8], error: &io::Error) -> Failure {
    let target = String::from_utf8_lossy(target);
    match error.raw_os_error() {
        Some(errno) => Failure { step: format!("mounting {target}"), message: error.to_string(), errno },
        None => Failure {
            step: MOUNT.to_owned(),
            message: format!("failed to mount {target}: {error}"),
            errno: 0,
        },
    }
}

/// Mounts a part of a stack of layers.
fn layers(
    lowers: &[std::path::PathBuf],
    discard: Option<&Discard>,
    source: &[u8],
    aside: &Path,
    root: &mut Root,
    target: &[u8],
) -> io::Result<()> {
    match (lowers, discard) {
        // An overlay that cannot be written to needs two directories.
        ([only], None) => attach(&clone(CWD, only)?, &open_directory(aside)?)?,
        _ => {
            let changes = discard.map(|discard| (&discard.upper, &discard.work));
            overlay::mount(lowers, changes.map(|(upper, work)| (&**upper, &**work)), aside)?;
        }
    }
    let stack = Root::new(open_directory(aside)?)?;
    let found = stack.open(source, OFlags::PATH).map_err(|error| missing(source, error))?;
    let tree = clone(&found, "")?;
    let attributes = if discard.is_some() { NO_DEVICES } else { NO_DEVICES | READ_ONLY };
    sys::set_mount_attributes(&tree, attributes, true)?;
    let kind = if is_directory(&found)? { Kind::Directory } else { Kind::File };
    attach(&tree, &root.target(target, kind)?.point)?;
    // The next one may need the place.
    Ok(rustix::mount::unmount(aside, UnmountFlags::DETACH)?)
}

/// Why a source is not there.
fn missing(source: &[u8], error: io::Error) -> io::Error {
    let source = String::from_utf8_lossy(source);
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NOTDIR) => io::Error::other(format!("\"{source}\": not found")),
        Some(Errno::LOOP) => io::Error::other(format!("\"{source}\": too many links")),
        _ => error,
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn is_directory(file: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode).is_dir())
}

/// Mounts a directory or file of ours.
fn directory(path: &Path, root: &mut Root, target: &[u8], read_only: bool) -> io::Result<()> {
    let tree = clone(CWD, path)?;
    let attributes = if read_only { NO_DEVICES | READ_ONLY } else { NO_DEVICES };
    sys::set_mount_attributes(&tree, attributes, true)?;
    let kind = if is_directory(&tree)? { Kind::Directory } else { Kind::File };
    attach(&tree, &root.target(target, kind)?.point)
}

/// Mounts memory. A directory that was there keeps its mode.
fn tmpfs(root: &mut Root, target: &[u8], size: Option<u64>) -> io::Result<()> {
    let target = root.target(target, Kind::Directory)?;
    let mode = if target.existed { rustix::fs::fstat(&target.point)?.st_mode & PERMISSIONS } else { FOR_ALL };
    let mode = format!("{mode:o}");
    let size = size.map(|size| size.to_string());
    let options: Vec<_> =
        [("mode", mode.as_str())].into_iter().chain(size.as_deref().map(|size| ("size", size))).collect();
    attach(&new_file_system("tmpfs", &options, NO_DEVICES | NO_SETUID)?, &target.point)
}

/// Mounts a file that [`Files`] has made.
fn file(tree: &OwnedFd, root: &mut Root, target: &[u8]) -> io::Result<()> {
    attach(tree, &root.target(target, Kind::File)?.point)
}

/// Mounts a socket. Connecting to it needs no writable mount.
fn socket(path: &Path, root: &mut Root, target: &[u8]) -> io::Result<()> {
    let tree = clone(CWD, path)?;
    sys::set_mount_attributes(&tree, NO_DEVICES | NO_SETUID | NO_PROGRAMS | READ_ONLY, false)?;
    attach(&tree, &root.target(target, Kind::File)?.point)
}

/// Files in memory, made in a directory that no command sees.
struct Files<'a> {
    aside: &'a Path,
    /// Whether a supervisor says who the files belong to.
    simulated: bool,
    directory: Option<OwnedFd>,
    made: u32,
}

impl Files<'_> {
    /// A read-only mount of a new file, not attached anywhere yet.
    fn make(&mut self, content: &[u8], mode: u32, owner: (u32, u32)) -> io::Result<OwnedFd> {
        let directory = match self.directory.take() {
            Some(directory) => directory,
            None => memory(self.aside)?,
        };
        let directory = self.directory.insert(directory);
        let name = self.made.to_string();
        self.made += 1;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*directory, &name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = std::fs::File::from(file);
        file.write_all(content)?;
        if !self.simulated {
            let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(unmapped)?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & PERMISSIONS))?;
        // A file that is open for writing cannot be executed.
        drop(file);
        let tree = clone(&*directory, &name)?;
        let mut attributes = NO_DEVICES | NO_SETUID | READ_ONLY;
        attributes.set(NO_PROGRAMS, mode & 0o111 == 0);
        sys::set_mount_attributes(&tree, attributes, false)?;
        Ok(tree)
    }
}

/// A file system in memory: ramfs is never swapped out. A mount has to be attached somewhere before
/// parts of it can be mounted elsewhere.
fn memory(aside: &Path) -> io::Result<OwnedFd> {
    let attributes = NO_DEVICES | NO_SETUID;
    let tree = new_file_system("ramfs", &[("mode", "700")], attributes)
        .or_else(|_| new_file_system("tmpfs", &[("mode", "700")], attributes))?;
    attach(&tree, &open_directory(aside)?)?;
    Ok(tree)
}
