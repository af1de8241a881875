//! The supervisor of a command in a user namespace with one id.
//!
//! To the kernel every process is root and owns every file. What the command sees, and what becomes of
//! its image, is as if users were real. A command that begins as another user than root has the rights of
//! that user, also in what it executes. Where root's command becomes another user, only owners follow: it
//! can still read and write what root can, as looking at each file that root opens would slow down all.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::credential_sets::CredentialSets;
use super::identity_calls::Identities;
use super::notification::{Answer, Handler};
use super::owners::{Owner, Owners};
use super::task::Task;
use super::tracer::Executes;
use super::view::{OwnRoot, View};
use super::{attribute_calls, creation_calls, credential_calls, move_calls, permission_calls};

const SET_ID: u32 = 0o6000;

/// Answers the calls of [`one_id_filter`](super::abi::one_id_filter).
#[derive(Debug)]
pub(super) struct OneId {
    pub(super) sets: Arc<CredentialSets>,
    pub(super) identities: Identities,
    /// Whether users have no more than their rights.
    pub(super) guarded: bool,
}

impl Handler for OneId {
    fn handle(&self, task: &Task<'_>, call: libc::c_long, arguments: &[u64; 6]) -> Answer {
        if call == libc::SYS_chroot {
            self.identities.moved.store(true, Ordering::Relaxed);
        }
        if self.guarded
            && let Err(refused) =
                permission_calls::check(&self.identities.owners, &self.sets, task, call, arguments)
        {
            return Answer::Failed(refused);
        }
        if let Err(errno) = move_calls::note(&self.identities.owners, task, call, arguments) {
            return Answer::Failed(errno);
        }
        let [first, second, _, _, fifth, _] = *arguments;
        match call {
            libc::SYS_execve => self.begins(task, libc::AT_FDCWD, first, 0),
            libc::SYS_execveat => self.begins(task, first as i32, second, fifth as i32),
            _ => {}
        }
        credential_calls::answer(&self.sets, task, call, arguments)
            .or_else(|| self.identities.answer(&self.sets, task, call, arguments))
            .or_else(|| attribute_calls::answer(&self.identities, task, call, arguments))
            .or_else(|| creation_calls::answer(&self.identities.owners, &self.sets, task, call, arguments))
            .unwrap_or(Answer::Continue)
    }
}

impl Executes for OneId {
    fn executes(&self, task: &Task<'_>, directory: i32, path: u64, flags: i32) -> Option<Owner> {
        self.execution(task, directory, path, flags).ok()
    }

    fn executed(&self, process: i32, _program: Option<&[u8]>, owner: Option<Owner>) {
        if let Some(owner) = owner {
            // A process that has just been killed needs no credentials.
            let _ = self.sets.on_exec(process, owner.uid, owner.gid, owner.mode);
        }
    }
}

impl OneId {
    /// A process executes a program: one that is set-id gives it other credentials. What fails here fails
    /// in the kernel as well.
    fn begins(&self, task: &Task<'_>, directory: i32, path: u64, flags: i32) {
        if let Ok(owner) = self.execution(task, directory, path, flags)
            && task.is_waiting()
        {
            // A process that has just been killed needs no credentials.
            let _ = self.sets.on_exec(task.thread(), owner.uid, owner.gid, owner.mode);
        }
    }

    /// Whose the program is that a task wants to execute.
    fn execution(&self, task: &Task<'_>, directory: i32, path: u64, flags: i32) -> Result<Owner, Errno> {
        let path = task.path(path)?;
        let file = if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            task.directory(directory)?
        } else {
            OwnRoot.locate(task, directory, &path, flags & libc::AT_SYMLINK_NOFOLLOW == 0)?.file
        };
        let stat = rustix::fs::fstat(&file)?;
        set_id_owner(&self.identities.owners, &file, &stat)
    }
}

/// The owner of a program with its mode, as far as its set-id bits matter: elsewhere all is 0.
///
/// # Errors
///
/// `EACCES` for what is no program.
pub(super) fn set_id_owner(owners: &Owners, file: &OwnedFd, stat: &Stat) -> Result<Owner, Errno> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
        return Err(Errno::ACCESS);
    }
    if stat.st_mode & SET_ID != 0 && !is_script(file)? {
        return Ok(owners.of(file.as_fd(), stat));
    }
    Ok(Owner { uid: 0, gid: 0, mode: 0 })
}

/// Whether a file is for an interpreter: the kernel pays no attention to the set-id bits of such.
fn is_script(file: impl AsFd) -> Result<bool, Errno> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file.as_fd()));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut head = [0; 2];
    Ok(file.read_exact_at(&mut head, 0).is_ok() && head == *b"#!")
}
