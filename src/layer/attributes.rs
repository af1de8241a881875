//! [`Attributes`]: gives files of a layer's directory their owners, modes, times and extended attributes.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::image::{MODE_RECORD, OWNER_RECORD, Ownership, mode_record, owner_record, workable_mode};

use super::entry::{Entry, EntryKind, is_reserved};
use super::error::LayerError;
use super::path::LayerPath;

/// How files below one directory get their attributes.
#[derive(Debug)]
pub(super) struct Attributes {
    ownership: Ownership,
    /// The owner that new files have by themselves; `None` when the directory passes its group on.
    own: Option<(u32, u32)>,
    /// Which bits of the mode that it is made with a new file keeps; `None` where that is unknown.
    kept: Option<u32>,
    unwritten: Vec<LayerPath>,
}

impl Attributes {
    /// For files below `root`.
    pub(super) fn new(root: BorrowedFd<'_>, ownership: Ownership) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(root)?;
        let inherits = stat.st_mode & Mode::SGID.as_raw_mode() != 0;
        let group = rustix::process::getegid().as_raw();
        let own = (!inherits).then(|| (rustix::process::geteuid().as_raw(), group));
        Ok(Self { ownership, own, kept: kept_bits(root), unwritten: Vec::new() })
    }

    /// The same, for another thread.
    pub(super) fn another(&self) -> Self {
        Self { unwritten: Vec::new(), ..*self }
    }

    /// For a directory in which files stand already: every file is given its owner, since none has
    /// it by itself.
    pub(super) fn over_others(self) -> Self {
        Self { own: None, ..self }
    }

    /// Notes that a path lacks something.
    pub(super) fn lacks(&mut self, path: &LayerPath) {
        self.unwritten.push(path.clone());
    }

    /// The paths that the file system or the user namespace refused a part of.
    pub(super) fn take_unwritten(&mut self) -> Vec<LayerPath> {
        std::mem::take(&mut self.unwritten)
    }

    /// The mode to make a new file with, to be followed by [`Attributes::describe_new`]: its own where
    /// nothing comes afterwards that needs another.
    pub(super) fn first_mode(&self, entry: &Entry) -> Mode {
        let mode = if self.is_plain(entry) { entry.mode & 0o777 } else { 0o600 };
        Mode::from_raw_mode(mode as RawMode)
    }

    /// As [`Attributes::describe`], for a file that was just made with [`Attributes::first_mode`].
    pub(super) fn describe_new(&mut self, file: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
        if self.is_plain(entry) { set_times(file, entry) } else { self.describe(file, entry) }
    }

    /// Whether a new file needs nothing but its time.
    fn is_plain(&self, entry: &Entry) -> bool {
        let mode = entry.mode & 0o7777;
        mode & 0o7000 == 0
            && self.kept.is_some_and(|kept| mode & !kept == 0)
            && mode == self.mode_on_disk(entry)
            && entry.xattrs.is_empty()
            && self.has_owner(entry)
    }

    fn mode_on_disk(&self, entry: &Entry) -> u32 {
        match self.ownership {
            Ownership::Simulated => workable_mode(entry.mode, entry.is_directory()),
            _ => entry.mode & 0o7777,
        }
    }

    /// Whether a new file has the entry's owner without anything being done.
    fn has_owner(&self, entry: &Entry) -> bool {
        let by_itself = if self.ownership == Ownership::Kernel { self.own } else { Some((0, 0)) };
        by_itself == Some((entry.uid, entry.gid))
    }

    /// Sets owner, extended attributes, mode and time, in the order in which none undoes another: a
    /// change of owner clears capabilities, and a file that its owner cannot write takes no attribute.
    pub(super) fn describe(&mut self, file: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
        let failed = |action, error: Errno| LayerError::io(action, &entry.path, error);
        self.give_owner(file, entry)?;
        for (name, value) in &entry.xattrs {
            // What means something to us or to overlayfs is never taken from an entry.
            let set = if is_reserved(name) {
                Err(Errno::PERM)
            } else {
                rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty())
            };
            match set {
                Ok(()) => {}
                Err(Errno::PERM | Errno::OPNOTSUPP) => self.unwritten.push(entry.path.clone()),
                Err(error) => return Err(failed("set an extended attribute of", error)),
            }
        }
        let mut on_disk = self.mode_on_disk(entry);
        rustix::fs::fchmod(file, Mode::from_raw_mode(on_disk as RawMode))
            .map_err(|error| failed("set the mode of", error))?;
        if self.ownership == Ownership::Simulated {
            if on_disk & 0o7000 != 0 {
                // The kernel drops setgid silently for users outside of the group.
                let stat = rustix::fs::fstat(file).map_err(|error| failed("set the mode of", error))?;
                on_disk = stat.st_mode & 0o7777;
            }
            if on_disk != entry.mode & 0o7777 {
                let record = mode_record(entry.mode);
                rustix::fs::fsetxattr(file, MODE_RECORD, record.as_bytes(), XattrFlags::empty())
                    .map_err(|error| failed("record the mode of", error))?;
            }
        }
        set_times(file, entry)
    }

    /// Gives a file its owner, or records it.
    fn give_owner(&self, file: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
        let failed = |action, error: Errno| LayerError::io(action, &entry.path, error);
        if self.has_owner(entry) {
            return Ok(());
        }
        if self.ownership == Ownership::Kernel {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            match rustix::fs::fchown(file, Some(uid), Some(gid)) {
                Ok(()) => return Ok(()),
                // The namespace has no such id: keep it where the scan of an upper finds it.
                Err(Errno::PERM | Errno::INVAL) => {}
                Err(error) => return Err(failed("set the owner of", error)),
            }
        }
        let record = owner_record(entry.uid, entry.gid, entry.mode);
        rustix::fs::fsetxattr(file, OWNER_RECORD, record.as_bytes(), XattrFlags::empty())
            .map_err(|error| failed("record the owner of", error))
    }

    /// As [`Attributes::describe`], for what cannot be opened, at a name of an open directory. The name
    /// was made by the caller in a directory of its own, so it is what the entry says.
    pub(super) fn describe_by_name(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let failed = |action, error: Errno| LayerError::io(action, &entry.path, error);
        let symlink = matches!(entry.kind, EntryKind::Symlink { .. });
        // Nothing can be recorded on these: their owner stands in the index.
        if self.ownership == Ownership::Kernel && !self.has_owner(entry) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            match rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) => {}
                // No user attribute can stand here; the index knows the owner.
                Err(Errno::PERM | Errno::INVAL) => self.unwritten.push(entry.path.clone()),
                Err(error) => return Err(failed("set the owner of", error)),
            }
        }
        if !symlink {
            let mode = Mode::from_raw_mode(entry.mode as RawMode);
            rustix::fs::chmodat(at, name, mode, AtFlags::empty())
                .map_err(|error| failed("set the mode of", error))?;
        }
        rustix::fs::utimensat(at, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed("set the time of", error))
    }
}

/// Tries out which bits of a mode the mask of this process, or an access list of the directory, leaves
/// to new files, with a file that never gets a name.
fn kept_bits(directory: BorrowedFd<'_>) -> Option<u32> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, ".", flags, Mode::from_raw_mode(0o777)).ok()?;
    Some(rustix::fs::fstat(&file).ok()?.st_mode & 0o777)
}

fn set_times(file: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
    rustix::fs::futimens(file, &times(entry))
        .map_err(|error| LayerError::io("set the time of", &entry.path, error))
}

/// Both times from the entry: the time of access must not tell when a layer was unpacked.
fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
