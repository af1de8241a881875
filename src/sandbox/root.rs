//! A root file system as a descriptor: every path is resolved inside it.
//!
//! Owns: opening and reading files of the root, and making the mount points that it lacks.
//!
//! Invariants:
//! - Links of the root, absolute or with `..`, stay inside; magic links of /proc are refused.
//! - What was made only to be mounted on is recorded, so that it can be removed from the diff.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::Errno;

/// Most bytes of a file that is read from a root (`/etc/passwd`, `/etc/group`).
const FILE_LIMIT: u64 = 1 << 20;

/// As many links as the kernel follows.
const LINK_LIMIT: u32 = 40;

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// A directory or an empty file that was made to be mounted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stub {
    /// Path from the root, without links and without leading slash.
    pub(super) path: Vec<u8>,
    pub(super) directory: bool,
}

/// An open root directory.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
    /// The file system of the root: only what is made on it goes into the diff.
    device: u64,
    stubs: Vec<Stub>,
    /// Directories that no target may lie in, by device and inode number.
    closed: Vec<(u64, u64)>,
}

/// Something to mount on, that a Dockerfile asks for.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) point: OwnedFd,
    /// Whether it was there before.
    pub(super) existed: bool,
}

/// An entry of the root by the directory that it is in.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) parent: OwnedFd,
    pub(super) name: Vec<u8>,
    /// Path from the root, without links and without leading slash.
    pub(super) path: Vec<u8>,
    /// Whether it was there before.
    pub(super) existed: bool,
}

/// Where a walk has ended.
struct Walked {
    entry: OwnedFd,
    /// Where the entry is; nowhere for the root.
    place: Option<Place>,
}

impl Root {
    pub(super) fn new(directory: OwnedFd) -> io::Result<Self> {
        let device = rustix::fs::fstat(&directory)?.st_dev;
        Ok(Self { directory, device, stubs: Vec::new(), closed: Vec::new() })
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// The mount points that were made, in the order of making.
    pub(super) fn stubs(&self) -> &[Stub] {
        &self.stubs
    }

    /// Opens `path` as seen by a process whose root this is.
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"/" } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        // EAGAIN: something was renamed during a resolution that met `..`.
        loop {
            match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Reads a small file of an image, `None` when there is none.
    ///
    /// # Errors
    ///
    /// Refuses what is not a regular file, and more than 1 MiB: the file is the image's.
    pub(super) fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.open(path.as_bytes(), flags) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if !FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_file() {
            return Err(io::Error::other(format!("{path} is not a regular file")));
        }
        let mut content = Vec::new();
        std::fs::File::from(file).take(FILE_LIMIT + 1).read_to_end(&mut content)?;
        if content.len() as u64 > FILE_LIMIT {
            return Err(io::Error::other(format!("{path} is larger than 1 MiB")));
        }
        Ok(Some(content))
    }

    /// The file or directory to mount on for `path`, which is made when it is missing.
    pub(super) fn mount_point(&mut self, path: &[u8], kind: Kind) -> io::Result<OwnedFd> {
        let found = match self.open(path, OFlags::PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.walk(path, kind)?.entry,
            other => other?,
        };
        let is_directory = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) == FileType::Directory;
        match (kind, is_directory) {
            (Kind::Directory, false) => Err(Errno::NOTDIR.into()),
            (Kind::File, true) => Err(Errno::ISDIR.into()),
            _ => Ok(found),
        }
    }

    /// Lets no [`Root::target`] lie in the directory at `path`.
    pub(super) fn close(&mut self, path: &[u8]) -> io::Result<()> {
        let found = rustix::fs::fstat(self.open(path, OFlags::PATH)?)?;
        self.closed.push((found.st_dev, found.st_ino));
        Ok(())
    }

    /// As [`Root::mount_point`], for a path that a Dockerfile names.
    ///
    /// # Errors
    ///
    /// Refuses the root, what lies in a closed directory, and what is of the other kind. Errors of
    /// this sort carry a text instead of an error number.
    pub(super) fn target(&mut self, path: &[u8], kind: Kind) -> io::Result<Target> {
        let (point, place) = self.find(path, kind)?;
        Ok(Target { point, existed: place.existed })
    }

    /// As [`Root::target`], for what is put there without a mount.
    pub(super) fn place(&mut self, path: &[u8], kind: Kind) -> io::Result<Place> {
        Ok(self.find(path, kind)?.1)
    }

    fn find(&mut self, path: &[u8], kind: Kind) -> io::Result<(OwnedFd, Place)> {
        let Walked { entry, place } = self.walk(path, kind).map_err(explain)?;
        let Some(place) = place else {
            return Err(io::Error::other("nothing can be mounted on the root"));
        };
        let is_directory = FileType::from_raw_mode(rustix::fs::fstat(&entry)?.st_mode).is_dir();
        match (kind, is_directory) {
            (Kind::Directory, false) => {
                Err(io::Error::other("a directory cannot be mounted on it: it is a file"))
            }
            (Kind::File, true) => Err(io::Error::other("a file cannot be mounted on it: it is a directory")),
            _ => Ok((entry, place)),
        }
    }

    /// Walks `path` one name at a time, follows links inside the root, and makes what is missing.
    ///
    /// Each name is opened without following it, and `..` goes back to the directory that was come
    /// from: the walk cannot be led out, also where it crosses a mount in which another command is
    /// at work.
    fn walk(&mut self, path: &[u8], kind: Kind) -> io::Result<Walked> {
        let mut existed = true;
        let mut stack = vec![self.directory.try_clone()?];
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut queue = components(path);
        let mut links = 0;
        while let Some(name) = queue.pop_front() {
            if name == b".." {
                names.pop();
                stack.truncate(names.len() + 1);
                continue;
            }
            let parent = stack.last().expect("the root stays on the stack");
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let entry = match rustix::fs::openat(parent, &name, flags, Mode::empty()) {
                Err(Errno::NOENT) => {
                    let directory = kind == Kind::Directory || !queue.is_empty();
                    let entry = make_entry(parent, &name, directory)?;
                    if rustix::fs::fstat(parent)?.st_dev == self.device {
                        self.stubs.push(Stub { path: joined(&names, &name), directory });
                    }
                    existed = false;
                    entry
                }
                other => {
                    existed = true;
                    other?
                }
            };
            let found = rustix::fs::fstat(&entry)?;
            if self.closed.contains(&(found.st_dev, found.st_ino)) {
                return Err(io::Error::other("nothing can be mounted in /proc or /sys"));
            }
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Symlink => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(Errno::LOOP.into());
                    }
                    let target = rustix::fs::readlinkat(&entry, "", Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        names.clear();
                        stack.truncate(1);
                    }
                    for name in components(&target).into_iter().rev() {
                        queue.push_front(name);
                    }
                }
                FileType::Directory => {
                    names.push(name);
                    stack.push(entry);
                }
                _ if queue.is_empty() => {
                    let parent = stack.pop().expect("the root stays on the stack");
                    let path = joined(&names, &name);
                    return Ok(Walked { entry, place: Some(Place { parent, name, path, existed }) });
                }
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        let entry = stack.pop().expect("the root stays on the stack");
        let place = stack.pop().zip(names.pop()).map(|(parent, name)| {
            let path = joined(&names, &name);
            Place { parent, name, path, existed }
        });
        Ok(Walked { entry, place })
    }
}

/// The path of `name` in the directory that `names` lead to.
fn joined(names: &[Vec<u8>], name: &[u8]) -> Vec<u8> {
    let mut path = names.join(&b'/');
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Says in words why a path of a Dockerfile cannot be mounted on.
fn explain(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::NOTDIR) => io::Error::other("a part of the path is a file"),
        Some(Errno::LOOP) => io::Error::other("there are too many links on the way"),
        Some(Errno::ROFS) => {
            io::Error::other("it does not exist, and cannot be made, as it lies in what is mounted read-only")
        }
        _ => error,
    }
}

/// The names of a path; `.` and empty ones mean nothing.
fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Makes an empty file or directory without changing its parent's modification time. In a cache
/// that others use, one of them may have been first.
fn make_entry(parent: &OwnedFd, name: &[u8], directory: bool) -> io::Result<OwnedFd> {
    let before = rustix::fs::fstat(parent)?;
    let made = if directory {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    match made {
        Err(Errno::EXIST) => {}
        other => {
            other?;
            restore_mtime(parent, &before)?;
        }
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Gives a directory back the modification time that it had.
pub(super) fn restore_mtime(directory: &OwnedFd, before: &Stat) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: before.st_mtime as _, tv_nsec: before.st_mtime_nsec as _ },
    };
    Ok(rustix::fs::utimensat(directory, ".", &times, AtFlags::empty())?)
}

/// Removes mount points from the `upper` directory after the step, last made first, and keeps the
/// modification times of their parents.
///
/// Gives back those that are no longer where they were made. A directory that the step has put
/// something into is part of the layer, and stays.
pub(super) fn remove_stubs(upper: &Path, stubs: &[Stub]) -> Vec<Vec<u8>> {
    let remove = |stub: &Stub| -> io::Result<()> {
        let (parent, name) = match stub.path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&stub.path[..slash], &stub.path[slash + 1..]),
            None => (&b"."[..], &stub.path[..]),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let upper = rustix::fs::open(upper, flags, Mode::empty())?;
        // The step may have replaced any of the names by a link.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let parent = rustix::fs::openat2(&upper, parent, flags, Mode::empty(), resolve)?;
        let before = rustix::fs::fstat(&parent)?;
        if stub.directory {
            match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY) => return Ok(()),
                other => other?,
            }
        } else {
            let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if !FileType::from_raw_mode(found.st_mode).is_file() || found.st_size != 0 {
                return Err(Errno::EXIST.into());
            }
            rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
        }
        restore_mtime(&parent, &before)
    };
    let left = stubs.iter().rev().filter(|stub| remove(stub).is_err());
    left.map(|stub| stub.path.clone()).collect()
}

/// Makes the bottom-most lower directory of every root: the mount points that a root needs, so
/// that they never have to be made in a step's upper directory.
///
/// # Errors
///
/// Fails when the directories cannot be made; existing ones are kept.
pub fn prepare_stubs(directory: &Path) -> io::Result<()> {
    let epoch = Timespec { tv_sec: 0, tv_nsec: 0 };
    let epoch = Timestamps { last_access: epoch, last_modification: epoch };
    for name in ["proc", "sys", "dev", "etc"] {
        std::fs::create_dir_all(directory.join(name))?;
    }
    for name in ["etc/resolv.conf", "etc/hosts"] {
        let mut file = std::fs::OpenOptions::new();
        file.create(true).truncate(false).write(true).open(directory.join(name))?;
    }
    for name in ["etc/resolv.conf", "etc/hosts", "proc", "sys", "dev", "etc", "."] {
        rustix::fs::utimensat(CWD, directory.join(name), &epoch, AtFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let open = rustix::fs::open(
            directory.path(),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
        (directory, Root::new(open).unwrap())
    }

    #[test]
    fn links_stay_inside() {
        let (directory, root) = root();
        let path = directory.path();
        fs::create_dir(path.join("etc")).unwrap();
        fs::write(path.join("etc/real"), "inside").unwrap();
        symlink("/etc/real", path.join("etc/passwd")).unwrap();
        symlink("../../../../../../etc/real", path.join("up")).unwrap();
        symlink("/etc/hostname", path.join("out")).unwrap();
        symlink("loop", path.join("loop")).unwrap();
        assert_eq!(root.read("/etc/passwd").unwrap().unwrap(), b"inside");
        assert_eq!(root.read("/up").unwrap().unwrap(), b"inside");
        assert_eq!(root.read("/out").unwrap(), None);
        assert_eq!(root.read("/etc/real/x").unwrap(), None);
        assert!(root.read("/loop").is_err());
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let (directory, root) = root();
        let path = directory.path();
        fs::create_dir(path.join("directory")).unwrap();
        nix::unistd::mkfifo(&path.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::File::create(path.join("big")).unwrap().set_len(10 << 30).unwrap();
        for name in ["directory", "fifo", "big"] {
            assert!(root.read(name).is_err(), "{name}");
        }
    }

    #[test]
    fn mount_points_are_made_and_removed_without_a_trace() {
        let (directory, mut root) = root();
        let path = directory.path();
        fs::create_dir(path.join("etc")).unwrap();
        symlink("../run/deep/resolv.conf", path.join("etc/resolv.conf")).unwrap();
        symlink("/../../../../../../outside", path.join("etc/hosts")).unwrap();
        let mtime = |name: &str| fs::metadata(path.join(name)).unwrap().mtime_nsec();
        let before = (mtime("."), mtime("etc"));
        root.mount_point(b"/etc/resolv.conf", Kind::File).unwrap();
        root.mount_point(b"etc/hosts", Kind::File).unwrap();
        root.mount_point(b"/proc", Kind::Directory).unwrap();
        assert!(path.join("run/deep/resolv.conf").is_file());
        assert!(path.join("outside").is_file());
        assert!(path.join("proc").is_dir());
        assert_eq!(root.stubs().len(), 5);
        assert_eq!(before, (mtime("."), mtime("etc")));
        assert_eq!(remove_stubs(path, root.stubs()), Vec::<Vec<u8>>::new());
        assert!(!path.join("run").exists() && !path.join("outside").exists());
        assert_eq!(before, (mtime("."), mtime("etc")));
    }

    #[test]
    fn removal_of_stubs_follows_no_link() {
        let (directory, mut root) = root();
        let path = directory.path();
        let canary = tempfile::tempdir().unwrap();
        fs::write(canary.path().join("file"), "").unwrap();
        root.mount_point(b"/made/file", Kind::File).unwrap();
        fs::remove_dir_all(path.join("made")).unwrap();
        symlink(canary.path(), path.join("made")).unwrap();
        assert_eq!(remove_stubs(path, root.stubs()).len(), 2);
        assert!(canary.path().join("file").exists());
    }

    #[test]
    fn targets_stay_inside_and_leave_no_trace() {
        let (directory, mut root) = root();
        let path = directory.path();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(path.join("srv/there")).unwrap();
        fs::create_dir(path.join("proc")).unwrap();
        fs::write(path.join("file"), "").unwrap();
        symlink(outside.path(), path.join("absolute")).unwrap();
        symlink("../../../..", path.join("up")).unwrap();
        symlink("proc", path.join("kernel")).unwrap();
        symlink("loop", path.join("loop")).unwrap();
        root.close(b"/proc").unwrap();
        for (target, kind, want) in [
            ("/", Kind::Directory, Err("on the root")),
            ("/up", Kind::Directory, Err("on the root")),
            ("/srv/..", Kind::Directory, Err("on the root")),
            ("/proc", Kind::Directory, Err("/proc or /sys")),
            ("/proc/x", Kind::File, Err("/proc or /sys")),
            ("/kernel/x", Kind::File, Err("/proc or /sys")),
            ("/loop/x", Kind::File, Err("too many links")),
            ("/file/x", Kind::File, Err("is a file")),
            ("/file", Kind::Directory, Err("it is a file")),
            ("/srv", Kind::File, Err("it is a directory")),
            ("/srv/there", Kind::Directory, Ok(true)),
            ("/file", Kind::File, Ok(true)),
            ("/srv/new/file", Kind::File, Ok(false)),
            ("/srv/new", Kind::Directory, Ok(true)),
            ("/absolute/in", Kind::Directory, Ok(false)),
            ("/up/made", Kind::Directory, Ok(false)),
        ] {
            let found = root.target(target.as_bytes(), kind);
            match (&found, want) {
                (Ok(found), Ok(existed)) => assert_eq!(found.existed, existed, "{target}"),
                (Err(error), Err(text)) => {
                    assert!(error.to_string().contains(text) && error.raw_os_error().is_none(), "{target}");
                }
                _ => panic!("{target}: {found:?}"),
            }
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(path.join("made").is_dir());
        assert_eq!(remove_stubs(path, root.stubs()), Vec::<Vec<u8>>::new());
        assert!(!path.join("made").exists() && !path.join("srv/new").exists());
        assert!(path.join("srv/there").exists() && path.join("absolute").is_symlink());
    }

    #[test]
    fn wrong_kinds_are_refused() {
        let (directory, mut root) = root();
        fs::write(directory.path().join("proc"), "").unwrap();
        fs::create_dir(directory.path().join("hosts")).unwrap();
        assert!(root.mount_point(b"/proc", Kind::Directory).is_err());
        assert!(root.mount_point(b"/hosts", Kind::File).is_err());
    }
}
