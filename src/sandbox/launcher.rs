//! The launcher: a small process that forks a helper for each command.
//!
//! Starting a program costs a millisecond for loading it; forking a process of one thread and little
//! memory costs a tenth of that. The launcher is this executable, started once for each build from
//! where nobody can write to it and with an empty environment, so a helper holds nothing of the build's memory.
//!
//! A request is one byte with the helper's socket. The answer is one byte with a descriptor of the
//! helper's process.
//!
//! A helper does all that is the same for every command before it hears of one. So that no command waits for
//! that, the helper of the next is asked for as soon as one is given out.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::filter;
use super::helper;
use super::isolation::Isolation;
use super::rights;
use super::sys;
use super::unspaced;

/// Name of the hidden entry that a launcher is started with.
const ENTRY: &str = "__launch";

/// Name of the entry for a launcher that commands have no namespace around them to keep out of.
const GUARDED: &str = "__launch_guarded";

/// A launcher that runs. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Launcher {
    socket: UnixStream,
    process: Child,
    /// The socket of a helper that was asked for, and whose process is still to be received.
    next: Option<UnixStream>,
}

/// A helper that waits for its command.
#[derive(Debug)]
pub(super) struct Launched {
    /// To speak with it.
    pub(super) socket: UnixStream,
    /// Its process.
    pub(super) process: OwnedFd,
}

impl Launcher {
    /// Starts a launcher from the executable that `executable` is open on.
    pub(super) fn start(executable: &OwnedFd, isolation: Isolation) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let process = Command::new(format!("/proc/self/fd/{}", executable.as_raw_fd()))
            .arg0("fanfold")
            .arg(if isolation.has_namespaces() { ENTRY } else { GUARDED })
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { socket, process, next: None })
    }

    /// Asks for the next helper, if that was not done yet, and does not wait for it.
    pub(super) fn ask(&mut self) -> io::Result<()> {
        if self.next.is_none() {
            let (ours, theirs) = UnixStream::pair()?;
            rights::send(&self.socket, REQUEST, &[theirs.as_fd()])?;
            self.next = Some(ours);
        }
        Ok(())
    }

    /// Gives a helper, and has the next one made.
    pub(super) fn launch(&mut self) -> io::Result<Launched> {
        self.ask()?;
        let process = receive(&self.socket)?;
        let socket = self.next.take().ok_or_else(|| io::Error::other("no helper was asked for"))?;
        self.ask()?;
        Ok(Launched { socket, process })
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // The helper that no command came for ends without its socket.
        self.next = None;
        // It ends without its socket; a process that has ended already needs no ending.
        drop(self.socket.shutdown(std::net::Shutdown::Both));
        drop(self.process.wait());
    }
}

/// What a request and its answer consist of beside a descriptor.
const REQUEST: &[u8] = b"f";

/// Exit code of a launcher that lost its build.
const LOST: i32 = 125;

/// Handles the hidden entry, when `args` (with the program's name first) ask for it, and gives the
/// exit code to end with.
///
/// Call it first in `main`, before any thread is started or any file opened.
pub fn hidden_entry(args: impl IntoIterator<Item = OsString>) -> Option<i32> {
    let entry = args.into_iter().nth(1)?;
    let guarded = entry == GUARDED;
    if entry != ENTRY && !guarded {
        return None;
    }
    Some(if serve(guarded).is_ok() { 0 } else { LOST })
}

/// The launcher's own loop; ends when the build does.
fn serve(guarded: bool) -> io::Result<()> {
    if guarded {
        // All that is forked from here on inherits it, until a command is executed.
        unspaced::close_to_others()?;
    }
    // Descriptors that whoever started the build has left open go no further.
    sys::close_from(3)?;
    let socket = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    // Every helper has it from here, and need not make it.
    filter::default_program();
    loop {
        let theirs = match receive(&socket) {
            Ok(theirs) => theirs,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        // Helpers that have ended; the one to come is not among them, so its id is its own until
        // its descriptor is open.
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        let Some(child) = sys::clone_process(0)? else {
            drop(socket);
            sys::exit_now(helper::main(&UnixStream::from(theirs), &null, !guarded));
        };
        let process = Pid::from_raw(child.as_raw()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let process = process.ok_or_else(|| io::Error::other("a process without id"))??;
        rights::send(&socket, REQUEST, &[process.as_fd()])?;
    }
}

/// Receives one message's descriptor; `UnexpectedEof` when the other side is gone.
fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let (count, mut descriptors) = rights::receive(socket, &mut [0])?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    descriptors.pop().ok_or_else(|| io::Error::other("a message without descriptor"))
}
