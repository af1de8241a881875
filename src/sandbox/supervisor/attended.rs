//! What process 1 does for a command while it runs: waiting, tracing, answering.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::sys::wait::{WaitStatus, waitpid};
use rustix::process::DumpableBehavior;

use super::super::enter::Ended;
use super::super::identity;
use super::super::isolation::Isolation;
use super::super::spec::RunSpec;
use super::owners::JournalEntry;
use super::{Ready, Rootless, Supervised, Traced, join_one_id, join_traced};
use crate::image::Identity;

/// A command that has begun.
pub(in crate::sandbox) enum Attended {
    /// Nothing but waiting for its end.
    Alone(i32),
    /// Programs of foreign processors are given to their interpreters.
    Traced(Traced),
    /// A supervisor answers its calls that are about users.
    Supervised(Supervised),
    /// A supervisor carries out its calls.
    Rootless(Rootless),
}

/// Whether a command has to be traced before it takes on its user.
fn is_traced(spec: &RunSpec) -> bool {
    !spec.isolation.is_supervised() && !spec.interpreters.is_empty()
}

/// The first half of what a process that is about to become the command has to do, before it takes on its
/// user. Waits for the tracer where there is one.
pub(in crate::sandbox) fn join_early(spec: &RunSpec, socket: &UnixStream) -> io::Result<()> {
    if !is_traced(spec) {
        return Ok(());
    }
    open_to_tracer()?;
    join_traced(socket)
}

/// Lets a process with the same rights look into this one, which the one it was forked from does not allow.
/// What it executes is open by itself.
fn open_to_tracer() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}

/// The second half: the last thing before the program is executed.
///
/// `ready` is the root that only the supervisor makes one of.
pub(in crate::sandbox) fn join_late(
    spec: &RunSpec,
    identity: &Identity,
    socket: &UnixStream,
    ready: Option<&Ready>,
) -> io::Result<()> {
    if let Some(ready) = ready {
        open_to_tracer()?;
        return ready.join(socket);
    }
    if !spec.interpreters.is_empty() {
        // Taking on another user has closed it again.
        open_to_tracer()?;
    }
    if spec.isolation == Isolation::OneId {
        return join_one_id(socket, spec, identity);
    }
    Ok(())
}

impl Attended {
    /// Begins to attend to the command, which is at the other end of `socket`. Drops what this process
    /// needs no more.
    pub(in crate::sandbox) fn begin(
        spec: &RunSpec,
        socket: &UnixStream,
        command: i32,
        identity: &Identity,
        changed: Option<OwnedFd>,
        ready: Option<Ready>,
        proc: Option<OwnedFd>,
    ) -> io::Result<Self> {
        if let Some(ready) = ready {
            return ready.supervise(socket, command, spec, identity).map(Self::Rootless);
        }
        if spec.isolation == Isolation::OneId {
            return Supervised::start(socket, command, spec, identity, changed).map(Self::Supervised);
        }
        if is_traced(spec) {
            return Traced::start(socket, command, &spec.interpreters, proc).map(Self::Traced);
        }
        identity::drop_all_capabilities()?;
        Ok(Self::Alone(command))
    }

    /// Waits for the command's end, and reaps what else ends meanwhile.
    pub(in crate::sandbox) fn wait(&self) -> io::Result<Ended> {
        match self {
            Self::Alone(command) => wait_for(*command),
            Self::Traced(traced) => traced.wait(),
            Self::Supervised(supervised) => supervised.wait(),
            Self::Rootless(rootless) => rootless.wait(),
        }
    }

    /// The owners of files that cannot carry theirs, as far as the command has made or changed them.
    ///
    /// # Errors
    ///
    /// Says that a supervisor has failed, so that its journal is not whole.
    pub(in crate::sandbox) fn journal(&self) -> io::Result<Vec<JournalEntry>> {
        match self {
            Self::Supervised(supervised) => supervised.journal(),
            Self::Rootless(rootless) => rootless.journal(),
            _ => Ok(Vec::new()),
        }
    }
}

/// Ends this process when the one that forked it ends, by whatever signal. With the tracer the kernel ends
/// every process of a command that is traced from its first program on.
pub(in crate::sandbox) fn end_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

/// Waits for the end of a child, and reaps others.
pub(super) fn wait_for(command: i32) -> io::Result<Ended> {
    loop {
        let waited = match waitpid(None, None) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        match waited {
            WaitStatus::Exited(pid, code) if pid.as_raw() == command => return Ok(Ended::Exited(code)),
            WaitStatus::Signaled(pid, signal, _) if pid.as_raw() == command => {
                return Ok(Ended::Signaled(signal as i32));
            }
            _ => {}
        }
    }
}
