//! [`Inspector`]: what a file in a directory of ours is to an image, and [`Owners`]: who keeps its owner.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::image::{MODE_RECORD, OWNER_RECORD, parse_mode_record, parse_owner_record};

use super::dir_writer::OPAQUE_MARK;
use super::entry::{Entry, EntryKind, Xattrs, keep_xattr};
use super::error::LayerError;
use super::journal::Journal;
use super::path::LayerPath;
use super::tree::Tree;

/// Marks of overlay features that no mount for a step turns on: the upper alone is then not the change.
const UNREADABLE: [&[u8]; 2] = [b"user.overlay.metacopy", b"user.overlay.redirect"];

/// How to find the owners, and modes, of the files that a step left: the counterpart of
/// [`crate::image::Ownership`] for reading.
#[derive(Debug, Clone, Copy)]
pub enum Owners<'a> {
    /// As the kernel says, unless a record says otherwise.
    Kernel,
    /// Root, unless a record or the journal says otherwise.
    Recorded {
        /// What the step did to files that cannot carry a record.
        journal: &'a Journal,
    },
    /// As `Recorded`; a mode may be recorded as well.
    Simulated {
        /// What the step did to files that cannot carry a record.
        journal: &'a Journal,
    },
}

/// A file that moved keeps its owner: device and inode number, and the time of its last change of content.
pub(super) type Identity = (u64, u64, i64, u32);

/// Reads files as entries.
pub(super) struct Inspector<'a> {
    pub(super) owners: Owners<'a>,
    /// The image below; it knows the owners of files that came from there.
    pub(super) below: &'a Tree,
    /// Owners of special files that stood elsewhere.
    pub(super) moved: HashMap<Identity, (u32, u32)>,
    /// Whether marks of overlayfs mean something.
    pub(super) overlay: bool,
}

/// A file as an entry.
pub(super) struct Inspected {
    pub(super) entry: Entry,
    /// Whether it is a directory that overlayfs takes as opaque.
    pub(super) opaque: bool,
    /// Whether it has an access control list, which no layer holds.
    pub(super) access_list: bool,
    /// The file, if it is a regular one.
    pub(super) file: Option<File>,
}

/// What kind of entry a file is; `None` for a socket, which no layer holds.
pub(super) fn kind_of(
    at: BorrowedFd<'_>,
    name: &[u8],
    path: &LayerPath,
    stat: &Stat,
) -> Result<Option<EntryKind>, LayerError> {
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File { size: stat.st_size as u64 },
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(at, name, Vec::new());
            let target = target.map_err(|error| LayerError::io("read", path, error))?;
            EntryKind::Symlink { target: target.into_bytes() }
        }
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => EntryKind::Char { major: device.0, minor: device.1 },
        FileType::BlockDevice => EntryKind::Block { major: device.0, minor: device.1 },
        FileType::Socket => return Ok(None),
        FileType::Unknown => return Err(LayerError::refused(path, "its type is not known")),
    }))
}

impl Inspector<'_> {
    /// Reads the metadata of the file at `name` of an open directory.
    pub(super) fn inspect(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        path: &LayerPath,
        kind: EntryKind,
        stat: &Stat,
    ) -> Result<Inspected, LayerError> {
        let mut entry = Entry {
            path: path.clone(),
            mode: stat.st_mode & 0o7777,
            uid: 0,
            gid: 0,
            mtime: stat.st_mtime,
            xattrs: Xattrs::new(),
            kind,
        };
        if matches!(self.owners, Owners::Kernel) {
            (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
        }
        let mut found = Inspected { entry, opaque: false, access_list: false, file: None };
        if found.entry.is_file() || found.entry.is_directory() {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(at, name, flags, Mode::empty());
            let fd = fd.map_err(|error| LayerError::io("open", path, error))?;
            self.read_records(&fd, path, &mut found)?;
            found.file = found.entry.is_file().then(|| File::from(fd));
        } else if let Owners::Recorded { journal } | Owners::Simulated { journal } = self.owners {
            let owner =
                journal.look_up(at, name, stat.st_ino).or_else(|| self.known_owner(&found.entry, stat));
            (found.entry.uid, found.entry.gid) = owner.unwrap_or_default();
        }
        Ok(found)
    }

    fn read_records(&self, fd: &OwnedFd, path: &LayerPath, found: &mut Inspected) -> Result<(), LayerError> {
        let attributes = read_xattrs(fd.as_fd()).map_err(|error| LayerError::io("read", path, error))?;
        let entry = &mut found.entry;
        for (name, value) in attributes {
            if self.overlay && name == OPAQUE_MARK.to_bytes() {
                found.opaque = value == b"y";
            } else if self.overlay && UNREADABLE.contains(&&name[..]) {
                return Err(LayerError::refused(path, "overlayfs keeps its content elsewhere"));
            } else if name == OWNER_RECORD.to_bytes() && self.is_trusted(entry) {
                (entry.uid, entry.gid) = parse_owner_record(&value)
                    .ok_or_else(|| LayerError::refused(path, "its recorded owner is malformed"))?;
            } else if name == MODE_RECORD.to_bytes() && matches!(self.owners, Owners::Simulated { .. }) {
                entry.mode = parse_mode_record(&value)
                    .ok_or_else(|| LayerError::refused(path, "its recorded mode is malformed"))?;
            } else if name.starts_with(b"system.posix_acl_") {
                found.access_list = true;
            } else if let Some(value) = keep_xattr(&name, &value) {
                entry.xattrs.insert(name, value);
            }
        }
        Ok(())
    }

    /// Whether a record of the owner is ours. Where the kernel keeps owners we write one only to a file that
    /// could not be given away; on a file of another user it is that user's forgery.
    fn is_trusted(&self, entry: &Entry) -> bool {
        !matches!(self.owners, Owners::Kernel) || entry.uid == rustix::process::geteuid().as_raw()
    }

    /// The owner of a special file that is still what the image has, there or elsewhere.
    fn known_owner(&self, entry: &Entry, stat: &Stat) -> Option<(u32, u32)> {
        let below = self.below.linked(&entry.path).filter(|below| below.entry.kind == entry.kind);
        let below = below.map(|below| (below.entry.uid, below.entry.gid));
        below.or_else(|| self.moved.get(&identity(stat)).copied())
    }
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino, stat.st_mtime, stat.st_mtime_nsec as u32)
}

/// Every extended attribute of an open file.
pub(super) fn read_xattrs(fd: BorrowedFd<'_>) -> Result<Xattrs, Errno> {
    let mut small = [0; 1024];
    let mut large = Vec::new();
    let names = match rustix::fs::flistxattr(fd, &mut small[..]) {
        Ok(size) => &small[..size],
        Err(Errno::OPNOTSUPP) => return Ok(Xattrs::new()),
        Err(Errno::RANGE) => {
            large.resize(rustix::fs::flistxattr_query(fd)?, 0);
            let size = rustix::fs::flistxattr(fd, &mut large[..])?;
            &large[..size]
        }
        Err(error) => return Err(error),
    };
    let mut attributes = Xattrs::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; rustix::fs::fgetxattr_query(fd, name)?];
        let size = if value.is_empty() { 0 } else { rustix::fs::fgetxattr(fd, name, &mut value[..])? };
        value.truncate(size);
        attributes.insert(name.to_vec(), value);
    }
    Ok(attributes)
}
