//! Emulators that crash: the end of what a command printed, and what it says of its emulator.

use std::collections::VecDeque;
use std::sync::Mutex;

use fanfold_qemu::Outcome;

use super::Emulator;
use crate::engine::StepFailure;
use crate::plan::Step;

/// Bytes that are kept of what a command printed.
const KEPT: usize = 64 << 10;

/// The last lines that an emulated command printed.
#[derive(Debug, Default)]
pub(super) struct Tail(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Tail {
    /// Keeps a line, and lets go of as many as are too much then.
    pub(super) fn push(&self, line: &[u8]) {
        let Ok(mut kept) = self.0.lock() else { return };
        kept.bytes += line.len() + 1;
        kept.lines.push_back(line.to_vec());
        while kept.bytes > KEPT && kept.lines.len() > 1 {
            let gone = kept.lines.pop_front().map_or(0, |gone| gone.len() + 1);
            kept.bytes -= gone;
        }
    }

    /// What the failure of a command looks like, where it looks like one of its emulator.
    pub(super) fn hint(&self, step: &Step, emulator: &Emulator, failure: &StepFailure) -> Option<String> {
        let outcome = match failure {
            StepFailure::Command { code: Some(code), .. } => Outcome::Exited(*code),
            StepFailure::Command { signal: Some(signal), .. } => Outcome::Signaled(*signal),
            _ => return None,
        };
        let mut kept = self.0.lock().ok()?;
        let output = kept.lines.make_contiguous().join(&b'\n');
        fanfold_qemu::crash_hint(&fanfold_qemu::Failure {
            platform: &step.platform,
            emulator: emulator.label(),
            command: &step.origin.text,
            outcome,
            output: &output,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept() {
        let tail = Tail::default();
        for number in 0..100 {
            tail.push(&vec![number; 1023]);
        }
        let kept = tail.0.lock().unwrap();
        assert_eq!(kept.lines.len(), 64);
        assert_eq!((kept.bytes, kept.lines.back().unwrap()[0]), (KEPT, 99));
    }

    #[test]
    fn one_long_line_is_kept_whole() {
        let tail = Tail::default();
        tail.push(b"a");
        tail.push(&vec![0; 2 * KEPT]);
        assert_eq!(tail.0.lock().unwrap().lines.len(), 1);
    }
}
