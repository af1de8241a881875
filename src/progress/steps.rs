//! What the writers for people remember of each step.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::{Step, StepId};
use super::{escape, human, label};

/// Lines kept of each running step, and shown again when it fails.
const TAIL_LINES: usize = 20;
/// Characters kept of each of those lines: a command may print megabytes
/// without a newline, and this memory is held for every running step.
const TAIL_WIDTH: usize = 2000;

/// One step that was described, started, or both.
#[derive(Debug)]
pub(super) struct StepState {
    /// `[linux/arm64 build 2/5] RUN make`.
    pub(super) title: String,
    /// `linux/arm64`.
    pub(super) place: String,
    /// Interpreter and version when emulated.
    pub(super) emulated_by: Option<String>,
    /// Its number on the screen, given when it is first shown.
    pub(super) number: Option<u32>,
    started: Duration,
    tail: VecDeque<(Duration, String)>,
}

impl StepState {
    /// Time from the step's start.
    pub(super) fn elapsed(&self, at: Duration) -> Duration {
        at.saturating_sub(self.started)
    }

    /// The last lines, each with its time from the step's start.
    pub(super) fn tail(&self) -> impl DoubleEndedIterator<Item = (Duration, &str)> {
        self.tail.iter().map(|(at, text)| (*at, text.as_str()))
    }

    /// How long it ran, and `emulated` where that explains it.
    pub(super) fn time(&self, span: Duration) -> String {
        let remark = match &self.emulated_by {
            Some(_) => " emulated",
            None => "",
        };
        format!("{}{remark}", human::duration(span))
    }
}

/// Every step heard of, and those that failed but whose output was not yet
/// shown again.
#[derive(Debug, Default)]
pub(super) struct Steps {
    known: BTreeMap<StepId, StepState>,
    failed: Vec<StepId>,
}

impl Steps {
    pub(super) fn describe(&mut self, step: &Step) {
        let state = self.get(step.id);
        state.title = label::title(step);
        state.place = label::place(step);
        state.emulated_by = step.emulated_by.as_deref().map(escape::one_line);
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The step; one that nobody described is named by its number alone.
    pub(super) fn get(&mut self, id: StepId) -> &mut StepState {
        self.known.entry(id).or_insert_with(|| StepState {
            title: format!("step {}", id.0),
            place: format!("step {}", id.0),
            emulated_by: None,
            number: None,
            started: Duration::ZERO,
            tail: VecDeque::new(),
        })
    }

    pub(super) fn find(&self, id: StepId) -> Option<&StepState> {
        self.known.get(&id)
    }

    pub(super) fn start(&mut self, id: StepId, at: Duration) -> &mut StepState {
        let state = self.get(id);
        state.started = at;
        state
    }

    /// Keeps a line for the tail.
    pub(super) fn output(&mut self, id: StepId, at: Duration, text: &str) {
        let state = self.get(id);
        let kept = match text.char_indices().nth(TAIL_WIDTH) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        };
        if state.tail.len() == TAIL_LINES {
            state.tail.pop_front();
        }
        state.tail.push_back((state.elapsed(at), kept));
    }

    /// Forgets the output of a step that ended well or was stopped.
    pub(super) fn end(&mut self, id: StepId) -> &mut StepState {
        let state = self.get(id);
        state.tail = VecDeque::new();
        state
    }

    /// Remembers to show the step's output again.
    pub(super) fn fail(&mut self, id: StepId) -> &mut StepState {
        self.failed.push(id);
        self.get(id)
    }

    /// The tails of the failed steps, as lines; `prefix` begins each line of output.
    pub(super) fn failures(&mut self, prefix: impl Fn(&StepState) -> String) -> Vec<String> {
        let mut lines = Vec::new();
        for id in std::mem::take(&mut self.failed) {
            let state = self.get(id);
            if state.tail.is_empty() {
                continue;
            }
            lines.push("------".to_owned());
            lines.push(format!(" > {}:", state.title));
            for (at, text) in state.tail() {
                lines.push(format!("{}{:.3} {text}", prefix(state), at.as_secs_f64()));
            }
            lines.push("------".to_owned());
            state.tail = VecDeque::new();
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_short_and_narrow() {
        let mut steps = Steps::default();
        let id = StepId(1);
        steps.start(id, Duration::from_secs(1));
        for n in 0..30 {
            steps.output(id, Duration::from_secs(2), &format!("{n} {}", "é".repeat(1 << 16)));
        }
        let tail: Vec<_> = steps.get(id).tail().collect();
        assert_eq!(tail.len(), 20);
        assert!(tail[0].1.starts_with("10 é") && tail[0].1.ends_with("é…"));
        assert_eq!(tail[0].1.chars().count(), TAIL_WIDTH + 1);
        assert_eq!(tail[0].0, Duration::from_secs(1));
    }

    #[test]
    fn failures_are_shown_once_and_only_with_output() {
        let mut steps = Steps::default();
        steps.output(StepId(1), Duration::from_millis(1500), "make: no rule");
        steps.fail(StepId(1));
        steps.fail(StepId(2));
        let want = ["------", " > step 1:", "1.500 make: no rule", "------"];
        assert_eq!(steps.failures(|_| String::new()), want);
        assert!(steps.failures(|_| String::new()).is_empty());
    }
}
