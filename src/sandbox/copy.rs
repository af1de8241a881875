//! Copying a file, or a directory with all in it, for where it cannot be mounted.
//!
//! Invariants: no link is followed, and every entry is opened below a descriptor of its directory.
//! Owners, modes, modification times and extended attributes are kept; hard links become files of
//! their own.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

/// Directories that are open at once, twice each. What lies deeper is refused.
const DEPTH: usize = 400;

/// Longest value of an extended attribute, and longest list of their names.
const ATTRIBUTE_LIMIT: usize = 64 << 10;

const PERMISSIONS: u32 = 0o7777;

/// Copies `source`, a directory or regular file that is open for reading, to the new name `name` in
/// `parent`.
///
/// # Errors
///
/// Stops at the first entry that cannot be copied, and at sockets and devices.
pub(super) fn entry(source: &OwnedFd, parent: &OwnedFd, name: &str) -> io::Result<()> {
    match FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            directory(source, &target, DEPTH)
        }
        FileType::RegularFile => {
            let own = rustix::fs::openat(parent, name, NEW_FILE, Mode::RWXU)?;
            file(File::from(source.try_clone()?), File::from(own))
        }
        _ => Err(io::Error::other("it is neither a directory nor a regular file, and is not copied")),
    }
}

const NEW_FILE: OFlags =
    OFlags::CREATE.union(OFlags::EXCL).union(OFlags::WRONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn file(mut from: File, mut to: File) -> io::Result<()> {
    from.rewind()?;
    io::copy(&mut from, &mut to)?;
    settle(&from, &to)
}

/// Copies what is in a directory, and then what the directory itself is.
fn directory(source: &OwnedFd, target: &OwnedFd, depth: usize) -> io::Result<()> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(io::Error::other(format!("directories are nested more than {DEPTH} deep")));
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(source)? {
        let name = entry?.file_name().to_owned();
        if name.to_bytes() != b"." && name.to_bytes() != b".." {
            names.push(name);
        }
    }
    for name in names {
        let name = name.as_c_str();
        let found = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let common = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let flags = common | OFlags::RDONLY | OFlags::DIRECTORY;
                rustix::fs::mkdirat(target, name, Mode::RWXU)?;
                let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
                directory(&from, &rustix::fs::openat(target, name, flags, Mode::empty())?, depth)?;
            }
            FileType::RegularFile => {
                // Not to wait where it has become a fifo since.
                let flags = common | OFlags::RDONLY | OFlags::NONBLOCK;
                let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
                let to = rustix::fs::openat(target, name, NEW_FILE, Mode::RWXU)?;
                file(File::from(from), File::from(to))?;
            }
            FileType::Symlink => {
                let content = rustix::fs::readlinkat(source, name, Vec::new())?;
                rustix::fs::symlinkat(content.as_c_str(), target, name)?;
                own(&found, target, name)?;
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(found.st_mode & PERMISSIONS);
                rustix::fs::mknodat(target, name, FileType::Fifo, mode, 0)?;
                own(&found, target, name)?;
            }
            _ => {
                let name = name.to_string_lossy();
                return Err(io::Error::other(format!("{name} is a socket or a device, which is not copied")));
            }
        }
    }
    settle(source, target)
}

/// Gives an open copy what the original has: attributes, owner, mode, time.
fn settle(source: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let found = rustix::fs::fstat(&source)?;
    // Before the attributes: giving a file away takes its capabilities.
    rustix::fs::fchown(&target, Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)))?;
    let mut names = vec![0; ATTRIBUTE_LIMIT];
    let length = match rustix::fs::flistxattr(&source, &mut names) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; ATTRIBUTE_LIMIT];
        let length = rustix::fs::fgetxattr(&source, name, &mut value)?;
        rustix::fs::fsetxattr(&target, name, &value[..length], rustix::fs::XattrFlags::empty())?;
    }
    rustix::fs::fchmod(&target, Mode::from_raw_mode(found.st_mode & PERMISSIONS))?;
    Ok(rustix::fs::futimens(&target, &times(&found))?)
}

/// Owner and time of what is not opened.
fn own(found: &Stat, directory: &OwnedFd, name: &std::ffi::CStr) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), flags)?;
    Ok(rustix::fs::utimensat(directory, name, &times(found), flags)?)
}

fn times(found: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: found.st_mtime as _, tv_nsec: found.st_mtime_nsec as _ },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn open(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_copy_has_all_that_the_original_has() {
        let base = tempfile::tempdir().unwrap();
        let from = base.path().join("from");
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/file"), "content").unwrap();
        fs::set_permissions(from.join("sub/file"), PermissionsExt::from_mode(0o4751)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        nix::unistd::mkfifo(&from.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        rustix::fs::setxattr(from.join("sub"), "user.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
        fs::set_permissions(from.join("sub"), PermissionsExt::from_mode(0o2750)).unwrap();
        entry(&open(&from), &open(base.path()), "to").unwrap();
        for name in [".", "sub", "sub/file", "link", "fifo"] {
            let [a, b] =
                ["from", "to"].map(|top| fs::symlink_metadata(base.path().join(top).join(name)).unwrap());
            assert_eq!((a.mode(), a.uid(), a.mtime_nsec()), (b.mode(), b.uid(), b.mtime_nsec()), "{name}");
        }
        let to = base.path().join("to");
        assert_eq!(fs::read(to.join("sub/file")).unwrap(), b"content");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), std::path::Path::new("/etc/passwd"));
        let mut value = [0; 1];
        rustix::fs::getxattr(to.join("sub"), "user.x", &mut value).unwrap();
        assert_eq!(&value, b"y");
        entry(&open(&from.join("sub/file")), &open(base.path()), "alone").unwrap();
        let alone = fs::metadata(base.path().join("alone")).unwrap();
        assert_eq!((alone.mode() & 0o7777, alone.len()), (0o4751, 7));
    }

    #[test]
    fn sockets_and_endless_nesting_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let from = base.path().join("from");
        fs::create_dir(&from).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        assert!(entry(&open(&from), &open(base.path()), "a").unwrap_err().to_string().contains("socket"));
        fs::remove_file(from.join("socket")).unwrap();
        let mut deep = open(&from);
        for _ in 0..=DEPTH {
            rustix::fs::mkdirat(&deep, "d", Mode::RWXU).unwrap();
            deep = rustix::fs::openat(&deep, "d", OFlags::RDONLY, Mode::empty()).unwrap();
        }
        assert!(entry(&open(&from), &open(base.path()), "b").unwrap_err().to_string().contains("nested"));
        super::super::remove_tree(&base.path().join("b")).unwrap();
        super::super::remove_tree(&from).unwrap();
    }
}
