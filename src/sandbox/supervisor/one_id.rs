//! The supervisor of a command in a user namespace with one id.
//!
//! To the kernel every process is root and owns every file. What the command sees, and what becomes of
//! its image, is as if users were real. A command that begins as another user than root has the rights of
//! that user, also in what it executes. Where root's command becomes another user, only owners follow: it
//! can still read and write what root can, as looking at each file that root opens would slow down all.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::credential_sets::CredentialSets;
use super::identity_calls::Identities;
use super::notification::{Answer, Handler};
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
            libc::SYS_execve => self.executes(task, libc::AT_FDCWD, first, 0),
            libc::SYS_execveat => self.executes(task, first as i32, second, fifth as i32),
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
    fn executes(&self, task: &Task<'_>, directory: i32, path: u64, flags: i32) {
        OneId::executes(self, task, directory, path, flags);
    }
}

impl OneId {
    /// A process executes a program: one that is set-id gives it other credentials. What fails here fails
    /// in the kernel as well.
    fn executes(&self, task: &Task<'_>, directory: i32, path: u64, flags: i32) {
        let _ = self.execution(task, directory, path, flags);
    }

    fn execution(&self, task: &Task<'_>, directory: i32, path: u64, flags: i32) -> Result<(), Errno> {
        let path = task.path(path)?;
        let file = if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            task.directory(directory)?
        } else {
            OwnRoot.locate(task, directory, &path, flags & libc::AT_SYMLINK_NOFOLLOW == 0)?.file
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
            return Ok(());
        }
        let mut owner = (0, 0, 0);
        if stat.st_mode & SET_ID != 0 && !is_script(&file)? {
            let found = self.identities.owners.of(file.as_fd(), &stat);
            owner = (found.uid, found.gid, found.mode);
        }
        if !task.is_waiting() {
            return Err(Errno::SRCH);
        }
        self.sets.on_exec(task.thread(), owner.0, owner.1, owner.2)
    }
}

/// Whether a file is for an interpreter: the kernel pays no attention to the set-id bits of such.
fn is_script(file: impl AsFd) -> Result<bool, Errno> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file.as_fd()));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut head = [0; 2];
    Ok(file.read_exact_at(&mut head, 0).is_ok() && head == *b"#!")
}
