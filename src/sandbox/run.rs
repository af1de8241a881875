//! Starting a command in a root of its own, and waiting for its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use super::cgroup::{CgroupError, Cgroups, Group, Usage};
use super::enter::{Ended, Sandbox};
use super::hidden::Hidden;
use super::launcher::{Launched, Launcher};
use super::mount::Mount;
use super::overlay::LOWER_LIMIT;
use super::spec::{RootPlace, RunSpec};
use super::supervisor::JournalEntry;
use super::wire::{Failure, Message};
use nix::libc;

/// The step at which the program itself is executed.
pub(super) const EXEC: &str = "exec";

/// The step at which a mount was refused for what is in the image or in the source of the mount.
pub(super) const MOUNT: &str = "mount";

/// A command could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The root has more layers than an overlay mount can have.
    #[error("{0} layers are more than the {LOWER_LIMIT} that an overlay mount can have")]
    TooManyLayers(usize),
    /// The helper process could not be started or spoken to.
    #[error("failed to start the sandbox helper")]
    Helper(#[source] io::Error),
    /// The helper process ended without saying how the command ended.
    #[error("the sandbox helper was killed")]
    Lost,
    /// The command's limits could not be set.
    #[error(transparent)]
    Limits(#[from] CgroupError),
    /// The root or the process could not be set up.
    #[error("failed to set up the sandbox: {step}: {message}")]
    Setup {
        /// What was being set up.
        step: String,
        /// Why it failed.
        message: String,
    },
    /// One of [`RunSpec::mounts`] does not fit the root; the message is complete and names it.
    #[error("{message}")]
    Mount {
        /// Which mount, and why.
        message: String,
    },
    /// The program could not be executed; the message is complete.
    #[error("{message}")]
    Exec {
        /// Which program, and why.
        message: String,
        /// 127 when the program or its interpreter is missing, else 126, as shells do.
        code: i32,
    },
}

/// A command that was started, with what it writes.
#[derive(Debug)]
pub struct Spawned {
    /// To wait for or to kill.
    pub running: Running,
    /// Read end of the command's standard output.
    pub stdout: OwnedFd,
    /// Read end of the command's standard error.
    pub stderr: OwnedFd,
}

/// A command that runs. Dropping it kills the command.
#[derive(Debug)]
pub struct Running {
    /// The helper's process.
    helper: OwnedFd,
    socket: UnixStream,
    killer: Killer,
    /// Removed when nothing of the command runs any more.
    group: Option<Group>,
    /// The helper has said that nothing of the command runs any more.
    over: bool,
}

/// Kills a command and all that it started. Can be cloned and used from any thread, also after
/// the command has ended.
#[derive(Debug, Clone)]
pub struct Killer(Arc<OwnedFd>);

/// How a command ended, once nothing of it runs any more and its root is unmounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// Exit code or signal.
    pub ended: Ended,
    /// Paths in the upper directory that were made to be mounted on, and that the command has
    /// moved away, so that they could not be removed again.
    pub stubs_left: Vec<Vec<u8>>,
    /// What came of its limits, where it had some.
    pub usage: Option<Usage>,
    /// Paths in the root, without leading slash, that were out of the command's reach as something of
    /// ours stood in their place. An entry that has the same inode number there as before is
    /// unchanged, with all below it, whatever its change time says.
    pub untouched: Vec<Vec<u8>>,
    /// What was asked for this command and cannot be had with this isolation, a sentence without
    /// period each.
    pub notes: Vec<String>,
    /// Owners of files in the directory of changes that cannot carry theirs, where a supervisor has
    /// simulated them. A file that is not here and has no record is root's.
    pub journal: Vec<JournalEntry>,
}

impl Killer {
    /// Sends SIGKILL to process 1 of the command, with which the kernel ends all others.
    ///
    /// # Errors
    ///
    /// A command that has ended is none.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.0, Signal::KILL) {
            Err(Errno::SRCH) => Ok(()),
            result => Ok(result?),
        }
    }
}

impl Sandbox {
    /// Starts a command. Callable from any thread, any number of times at once.
    ///
    /// Returns when the command has its processes and namespaces; a failure to set up its root
    /// comes out of [`Running::wait`].
    ///
    /// # Errors
    ///
    /// Fails when there are too many layers, no process can be started or limits cannot be set.
    pub fn spawn(&self, spec: &RunSpec) -> Result<Spawned, RunError> {
        let stacks = spec.mounts.iter().filter_map(|mount| match mount {
            Mount::Layers { lowers, .. } => Some(lowers),
            _ => None,
        });
        let own = match &spec.root {
            RootPlace::Overlay { lowers, .. } => Some(lowers),
            RootPlace::Directory { .. } => None,
        };
        let most = stacks.chain(own).map(Vec::len).max().unwrap_or(0);
        if most > LOWER_LIMIT {
            return Err(RunError::TooManyLayers(most));
        }
        let group = self.cgroups.as_ref().map(Cgroups::group).transpose()?;
        let (stdout, their_stdout) = pipe().map_err(RunError::Helper)?;
        let (stderr, their_stderr) = pipe().map_err(RunError::Helper)?;
        let Launched { socket, process: helper } =
            self.with_launcher(Launcher::launch).map_err(RunError::Helper)?;
        let begun = begin(&socket, spec, [their_stdout.as_fd(), their_stderr.as_fd()], group.as_ref());
        drop((their_stdout, their_stderr));
        match begun {
            Ok(killer) => Ok(Spawned {
                running: Running { helper, socket, killer, group, over: false },
                stdout,
                stderr,
            }),
            Err(error) => {
                // Without the socket the helper ends by itself, and process 1 with it.
                drop(socket);
                wait_for_exit(&helper).map_err(RunError::Helper)?;
                Err(error)
            }
        }
    }

    /// Begins with what the first command would have to wait for, and does not wait for it: call it as soon
    /// as it is known that there will be a command.
    ///
    /// # Errors
    ///
    /// Fails where no process can be started.
    pub fn warm_up(&self) -> io::Result<()> {
        self.with_launcher(Launcher::ask)
    }

    /// Does something with the launcher, which is started where that has not been done yet.
    fn with_launcher<T>(&self, action: impl FnOnce(&mut Launcher) -> io::Result<T>) -> io::Result<T> {
        let mut launcher = self.launcher.lock().map_err(|_| io::Error::other("the launcher is lost"))?;
        match launcher.as_mut() {
            Some(launcher) => action(launcher),
            None => action(launcher.insert(Launcher::start(&self.executable, self.isolation())?)),
        }
    }
}

/// A pipe whose ends no other process inherits.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// Waits until a process has ended, and with it its mounts.
fn wait_for_exit(process: &OwnedFd) -> io::Result<()> {
    loop {
        let mut process = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut process, PollTimeout::NONE) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Hands over the description, takes hold of process 1, and limits it before it starts anything.
fn begin(
    socket: &UnixStream,
    spec: &RunSpec,
    outputs: [BorrowedFd<'_>; 2],
    group: Option<&Group>,
) -> Result<Killer, RunError> {
    let description = Message::Spec(Hidden::new(spec.encode()));
    description.send_with(socket, &outputs).map_err(RunError::Helper)?;
    let pid = match Message::receive(socket).map_err(RunError::Helper)? {
        Message::Started(pid) => pid,
        Message::Failed(failure) => return Err(failure.into()),
        _ => return Err(RunError::Lost),
    };
    let pid = Pid::from_raw(pid).ok_or(RunError::Lost)?;
    // The helper does not wait for process 1 before it is told to go on: the id is still its own.
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| RunError::Helper(error.into()))?;
    if let Some(group) = group {
        let setup =
            |error: io::Error| RunError::Setup { step: "cgroup".to_owned(), message: error.to_string() };
        group.attach(pid.as_raw_nonzero().get()).map_err(setup)?;
    }
    Message::Go.send(socket).map_err(RunError::Helper)?;
    Ok(Killer(Arc::new(descriptor)))
}

impl From<Failure> for RunError {
    fn from(failure: Failure) -> Self {
        if failure.step == MOUNT {
            return Self::Mount { message: failure.message };
        }
        if failure.step != EXEC {
            return Self::Setup { step: failure.step, message: failure.message };
        }
        let missing = matches!(failure.errno, libc::ENOENT | libc::ENOTDIR);
        Self::Exec { message: failure.message, code: if missing { 127 } else { 126 } }
    }
}

impl Running {
    /// What kills the command.
    pub fn killer(&self) -> Killer {
        self.killer.clone()
    }

    /// Waits for the command to end, with all that it started.
    ///
    /// Read its output at the same time: a command blocks when nobody reads.
    ///
    /// # Errors
    ///
    /// Fails when the command was never executed, with the step that failed.
    pub fn wait(mut self) -> Result<RunEnd, RunError> {
        let mut failure = None;
        let result = loop {
            match Message::receive(&self.socket) {
                Ok(Message::Failed(found)) => failure = failure.or(Some(found)),
                Ok(Message::Ended { ended, stubs_left, untouched, notes, journal }) => {
                    self.over = failure.is_none();
                    break Ok(RunEnd { ended, stubs_left, usage: None, untouched, notes, journal });
                }
                Ok(_) | Err(_) => break Err(RunError::Lost),
            }
        };
        self.end().map_err(RunError::Helper)?;
        let usage = self.group.as_ref().map(Group::usage);
        match failure {
            Some(failure) => Err(failure.into()),
            None => result.map(|end| RunEnd { usage, ..end }),
        }
    }

    /// Makes sure that nothing runs any more, also when the helper is gone. Of one that has said so there is
    /// nothing to wait for but its own end.
    fn end(&mut self) -> io::Result<()> {
        if self.over {
            return Ok(());
        }
        self.killer.kill()?;
        wait_for_exit(&self.helper)?;
        // Process 1 of a helper that was killed has become a child of this process.
        let options = WaitIdOptions::EXITED;
        match waitid(WaitId::PidFd(self.killer.0.as_fd()), options) {
            Ok(_) | Err(Errno::CHILD) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when both are gone already.
        let _ = self.end();
    }
}
