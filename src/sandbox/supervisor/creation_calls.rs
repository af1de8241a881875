//! Calls that make files, where the root is the task's own.
//!
//! The kernel makes every file as root's. That is right for most: only the file of another user, and one
//! in a directory that passes its group on, is made by the supervisor in the caller's place, and marked.
//! A socket that is bound to a path is not: images have no sockets.
//!
//! Sources: open(2), mkdir(2), mknod(2), symlink(2), inode(7).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::credential_sets::CredentialSets;
use super::credentials::Credentials;
use super::notification::Answer;
use super::owners::Owners;
use super::task::Task;

/// The calls that [`answer`] knows, but for those that open files.
pub(super) const CALLS: [libc::c_long; 7] = [
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_openat2,
];

/// The flags by which opening a file may make it. The second is the bit that only `O_TMPFILE` has.
pub(super) const MAKING: [u64; 2] = [libc::O_CREAT as u64, (libc::O_TMPFILE & !libc::O_DIRECTORY) as u64];

/// Links that a path may lead over, as for the kernel.
const LINK_LIMIT: usize = 40;
/// Bytes of the first form of `struct open_how`.
const HOW: usize = 24;
const SET_GID: u32 = 0o2000;
/// The mode bits that a new directory or file may be given.
const GIVEN: u32 = 0o7777;

/// What is to be made.
#[derive(Debug)]
enum Made {
    File(OFlags),
    Directory,
    Node(FileType),
    Link(Vec<u8>),
}

/// A call that makes a file.
#[derive(Debug)]
struct Creation {
    directory: i32,
    path: Vec<u8>,
    mode: u32,
    made: Made,
    resolve: ResolveFlags,
}

/// Where a file is to be made.
struct Place {
    parent: OwnedFd,
    name: Vec<u8>,
}

/// Answers one of [`CALLS`], or one that opens a file; `None` for another.
pub(super) fn answer(
    owners: &Owners,
    sets: &CredentialSets,
    task: &Task<'_>,
    call: libc::c_long,
    arguments: &[u64; 6],
) -> Option<Answer> {
    let creation = match creation(task, call, arguments)? {
        Ok(Some(creation)) => creation,
        // The kernel says what is wrong, or makes nothing.
        Ok(None) | Err(_) => return Some(Answer::Continue),
    };
    Some(make(owners, sets, task, &creation).unwrap_or_else(Answer::Failed))
}

/// Reads what a call asks for. `Ok(None)` for what makes no file that an image can have.
fn creation(
    task: &Task<'_>,
    call: libc::c_long,
    arguments: &[u64; 6],
) -> Option<Result<Option<Creation>, Errno>> {
    const AT: u64 = libc::AT_FDCWD as u64;
    let [first, second, third, fourth, ..] = *arguments;
    let open = |directory: u64, path: u64, flags: u64, mode: u64, resolve: u64| {
        let flags = OFlags::from_bits_retain(flags as u32);
        if flags.contains(OFlags::PATH) || !flags.intersects(OFlags::CREATE | OFlags::TMPFILE) {
            return Ok(None);
        }
        let resolve = ResolveFlags::from_bits_retain(resolve);
        let path = task.path(path)?;
        Ok(Some(Creation {
            directory: directory as i32,
            path,
            mode: mode as u32,
            made: Made::File(flags),
            resolve,
        }))
    };
    let other = |directory: u64, path: u64, mode: u64, made: Made| {
        let path = task.path(path)?;
        let resolve = ResolveFlags::empty();
        Ok(Some(Creation { directory: directory as i32, path, mode: mode as u32, made, resolve }))
    };
    let node = |directory: u64, path: u64, mode: u64| match FileType::from_raw_mode(mode as u32) {
        FileType::CharacterDevice | FileType::BlockDevice => Ok(None),
        _ if mode as u32 & libc::S_IFMT == 0 => {
            other(directory, path, mode, Made::Node(FileType::RegularFile))
        }
        kind => other(directory, path, mode, Made::Node(kind)),
    };
    let link =
        |directory: u64, path: u64, target: u64| other(directory, path, 0, Made::Link(task.path(target)?));
    Some(match call {
        libc::SYS_creat => {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
            open(AT, first, flags.bits().into(), second, 0)
        }
        libc::SYS_open => open(AT, first, second, third, 0),
        libc::SYS_openat => open(first, second, third, fourth, 0),
        libc::SYS_openat2 => {
            let mut how = [0; HOW];
            task.read(third, &mut how).and_then(|()| {
                let (fields, _) = how.as_chunks::<8>();
                let [flags, mode, resolve] = [0, 1, 2].map(|index| u64::from_ne_bytes(fields[index]));
                open(first, second, flags, mode, resolve)
            })
        }
        libc::SYS_mkdir => other(AT, first, second, Made::Directory),
        libc::SYS_mkdirat => other(first, second, third, Made::Directory),
        libc::SYS_mknod => node(AT, first, second),
        libc::SYS_mknodat => node(first, second, third),
        libc::SYS_symlink => link(AT, second, first),
        libc::SYS_symlinkat => link(second, third, first),
        _ => return None,
    })
}

fn make(
    owners: &Owners,
    sets: &CredentialSets,
    task: &Task<'_>,
    creation: &Creation,
) -> Result<Answer, Errno> {
    let credentials = sets.of(task.thread())?;
    let root = credentials.makes_files_of_root();
    if root && !may_pass_on_group(task, creation) {
        return Ok(Answer::Continue);
    }
    // Whatever does not lead to a place for a new file: the kernel says what is wrong, or opens what exists.
    let Ok(Some(place)) = place(task, creation) else { return Ok(Answer::Continue) };
    if root && !passes_on_group(owners, &place) {
        return Ok(Answer::Continue);
    }
    let mode = creation.mode & GIVEN & !task.umask()?;
    if !task.is_waiting() {
        return Err(Errno::SRCH);
    }
    made(owners, &credentials, creation, &place, mode)
}

/// A first look at the directory in which root makes a file: false when it certainly passes no group on.
fn may_pass_on_group(task: &Task<'_>, creation: &Creation) -> bool {
    let thread = task.thread();
    let (parent, _) = split(&creation.path);
    let start = match creation.directory {
        libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
        number => format!("/proc/{thread}/fd/{number}"),
    };
    let path = if parent.starts_with(b"/") {
        [format!("/proc/{thread}/root").as_bytes(), parent].concat()
    } else {
        [start.as_bytes(), b"/", parent].concat()
    };
    match rustix::fs::stat(path) {
        Ok(found) => found.st_mode & SET_GID != 0,
        // The file itself may be a link to elsewhere, but then it exists; or there is no such directory.
        Err(error) => error == Errno::NAMETOOLONG,
    }
}

fn passes_on_group(owners: &Owners, place: &Place) -> bool {
    let Ok(stat) = rustix::fs::fstat(&place.parent) else { return false };
    let owner = owners.of(place.parent.as_fd(), &stat);
    owner.mode & SET_GID != 0 && owner.gid != 0
}

/// The directory and the name in it that a path leads to.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b".", path),
    }
}

/// Finds where a file is to be made; `None` where there is one already, or can be none.
fn place(task: &Task<'_>, creation: &Creation) -> Result<Option<Place>, Errno> {
    let path = match creation.made {
        // The slash after the name of a directory means nothing.
        Made::Directory => without_slashes(&creation.path),
        _ => &creation.path,
    };
    let root = Arc::new(task.root()?);
    // An absolute path needs no directory to start from, and a call with one may name none.
    let confined = ResolveFlags::BENEATH | ResolveFlags::IN_ROOT;
    let mut start = if path.starts_with(b"/") && !creation.resolve.intersects(confined) {
        Arc::clone(&root)
    } else {
        Arc::new(task.directory(creation.directory)?)
    };
    let mut path = path.to_vec();
    if let Made::File(flags) = &creation.made
        && flags.contains(OFlags::TMPFILE)
    {
        let parent = directory(&root, &start, &path, creation.resolve)?;
        return Ok(Some(Place { parent, name: b".".to_vec() }));
    }
    for _ in 0..LINK_LIMIT {
        let (parent, name) = split(&path);
        if name.is_empty() || name == b"." || name == b".." {
            return Ok(None);
        }
        let parent = directory(&root, &start, parent, creation.resolve)?;
        // Its links are other ones for the supervisor, and nobody can make a file there.
        if rustix::fs::fstatfs(&parent)?.f_type == rustix::fs::PROC_SUPER_MAGIC {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(Some(Place { parent, name: name.to_vec() })),
            other => rustix::fs::fstat(other?)?,
        };
        let follows = match &creation.made {
            Made::File(flags) => !flags.intersects(OFlags::EXCL | OFlags::NOFOLLOW),
            _ => false,
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::Symlink || !follows {
            return Ok(None);
        }
        let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
        path = target.into_bytes();
        start = Arc::new(parent);
    }
    Ok(None)
}

/// Opens a directory that a path of a task leads to.
fn directory(root: &OwnedFd, start: &OwnedFd, path: &[u8], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    let from_root = path.starts_with(b"/") && !resolve.contains(ResolveFlags::BENEATH);
    let (base, resolve) = if from_root && !resolve.contains(ResolveFlags::IN_ROOT) {
        (root, resolve | ResolveFlags::IN_ROOT)
    } else {
        (start, resolve)
    };
    rustix::fs::openat2(base, path, flags, Mode::empty(), resolve)
}

/// Makes the file.
fn made(
    owners: &Owners,
    credentials: &Credentials,
    creation: &Creation,
    place: &Place,
    mode: u32,
) -> Result<Answer, Errno> {
    let Place { parent, name } = place;
    let permissions = Mode::from_raw_mode(mode);
    let exists = |error| match (error, &creation.made) {
        // Another process was faster.
        (Errno::EXIST, Made::File(flags)) if !flags.contains(OFlags::EXCL) => Ok(Answer::Continue),
        (error, _) => Err(error),
    };
    match &creation.made {
        Made::File(flags) => {
            let close_on_exec = flags.contains(OFlags::CLOEXEC);
            let mut wanted = *flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
            if !flags.contains(OFlags::TMPFILE) {
                wanted |= OFlags::EXCL;
            }
            let file = match rustix::fs::openat(parent, &name[..], wanted, permissions) {
                Ok(file) => file,
                Err(error) => return exists(error),
            };
            owners.born(file.as_fd(), parent.as_fd(), credentials, mode)?;
            return Ok(Answer::Descriptor { file, close_on_exec });
        }
        Made::Directory => rustix::fs::mkdirat(parent, &name[..], permissions)?,
        Made::Node(kind) => rustix::fs::mknodat(parent, &name[..], *kind, permissions, 0)?,
        Made::Link(target) => rustix::fs::symlinkat(&target[..], parent, &name[..])?,
    }
    let file = new_file(parent.as_fd(), name)?;
    let mode = if matches!(creation.made, Made::Link(_)) { 0o777 } else { mode };
    owners.born(file.as_fd(), parent.as_fd(), credentials, mode)?;
    Ok(Answer::DONE)
}

fn new_file(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// A path without slashes at its end.
pub(super) fn without_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(path.len().min(1), |last| last + 1);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_into_directory_and_name() {
        for (path, directory, name) in [
            (&b"a"[..], &b"."[..], &b"a"[..]),
            (b"/a", b"/", b"a"),
            (b"/a/b", b"/a", b"b"),
            (b"a/", b"a", b""),
            (b"a//b", b"a/", b"b"),
            (b"/", b"/", b""),
        ] {
            assert_eq!(split(path), (directory, name));
        }
        for (path, trimmed) in [("a//", "a"), ("a", "a"), ("/", "/"), ("", ""), ("//", "/")] {
            assert_eq!(without_slashes(path.as_bytes()), trimmed.as_bytes());
        }
    }
}
