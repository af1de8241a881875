//! Signals that wait until work is in order again.

use std::fs;

use nix::sys::signal::{SigSet, Signal};

use super::enter::block_signals;
use super::refusal::EnterError;
use super::sys;

/// Signals with which people end a build.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Holds back the signals that would end this process at once, and with it whatever has to be cleaned up.
/// Dropped, it lets them through. Children are not held.
#[derive(Debug)]
pub struct HeldSignals {
    old_mask: SigSet,
    /// The bits of the signals that are looked for.
    ending: u64,
}

impl HeldSignals {
    /// Holds them from now on. Call it while the process has one thread.
    ///
    /// # Errors
    ///
    /// Fails where the kernel refuses to.
    pub fn hold() -> Result<Self, EnterError> {
        // What is ignored ends nobody, and waits all the same when it is blocked.
        let ending = ENDING.into_iter().filter(|signal| !sys::is_ignored(*signal));
        let ending = ending.map(|signal| 1 << (signal as i32 - 1)).sum();
        Ok(Self { old_mask: block_signals()?, ending })
    }

    /// Whether one of them has come.
    pub fn has_come(&self) -> bool {
        fs::read_to_string("/proc/self/status").is_ok_and(|status| waiting(&status) & self.ending != 0)
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // It was the process's mask before, so the kernel takes it.
        let _ = self.old_mask.thread_set_mask();
    }
}

/// The signals that wait, of a process and of its one thread.
fn waiting(status: &str) -> u64 {
    let sets =
        status.lines().filter_map(|line| line.strip_prefix("ShdPnd:").or(line.strip_prefix("SigPnd:")));
    sets.filter_map(|set| u64::from_str_radix(set.trim(), 16).ok()).fold(0, |all, set| all | set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_signals_are_read() {
        let status =
            "Name:\tx\nSigPnd:\t0000000000000002\nShdPnd:\t0000000000004000\nSigBlk:\tffffffffffffffff\n";
        assert_eq!(waiting(status), 1 << 1 | 1 << 14);
        assert_eq!(waiting("SigPnd:\tjunk\n"), 0);
    }
}
