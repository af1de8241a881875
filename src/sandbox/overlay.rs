//! Overlay mounts over the directories of layers, and the probe that tells whether they work.
//!
//! Every mount has `userxattr`, without which removals in a user namespace go wrong, and
//! `volatile`, as an upper directory is used once: the kernel then neither flushes the file system
//! when the mount ends nor on each fsync of a command.
//!
//! Sources: the kernel's `filesystems/overlayfs.rst`.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags};

/// Most lower directories that the kernel takes.
pub(super) const LOWER_LIMIT: usize = 500;

/// Overlay mounts cannot be used in a directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// The directory itself lies on an overlay, such as the root of a container.
    #[error(
        "overlay: upper directory is on overlayfs, which the kernel refuses; put the state \
         directory on a volume or tmpfs"
    )]
    UpperOnOverlay,
    /// The mount failed.
    #[error("overlay: mount: {0}")]
    Mount(io::Error),
    /// The mount works, but not what builds do in it.
    #[error("overlay: {step}: {source}")]
    Broken {
        /// What was tried.
        step: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

/// Where the changes of an overlay go: the upper directory, and one for the kernel's own use.
pub(super) type Changes<'a> = Option<(&'a Path, &'a Path)>;

/// Mounts an overlay on `merged`. The lower directories come lowest first; without a place for
/// changes there are at least two.
pub(super) fn mount(lowers: &[PathBuf], changes: Changes<'_>, merged: &Path) -> io::Result<()> {
    match mount_by_descriptor(lowers, changes, merged) {
        // The option `lowerdir+` is newer than overlay mounts in user namespaces are.
        Err(Errno::INVAL | Errno::NOSYS) => mount_by_options(lowers, changes, merged),
        result => result.map_err(io::Error::from),
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A name for an open directory that is short, whatever its path: one value is limited to 255
/// bytes, and commands can see it in /proc/self/mountinfo.
fn name(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

fn mount_by_descriptor(lowers: &[PathBuf], changes: Changes<'_>, merged: &Path) -> Result<(), Errno> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", "fanfold")?;
    rustix::mount::fsconfig_set_flag(&context, "userxattr")?;
    for lower in lowers.iter().rev() {
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", name(&open(lower)?))?;
    }
    if let Some((upper, work)) = changes {
        rustix::mount::fsconfig_set_flag(&context, "volatile")?;
        for (key, path) in [("upperdir", upper), ("workdir", work)] {
            rustix::mount::fsconfig_set_string(&context, key, name(&open(path)?))?;
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    let tree = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", CWD, merged, flags)
}

/// The options are limited to one page, so the directories are named by descriptor numbers, from
/// inside /proc/self/fd.
fn mount_by_options(lowers: &[PathBuf], changes: Changes<'_>, merged: &Path) -> io::Result<()> {
    let lowers = lowers.iter().rev().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let changes = changes.map(|(upper, work)| Ok::<_, Errno>((open(upper)?, open(work)?))).transpose()?;
    let merged = open(merged)?;
    let numbers: Vec<String> = lowers.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut options = format!("userxattr,lowerdir={}", numbers.join(":"));
    if let Some((upper, work)) = &changes {
        let (upper, work) = (upper.as_raw_fd(), work.as_raw_fd());
        options.push_str(&format!(",volatile,upperdir={upper},workdir={work}"));
    }
    let options = std::ffi::CString::new(options)?;
    let back = open(Path::new("."))?;
    rustix::process::chdir("/proc/self/fd")?;
    let target = merged.as_raw_fd().to_string();
    let result =
        rustix::mount::mount("fanfold", target, "overlay", MountFlags::empty(), Some(options.as_c_str()));
    rustix::process::fchdir(&back)?;
    Ok(result?)
}

/// Checks in `directory` that an overlay mount does what builds need: it is mounted, a directory
/// with content is removed in it and made again, and the upper directory then says that the lower
/// one's content is hidden.
///
/// Call it inside the entered namespaces. Nothing is left behind.
///
/// # Errors
///
/// Says which of the three failed. A kernel before 5.11 fails the first, an overlay without
/// `userxattr` the second.
pub fn probe_overlay(directory: &Path) -> Result<(), OverlayError> {
    let base = tempfile::TempDir::new_in(directory)
        .map_err(|source| OverlayError::Broken { step: "temporary directory", source })?;
    probe_overlay_in(base.path())
}

/// The same in an empty directory, in which something is left.
///
/// # Errors
///
/// As [`probe_overlay`].
pub fn probe_overlay_in(base: &Path) -> Result<(), OverlayError> {
    let broken = |step| move |source: io::Error| OverlayError::Broken { step, source };
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| base.join(name));
    for path in [&lower.join("dir/sub"), &upper, &work, &merged] {
        fs::create_dir_all(path).map_err(broken("temporary directory"))?;
    }
    fs::write(lower.join("dir/sub/file"), "x").map_err(broken("temporary directory"))?;
    if let Err(error) = mount(&[lower], Some((&upper, &work)), &merged) {
        return Err(if on_overlay(&upper) {
            OverlayError::UpperOnOverlay
        } else {
            OverlayError::Mount(error)
        });
    }
    let result = use_overlay(&upper, &merged);
    let unmounted = rustix::mount::unmount(&merged, UnmountFlags::empty())
        .map_err(|error| broken("umount")(error.into()));
    result.and(unmounted)
}

fn use_overlay(upper: &Path, merged: &Path) -> Result<(), OverlayError> {
    let broken = |step| move |source: io::Error| OverlayError::Broken { step, source };
    fs::remove_dir_all(merged.join("dir")).map_err(broken("removing a lower directory"))?;
    fs::create_dir(merged.join("dir")).map_err(broken("making a removed directory again"))?;
    let mut value = [0; 1];
    let read = rustix::fs::lgetxattr(upper.join("dir"), "user.overlay.opaque", &mut value)
        .map_err(|error| broken("reading user.overlay.opaque")(error.into()))?;
    if read == 1 && &value == b"y" {
        return Ok(());
    }
    Err(broken("reading user.overlay.opaque")(io::Error::other("unexpected value")))
}

fn on_overlay(path: &Path) -> bool {
    rustix::fs::statfs(path)
        .is_ok_and(|found| found.f_type as libc::c_long == libc::OVERLAYFS_SUPER_MAGIC as libc::c_long)
}

/// Explains a failed mount of a step's root.
pub(super) fn explain(error: io::Error, upper: &Path) -> io::Error {
    if on_overlay(upper) {
        return io::Error::other(OverlayError::UpperOnOverlay);
    }
    error
}
