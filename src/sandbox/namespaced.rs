//! The rungs with namespaces: the build in user, mount and process namespaces of its own, with a range
//! of ids or with one.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::fs::{Gid, MemfdFlags, Mode, Uid};
use rustix::mount::MountPropagationFlags;
use rustix::process::{Resource, Rlimit};

use super::enter::{Config, Inside, Outside, Side, block_signals, stand_alone};
use super::idmap::Plan;
use super::isolation::Isolation;
use super::refusal::EnterError;
use super::sys::{self, namespaces};
use super::{executable, mounts, supervisor};

/// A step that failed, and why.
type Failed = (&'static str, io::Error);

/// Forks, maps the ids, and has the child prepare itself.
pub(super) fn start(isolation: Isolation, config: &Config) -> Result<Side, EnterError> {
    let plan = if isolation == Isolation::OneId { Ok(Plan::single()) } else { Plan::new(config) };
    // Ids would be of no use where the namespace itself is refused.
    let plan = plan.or_else(|error| try_clone().and(Err(error)))?;
    let (mut ours, theirs) = UnixStream::pair().map_err(|error| EnterError::call("socketpair", error))?;
    let old_mask = block_signals()?;
    let result = sys::clone_process(namespaces::USER | namespaces::MOUNT | namespaces::PID)
        .map_err(EnterError::clone_failed)
        .and_then(|child| match child {
            None => {
                drop(ours);
                let (executable, remarks) = begin(isolation, &config.scratch, theirs, old_mask);
                Ok(Side::Inside(Inside { executable, mapping: plan.mapping.clone(), remarks }))
            }
            Some(child) => {
                drop(theirs);
                let outcome = plan.apply(child, &mut ours);
                if outcome.is_err() {
                    drop(ours);
                    end(child)?;
                }
                outcome.map(|()| Side::Outside(Outside { child, old_mask, spared: None }))
            }
        });
    if result.is_err() {
        old_mask.thread_set_mask().map_err(|error| EnterError::call("sigprocmask", error))?;
    }
    result
}

/// Whether the kernel makes a user namespace at all.
fn try_clone() -> Result<(), EnterError> {
    let Some(child) = sys::clone_process(namespaces::USER).map_err(EnterError::clone_failed)? else {
        sys::exit_now(0);
    };
    waitpid(child, None).map_err(|error| EnterError::call("waitpid", error))?;
    Ok(())
}

/// Ends a child that is of no use.
pub(super) fn end(child: Pid) -> Result<(), EnterError> {
    // It ends by itself when the socket closes; it may have ended already.
    let _ = kill(child, Signal::SIGKILL);
    waitpid(child, None).map_err(|error| EnterError::call("waitpid", error))?;
    Ok(())
}

/// The child's first steps. Does not return when one fails.
fn begin(
    isolation: Isolation,
    scratch: &Path,
    mut socket: UnixStream,
    old_mask: SigSet,
) -> (OwnedFd, Vec<String>) {
    // The order matters: once the parent has this byte, its death kills us; if it died before,
    // reading from it finds the end.
    let hello = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(io::Error::from)
        .and_then(|()| socket.write_all(b"h"))
        .and_then(|()| socket.read_exact(&mut [0]));
    if hello.is_err() {
        sys::exit_now(1);
    }
    let prepared = prepare(isolation, scratch, old_mask);
    let answer = match &prepared {
        Ok(_) => socket.write_all(b"+"),
        Err((step, error)) => socket.write_all(format!("-{step}: {error}").as_bytes()),
    };
    match prepared {
        Ok(prepared) if answer.is_ok() => prepared,
        _ => sys::exit_now(1),
    }
}

/// Makes the new namespaces the build's own, and tries out what commands will need.
fn prepare(isolation: Isolation, scratch: &Path, old_mask: SigSet) -> Result<(OwnedFd, Vec<String>), Failed> {
    let step = |name: &'static str| move |error: io::Error| (name, error);
    stand_alone(old_mask)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| ("making all mounts private", error.into()))?;
    let executable = executable::on_read_only_mount().map_err(step("mounting the executable read-only"))?;
    become_a_build()?;
    if isolation.is_supervised() {
        // In the outer one processes have other numbers.
        mounts::try_proc()
            .map_err(step("mounting a /proc of its own, in which a supervisor finds the processes"))?;
        supervisor::probe_all(scratch).map_err(|error| ("supervising calls", io::Error::other(error)))?;
    } else {
        give_away().map_err(step(GIVING))?;
    }
    Ok((executable, mounts::remarks()))
}

/// The step of [`give_away`].
pub(super) const GIVING: &str = "giving a file to another id";

/// What every build process sets for itself and for the commands that come from it.
pub(super) fn become_a_build() -> Result<(), Failed> {
    sys::leave_session_keyring().map_err(|error| ("keyctl", error))?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|error| ("setrlimit", error.into()))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Gives a file in memory to user and group 1. In a namespace with one id there is no such user.
fn give_away() -> io::Result<()> {
    let file = rustix::fs::memfd_create("probe", MemfdFlags::CLOEXEC)?;
    Ok(rustix::fs::fchown(&file, Some(Uid::from_raw(1)), Some(Gid::from_raw(1)))?)
}
