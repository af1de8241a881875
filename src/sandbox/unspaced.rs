//! The rungs without namespaces of the build's own: root with chroot, and a plain user with a supervisor.
//!
//! Invariants:
//! - The original process adopts all orphans below it, and when the build ends, by whatever signal, it
//!   ends every process that came from it.
//! - No process of fanfold is dumpable: as there is no user namespace around commands, one of the same
//!   user could otherwise trace it, or look into its memory, environment and descriptors.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::MountAttrFlags;
use rustix::process::{DumpableBehavior, set_parent_process_death_signal};

use super::enter::{Config, Inside, Outside, Side, block_signals, stand_alone};
use super::identity;
use super::isolation::Isolation;
use super::mapping::{self, Mapping};
use super::mounts;
use super::namespaced::{become_a_build, end};
use super::reaper::{self, Spared};
use super::refusal::EnterError;
use super::sys::{self, namespaces};
use super::{executable, supervisor};

/// What root without a user namespace can make for a command, where it may make namespaces at all.
pub(super) const SPACES: i32 = namespaces::MOUNT | namespaces::PID | namespaces::IPC | namespaces::UTS;

/// Minor and major number of /dev/null.
const NULL: (u32, u32) = (1, 3);

const CHROOT: &str = "chroot(\".\")";
const DEVICE: &str = "a device made by mknod";
const BOUNDING: &str = "capability bounding set";
const OWNER: &str = "giving a file to another id";
const USER: &str = "becoming another user";
const KILL: &str = "ending a process of another user";

fn fix(step: &str) -> Option<&'static str> {
    Some(match step {
        CHROOT => "run as root of the container, with the capability SYS_CHROOT",
        DEVICE => {
            "give the container the capability MKNOD, and keep the state on a file system that is \
             mounted without nodev"
        }
        BOUNDING => "give the container the capability SETPCAP: without it a command could leave its root",
        OWNER => "give the container the capability CHOWN",
        USER => "give the container the capabilities SETUID and SETGID",
        KILL => "give the container the capability KILL",
        _ => return None,
    })
}

/// Tries out what the rung needs, and forks.
pub(super) fn start(isolation: Isolation, config: &Config) -> Result<Side, EnterError> {
    let (mapping, remarks) = if isolation == Isolation::Chroot {
        let map = |file| {
            let text = fs::read_to_string(file).map_err(|error| EnterError::call(file, error))?;
            Ok(mapping::nested(&mapping::parse_map(&text)))
        };
        let (uids, gids) = (map("/proc/self/uid_map")?, map("/proc/self/gid_map")?);
        (Mapping { uids, gids, identity: true }, probe_chroot(&config.scratch)?)
    } else {
        supervisor::probe_all(&config.scratch).map_err(|reason| unfit("supervising calls", reason))?;
        (Mapping::single(), supervisor::remarks())
    };
    let spared = Spared::now().map_err(|error| EnterError::call("reading /proc", error))?;
    let (mut ours, theirs) = UnixStream::pair().map_err(|error| EnterError::call("socketpair", error))?;
    let old_mask = block_signals()?;
    let result = guard().and_then(|()| {
        let child = sys::clone_process(0).map_err(|error| EnterError::call("fork", error))?;
        let Some(child) = child else {
            drop(ours);
            let executable = begin(theirs, old_mask);
            return Ok(Side::Inside(Inside { executable, mapping, remarks }));
        };
        drop(theirs);
        let outcome = wait_for_readiness(&mut ours);
        if outcome.is_err() {
            drop(ours);
            end(child)?;
        }
        outcome.map(|()| Side::Outside(Outside { child, old_mask, spared: Some(spared) }))
    });
    if result.is_err() {
        leave()?;
        old_mask.thread_set_mask().map_err(|error| EnterError::call("sigprocmask", error))?;
    }
    result
}

/// Keeps other processes out of this one, and orphans below it.
fn guard() -> Result<(), EnterError> {
    reaper::adopt(true).map_err(|error| EnterError::call("prctl", error))?;
    close_to_others().map_err(|error| EnterError::call("prctl", error))
}

/// Takes back what [`start`] has changed in the original process.
pub(super) fn leave() -> Result<(), EnterError> {
    reaper::adopt(false).map_err(|error| EnterError::call("prctl", error))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(|error| EnterError::call("prctl", error))
}

/// No process of the same user can trace this one from now on, nor look into it by /proc.
pub(super) fn close_to_others() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// The child's first steps. Does not return when one fails.
fn begin(mut socket: UnixStream, old_mask: SigSet) -> OwnedFd {
    let mut prepare = || {
        set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(|error| ("prctl", error.into()))?;
        // It may have died before; then nobody reads this.
        socket.write_all(b"h").map_err(|error| ("answering", error))?;
        stand_alone(old_mask)?;
        close_to_others().map_err(|error| ("prctl", error))?;
        become_a_build()?;
        executable::sealed_copy().map_err(|error| ("copying the executable into memory", error))
    };
    let prepared = prepare();
    let answer = match &prepared {
        Ok(_) => report(&mut socket, None),
        Err((step, error)) => report(&mut socket, Some((step, error))),
    };
    match prepared {
        Ok(executable) if answer.is_ok() => executable,
        _ => sys::exit_now(1),
    }
}

fn wait_for_readiness(socket: &mut UnixStream) -> Result<(), EnterError> {
    let lost = |error| EnterError::call("waiting for the new process", error);
    socket.read_exact(&mut [0]).map_err(lost)?;
    hear(socket).map(drop)
}

/// Says how it went: all right, or which step failed and why.
fn report(socket: &mut UnixStream, failed: Option<(&str, &io::Error)>) -> io::Result<()> {
    match failed {
        None => socket.write_all(b"+"),
        Some((step, error)) => socket.write_all(format!("-{step}\0{error}").as_bytes()),
    }
}

/// Reads a [`report`].
fn hear(socket: &mut UnixStream) -> Result<(), EnterError> {
    let lost = |error| EnterError::call("waiting for the new process", error);
    let mut answer = [0];
    socket.read_exact(&mut answer).map_err(lost)?;
    if &answer == b"+" {
        return Ok(());
    }
    let mut message = String::new();
    socket.read_to_string(&mut message).map_err(lost)?;
    let (step, reason) = message.split_once('\0').unwrap_or(("fork", &message));
    Err(unfit(step, reason.to_owned()))
}

fn unfit(step: &str, reason: String) -> EnterError {
    EnterError::Unfit { step: step.to_owned(), reason, fix: fix(step) }
}

/// Tries out, in a child and where roots will be, all that setting up a command takes. Gives what
/// commands will lack.
fn probe_chroot(scratch: &Path) -> Result<Vec<String>, EnterError> {
    // Nothing may be left behind, so the state itself is not made.
    let existing = scratch.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let directory = tempfile::TempDir::new_in(existing)
        .map_err(|error| unfit("making a directory", format!("{}: {error}", existing.display())))?;
    let (mut ours, mut theirs) = UnixStream::pair().map_err(|error| EnterError::call("socketpair", error))?;
    let child = sys::clone_process(0).map_err(|error| EnterError::call("fork", error))?;
    let Some(child) = child else {
        let spaces = has_spaces();
        let tried = try_chroot(directory.path());
        let told = match &tried {
            Ok(()) => report(&mut theirs, None).and_then(|()| theirs.write_all(&[u8::from(spaces)])),
            Err((step, error)) => report(&mut theirs, Some((step, error))),
        };
        sys::exit_now(i32::from(told.is_err()));
    };
    drop(theirs);
    let heard = hear(&mut ours).and_then(|()| {
        let mut spaces = [0];
        ours.read_exact(&mut spaces).map_err(|error| EnterError::call("fork", error))?;
        Ok(spaces != [0])
    });
    waitpid(child, None).map_err(|error| EnterError::call("waitpid", error))?;
    Ok(remarks(heard?))
}

fn remarks(spaces: bool) -> Vec<String> {
    let mut remarks = vec![
        "commands are root of this container, and only their root directory is changed".to_owned(),
        "what commands mount read-only is a copy, and changes to it are thrown away".to_owned(),
    ];
    if !spaces {
        remarks.push(
            "commands have no /proc and no /sys, and neither process ids nor a host name of their own, as no \
             namespace can be made"
                .to_owned(),
        );
    }
    remarks
}

/// Whether a process can be put into namespaces, with a /proc of its own.
fn has_spaces() -> bool {
    let child = match sys::clone_process(SPACES) {
        Ok(Some(child)) => child,
        Ok(None) => {
            let proc = mounts::new_file_system("proc", &[], MountAttrFlags::empty());
            sys::exit_now(i32::from(proc.is_err()));
        }
        Err(_) => return false,
    };
    matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0)))
}

fn try_chroot(directory: &Path) -> Result<(), (&'static str, io::Error)> {
    let step = |name| move |error: rustix::io::Errno| (name, io::Error::from(error));
    rustix::process::chdir(directory).map_err(step("chdir"))?;
    rustix::process::chroot(".").map_err(step(CHROOT))?;
    let number = rustix::fs::makedev(NULL.0, NULL.1);
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, "/null", FileType::CharacterDevice, mode, number).map_err(step(DEVICE))?;
    let null = rustix::fs::open("/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.map_err(step(DEVICE))?;
    rustix::io::write(&null, b"x").map_err(step(DEVICE))?;
    rustix::fs::chown("/null", Some(Uid::from_raw(1)), Some(Gid::from_raw(1))).map_err(step(OWNER))?;
    identity::bound_capabilities(Isolation::Chroot).map_err(step(BOUNDING))?;
    try_user()
}

/// Starts a process of another user, and ends it.
fn try_user() -> Result<(), (&'static str, io::Error)> {
    let (mut ours, mut theirs) = UnixStream::pair().map_err(|error| ("socketpair", error))?;
    let Some(child) = sys::clone_process(0).map_err(|error| ("fork", error))? else {
        drop(ours);
        let become_user = || {
            nix::unistd::setgroups(&[])?;
            nix::unistd::setresgid(1.into(), 1.into(), 1.into())?;
            nix::unistd::setresuid(1.into(), 1.into(), 1.into())
        };
        let told = match become_user() {
            Ok(()) => report(&mut theirs, None),
            Err(error) => report(&mut theirs, Some((USER, &error.into()))),
        };
        if told.is_ok() {
            // Until it is ended, or its parent is gone.
            let _ = theirs.read(&mut [0]);
        }
        sys::exit_now(0);
    };
    drop(theirs);
    let became = hear(&mut ours).map_err(|error| (USER, io::Error::other(error)));
    let ended = end_other(child, became.is_ok());
    drop(ours);
    let waited = waitpid(child, None).map_err(|error| ("waitpid", error.into()));
    became.and(ended).and(waited.map(drop))
}

fn end_other(child: Pid, became: bool) -> Result<(), (&'static str, io::Error)> {
    if !became {
        return Ok(());
    }
    kill(child, Signal::SIGKILL).map_err(|error| (KILL, error.into()))
}
