//! Entering the build's own user, mount and process namespaces.
//!
//! The process forks. The child is root and process 1 in its new namespaces and does the build;
//! the original process only waits, and forwards signals.
//!
//! Invariants:
//! - A failure leaves the original process as it was: it may go on without isolation.
//! - The child dies with the original process (parent-death signal), and as it is process 1, all
//!   of its processes die with it; all of its mounts vanish with its mount namespace.
//! - Commands are started from a read-only mount of this executable, so none can write to it
//!   through `/proc/self/exe`.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::{fs, io};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{CWD, Mode};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, OpenTreeFlags};
use rustix::process::{Resource, Rlimit};

use super::idmap::Plan;
use super::isolation::Isolation;
use super::launcher::Launcher;
use super::mapping::Mapping;
use super::refusal::EnterError;
use super::sys::{self, namespaces};

/// What entering needs to know of the caller's surroundings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The `PATH` in which newuidmap and newgidmap are looked for.
    pub path: OsString,
}

/// On which side of the fork the caller finds itself.
#[derive(Debug)]
pub enum Entered {
    /// Inside the namespaces: root, process 1, and to do the build.
    Inside(Sandbox),
    /// The original process, after the inside has ended.
    Outside(Ended),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with an exit code.
    Exited(i32),
    /// By a signal.
    Signaled(i32),
}

/// The entered namespaces: what it takes to start commands in roots of their own.
#[derive(Debug)]
pub struct Sandbox {
    /// This executable on a read-only mount.
    pub(super) executable: OwnedFd,
    /// Starts helpers; started itself with the first command.
    pub(super) launcher: Mutex<Option<Launcher>>,
    mapping: Mapping,
}

impl Sandbox {
    /// How commands are kept apart.
    pub fn isolation(&self) -> Isolation {
        Isolation::Userns
    }

    /// The ids that the namespace has.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

/// Signals that the original process forwards.
const FORWARDED: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH];

enum Side {
    Inside(OwnedFd),
    Outside { child: Pid, old_mask: SigSet },
}

/// Forks into new namespaces; in the original process, waits for the inside to end.
///
/// Call it while the process has one thread. The inside starts in a process group of its own, so
/// that the terminal's signals reach the original process alone. Process 1 has no default
/// actions: a signal that the inside has no handler for is made to kill it.
///
/// # Errors
///
/// Says which step failed, why, and what helps. The process is then as it was before.
pub fn enter(config: &Config) -> Result<Entered, EnterError> {
    let plan = Plan::new(config)?;
    match start(&plan)? {
        Side::Inside(executable) => {
            Ok(Entered::Inside(Sandbox { executable, launcher: Mutex::default(), mapping: plan.mapping }))
        }
        Side::Outside { child, old_mask } => {
            let ended = supervise(child);
            old_mask.thread_set_mask().map_err(|error| EnterError::call("sigprocmask", error))?;
            Ok(Entered::Outside(ended?))
        }
    }
}

/// Whether [`enter`] would succeed, and with which ids, without any lasting effect.
///
/// # Errors
///
/// As [`enter`].
pub fn probe_isolation(config: &Config) -> Result<Mapping, EnterError> {
    let plan = Plan::new(config)?;
    match start(&plan)? {
        Side::Inside(_) => sys::exit_now(0),
        Side::Outside { child, old_mask } => {
            let end = waitpid(child, None);
            old_mask.thread_set_mask().map_err(|error| EnterError::call("sigprocmask", error))?;
            end.map_err(|error| EnterError::call("waitpid", error))?;
            Ok(plan.mapping)
        }
    }
}

/// Forks, maps the ids, and has the child prepare itself. Signals are blocked in the parent when
/// this returns successfully.
fn start(plan: &Plan) -> Result<Side, EnterError> {
    let (mut ours, theirs) = UnixStream::pair().map_err(|error| EnterError::call("socketpair", error))?;
    let old_mask = block_signals()?;
    let result = sys::clone_process(namespaces::USER | namespaces::MOUNT | namespaces::PID)
        .map_err(EnterError::clone_failed)
        .and_then(|child| match child {
            None => {
                drop(ours);
                Ok(Side::Inside(begin(theirs, old_mask)))
            }
            Some(child) => {
                drop(theirs);
                let outcome = plan.apply(child, &mut ours);
                if outcome.is_err() {
                    drop(ours);
                    // The child ends by itself when the socket closes; it may have ended already.
                    let _ = kill(child, Signal::SIGKILL);
                    waitpid(child, None).map_err(|error| EnterError::call("waitpid", error))?;
                }
                outcome.map(|()| Side::Outside { child, old_mask })
            }
        });
    if result.is_err() {
        old_mask.thread_set_mask().map_err(|error| EnterError::call("sigprocmask", error))?;
    }
    result
}

/// Blocks the signals that a waiting process takes by itself. Gives the mask as it was.
pub(super) fn block_signals() -> Result<SigSet, EnterError> {
    let waited: SigSet = FORWARDED
        .into_iter()
        // An ignored signal that is blocked would be delivered to sigwait all the same.
        .filter(|signal| !sys::is_ignored(*signal))
        .chain([Signal::SIGCHLD])
        .collect();
    sys::set_default(Signal::SIGCHLD).map_err(|error| EnterError::call("sigaction", error))?;
    waited
        .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
        .map_err(|error| EnterError::call("sigprocmask", error))
}

/// Puts a forked process into a group of its own, out of the terminal's reach, and lets it take
/// signals again.
pub(super) fn stand_alone(old_mask: SigSet) -> Result<(), (&'static str, io::Error)> {
    old_mask.thread_set_mask().map_err(|error| ("sigprocmask", error.into()))?;
    rustix::process::setpgid(None, None).map_err(|error| ("setpgid", error.into()))?;
    // In a background process group, and as process 1 takes no default action, touching the
    // terminal would be tried again for ever. Ignored, writing succeeds and reading is an error.
    for signal in [Signal::SIGTTIN, Signal::SIGTTOU] {
        sys::ignore(signal).map_err(|error| ("sigaction", error))?;
    }
    Ok(())
}

/// The child's first steps. Does not return when one fails.
fn begin(mut socket: UnixStream, old_mask: SigSet) -> OwnedFd {
    // The order matters: once the parent has this byte, its death kills us; if it died before,
    // reading from it finds the end.
    let hello = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(io::Error::from)
        .and_then(|()| socket.write_all(b"h"))
        .and_then(|()| socket.read_exact(&mut [0]));
    if hello.is_err() {
        sys::exit_now(1);
    }
    let prepared = prepare(old_mask);
    let answer = match &prepared {
        Ok(_) => socket.write_all(b"+"),
        Err((step, error)) => socket.write_all(format!("-{step}: {error}").as_bytes()),
    };
    match prepared {
        Ok(executable) if answer.is_ok() => executable,
        _ => sys::exit_now(1),
    }
}

/// Makes the new namespaces the build's own.
fn prepare(old_mask: SigSet) -> Result<OwnedFd, (&'static str, io::Error)> {
    let step = |name: &'static str| move |error: io::Error| (name, error);
    stand_alone(old_mask)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| ("making all mounts private", error.into()))?;
    let executable = read_only_executable().map_err(step("mounting the executable read-only"))?;
    sys::leave_session_keyring().map_err(step("keyctl"))?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|error| ("setrlimit", error.into()))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(executable)
}

/// This executable as a descriptor on a read-only mount that no path leads to.
fn read_only_executable() -> io::Result<OwnedFd> {
    let path: PathBuf = fs::read_link("/proc/self/exe")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, &path, flags)?;
    let found = rustix::fs::fstat(&tree)?;
    let running = rustix::fs::stat("/proc/self/exe")?;
    if (found.st_dev, found.st_ino) != (running.st_dev, running.st_ino) {
        return Err(io::Error::other("the executable was replaced while it started"));
    }
    sys::set_mount_attributes(&tree, MountAttrFlags::MOUNT_ATTR_RDONLY, false)?;
    Ok(tree)
}

/// Waits for the child to end, forwarding signals to it.
pub(super) fn supervise(child: Pid) -> Result<Ended, EnterError> {
    let waited: SigSet = SigSet::thread_get_mask()
        .map_err(|error| EnterError::call("sigprocmask", error))?
        .iter()
        .filter(|signal| FORWARDED.contains(signal) || *signal == Signal::SIGCHLD)
        .collect();
    let mut killed_by = None;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Ended::Exited(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(Ended::Signaled(killed_by.unwrap_or(signal) as i32));
            }
            Ok(_) => {}
            Err(error) => return Err(EnterError::call("waitpid", error)),
        }
        match waited.wait() {
            Ok(Signal::SIGCHLD) => {}
            Ok(signal) => {
                let lost = signal != Signal::SIGWINCH && !has_handler(child, signal);
                if lost {
                    killed_by = Some(signal);
                }
                // The child is not reaped before the loop's top, so the id is still its own.
                kill(child, if lost { Signal::SIGKILL } else { signal })
                    .map_err(|error| EnterError::call("kill", error))?;
            }
            Err(error) => return Err(EnterError::call("sigwait", error)),
        }
    }
}

/// Whether the process catches or ignores `signal`. Process 1 of a namespace never takes a
/// default action.
fn has_handler(process: Pid, signal: Signal) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else {
        return true;
    };
    let bit = 1u64 << (signal as i32 - 1);
    status
        .lines()
        .filter_map(|line| line.strip_prefix("SigCgt:").or_else(|| line.strip_prefix("SigIgn:")))
        .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .any(|mask| mask & bit != 0)
}
