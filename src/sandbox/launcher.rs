//! The launcher: a small process that forks a helper for each command.
//!
//! Starting a program costs a millisecond for loading it; forking a process of one thread and little
//! memory costs a tenth of that. The launcher is this executable, started once for each build from
//! where nobody can write to it and with an empty environment, so a helper holds nothing of the build's memory.
//!
//! A request is one byte with three descriptors: the helper's socket, and the command's standard
//! output and error. The answer is one byte with a descriptor of the helper's process.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::filter;
use super::helper;
use super::isolation::Isolation;
use super::sys;
use super::unspaced;

/// Name of the hidden entry that a launcher is started with.
const ENTRY: &str = "__launch";

/// Name of the entry for a launcher that commands have no namespace around them to keep out of.
const GUARDED: &str = "__launch_guarded";

/// Descriptors of a request.
const REQUEST: usize = 3;

/// A launcher that runs. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Launcher {
    socket: UnixStream,
    process: Child,
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
        Ok(Self { socket, process })
    }

    /// Starts a helper, and gives a descriptor of its process.
    pub(super) fn launch(&self, descriptors: [BorrowedFd<'_>; REQUEST]) -> io::Result<OwnedFd> {
        send(&self.socket, &descriptors)?;
        receive(&self.socket)?.pop().ok_or_else(|| io::Error::other("the launcher could not start a helper"))
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // It ends without its socket; a process that has ended already needs no ending.
        drop(self.socket.shutdown(std::net::Shutdown::Both));
        drop(self.process.wait());
    }
}

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
        let mut descriptors = match receive(&socket) {
            Ok(descriptors) => descriptors,
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
        let (Some(stderr), Some(stdout), Some(theirs)) =
            (descriptors.pop(), descriptors.pop(), descriptors.pop())
        else {
            return Err(io::Error::other("malformed request"));
        };
        let Some(child) = sys::clone_process(0)? else {
            drop(socket);
            sys::exit_now(helper::main(&UnixStream::from(theirs), &null, &stdout, &stderr));
        };
        let process = Pid::from_raw(child.as_raw()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let process = process.ok_or_else(|| io::Error::other("a process without id"))??;
        send(&socket, &[process.as_fd()])?;
    }
}

fn send(socket: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"f")], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message's descriptors; `UnexpectedEof` when the other side is gone.
fn receive(socket: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut buffer = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([std::os::fd::RawFd; REQUEST]);
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut buffer, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            descriptors.extend(raw.into_iter().map(sys::own_received));
        }
    }
    Ok(descriptors)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn descriptors_travel() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut end, other) = UnixStream::pair().unwrap();
        send(&ours, &[other.as_fd()]).unwrap();
        drop(other);
        let received = receive(&theirs).unwrap().pop().unwrap();
        UnixStream::from(received).write_all(b"x").unwrap();
        let mut text = String::new();
        end.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        drop(ours);
        assert_eq!(receive(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
