//! Seccomp user notification: calls of one process that another one answers.
//!
//! Sources: seccomp_unotify(2), seccomp(2).
#![expect(unsafe_code, reason = "see the parent module")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

use super::check;

nix::ioctl_readwrite!(notif_recv, b'!', 0, libc::seccomp_notif);
nix::ioctl_readwrite!(notif_send, b'!', 1, libc::seccomp_notif_resp);
nix::ioctl_write_ptr!(notif_id_valid, b'!', 2, u64);
nix::ioctl_write_ptr!(notif_addfd, b'!', 3, libc::seccomp_notif_addfd);
nix::ioctl_write_int_bad!(notif_set_flags, nix::request_code_write!(b'!', 4, size_of::<u64>()));

/// Caller and receiver take turns on one processor, without a third one waking either (since Linux 6.6).
const SYNC_WAKE_UP: libc::c_int = 1;

/// Waiting callers can only be killed, so that no call is begun twice (since Linux 5.19).
const WAIT_KILLABLE: libc::c_ulong = 1 << 5;

/// A call that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(in crate::sandbox) struct Notification {
    /// Names the call towards the kernel.
    pub(in crate::sandbox) id: u64,
    /// The calling thread, as the receiver sees it.
    pub(in crate::sandbox) thread: i32,
    /// Number of the call.
    pub(in crate::sandbox) call: libc::c_long,
    /// Its arguments.
    pub(in crate::sandbox) arguments: [u64; 6],
}

/// Installs a filter in this thread for good, and gives the descriptor at which its notifications
/// arrive.
pub(in crate::sandbox) fn install_with_listener(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::other("the filter is too long"))?;
    // The kernel only reads the program.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let install = |flags: libc::c_ulong| {
        // SAFETY: `program` and the instructions that it points to outlive the call, which reads them.
        check(unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
                flags,
                &raw const program,
            )
        })
    };
    let listener = match install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?
        }
        other => other?,
    };
    // SAFETY: the kernel has just made this descriptor for us alone.
    let listener = unsafe { OwnedFd::from_raw_fd(listener as i32) };
    // SAFETY: the call takes a number. It only makes answers faster, so that older kernels refuse it is no
    // matter.
    let _ = unsafe { notif_set_flags(listener.as_raw_fd(), SYNC_WAKE_UP) };
    Ok(listener)
}

/// Has callers and the receiver take turns on one processor, which makes an answer several times as fast.
/// A kernel before 6.6 cannot.
pub(in crate::sandbox) fn take_turns(listener: BorrowedFd<'_>) {
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    let request = nix::request_code_write!(b'!', 4, std::mem::size_of::<u64>());
    // SAFETY: the request takes a number.
    unsafe { libc::ioctl(listener.as_raw_fd(), request as _, SYNC_WAKE_UP) };
}

/// Waits for the next call. `None` when the caller has gone before it was told of.
pub(in crate::sandbox) fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    // SAFETY: the structure is plain integers, for which zero is a valid value, and has to be zero.
    let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: `request` is valid for reading and writing during the call.
    match unsafe { notif_recv(listener.as_raw_fd(), &raw mut request) } {
        Ok(_) => Ok(Some(Notification {
            id: request.id,
            thread: request.pid as i32,
            call: libc::c_long::from(request.data.nr),
            arguments: request.data.args,
        })),
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the caller still waits: only then do its process id and memory belong to it.
pub(in crate::sandbox) fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the call reads one number, which outlives it.
    unsafe { notif_id_valid(listener.as_raw_fd(), &raw const id) }.is_ok()
}

/// What the caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Response {
    /// The kernel carries the call out, with whatever its arguments are then.
    Continue,
    /// The result.
    Value(i64),
    /// A failure, by its number.
    Errno(i32),
}

/// Answers a call. A caller that has gone is no error.
pub(in crate::sandbox) fn respond(listener: BorrowedFd<'_>, id: u64, response: Response) -> io::Result<()> {
    let (val, error, flags) = match response {
        Response::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Response::Value(value) => (value, 0, 0),
        Response::Errno(errno) => (0, -errno, 0),
    };
    let mut answer = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: `answer` is valid for reading and writing during the call.
    match unsafe { notif_send(listener.as_raw_fd(), &raw mut answer) } {
        Ok(_) | Err(nix::errno::Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gives the caller a copy of `descriptor`, whose number is the result of its call. False when the
/// caller has gone.
///
/// # Errors
///
/// `EMFILE` where the caller has as many descriptors as it may have: the call is then unanswered.
pub(in crate::sandbox) fn respond_with_descriptor(
    listener: BorrowedFd<'_>,
    id: u64,
    descriptor: impl AsFd,
    close_on_exec: bool,
) -> io::Result<bool> {
    let request = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: descriptor.as_fd().as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    // SAFETY: `request` outlives the call, which reads it.
    match unsafe { notif_addfd(listener.as_raw_fd(), &raw const request) } {
        Ok(_) => Ok(true),
        Err(nix::errno::Errno::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Puts a copy of `descriptor` in the place of the caller's descriptor `number`.
pub(in crate::sandbox) fn replace_descriptor(
    listener: BorrowedFd<'_>,
    id: u64,
    descriptor: BorrowedFd<'_>,
    number: i32,
    close_on_exec: bool,
) -> io::Result<()> {
    let request = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
        srcfd: descriptor.as_raw_fd() as u32,
        newfd: number as u32,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    // SAFETY: `request` outlives the call, which reads it.
    unsafe { notif_addfd(listener.as_raw_fd(), &raw const request) }?;
    Ok(())
}
