//! Calls that ask for the owner of a file, or change it, where the root is the task's own.
//!
//! A question about a file without record is the kernel's to answer: most files have none, and that there
//! is none is found out by a single call.
//!
//! Sources: chown(2), stat(2), statx(2).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::sys::stat::{self, Fields, STAT_FIELDS, STATX_FIELDS};
use super::credential_sets::CredentialSets;
use super::notification::Answer;
use super::owners::Owners;
use super::task::Task;
use super::view::{OwnRoot, View};
use crate::image::OWNER_RECORD;

/// The calls that [`answer`] knows.
pub(super) const CALLS: [libc::c_long; 9] = [
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
];

/// The id that stands for "as it is".
const KEEP: u32 = u32::MAX;

/// What a call means by its arguments.
pub(super) struct Target {
    directory: i32,
    /// `None`: the directory itself.
    path: Option<Vec<u8>>,
    follow: bool,
}

impl Target {
    /// The file that a directory, a path and the flags of an `*at` call mean.
    pub(super) fn read(task: &Task<'_>, directory: u64, path: u64, flags: i32) -> Result<Self, Errno> {
        let (directory, empty) = (directory as i32, flags & libc::AT_EMPTY_PATH != 0);
        // Since Linux 6.11 no path is as good as an empty one.
        let path = if empty && path == 0 { Vec::new() } else { task.path(path)? };
        let path = if empty && path.is_empty() { None } else { Some(path) };
        Ok(Self { directory, path, follow: flags & libc::AT_SYMLINK_NOFOLLOW == 0 })
    }

    /// The file that a descriptor is open on.
    pub(super) fn descriptor(number: u64) -> Self {
        Self { directory: number as i32, path: None, follow: true }
    }

    /// Opens it as a path.
    pub(super) fn open(&self, task: &Task<'_>) -> Result<OwnedFd, Errno> {
        match &self.path {
            None => task.directory(self.directory),
            Some(path) => Ok(OwnRoot.locate(task, self.directory, path, self.follow)?.file),
        }
    }

    /// A path by which the supervisor reaches the file, as long as no process has another root. What it
    /// leads to may be another file by the links of /proc, so it is good for a first look alone.
    fn glance(&self, task: &Task<'_>) -> Vec<u8> {
        let thread = task.thread();
        let start = match self.directory {
            libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
            number => format!("/proc/{thread}/fd/{number}"),
        };
        match &self.path {
            Some(path) if path.starts_with(b"/") => path.clone(),
            Some(path) => [start.as_bytes(), b"/", path].concat(),
            None => start.into_bytes(),
        }
    }
}

/// Answers calls that are about owners.
#[derive(Debug)]
pub(super) struct Identities {
    pub(super) owners: Arc<Owners>,
    /// A process may have changed its root.
    pub(super) moved: AtomicBool,
}

impl Identities {
    /// Answers one of [`CALLS`]; `None` for another.
    pub(super) fn answer(
        &self,
        sets: &CredentialSets,
        task: &Task<'_>,
        call: libc::c_long,
        arguments: &[u64; 6],
    ) -> Option<Answer> {
        let [first, second, third, fourth, fifth, _] = *arguments;
        const AT: u64 = libc::AT_FDCWD as u64;
        const NO_FOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;
        let chown = |target: Result<Target, Errno>, uid: u64, gid: u64| {
            self.chown(sets, task, &target?, uid as u32, gid as u32)
        };
        let stat = |target: Result<Target, Errno>, at: u64| self.stat(task, &target?, at, None);
        let answer = match call {
            libc::SYS_chown => chown(Target::read(task, AT, first, 0), second, third),
            libc::SYS_lchown => chown(Target::read(task, AT, first, NO_FOLLOW), second, third),
            libc::SYS_fchown => chown(Ok(Target::descriptor(first)), second, third),
            libc::SYS_fchownat => chown(Target::read(task, first, second, fifth as i32), third, fourth),
            libc::SYS_stat => stat(Target::read(task, AT, first, 0), second),
            libc::SYS_lstat => stat(Target::read(task, AT, first, NO_FOLLOW), second),
            libc::SYS_fstat => stat(Ok(Target::descriptor(first)), second),
            libc::SYS_newfstatat => stat(Target::read(task, first, second, fourth as i32), third),
            libc::SYS_statx => Target::read(task, first, second, third as i32)
                .and_then(|target| self.stat(task, &target, fifth, Some((third as i32, fourth as u32)))),
            _ => return None,
        };
        Some(answer.unwrap_or_else(Answer::Failed))
    }

    fn chown(
        &self,
        sets: &CredentialSets,
        task: &Task<'_>,
        target: &Target,
        uid: u32,
        gid: u32,
    ) -> Result<Answer, Errno> {
        let file = match target.open(task) {
            Ok(file) => file,
            // What a link of /proc leads to is a pipe or the like, whose owner is nowhere to be kept.
            Err(Errno::LOOP) if self.is_magic(task, target) => return Ok(Answer::DONE),
            // Says the kernel as well, or says better.
            Err(_) => return Ok(Answer::Continue),
        };
        let credentials = sets.of(task.thread())?;
        if !task.is_waiting() {
            return Err(Errno::SRCH);
        }
        let wanted = |id| (id != KEEP).then_some(id);
        self.owners.chown(file.as_fd(), &credentials, wanted(uid), wanted(gid))?;
        Ok(Answer::DONE)
    }

    /// Whether a path that led nowhere leads over a link of /proc to an open file.
    fn is_magic(&self, task: &Task<'_>, target: &Target) -> bool {
        let Some(path) = &target.path else { return false };
        let base = if path.starts_with(b"/") { task.root() } else { task.directory(target.directory) };
        let Ok(base) = base else { return false };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let all = rustix::fs::openat2(&base, path, flags, Mode::empty(), ResolveFlags::empty());
        // The supervisor may have nothing open by the number that the task means.
        !matches!(all, Err(Errno::LOOP))
    }

    fn stat(
        &self,
        task: &Task<'_>,
        target: &Target,
        at: u64,
        extended: Option<(i32, u32)>,
    ) -> Result<Answer, Errno> {
        if !self.may_be_recorded(task, target) {
            return Ok(Answer::Continue);
        }
        let Ok(file) = target.open(task) else { return Ok(Answer::Continue) };
        let plain = rustix::fs::fstat(&file)?;
        let Some((uid, gid)) = self.owners.recorded(file.as_fd(), &plain) else {
            return Ok(Answer::Continue);
        };
        let mut bytes = match extended {
            Some((flags, mask)) => {
                stat::statx(file.as_fd(), flags & libc::AT_STATX_SYNC_TYPE, mask).map(Vec::from)
            }
            None => stat::stat(file.as_fd()).map(Vec::from),
        }
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let fields = if extended.is_some() { STATX_FIELDS } else { STAT_FIELDS };
        set_owner(&mut bytes, fields, uid, gid);
        if !task.is_waiting() {
            return Err(Errno::SRCH);
        }
        task.write(at, &bytes)?;
        Ok(Answer::DONE)
    }

    /// A first look at a file: false when it certainly has no record.
    pub(super) fn may_be_recorded(&self, task: &Task<'_>, target: &Target) -> bool {
        if self.moved.load(Ordering::Relaxed) || self.owners.has_journal() {
            return true;
        }
        let path = target.glance(task);
        let mut nothing = [0; 0];
        let found = if target.follow {
            rustix::fs::getxattr(path, OWNER_RECORD, &mut nothing)
        } else {
            rustix::fs::lgetxattr(path, OWNER_RECORD, &mut nothing)
        };
        // A path that has become too long for the kernel.
        matches!(found, Ok(_) | Err(Errno::NAMETOOLONG))
    }
}

fn set_owner(bytes: &mut [u8], fields: Fields, uid: u32, gid: u32) {
    for (offset, value) in [(fields.uid, uid), (fields.gid, gid)] {
        bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_put_where_programs_look_for_them() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let expected = rustix::fs::fstat(&file).unwrap();
        let mut plain = stat::stat(file.as_fd()).unwrap();
        let number = |bytes: &[u8], at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(number(&plain, 24), expected.st_mode);
        set_owner(&mut plain, STAT_FIELDS, 7, 8);
        assert_eq!((number(&plain, 28), number(&plain, 32)), (7, 8));
        let mut extended = stat::statx(file.as_fd(), 0, 0x7ff).unwrap();
        assert_eq!(u32::from(u16::from_ne_bytes([extended[28], extended[29]])), expected.st_mode);
        set_owner(&mut extended, STATX_FIELDS, 7, 8);
        assert_eq!((number(&extended, 20), number(&extended, 24)), (7, 8));
    }
}
