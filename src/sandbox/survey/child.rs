//! An attempt that a child makes, so that it changes nothing here.

use std::io;

use nix::sys::wait::{WaitStatus, waitpid};

use super::super::sys;

/// The exit code of an attempt whose error has no number that fits.
const OTHER: i32 = 255;

/// Has a child in new `namespaces` (0: in the same ones) make the attempt, and gives its outcome.
pub(super) fn attempt(namespaces: i32, attempt: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let Some(child) = sys::clone_process(namespaces)? else {
        let code = match attempt() {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().filter(|code| (1..OTHER).contains(code)).unwrap_or(OTHER),
        };
        sys::exit_now(code);
    };
    match waitpid(child, None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, OTHER) => Err(io::Error::other("it failed for an unknown reason")),
        WaitStatus::Exited(_, code) => Err(io::Error::from_raw_os_error(code)),
        WaitStatus::Signaled(_, signal, _) => {
            Err(io::Error::other(format!("the process that tried was ended by {signal}")))
        }
        _ => Err(io::Error::other("the process that tried neither exited nor died")),
    }
}
