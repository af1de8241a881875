//! Commands that were ended because of a limit: by the clock, or by the kernel for what they used.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::StepFailure;
use crate::progress;
use crate::sandbox::{Killer, Usage};

/// SIGKILL, and the status that shells make of it.
const KILLED: i32 = 9;
const KILLED_STATUS: i32 = 128 + KILLED;

/// Kills a command when its time is over.
pub(super) struct Watch(Option<(Sender<()>, JoinHandle<bool>)>);

impl Watch {
    /// Watches from now on; without a limit, for ever.
    pub(super) fn start(limit: Option<Duration>, killer: Killer) -> Self {
        Self(limit.map(|limit| {
            let (ended, end) = mpsc::channel();
            let watch = thread::spawn(move || match end.recv_timeout(limit) {
                Err(RecvTimeoutError::Timeout) => {
                    // A command that has ended in the meantime needs no killing.
                    drop(killer.kill());
                    true
                }
                Ok(()) | Err(RecvTimeoutError::Disconnected) => false,
            });
            (ended, watch)
        }))
    }

    /// The command has ended: whether its time was over.
    pub(super) fn stop(self) -> bool {
        self.0.is_some_and(|(ended, watch)| {
            drop(ended);
            watch.join().unwrap_or(false)
        })
    }
}

/// The failure of a command that ran out of time.
pub(super) fn timed_out(command: String, limit: Duration) -> StepFailure {
    let limit = progress::human::duration(limit);
    StepFailure::Limit {
        command,
        how: format!("it ran longer than the {limit} of --step-timeout and was ended"),
        hint: "give it more time with --step-timeout, or look at what it waits for".to_owned(),
    }
}

/// The same failure, or that of a limit where the kernel says that one was reached.
pub(super) fn explain(failure: StepFailure, usage: Option<&Usage>) -> StepFailure {
    let (StepFailure::Command { command, how, code, signal }, Some(usage)) = (&failure, usage) else {
        return failure;
    };
    if let (Some(limit), true) = (usage.limits.memory, usage.oom_kills > 0) {
        let peak = usage.memory_peak.map_or_else(String::new, |peak| format!(" (peak {})", binary(peak)));
        let limit = binary(limit);
        let how = match (signal, code) {
            (Some(KILLED), _) => format!(
                "ended by signal {KILLED}: the kernel ended it, as it used more than the {limit} of --memory{peak}"
            ),
            (_, Some(KILLED_STATUS)) => format!(
                "{how}: the kernel ended a process of it, as it used more than the {limit} of --memory{peak}"
            ),
            _ => format!(
                "{how}; before, the kernel ended {} of its processes, as it used more than the {limit} of \
                 --memory{peak}",
                usage.oom_kills
            ),
        };
        let hint = "give it more with --memory, or have it do less at once, e.g. `make -j1`".to_owned();
        return StepFailure::Limit { command: command.clone(), how, hint };
    }
    match usage.limits.pids {
        Some(limit) if usage.pids_refused > 0 => StepFailure::Limit {
            command: command.clone(),
            how: format!("{how}; it could not start more processes and threads than the {limit} of --pids"),
            hint: "allow it more with --pids, or have it do less at once, e.g. `make -j1`".to_owned(),
        },
        _ => failure,
    }
}

/// Bytes with a binary unit, as limits are given, e.g. `64 MiB`, `63.9 MiB`. Rounded down, so that what is
/// below a limit does not look like the limit.
fn binary(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x10_0000 => (1 << 10, "KiB"),
        0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    let tenths = u128::from(bytes) * 10 / unit;
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        rest => format!("{}.{rest} {name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Limits;

    fn failed(code: Option<i32>, signal: Option<i32>) -> StepFailure {
        let how = code.map_or("ended by signal 9 (SIGKILL)".to_owned(), |code| format!("exit code: {code}"));
        StepFailure::Command { command: "x".to_owned(), how, code, signal }
    }

    #[test]
    fn limits_that_were_reached_are_named() {
        let limits = Limits { memory: Some(64 << 20), cpus: None, pids: Some(20) };
        let oom = Usage { limits, oom_kills: 1, memory_peak: Some((64 << 20) - 5), pids_refused: 0 };
        let full = Usage { oom_kills: 0, pids_refused: 3, ..oom };
        let none = Usage { oom_kills: 0, ..oom };
        let memory = "used more than the 64 MiB of --memory (peak 63.9 MiB)";
        let table = [
            (failed(None, Some(9)), oom, format!("signal 9: the kernel ended it, as it {memory}")),
            (failed(Some(137), None), oom, format!("137: the kernel ended a process of it, as it {memory}")),
            (
                failed(Some(2), None),
                oom,
                format!("exit code: 2; before, the kernel ended 1 of its processes, as it {memory}"),
            ),
            (
                failed(Some(2), None),
                full,
                "exit code: 2; it could not start more processes and threads than the 20 of --pids"
                    .to_owned(),
            ),
        ];
        for (failure, usage, want) in table {
            let text = explain(failure, Some(&usage)).to_string();
            assert!(text.ends_with(&want), "{text:?}, {want:?}");
        }
        for usage in [None, Some(&none)] {
            assert_eq!(explain(failed(Some(137), None), usage), failed(Some(137), None));
        }
    }

    #[test]
    fn sizes_are_never_rounded_up() {
        for (bytes, want) in
            [(512, "0.5 KiB"), ((1 << 20) - 1, "1023.9 KiB"), (64 << 20, "64 MiB"), (3 << 29, "1.5 GiB")]
        {
            assert_eq!(binary(bytes), want);
        }
    }
}
