//! What the end of a probe means.

use std::fmt;

use crate::PROBE_STATUS;

/// Error numbers of Linux; these are the same on every architecture.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ENOEXEC: i32 = 8;
const EACCES: i32 = 13;

/// How the execution of a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and exited with this status.
    Exited(i32),
    /// It ran and this signal killed it.
    Signaled(i32),
    /// `execve` failed with this error number.
    Errno(i32),
}

/// Whether a platform's programs run in the place where a probe was executed.
///
/// `Display` gives the reason as a fragment of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They do.
    Works,
    /// The kernel knows nobody to run them.
    NoEmulator,
    /// A handler is registered, but without flag F, and its emulator is not
    /// visible inside the image.
    HandlerWithoutF,
    /// The kernel forbids execution; the error number is `EACCES` or `EPERM`.
    NotPermitted(i32),
    /// The emulator, or the CPU, dies of this signal.
    Crashes(i32),
    /// Something else happened.
    Unknown(Outcome),
}

impl Verdict {
    /// Judges the outcome of a [`crate::probe`].
    #[must_use]
    pub const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Exited(PROBE_STATUS) => Self::Works,
            Outcome::Signaled(signal) => Self::Crashes(signal),
            Outcome::Errno(ENOEXEC) => Self::NoEmulator,
            Outcome::Errno(ENOENT) => Self::HandlerWithoutF,
            Outcome::Errno(errno @ (EACCES | EPERM)) => Self::NotPermitted(errno),
            other => Self::Unknown(other),
        }
    }

    /// Whether programs run.
    #[must_use]
    pub const fn works(self) -> bool {
        matches!(self, Self::Works)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Works => f.write_str("works"),
            Self::NoEmulator => f.write_str("no emulator is registered (ENOEXEC)"),
            Self::HandlerWithoutF => {
                f.write_str("the handler lacks flag F: its emulator is not visible inside the image (ENOENT)")
            }
            Self::NotPermitted(EPERM) => f.write_str("execution is forbidden (EPERM)"),
            Self::NotPermitted(_) => f.write_str(
                "execution is forbidden: the file system is mounted noexec, or a security \
                 module denies it (EACCES)",
            ),
            Self::Crashes(signal) => {
                write!(f, "the emulator or CPU fails: the probe dies of {}", SignalName(signal))
            }
            Self::Unknown(Outcome::Exited(status)) => write!(
                f,
                "the probe exited with {status} instead of {PROBE_STATUS}, so something else ran it"
            ),
            Self::Unknown(Outcome::Signaled(signal)) => {
                write!(f, "the probe was ended by {}", SignalName(signal))
            }
            Self::Unknown(Outcome::Errno(errno)) => {
                write!(f, "execution fails with error {errno}")
            }
        }
    }
}

/// A signal as people know it.
struct SignalName(i32);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            4 => "SIGILL",
            5 => "SIGTRAP",
            6 => "SIGABRT",
            8 => "SIGFPE",
            9 => "SIGKILL",
            11 => "SIGSEGV",
            15 => "SIGTERM",
            other => return write!(f, "signal {other}"),
        };
        write!(f, "signal {} ({name})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_and_reasons() {
        let cases = [
            (Outcome::Exited(42), Verdict::Works, "works"),
            (Outcome::Exited(0), Verdict::Unknown(Outcome::Exited(0)), "exited with 0 instead"),
            (Outcome::Errno(8), Verdict::NoEmulator, "no emulator"),
            (Outcome::Errno(2), Verdict::HandlerWithoutF, "lacks flag F"),
            (Outcome::Errno(13), Verdict::NotPermitted(13), "noexec"),
            (Outcome::Errno(1), Verdict::NotPermitted(1), "(EPERM)"),
            (Outcome::Errno(40), Verdict::Unknown(Outcome::Errno(40)), "error 40"),
            (Outcome::Signaled(4), Verdict::Crashes(4), "signal 4 (SIGILL)"),
            (Outcome::Signaled(31), Verdict::Crashes(31), "dies of signal 31"),
        ];
        for (outcome, want, reason) in cases {
            let verdict = Verdict::of(outcome);
            assert_eq!(verdict, want);
            assert_eq!(verdict.works(), outcome == Outcome::Exited(PROBE_STATUS));
            assert!(verdict.to_string().contains(reason), "{verdict}");
        }
    }
}
