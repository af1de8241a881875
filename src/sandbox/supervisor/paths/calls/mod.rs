//! The calls that take paths, by family.

mod create;
mod extended;
mod links;
mod modes;
mod names;
mod open;
mod sockets;
mod stat;
mod status;
mod times;

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::libc;
use rustix::io::Errno;

use super::super::credentials::Credentials;
use super::super::notification::Answer;
use super::super::owners::Owner;
use super::super::task::Task;
use super::Paths;
use super::access::{self, EXECUTE, WRITE};
use super::place::Place;
use super::view::is_directory;
use super::walk::{Entry, Found, Parent};

pub(super) use create::{mkdir, mkdirat, mknod, mknodat};
pub(super) use extended::{
    fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, lgetxattr, listxattr, llistxattr, lremovexattr,
    lsetxattr, removexattr, setxattr,
};
pub(super) use links::{link, linkat, readlink, readlinkat, symlink, symlinkat};
pub(super) use modes::{
    access, chmod, chown, faccessat, faccessat2, fchmod, fchmodat, fchmodat2, fchown, fchownat, lchown,
};
pub(super) use names::{rename, renameat, renameat2, rmdir, unlink, unlinkat};
pub(super) use open::{creat, open, openat};
pub(super) use sockets::{bind, connect, socket};
pub(super) use stat::{fstat, lstat, newfstatat, stat_followed, statx};
pub(super) use status::{getcwd, statfs, truncate};
pub(super) use times::{futimesat, utime, utimensat, utimes};

/// What a call comes to; a failure is its error number.
pub(super) type Outcome = Result<Answer, Errno>;

/// The permissions of a mode, with set-id bits and the sticky bit.
const PERMISSIONS: u32 = 0o7777;

/// A call that is being answered.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) paths: &'a Paths,
    pub(super) task: &'a Task<'a>,
    pub(super) arguments: &'a [u64; 6],
}

impl Call<'_> {
    /// An argument that the kernel takes as an `int`.
    fn int(&self, index: usize) -> i32 {
        self.arguments[index] as i32
    }

    /// An argument that the kernel takes as an `unsigned int`.
    fn unsigned(&self, index: usize) -> u32 {
        self.arguments[index] as u32
    }

    /// The path that an argument points to. To be called once for each.
    fn path(&self, index: usize) -> Result<Vec<u8>, Errno> {
        self.task.path(self.arguments[index])
    }

    /// Who calls.
    fn credentials(&self) -> Result<Arc<Credentials>, Errno> {
        self.paths.identify.credentials(self.task)
    }

    /// What was read of the task was its own only if it still waits.
    fn check_waiting(&self) -> Result<(), Errno> {
        if self.task.is_waiting() { Ok(()) } else { Err(Errno::SRCH) }
    }

    /// Finds an existing file that the caller may reach.
    fn find(&self, directory: i32, path: &[u8], follow: bool) -> Result<Found, Errno> {
        let found = self.paths.view.find(self.task, directory, path, follow)?;
        self.check_waiting()?;
        if let Some(place) = &found.place {
            self.check_search(place)?;
        }
        Ok(found)
    }

    /// Finds a name that the caller may reach.
    fn entry(&self, directory: i32, path: &[u8], follow: bool) -> Result<Entry, Errno> {
        let entry = self.paths.view.entry(self.task, directory, path, follow)?;
        self.check_waiting()?;
        if let Some(place) = &entry.place {
            self.check_search(place)?;
        }
        Ok(entry)
    }

    /// What the caller has open as descriptor `number`.
    fn opened(&self, number: i32) -> Result<Found, Errno> {
        let found = self.paths.view.opened(self.task, number)?;
        self.check_waiting()?;
        Ok(found)
    }

    /// As [`Call::opened`], of what may be changed: not of what fanfold itself gave to the command.
    fn opened_to_change(&self, number: i32) -> Result<Found, Errno> {
        let found = self.opened(number)?;
        let outside = self.paths.view.outside(&found.file)?;
        if found.place.is_none() && outside.starts_with(b"/") && !outside.starts_with(b"/memfd:") {
            return Err(Errno::PERM);
        }
        Ok(found)
    }

    /// The file that a directory, a path and the flags of an `*at` call mean.
    fn target(&self, directory: i32, path: &[u8], flags: i32) -> Result<Found, Errno> {
        if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            if directory == libc::AT_FDCWD {
                return self.find(directory, b".", true);
            }
            return self.opened(directory);
        }
        self.find(directory, path, flags & libc::AT_SYMLINK_NOFOLLOW == 0)
    }

    /// As [`Call::target`], of what may be changed.
    fn target_to_change(&self, directory: i32, path: &[u8], flags: i32) -> Result<Found, Errno> {
        let found = if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 && directory != libc::AT_FDCWD {
            self.opened_to_change(directory)?
        } else {
            self.target(directory, path, flags)?
        };
        self.check_writable(&found)?;
        Ok(found)
    }

    /// Checks that a file does not lie where nothing may be changed.
    fn check_writable(&self, found: &Found) -> Result<(), Errno> {
        found.place.as_ref().map_or(Ok(()), |place| self.paths.view.check_writable(place))
    }

    /// Owner and mode that a file shows.
    fn owner(&self, found: &Found) -> Owner {
        let shown = found.place.as_ref().and_then(|place| self.paths.view.shown_owner(place));
        match shown {
            Some((mode, uid, gid)) => Owner { uid, gid, mode },
            None => self.paths.owners.of(found.file.as_fd(), &found.stat),
        }
    }

    /// Checks that the caller may do all of `wanted` with a file.
    fn check(&self, credentials: &Credentials, found: &Found, wanted: u32) -> Result<(), Errno> {
        // Root needs no look at the records, except to execute.
        if credentials.file_user() == 0 && wanted & EXECUTE == 0 {
            return Ok(());
        }
        access::check(credentials, self.owner(found), is_directory(&found.stat), wanted)
    }

    /// Checks that the caller may search all directories on the way to a place.
    fn check_search(&self, place: &Place) -> Result<(), Errno> {
        let credentials = self.credentials()?;
        if credentials.file_user() == 0 {
            return Ok(());
        }
        for above in place.ancestors() {
            let file = self.paths.view.open(self.task, &above)?;
            let stat = rustix::fs::fstat(&file)?;
            access::check(&credentials, self.paths.owners.of(file.as_fd(), &stat), true, EXECUTE)?;
        }
        Ok(())
    }

    /// Checks that the caller may put names into a directory and take them out.
    fn check_parent(&self, credentials: &Credentials, parent: &Parent) -> Result<(), Errno> {
        self.paths.view.check_writable(&parent.place)?;
        access::check(credentials, self.parent_owner(parent), true, WRITE | EXECUTE)
    }

    fn parent_owner(&self, parent: &Parent) -> Owner {
        self.paths.owners.of(parent.directory.as_fd(), &parent.stat)
    }

    /// The mode of a new file, after the caller's mask.
    fn new_mode(&self, asked: u32) -> Result<u32, Errno> {
        Ok(asked & PERMISSIONS & !self.task.umask()?)
    }
}

/// Success without a result.
fn done<T>(_: T) -> Answer {
    Answer::DONE
}

/// Fails when flags are given that are not `known`.
fn only(flags: i32, known: i32) -> Result<(), Errno> {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::INVAL) }
}
