//! The writer for people at a terminal.
//!
//! Running steps and transfers stand in a live block; what has ended scrolls
//! away above it. The output of commands is shown as it comes, cut to the width,
//! and is gone when the step ends well; when it fails, its last lines are
//! printed whole, right above the error.

use std::time::Duration;

use super::block::{Block, Row, Style, columns, cut, spread};
use super::event::{Event, StepId};
use super::plain::remark;
use super::renderer::{Renderer, error_text};
use super::steps::Steps;
use super::transfers::Transfers;
use super::{escape, human, summary};

/// Twelve times a second: smooth to the eye, cheap over a slow line.
const INTERVAL: Duration = Duration::from_millis(80);
/// Lines of output shown below running steps, all together.
const OUTPUT_ROWS: usize = 10;

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

/// See the module.
pub(super) struct Terminal {
    color: bool,
    size: Box<dyn Fn() -> Size + Send>,
    steps: Steps,
    running: Vec<StepId>,
    ended: usize,
    targets: usize,
    transfers: Transfers,
    block: Block,
    /// Finished lines that wait for the next frame.
    above: Vec<u8>,
}

impl Terminal {
    /// `size` is asked before each frame, so that a resized window is noticed.
    pub(super) fn new(color: bool, size: Box<dyn Fn() -> Size + Send>) -> Self {
        Self {
            color,
            size,
            steps: Steps::default(),
            running: Vec::new(),
            ended: 0,
            targets: 0,
            transfers: Transfers::default(),
            block: Block::default(),
            above: Vec::new(),
        }
    }

    /// The size, less the last column, in which a terminal may or may not wrap,
    /// and with room for the cursor's line and one line of history.
    fn canvas(&self) -> (Size, usize, usize) {
        let size = (self.size)();
        let width = size.columns.max(20) - 1;
        (size, width, size.rows.saturating_sub(2).max(3))
    }

    fn scroll(&mut self, style: Style, text: impl Into<String>) {
        Row::new(style, text).write(self.color, &mut self.above);
    }

    /// A finished line: an arrow, the text, and at the right how it ended.
    fn scroll_ended(&mut self, style: Style, text: &str, end: &str) {
        let (_, width, _) = self.canvas();
        self.scroll(style, spread(&format!("=> {text}"), end, width));
    }

    fn scroll_settled(&mut self, at: Duration, all: bool) {
        for (text, time) in self.transfers.settle(at, all) {
            self.scroll_ended(Style::Dim, &text, &human::duration(time));
        }
    }

    fn end_step(&mut self, id: StepId, style: Style, word: &str, end: &str) {
        self.running.retain(|running| *running != id);
        self.ended += 1;
        let title = format!("{word}{}", self.steps.get(id).title);
        self.scroll_ended(style, &title, end);
    }

    fn rows(&self, at: Duration, width: usize, height: usize) -> Vec<Row> {
        let moving = self.transfers.live(at);
        if self.running.is_empty() && moving.is_empty() {
            return Vec::new();
        }
        let count = |number: usize, noun: &str| {
            let s = if number == 1 { "" } else { "s" };
            format!("{number} {noun}{s}")
        };
        let head = format!(
            "building {}, {} of {}",
            count(self.targets, "platform"),
            self.ended,
            count(self.steps.len(), "step")
        );
        let mut rows = vec![Row::new(Style::Bold, spread(&head, &human::duration(at), width))];
        // One line is kept for "and n more", so that every line has its place.
        let space = height.saturating_sub(2);
        let running = &self.running[..self.running.len().min(space)];
        let moving = &moving[..moving.len().min(space - running.len())];
        let free = (space - running.len() - moving.len()).min(OUTPUT_ROWS);
        let share = free.checked_div(running.len()).unwrap_or(0);
        for id in running {
            let Some(state) = self.steps.find(*id) else {
                continue;
            };
            let title = format!(" > {}", state.title);
            let time = state.time(state.elapsed(at));
            rows.push(Row::new(Style::Normal, spread(&title, &time, width)));
            let tail: Vec<&str> = state.tail().rev().take(share).map(|(_, text)| text).collect();
            for text in tail.into_iter().rev() {
                rows.push(Row::new(Style::Dim, cut(&format!("   | {text}"), width)));
            }
        }
        for (text, time) in moving {
            let time = human::duration(*time);
            rows.push(Row::new(Style::Normal, spread(&format!(" > {text}"), &time, width)));
        }
        let hidden = self.running.len() - running.len();
        if hidden > 0 {
            rows.push(Row::new(Style::Dim, format!("   and {hidden} more")));
        }
        rows
    }

    /// Takes the block away and writes what waits above it.
    fn settle(&mut self, at: Duration, out: &mut Vec<u8>) {
        self.scroll_settled(at, true);
        let (size, ..) = self.canvas();
        let color = self.color;
        self.block.replace(&mut self.above, Vec::new(), size, color, out);
    }
}

impl Renderer for Terminal {
    fn event(&mut self, at: Duration, event: &Event, _out: &mut Vec<u8>) {
        match event {
            Event::Plan { platforms, steps } => {
                self.targets = platforms.len();
                for step in steps {
                    self.steps.describe(step);
                }
            }
            Event::StepStarted { id } => {
                self.steps.start(*id, at);
                self.running.push(*id);
            }
            Event::StepOutput { id, text, .. } => {
                self.steps.output(*id, at, &escape::line(text));
            }
            Event::StepFinished { id, duration } => {
                let time = self.steps.end(*id).time(*duration);
                self.end_step(*id, Style::Normal, "", &time);
            }
            Event::StepCached { id } => self.end_step(*id, Style::Dim, "", "CACHED"),
            Event::StepCancelled { id } => {
                self.end_step(*id, Style::Dim, "", "CANCELED");
                self.steps.end(*id);
            }
            Event::StepFailed { id, message } => {
                let state = self.steps.fail(*id);
                let time = state.time(state.elapsed(at));
                self.end_step(*id, Style::Red, "ERROR ", &time);
                self.scroll(Style::Red, format!("   {}", escape::one_line(message)));
            }
            Event::TransferStarted { .. }
            | Event::TransferProgress { .. }
            | Event::TransferFinished { .. } => self.transfers.event(at, event),
            Event::Finished(result) => {
                self.scroll_settled(at, true);
                self.scroll(Style::Normal, "");
                for (n, line) in summary::lines(result).into_iter().enumerate() {
                    let style = if n == 0 { Style::Bold } else { Style::Normal };
                    self.scroll(style, line);
                }
            }
            Event::Warning(found) => {
                for (n, line) in found.lines("warning").into_iter().enumerate() {
                    self.scroll(if n == 0 { Style::Yellow } else { Style::Normal }, line);
                }
            }
            Event::Retry { .. } => {
                self.scroll(Style::Yellow, remark(event).unwrap_or_default());
            }
            Event::Note { .. } | Event::Written { .. } => {
                self.scroll(Style::Normal, remark(event).unwrap_or_default());
            }
            Event::Failed(_) => {}
        }
    }

    fn error(&mut self, at: Duration, text: &str, out: &mut Vec<u8>) {
        // Before the output, so that nothing stands between it and the error.
        self.scroll_settled(at, true);
        for line in self.steps.failures(|_| String::new()) {
            self.scroll(Style::Normal, line);
        }
        self.settle(at, out);
        let text = text.trim_end();
        let first = text.lines().next().unwrap_or_default();
        // The caller's text is stripped of control sequences like any other, so
        // its first word is made to stand out here.
        match first.strip_prefix("error") {
            Some(rest) if self.color && columns(rest) > 0 => {
                out.extend_from_slice(b"\x1b[1;31merror\x1b[0m");
                error_text(&text["error".len()..], out);
            }
            _ => error_text(text, out),
        }
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn frame(&mut self, at: Duration, out: &mut Vec<u8>) {
        self.scroll_settled(at, false);
        let (size, width, height) = self.canvas();
        let rows = self.rows(at, width, height);
        let color = self.color;
        self.block.replace(&mut self.above, rows, size, color, out);
    }

    fn finish(&mut self, at: Duration, out: &mut Vec<u8>) {
        self.settle(at, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Stream, TransferId, TransferKind};
    use super::super::label::tests::{platform, step};
    use super::super::summary::tests::summary;
    use super::*;

    struct Screen(Terminal, Vec<u8>);

    impl Screen {
        fn new(color: bool, columns: usize, rows: usize) -> Self {
            let size = Size { columns, rows };
            let mut terminal = Terminal::new(color, Box::new(move || size));
            let arm = "linux/arm64";
            let mut emulated = step(3, arm, &[arm], "RUN make");
            emulated.emulated_by = Some("qemu-aarch64 7.2.22".to_owned());
            let steps = vec![
                step(1, "linux/amd64", &["linux/amd64", arm], "COPY . ."),
                step(2, "linux/amd64", &["linux/amd64"], "RUN make"),
                emulated,
            ];
            let platforms = vec![platform("linux/amd64"), platform(arm)];
            let plan = Event::Plan { platforms, steps };
            terminal.event(Duration::ZERO, &plan, &mut Vec::new());
            Self(terminal, Vec::new())
        }

        fn send(&mut self, milliseconds: u64, event: Event) {
            let at = Duration::from_millis(milliseconds);
            self.0.event(at, &event, &mut self.1);
        }

        fn output(&mut self, milliseconds: u64, id: u32, text: &[u8]) {
            let event = Event::StepOutput { id: StepId(id), stream: Stream::Stdout, text: text.to_vec() };
            self.send(milliseconds, event);
        }

        /// The bytes of the next frame, with escapes made visible.
        fn frame(&mut self, milliseconds: u64) -> String {
            self.0.frame(Duration::from_millis(milliseconds), &mut self.1);
            self.taken()
        }

        fn taken(&mut self) -> String {
            let bytes = std::mem::take(&mut self.1);
            String::from_utf8(bytes).expect("utf-8").replace('\x1b', "^")
        }
    }

    #[test]
    fn two_platforms_one_cached_one_failing() {
        let mut screen = Screen::new(false, 52, 24);
        screen.send(0, Event::StepCached { id: StepId(1) });
        screen.send(0, Event::StepStarted { id: StepId(2) });
        screen.send(100, Event::StepStarted { id: StepId(3) });
        screen.output(200, 3, b"\x1b[2Jcc 1%\rcc 2%\xff");
        let want = "\
^[?25l=> [linux/amd64->amd64,arm64 build 1/5] COP… CACHED
^[?7lbuilding 2 platforms, 1 of 3 steps             1.0s
 > [linux/amd64 build 2/5] RUN make            1.0s
 > [linux/arm64 build 3/5] RUN make   0.9s emulated
   | cc 2%\u{fffd}
^[?7h^[?25h";
        assert_eq!(screen.frame(1000), want);
        assert_eq!(screen.frame(1000), "", "the same picture is not drawn again");

        let duration = Duration::from_millis(1500);
        screen.send(1500, Event::StepFinished { id: StepId(2), duration });
        let message = "exit code 2".to_owned();
        screen.send(1600, Event::StepFailed { id: StepId(3), message });
        let text = "error: RUN make failed\n  hint: \x1b]0;x\x07see above\n";
        screen.0.error(duration, text, &mut screen.1);
        let want = "\
^[?25l^[4A\r^[J=> [linux/amd64 build 2/5] RUN make            1.5s
=> ERROR [linux/arm64 build 3/5] RUN… 1.5s emulated
   exit code 2
------
 > [linux/arm64 build 3/5] RUN make:
0.100 cc 2%\u{fffd}
------
^[?25herror: RUN make failed
  hint: see above
";
        assert_eq!(screen.taken(), want);
        screen.0.finish(duration, &mut screen.1);
        assert_eq!(screen.taken(), "", "the terminal is as it was");
    }

    #[test]
    fn colour_and_the_table() {
        let mut screen = Screen::new(true, 60, 24);
        screen.send(0, Event::StepCached { id: StepId(2) });
        screen.send(0, Event::Finished(summary()));
        screen.0.finish(Duration::ZERO, &mut screen.1);
        let got = screen.taken();
        assert!(got.starts_with("^[?25l^[2m=> [linux/amd64 build 2/5] RUN make"), "{got}");
        assert!(got.contains("CACHED^[0m\n\n^[1mPLATFORM "), "{got}");
        assert!(got.ends_with("\ntime    1m16s\n^[?25h"), "{got}");
        screen.0.error(Duration::ZERO, "error: no", &mut screen.1);
        assert_eq!(screen.taken(), "^[1;31merror^[0m: no\n");
    }

    #[test]
    fn the_block_never_leaves_the_screen() {
        for (columns, rows) in [(0, 0), (1, 1), (10, 5), (40, 6), (200, 50)] {
            let mut screen = Screen::new(false, columns, rows);
            for id in 0..30 {
                screen.send(0, Event::StepStarted { id: StepId(id) });
                screen.output(0, id, "日本\t".repeat(1 << 17).as_bytes());
            }
            let started = Event::TransferStarted {
                id: TransferId(1),
                kind: TransferKind::Pull,
                what: "x".repeat(500),
                registry: "r".to_owned(),
                total: None,
            };
            screen.send(0, started);
            let got = screen.frame(100);
            let lines: Vec<&str> = got.lines().collect();
            assert!(lines.len() <= rows.max(5), "{columns}x{rows}: {}", lines.len());
            for line in &lines[..lines.len() - 1] {
                let line = line.trim_start_matches("^[?25l^[?7l");
                assert!(super::columns(line) < columns.max(20), "{line}");
            }
        }
    }
}
