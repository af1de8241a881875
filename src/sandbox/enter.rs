//! Entering the isolation that the build's commands run in: the first rung of a ladder that works.
//!
//! The process forks. The child does the build; the original process only waits, and forwards signals.
//! What rungs need is found out by doing it, never by the version of a kernel or by reading a setting.
//!
//! Invariants:
//! - A failure leaves the original process as it was: it may go on without isolation.
//! - The child dies with the original process (parent-death signal). With namespaces the child is
//!   process 1, so all of its processes die with it; without them the original process ends them.
//! - Commands are started from an executable that none of them can write to.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::cgroup::Cgroups;
use super::isolation::Isolation;
use super::launcher::Launcher;
use super::mapping::Mapping;
use super::reaper::{self, Spared};
use super::refusal::{EnterError, Refused};
use super::sys;
use super::{namespaced, unspaced};

/// What entering needs to know of the caller's surroundings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The `PATH` in which newuidmap and newgidmap are looked for.
    pub path: OsString,
    /// The rung that is to be taken, and no other.
    pub isolation: Option<Isolation>,
    /// Where the roots of commands will be, which need not exist yet: what depends on the file system
    /// is tried out there, and removed again.
    pub scratch: PathBuf,
}

/// On which side of the fork the caller finds itself.
#[derive(Debug)]
pub enum Entered {
    /// Isolated from what was before, and to do the build.
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

/// The entered isolation: what it takes to start commands in roots of their own.
#[derive(Debug)]
pub struct Sandbox {
    /// This executable, where nobody can write to it.
    pub(super) executable: OwnedFd,
    /// Starts helpers; started itself with the first command.
    pub(super) launcher: Mutex<Option<Launcher>>,
    /// What limits commands, where something does.
    pub(super) cgroups: Option<Cgroups>,
    isolation: Isolation,
    mapping: Mapping,
    refused: Vec<Refused>,
    remarks: Vec<String>,
}

impl Sandbox {
    /// How commands are kept apart.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Limits every command from now on.
    pub fn limit(&mut self, cgroups: Cgroups) {
        self.cgroups = Some(cgroups);
    }

    /// The ids that commands can give to files.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The better rungs, which do not work here.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// What commands lack on this machine, a sentence without period each: to be said once for each
    /// build.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.isolation {
            Isolation::Userns | Isolation::OneId => self.mapping.fmt(f),
            Isolation::Chroot => f.write_str("changed root directory, as root and without a user namespace"),
            Isolation::Ptrace => f.write_str("simulated root directory, without privilege and namespaces"),
        }
    }
}

/// What a child has that entered a rung.
pub(super) struct Inside {
    pub(super) executable: OwnedFd,
    pub(super) mapping: Mapping,
    pub(super) remarks: Vec<String>,
}

/// What the original process waits for.
pub(super) struct Outside {
    pub(super) child: Pid,
    pub(super) old_mask: SigSet,
    /// Where no namespace ends the child's processes with it: those that are not the child's.
    pub(super) spared: Option<Spared>,
}

pub(super) enum Side {
    Inside(Inside),
    Outside(Outside),
}

/// Signals that the original process forwards.
const FORWARDED: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH];

/// Forks into the best isolation that works; in the original process, waits for the inside to end.
///
/// Call it while the process has one thread. The inside starts in a process group of its own, so
/// that the terminal's signals reach the original process alone. Process 1 has no default
/// actions: a signal that the inside has no handler for is made to kill it.
///
/// # Errors
///
/// Says for each rung why it does not work, and what helps. The process is then as it was before.
pub fn enter(config: &Config) -> Result<Entered, EnterError> {
    let mut refused = Vec::new();
    for isolation in rungs(config) {
        match start(isolation, config) {
            Ok(Side::Inside(inside)) => {
                let Inside { executable, mapping, remarks } = inside;
                let launcher = Mutex::default();
                let cgroups = None;
                let sandbox = Sandbox { executable, launcher, cgroups, isolation, mapping, refused, remarks };
                return Ok(Entered::Inside(sandbox));
            }
            Ok(Side::Outside(outside)) => {
                let ended = supervise(outside.child);
                return outside.end().and(ended).map(Entered::Outside);
            }
            Err(error) => refused.push(Refused::new(isolation, &error)),
        }
    }
    Err(EnterError::NoIsolation { refused })
}

/// Tries every rung, or the one that is asked for, and says which would work, without any lasting
/// effect. Call it while the process has one thread.
pub fn probe_ladder(config: &Config) -> Vec<(Isolation, Result<(), Refused>)> {
    let probe = |isolation| match start(isolation, config) {
        Ok(Side::Inside(_)) => sys::exit_now(0),
        Ok(Side::Outside(outside)) => {
            let ended = waitpid(outside.child, None).map_err(|error| EnterError::call("waitpid", error));
            outside.end().and(ended).map(drop)
        }
        Err(error) => Err(error),
    };
    rungs(config)
        .into_iter()
        .map(|isolation| (isolation, probe(isolation).map_err(|error| Refused::new(isolation, &error))))
        .collect()
}

/// The rungs that may be taken, best first.
fn rungs(config: &Config) -> Vec<Isolation> {
    config.isolation.map_or_else(|| Isolation::LADDER.to_vec(), |only| vec![only])
}

/// Forks into a rung. Signals are blocked in the parent when this returns successfully.
fn start(isolation: Isolation, config: &Config) -> Result<Side, EnterError> {
    if isolation.has_namespaces() {
        namespaced::start(isolation, config)
    } else {
        unspaced::start(isolation, config)
    }
}

impl Outside {
    /// Ends what the child has left, and makes this process as it was.
    fn end(self) -> Result<(), EnterError> {
        let ended = match self.spared {
            Some(spared) => {
                let ended = reaper::end_descendants(&spared)
                    .map_err(|error| EnterError::call("ending the processes of the build", error));
                ended.and(unspaced::leave())
            }
            None => Ok(()),
        };
        self.old_mask.thread_set_mask().map_err(|error| EnterError::call("sigprocmask", error))?;
        ended
    }
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
