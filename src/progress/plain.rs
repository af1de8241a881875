//! One line for each event, for logs and for terminals that cannot do more.
//!
//! Each step has a number, `#7`, by which its interleaved lines can be told
//! apart; each line of a command's output names its platform as well.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Event, StepId, TransferId};
use super::renderer::{Renderer, error_text};
use super::steps::Steps;
use super::transfers::Moving;
use super::{escape, human, summary};

/// A transfer that lasts says how far it is this often.
const REMINDER: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Plain {
    steps: Steps,
    shown: u32,
    transfers: BTreeMap<TransferId, (Moving, Duration)>,
}

impl Plain {
    /// The step's number on the screen; a step that is new there gets its
    /// heading first.
    fn number(&mut self, id: StepId, out: &mut Vec<u8>) -> u32 {
        let state = self.steps.get(id);
        if let Some(number) = state.number {
            return number;
        }
        self.shown += 1;
        state.number = Some(self.shown);
        let by = match &state.emulated_by {
            Some(interpreter) => format!(" (emulated by {interpreter})"),
            None => String::new(),
        };
        line(out, format_args!("#{} {}{by}", self.shown, state.title));
        self.shown
    }

    fn transfer(&mut self, at: Duration, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::TransferStarted { id, .. } => {
                if let Some(moving) = Moving::start(at, event) {
                    self.transfers.insert(*id, (moving, at));
                }
            }
            Event::TransferProgress { id, bytes } => {
                if let Some((moving, said)) = self.transfers.get_mut(id)
                    && at.saturating_sub(*said) >= REMINDER
                {
                    *said = at;
                    moving.bytes = *bytes;
                    line(out, format_args!("{}", moving.so_far(at)));
                }
            }
            Event::TransferFinished { id, how, bytes } => {
                if let Some((moving, _)) = self.transfers.remove(id) {
                    line(out, format_args!("{}", moving.ended(at, *how, *bytes)));
                }
            }
            _ => {}
        }
    }
}

impl Renderer for Plain {
    fn event(&mut self, at: Duration, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Plan { steps, .. } => {
                for step in steps {
                    self.steps.describe(step);
                }
            }
            Event::StepStarted { id } => {
                self.steps.start(*id, at);
                self.number(*id, out);
            }
            Event::StepOutput { id, text, .. } => {
                let text = escape::line(text);
                let number = self.number(*id, out);
                self.steps.output(*id, at, &text);
                let state = self.steps.get(*id);
                let seconds = state.elapsed(at).as_secs_f64();
                line(out, format_args!("#{number} {} {seconds:.3} {text}", state.place));
            }
            Event::StepFinished { id, duration } => {
                let number = self.number(*id, out);
                let time = self.steps.end(*id).time(*duration);
                line(out, format_args!("#{number} DONE {time}"));
            }
            Event::StepCached { id } => {
                let number = self.number(*id, out);
                line(out, format_args!("#{number} CACHED"));
            }
            Event::StepCancelled { id } => {
                let number = self.number(*id, out);
                self.steps.end(*id);
                line(out, format_args!("#{number} CANCELED"));
            }
            Event::StepFailed { id, message } => {
                let number = self.number(*id, out);
                let message = escape::one_line(message);
                let title = &self.steps.fail(*id).title;
                line(out, format_args!("#{number} ERROR: {title}: {message}"));
            }
            Event::TransferStarted { .. }
            | Event::TransferProgress { .. }
            | Event::TransferFinished { .. } => self.transfer(at, event, out),
            Event::Finished(result) => {
                line(out, format_args!(""));
                for row in summary::lines(result) {
                    line(out, format_args!("{row}"));
                }
            }
            Event::Warning(found) => {
                for row in found.lines("warning") {
                    line(out, format_args!("{row}"));
                }
            }
            Event::Retry { .. } | Event::Note { .. } | Event::Written { .. } => {
                if let Some(text) = remark(event) {
                    line(out, format_args!("{text}"));
                }
            }
            Event::Failed(_) => {}
        }
    }

    fn error(&mut self, _at: Duration, text: &str, out: &mut Vec<u8>) {
        let prefix = |state: &super::steps::StepState| match state.number {
            Some(number) => format!("#{number} {} ", state.place),
            None => format!("{} ", state.place),
        };
        for row in self.steps.failures(prefix) {
            line(out, format_args!("{row}"));
        }
        error_text(text, out);
    }
}

/// Retries, notes and outputs as one line, for both writers for people.
pub(super) fn remark(event: &Event) -> Option<String> {
    Some(match event {
        Event::Retry { host, operation, wait, attempt, of, reason } => format!(
            "retry in {}: {} at {}: attempt {attempt} of {of} failed: {}",
            human::duration(*wait),
            escape::one_line(operation),
            escape::one_line(host),
            escape::one_line(reason),
        ),
        Event::Note { text } => format!("note: {}", escape::one_line(text)),
        Event::Written { kind, destination } => {
            format!("wrote {} {}", escape::one_line(kind), escape::one_line(destination))
        }
        _ => return None,
    })
}

fn line(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.extend_from_slice(text.to_string().as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::event::{Stream, TransferEnd, TransferKind};
    use super::super::label::tests::{platform, step};
    use super::super::summary::tests::summary;
    use super::super::warning::tests::warning;
    use super::*;

    fn render(script: Vec<(u64, Event)>) -> String {
        let mut plain = Plain::default();
        let mut out = Vec::new();
        for (at, event) in script {
            plain.event(Duration::from_millis(at), &event, &mut out);
        }
        plain.error(Duration::ZERO, "error: it \x1b[31mfailed\n  hint: none\n", &mut out);
        String::from_utf8(out).expect("utf-8")
    }

    fn output(id: u32, text: &[u8]) -> Event {
        Event::StepOutput { id: StepId(id), stream: Stream::Stdout, text: text.to_vec() }
    }

    fn plan() -> Event {
        let arm = "linux/arm64";
        let mut emulated = step(3, arm, &[arm], "RUN make");
        emulated.emulated_by = Some("qemu-aarch64 7.2.22".to_owned());
        Event::Plan {
            platforms: vec![platform("linux/amd64"), platform(arm)],
            steps: vec![
                step(1, "linux/amd64", &["linux/amd64", arm], "COPY . ."),
                step(2, "linux/amd64", &["linux/amd64"], "RUN make"),
                emulated,
            ],
        }
    }

    #[test]
    fn two_platforms_one_cached_one_failing() {
        let got = render(vec![
            (0, plan()),
            (10, Event::StepCached { id: StepId(1) }),
            (20, Event::StepStarted { id: StepId(2) }),
            (30, Event::StepStarted { id: StepId(3) }),
            (532, output(2, b"cc -o hello")),
            (600, output(3, b"\x1b[1mcc\x1b[0m: 1%\rcc: 2%\xff")),
            (1330, Event::StepFinished { id: StepId(2), duration: Duration::from_millis(1310) }),
            (1400, Event::StepFailed { id: StepId(3), message: "exit code 2".to_owned() }),
        ]);
        let want = "\
#1 [linux/amd64->amd64,arm64 build 1/5] COPY . .
#1 CACHED
#2 [linux/amd64 build 2/5] RUN make
#3 [linux/arm64 build 3/5] RUN make (emulated by qemu-aarch64 7.2.22)
#2 linux/amd64 0.512 cc -o hello
#3 linux/arm64 0.570 cc: 2%\u{fffd}
#2 DONE 1.3s
#3 ERROR: [linux/arm64 build 3/5] RUN make: exit code 2
------
 > [linux/arm64 build 3/5] RUN make:
#3 linux/arm64 0.570 cc: 2%\u{fffd}
------
error: it failed
  hint: none
";
        assert_eq!(got, want);
    }

    #[test]
    fn transfers_retries_and_warnings_are_lines() {
        let id = TransferId(1);
        let progress = |bytes| Event::TransferProgress { id, bytes };
        let got = render(vec![
            (
                0,
                Event::TransferStarted {
                    id,
                    kind: TransferKind::Pull,
                    what: "aaaaaaaaaaaa".to_owned(),
                    registry: "localhost:5000".to_owned(),
                    total: Some(40_000_000),
                },
            ),
            (500, progress(1_000_000)),
            (10_500, progress(20_000_000)),
            (11_000, progress(21_000_000)),
            (12_000, Event::TransferFinished { id, how: TransferEnd::Transferred, bytes: 40_000_000 }),
            (
                0,
                Event::Retry {
                    host: "localhost:5000".to_owned(),
                    operation: "pull manifest".to_owned(),
                    wait: Duration::from_secs(1),
                    attempt: 1,
                    of: 5,
                    reason: "HTTP 503\nbusy".to_owned(),
                },
            ),
            (
                0,
                Event::Warning(super::super::Warning {
                    platform: Some(platform("linux/arm64")),
                    ..super::super::Warning::new("ARG is not used")
                }),
            ),
            (0, Event::Warning(warning())),
            (0, Event::Finished(summary())),
        ]);
        let want = "\
pull aaaaaaaaaaaa from localhost:5000: 20.0 MB of 40.0 MB, 10.5s
pulled aaaaaaaaaaaa from localhost:5000: 40.0 MB, 12.0s
retry in 1.0s: pull manifest at localhost:5000: attempt 1 of 5 failed: HTTP 503 busy
warning: ARG is not used (linux/arm64)
warning: StageNameCasing: Stage name 'B' should be lowercase
  --> Dockerfile:12:11
   |
12 | FROM a AS B
   |           ^
hint: write it small

PLATFORM ";
        assert!(got.starts_with(want), "{got}");
    }

    #[test]
    fn a_line_of_a_megabyte_is_whole_and_its_repetition_is_not() {
        let long = vec![b'x'; 1 << 20];
        let failed = Event::StepFailed { id: StepId(9), message: "killed".to_owned() };
        let got = render(vec![(0, output(9, &long)), (0, failed)]);
        let widths: Vec<usize> = got.lines().map(|l| l.matches('x').count()).collect();
        assert_eq!(widths[1], 1 << 20);
        assert_eq!(widths[5], 2000);
    }
}
