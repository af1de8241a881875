//! What is mounted into the root of a command: /proc, /sys, /dev and single files.
//!
//! Invariants:
//! - Mounts are attached to descriptors that were resolved inside the root, never to paths.
//! - What belongs to the host (device nodes, /sys, generated files) is on read-only mounts. A
//!   device on one can be written to, but its mode and owner cannot be changed: a build that host
//!   root started owns the host's nodes, as its ids stand for themselves.
//! - /proc/sys and its like are read-only, and what tells of the host's hardware is masked, for
//!   the same reason.
//!
//! Sources: OCI runtime-spec, `config-linux.md` ("Default Devices", "Masked Paths").

use std::cell::Cell;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::root::{Kind, Root};
use super::sys;

/// Files and directories below /proc that commands may read but not write.
const PROC_READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// What commands do not see below /proc.
pub(super) const PROC_MASKED: [&str; 14] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "vmallocinfo",
];

/// What commands do not see below /sys.
pub(super) const SYS_MASKED: [&str; 8] = [
    "devices/virtual/powercap",
    "firmware",
    "fs/bpf",
    "fs/pstore",
    "kernel/config",
    "kernel/debug",
    "kernel/security",
    "kernel/tracing",
];

/// Device nodes of the host that every root has. The second value says that it may be absent.
pub(super) const DEVICES: [(&str, bool); 6] =
    [("null", false), ("zero", false), ("full", false), ("random", false), ("urandom", false), ("tty", true)];

/// Links of every /dev, with their texts.
pub(super) const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Bytes that a command may put into /dev/shm where nothing else was asked for.
const SHM_SIZE: u64 = 64 << 20;

const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn no_programs() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC
}

/// A new instance of a file system, not attached anywhere yet.
pub(super) fn new_file_system(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&context, *key, *value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A second mount of an existing file or directory with all below it, not attached anywhere yet.
///
/// Always with all below: mounts that came along from a more privileged namespace cannot be
/// uncovered.
pub(super) fn clone(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    Ok(rustix::mount::open_tree(at, path, flags)?)
}

pub(super) fn attach(tree: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", target, "", flags)?)
}

/// Attaches to a name in a directory of a file system that is our own.
fn attach_at(tree: &OwnedFd, directory: &OwnedFd, name: &str) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", directory, name, flags)?)
}

/// The empty file and the empty directory that masked paths are covered with.
pub(super) struct Covers {
    file: OwnedFd,
    directory: OwnedFd,
    /// A mount has to be attached somewhere to be cloned: the first cover is the original.
    attached: Cell<bool>,
}

impl Covers {
    /// `null` is the mounted null device.
    pub(super) fn new(null: OwnedFd) -> io::Result<Self> {
        let attributes = no_programs() | MountAttrFlags::MOUNT_ATTR_RDONLY;
        let directory = new_file_system("tmpfs", &[("mode", "555"), ("size", "4k")], attributes)?;
        Ok(Self { file: null, directory, attached: Cell::new(false) })
    }

    /// Covers those of `names` that exist.
    fn mask(&self, base: &OwnedFd, names: &[&str]) -> io::Result<()> {
        for name in names {
            let target = match rustix::fs::openat(base, *name, PATH, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                other => other?,
            };
            let mode = rustix::fs::fstat(&target)?.st_mode;
            if !rustix::fs::FileType::from_raw_mode(mode).is_dir() {
                attach(&clone(&self.file, "")?, &target)?;
            } else if self.attached.replace(true) {
                attach(&clone(&self.directory, "")?, &target)?;
            } else {
                attach(&self.directory, &target)?;
            }
        }
        Ok(())
    }
}

/// A /proc of this process namespace.
fn own_proc() -> io::Result<OwnedFd> {
    new_file_system("proc", &[], no_programs())
}

/// The /proc around this process namespace, as it is.
fn outer_proc() -> io::Result<OwnedFd> {
    let tree = clone(CWD, "/proc")?;
    sys::set_mount_attributes(&tree, no_programs(), true)?;
    Ok(tree)
}

/// The /sys around this process, read-only.
fn outer_sys() -> io::Result<OwnedFd> {
    let tree = clone(CWD, "/sys")?;
    sys::set_mount_attributes(&tree, no_programs() | MountAttrFlags::MOUNT_ATTR_RDONLY, true)?;
    Ok(tree)
}

/// What commands will lack in namespaces that are made below those of this process.
pub(super) fn remarks() -> Vec<String> {
    let mut remarks = Vec::new();
    if let Err(own) = own_proc() {
        remarks.push(match outer_proc() {
            Ok(_) => format!("commands see the processes of the surrounding container in /proc: mounting a /proc of their own: {own}"),
            Err(outer) => format!("commands have no /proc: mounting one of their own: {own}; mounting the outer one: {outer}"),
        });
    }
    if let Err(error) = outer_sys() {
        remarks.push(format!("commands have an empty /sys: mounting the outer one: {error}"));
    }
    remarks
}

/// Mounts a /proc of this process namespace; where the kernel refuses that, as it does in a
/// container with masked paths, the outer /proc; where it refuses that as well, none.
///
/// Gives the mounted directory, still to be protected.
pub(super) fn proc(root: &mut Root) -> io::Result<Option<OwnedFd>> {
    let target = root.mount_point(b"/proc", Kind::Directory)?;
    let Ok(tree) = own_proc().or_else(|_| outer_proc()) else { return Ok(None) };
    attach(&tree, &target)?;
    Ok(Some(tree))
}

/// Whether a /proc of this process namespace can be mounted.
pub(super) fn try_proc() -> io::Result<()> {
    own_proc().map(drop)
}

/// Mounts a /proc of this process namespace, and no other. Gives the mounted directory.
pub(super) fn proc_of_own(root: &mut Root) -> io::Result<OwnedFd> {
    let target = root.mount_point(b"/proc", Kind::Directory)?;
    let tree = own_proc()?;
    attach(&tree, &target)?;
    Ok(tree)
}

/// Masks parts of /proc, and makes others read-only.
pub(super) fn protect_proc(proc: &OwnedFd, covers: &Covers) -> io::Result<()> {
    for name in PROC_READ_ONLY {
        let target = match rustix::fs::openat(proc, name, PATH, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        let tree = clone(&target, "")?;
        sys::set_mount_attributes(&tree, MountAttrFlags::MOUNT_ATTR_RDONLY, true)?;
        attach(&tree, &target)?;
    }
    covers.mask(proc, &PROC_MASKED)
}

/// Mounts the outer /sys read-only, or leaves it empty where that cannot be had.
pub(super) fn sys(root: &mut Root, covers: &Covers) -> io::Result<()> {
    let target = root.mount_point(b"/sys", Kind::Directory)?;
    // An outer container may have no /sys or forbid this; a writable one is never given.
    let Ok(tree) = outer_sys() else { return Ok(()) };
    attach(&tree, &target)?;
    covers.mask(&tree, &SYS_MASKED)
}

/// Mounts /dev: devices, terminals, shared memory. Gives its directory and the covers for masks.
pub(super) fn dev(root: &mut Root, shm_size: Option<u64>) -> io::Result<(OwnedFd, Covers)> {
    let target = root.mount_point(b"/dev", Kind::Directory)?;
    // With the default mode 1777, writing to a device of another owner is refused.
    let options = [("mode", "755"), ("size", "64m")];
    let dev = new_file_system("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    attach(&dev, &target)?;
    let mut null = None;
    for (name, optional) in DEVICES {
        let node = match clone(CWD, format!("/dev/{name}")) {
            Err(error) if optional && error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        sys::set_mount_attributes(&node, attributes, false)?;
        make_file(&dev, name)?;
        attach_at(&node, &dev, name)?;
        null.get_or_insert(node);
    }
    for (name, content) in LINKS {
        rustix::fs::symlinkat(content, &dev, name)?;
    }
    let size = shm_size.unwrap_or(SHM_SIZE).to_string();
    let shm = new_file_system("tmpfs", &[("mode", "1777"), ("size", &size)], no_programs())?;
    make_directory(&dev, "shm")?;
    attach_at(&shm, &dev, "shm")?;
    make_directory(&dev, "pts")?;
    attach_at(&terminals()?, &dev, "pts")?;
    // Message queues may be left out of a kernel.
    if let Ok(queues) = new_file_system("mqueue", &[], no_programs()) {
        make_directory(&dev, "mqueue")?;
        attach_at(&queues, &dev, "mqueue")?;
    }
    let covers = Covers::new(null.ok_or_else(|| io::Error::from(Errno::NOENT))?)?;
    Ok((dev, covers))
}

pub(super) fn terminals() -> io::Result<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    // Group 5 (tty) may have no id in this namespace.
    new_file_system("devpts", &options, attributes)
        .or_else(|_| new_file_system("devpts", &options[..2], attributes))
}

fn make_file(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o644))?)
}

fn make_directory(directory: &OwnedFd, name: &str) -> io::Result<()> {
    Ok(rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755))?)
}

/// Mounts a file of ours read-only over `target`.
pub(super) fn file(source: &Path, target: &OwnedFd) -> io::Result<()> {
    let tree = clone(CWD, source)?;
    let attributes = no_programs() | MountAttrFlags::MOUNT_ATTR_RDONLY;
    sys::set_mount_attributes(&tree, attributes, false)?;
    attach(&tree, target)
}

/// Mounts a program of the host, which can be executed and nothing else.
pub(super) fn program(source: &Path, target: &OwnedFd) -> io::Result<()> {
    let tree = clone(CWD, source)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_RDONLY;
    sys::set_mount_attributes(&tree, attributes, false)?;
    attach(&tree, target)
}

/// The hosts file with further names.
pub(super) fn hosts_content(source: &Path, extra: &[(String, String)]) -> io::Result<Vec<u8>> {
    let mut content = std::fs::read(source)?;
    if !content.is_empty() && !content.ends_with(b"\n") {
        content.push(b'\n');
    }
    for (name, address) in extra {
        writeln!(content, "{address}\t{name}")?;
    }
    Ok(content)
}

/// Mounts the hosts file with further names over `target`. `dev` holds the file, without a name.
pub(super) fn hosts(
    source: &Path,
    extra: &[(String, String)],
    dev: &OwnedFd,
    target: &OwnedFd,
) -> io::Result<()> {
    if extra.is_empty() {
        return file(source, target);
    }
    let content = hosts_content(source, extra)?;
    let name = ".hosts";
    std::fs::File::from(make_file(dev, name)?).write_all(&content)?;
    let tree = clone(dev, name)?;
    sys::set_mount_attributes(&tree, MountAttrFlags::MOUNT_ATTR_RDONLY, false)?;
    attach(&tree, target)?;
    Ok(rustix::fs::unlinkat(dev, name, AtFlags::empty())?)
}
