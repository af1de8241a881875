//! Process 1 of a command that only its root directory keeps apart.
//!
//! The root is furnished already. Where root may make namespaces, though not one of users, the command
//! has process ids of its own, and with them a /proc; elsewhere it has none: the outer /proc leads out
//! of the root by the processes of the same user.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;

use super::init::{Prepared, check_inside, identity_of, open_cwd};
use super::mounts::{self, Covers};
use super::root::{Kind, Root};
use super::spec::RunSpec;
use super::wire::{Failure, Step};

/// Makes the furnished `directory` the root of this process, which has mount and process namespaces
/// of its own where `apart` says so.
pub(super) fn enter(spec: &RunSpec, directory: OwnedFd, apart: bool) -> Result<Prepared, Failure> {
    let mut root = Root::new(directory).step("opening the root")?;
    let identity = identity_of(spec, &root)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = rustix::fs::openat(root.directory(), "dev/null", flags, Mode::empty());
    let null = null.step("opening /dev/null")?;
    let proc = if apart {
        mount(&mut root)?;
        None
    } else {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Some(rustix::fs::open("/proc", flags, Mode::empty()).step("opening /proc")?)
    };
    let cwd = open_cwd(spec, &mut root)?;
    rustix::process::fchdir(root.directory()).step("fchdir")?;
    rustix::process::chroot(".").step("chroot")?;
    rustix::process::chdir("/").step("chdir")?;
    rustix::process::fchdir(&cwd).step("workdir")?;
    check_inside()?;
    Ok(Prepared { identity, null, ready: None, proc })
}

/// Mounts what a mount namespace allows; it vanishes with this process.
fn mount(root: &mut Root) -> Result<(), Failure> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step("making all mounts private")?;
    let point = root.mount_point(b"/dev/null", Kind::File).step("opening /dev/null")?;
    let null = mounts::clone(&point, "").step("mounting /dev/null")?;
    let covers = Covers::new(null).step("mounting /dev/null")?;
    let proc = mounts::proc_of_own(root).step("mounting /proc")?;
    mounts::protect_proc(&proc, &covers).step("protecting /proc")?;
    mounts::sys(root, &covers).step("mounting /sys")?;
    // Without terminals of their own, programs that want one say so.
    if let Ok(terminals) = mounts::terminals() {
        let point = root.mount_point(b"/dev/pts", Kind::Directory).step("mounting /dev/pts")?;
        mounts::attach(&terminals, &point).step("mounting /dev/pts")?;
    }
    Ok(())
}
