//! What a build takes over from the process that it begins in, and what it leaves to it.

use super::errors::{Failure, Kind};
use crate::sandbox::Ended;

/// The signal that nobody can handle.
const SIGKILL: i32 = 9;

/// The caller's umask. Commands and layers have one of their own; outputs have the caller's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Umask(rustix::fs::Mode);

impl Umask {
    /// Reads the process's umask, which can only be done by setting it.
    pub(super) fn current() -> Self {
        let umask = rustix::process::umask(rustix::fs::Mode::empty());
        rustix::process::umask(umask);
        Self(umask)
    }

    /// Sets it again, once nothing else creates files.
    pub(super) fn restore(self) {
        rustix::process::umask(self.0);
    }
}

/// The exit code of the process that has built.
pub(super) fn exit_code(ended: Ended) -> Result<u8, Failure> {
    match ended {
        Ended::Exited(code) => Ok(u8::try_from(code).unwrap_or(1)),
        Ended::Signaled(SIGKILL) => Err(Failure::new(
            Kind::Retryable,
            "the build was killed: often by the kernel, when memory runs out",
        )
        .with_hint("give it more memory, or fewer --jobs")),
        Ended::Signaled(signal) => Ok(Kind::Interrupted(signal).code()),
    }
}
