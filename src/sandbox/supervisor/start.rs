//! How a command comes to be supervised.
//!
//! The command installs the filter itself, sends the listener to process 1, and waits for a word that the
//! supervisor is there.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::cmsg_space;
use nix::libc::{self, sock_filter};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::super::sys::{self, notify};
use super::notification::{Handler, serve};

/// Threads that answer: one more than can have something to do at once on most machines that builds run
/// on, as an answer may have to wait for a disk.
const THREADS: usize = 4;

/// Puts this process under the supervision of the one at the other end of `socket`. What it executes
/// inherits it.
///
/// Needs CAP_SYS_ADMIN in the user namespace, or `no_new_privs`. Until the supervisor is there, no call
/// that the filter sends to it may be made.
///
/// # Errors
///
/// Says why the kernel takes no filter with a listener.
pub(super) fn join(mut socket: &UnixStream, program: &[sock_filter]) -> io::Result<()> {
    let listener = notify::install_with_listener(program).map_err(explain)?;
    let raw = [listener.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&raw)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"l")], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    drop(listener);
    socket.read_exact(&mut [0])
}

/// Receives the listener of a command that joins.
pub(super) fn listener(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut buffer = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!(RawFd);
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut buffer, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut received = message.cmsgs()?.filter_map(|part| match part {
        ControlMessageOwned::ScmRights(raw) => raw.first().copied(),
        _ => None,
    });
    let raw = received.next().ok_or_else(|| io::Error::other("the command did not join its supervisor"))?;
    Ok(sys::own_received(raw))
}

/// Answers calls from now on, and lets the command go on.
pub(super) fn begin(
    listener: OwnedFd,
    mut socket: &UnixStream,
    proc: OwnedFd,
    handler: Arc<dyn Handler>,
) -> io::Result<()> {
    notify::take_turns(listener.as_fd());
    let (listener, proc) = (Arc::new(listener), Arc::new(proc));
    for _ in 0..THREADS {
        let (listener, proc, handler) = (Arc::clone(&listener), Arc::clone(&proc), Arc::clone(&handler));
        std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || serve(&listener, &proc, &*handler))?;
    }
    socket.write_all(b"g")
}

/// Why the kernel takes no filter with a listener.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {source}")]
pub(super) struct Refused {
    reason: &'static str,
    /// Number of the error.
    pub(super) errno: i32,
    source: io::Error,
}

/// Adds the reason to an error of installing a filter.
pub(super) fn explain(error: io::Error) -> io::Error {
    let errno = error.raw_os_error().unwrap_or(0);
    let reason = match errno {
        libc::EBUSY => {
            "another supervisor receives the calls of this process already: the container runtime around it \
             has a seccomp profile with a listener, and a profile without one would help"
        }
        libc::EINVAL => "this kernel is older than 5.5, or has no filters with a listener",
        libc::ENOSYS | libc::EPERM => {
            "filters of system calls are not allowed here; a container's seccomp profile has to let \
             seccomp(2) through"
        }
        _ => return error,
    };
    io::Error::new(error.kind(), Refused { reason, errno, source: error })
}
