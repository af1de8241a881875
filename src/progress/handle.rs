//! The handle through which every room reports, and the thread behind it.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::event::{Event, TransferId, TransferKind};
use super::json::Json;
use super::mode::{Environment, Mode};
use super::plain::Plain;
use super::renderer::{Observer, Quiet, Renderer};
use super::terminal::{Size, Terminal};
use super::transfer::Transfer;
use super::writer::{Message, Writer};

/// Events that may wait for the writer. When a reader of the output is slow,
/// commands are slowed down with it rather than their lines kept in memory.
const CAPACITY: usize = 1024;
/// Time since the build began. A function, so that tests bring their own.
pub type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// Where text goes.
pub struct Outputs {
    /// Progress: standard output for JSON, else standard error.
    pub progress: Box<dyn Write + Send>,
    /// Errors for people, if they do not go to the same place.
    pub errors: Option<Box<dyn Write + Send>>,
    /// Size of the terminal; asked before each frame.
    pub size: Box<dyn Fn() -> Size + Send>,
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outputs").finish_non_exhaustive()
    }
}

/// Sends events to the writer. Clones are cheap and report to the same one.
///
/// Sending never fails: when nobody reads the output any more, it is dropped
/// and the build goes on. The last clone to go waits for the writer, which puts
/// the terminal in order.
#[derive(Clone)]
pub struct Progress(Arc<Shared>);

struct Shared {
    sender: SyncSender<(Duration, Message)>,
    clock: Arc<Clock>,
    transfers: AtomicU64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl Progress {
    /// Reports to standard error, or in JSON mode to standard output.
    pub fn standard(mode: Mode, environment: Environment) -> Self {
        let terminal = io::stderr().is_terminal();
        let mode = mode.resolve(environment, terminal);
        let outputs = match mode {
            Mode::Json => Outputs {
                progress: Box::new(io::stdout()),
                errors: Some(Box::new(io::stderr())),
                size: Box::new(Size::default),
            },
            _ => Outputs { progress: Box::new(io::stderr()), errors: None, size: Box::new(stderr_size) },
        };
        let start = Instant::now();
        let clock = Box::new(move || start.elapsed());
        Self::to(mode, !environment.no_color && terminal, outputs, clock)
    }

    /// Reports to the given outputs. [`Mode::Auto`] is taken as [`Mode::Plain`].
    pub fn to(mode: Mode, color: bool, outputs: Outputs, clock: Clock) -> Self {
        let renderer: Box<dyn Renderer> = match mode {
            Mode::Tty => Box::new(Terminal::new(color, outputs.size)),
            Mode::Auto | Mode::Plain => Box::new(Plain::default()),
            Mode::Json => Box::new(Json::default()),
            Mode::Quiet => Box::new(Quiet),
        };
        Self::start(renderer, outputs.progress, outputs.errors, clock)
    }

    /// Hands every event to `observer`, on a thread of its own, and writes nothing.
    pub fn observe(observer: impl FnMut(&Event) + Send + 'static) -> Self {
        let nowhere = Box::new(io::sink());
        let clock = Box::new(|| Duration::ZERO);
        Self::start(Box::new(Observer(observer)), nowhere, None, clock)
    }

    fn start(
        renderer: Box<dyn Renderer>,
        progress: Box<dyn Write + Send>,
        errors: Option<Box<dyn Write + Send>>,
        clock: Clock,
    ) -> Self {
        let (sender, receiver) = sync_channel(CAPACITY);
        let clock = Arc::new(clock);
        let writer = Writer::new(renderer, progress, errors, Arc::clone(&clock));
        // Without a thread (the process is at its limit) there is no progress,
        // and the receiver is gone, so that sending does nothing.
        let thread =
            thread::Builder::new().name("progress".to_owned()).spawn(move || writer.run(&receiver)).ok();
        Self(Arc::new(Shared { sender, clock, transfers: AtomicU64::new(0), writer: Mutex::new(thread) }))
    }

    /// Reports a fact. May wait while the reader of the output is slow; a count
    /// of transferred bytes is left out instead, as the next one replaces it.
    pub fn send(&self, event: Event) {
        let at = (self.0.clock)();
        // An error means that the writer is gone: there is nobody to tell.
        if matches!(event, Event::TransferProgress { .. }) {
            let _ = self.0.sender.try_send((at, Message::Event(event)));
        } else {
            let _ = self.0.sender.send((at, Message::Event(event)));
        }
    }

    /// Reports a transfer that begins now, and gives back what reports the rest.
    ///
    /// `registry` is empty for local work; `total` is in bytes.
    pub fn transfer(
        &self,
        kind: TransferKind,
        what: impl Into<String>,
        registry: impl Into<String>,
        total: Option<u64>,
    ) -> Transfer {
        let id = TransferId(self.0.transfers.fetch_add(1, Ordering::Relaxed));
        self.send(Event::TransferStarted { id, kind, what: what.into(), registry: registry.into(), total });
        Transfer::new(self.clone(), id)
    }

    /// Shows the text of an error on standard error, in every mode, below the
    /// last output of the steps that failed. Control sequences are removed; a
    /// leading `error` is coloured where colour is on.
    pub fn print_error(&self, text: impl Into<String>) {
        let message = Message::Error(text.into());
        let _ = self.0.sender.send(((self.0.clock)(), message));
    }

    /// Writes everything that was sent and puts the terminal in order. What is
    /// sent afterwards, by any clone, is dropped.
    pub fn finish(&self) {
        self.0.finish();
    }
}

impl Shared {
    fn finish(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = self.sender.send(((self.clock)(), Message::Finish));
            // A panic in the writer was already reported by its own thread; the
            // build's result does not depend on it.
            let _ = writer.join();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.finish();
    }
}

fn stderr_size() -> Size {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => Size::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{ErrorReport, StepId, Stream, TransferEnd};
    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("lock").clone()).expect("utf-8")
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A pipe whose reader has gone.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn outputs(progress: impl Write + Send + 'static) -> Outputs {
        Outputs { progress: Box::new(progress), errors: None, size: Box::new(Size::default) }
    }

    fn output(n: u32) -> Event {
        Event::StepOutput { id: StepId(1), stream: Stream::Stdout, text: format!("line {n}").into_bytes() }
    }

    fn clock() -> Clock {
        Box::new(|| Duration::from_millis(1500))
    }

    #[test]
    fn no_line_is_lost_between_threads() {
        let buffer = Buffer::default();
        let progress = Progress::to(Mode::Plain, false, outputs(buffer.clone()), clock());
        thread::scope(|scope| {
            for _ in 0..4 {
                let progress = progress.clone();
                scope.spawn(move || (0..5000).for_each(|n| progress.send(output(n))));
            }
        });
        progress.finish();
        progress.send(output(0));
        progress.finish();
        assert_eq!(buffer.text().matches("1.500 line ").count(), 20_000);
        assert_eq!(buffer.text().matches(" line 4999\n").count(), 4);
    }

    #[test]
    fn a_closed_pipe_changes_nothing() {
        for mode in [Mode::Plain, Mode::Tty, Mode::Json, Mode::Quiet] {
            let progress = Progress::to(mode, true, outputs(Closed), clock());
            (0..3000).for_each(|n| progress.send(output(n)));
            progress.print_error("error: x");
            progress.finish();
        }
    }

    #[test]
    fn json_has_its_error_last_and_text_elsewhere() {
        let (lines, errors) = (Buffer::default(), Buffer::default());
        let both = Outputs { errors: Some(Box::new(errors.clone())), ..outputs(lines.clone()) };
        let progress = Progress::to(Mode::Json, false, both, clock());
        let report = ErrorReport {
            code: 75,
            kind: "retryable".to_owned(),
            platform: None,
            file: None,
            line: None,
            column: None,
            message: "disk full".to_owned(),
            hint: Some("make room".to_owned()),
            retryable: true,
        };
        progress.send(Event::Failed(report));
        progress.print_error("error: disk full");
        progress.send(Event::Note { text: "late".to_owned() });
        drop(progress);
        assert_eq!(errors.text(), "error: disk full\n");
        let want = r#"{"event":"note","text":"late"}
{"error":{"code":75,"kind":"retryable","platform":null,"file":null,"line":null,"column":null,"message":"disk full","hint":"make room","retryable":true}}
"#;
        assert_eq!(lines.text(), want);
    }

    #[test]
    fn a_terminal_is_drawn_while_nothing_is_sent_and_put_in_order_on_drop() {
        let buffer = Buffer::default();
        let start = Instant::now();
        let clock: Clock = Box::new(move || start.elapsed());
        let progress = Progress::to(Mode::Tty, false, outputs(buffer.clone()), clock);
        progress.send(Event::StepStarted { id: StepId(1) });
        while buffer.text().matches("building").count() < 3 {
            assert!(start.elapsed() < Duration::from_secs(60), "no frame");
            thread::sleep(Duration::from_millis(10));
        }
        drop(progress);
        let text = buffer.text();
        assert!(text.ends_with("A\r\u{1b}[J\u{1b}[?25h"), "{text:?}");
        assert_eq!(text.matches("[?25l").count(), text.matches("[?25h").count());
        assert_eq!(text.matches("[?7l").count(), text.matches("[?7h").count());
    }

    #[test]
    fn quiet_shows_errors_alone() {
        let buffer = Buffer::default();
        let progress = Progress::to(Mode::Quiet, false, outputs(buffer.clone()), clock());
        progress.send(output(1));
        progress.print_error("error: x\n\n");
        progress.finish();
        assert_eq!(buffer.text(), "error: x\n");
    }

    #[test]
    fn transfers_report_their_end_also_when_dropped() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let progress = Progress::observe(move |event| {
            record.lock().expect("lock").push(event.clone());
        });
        let transfer = progress.transfer(TransferKind::Pull, "a", "r", Some(9));
        transfer.reached(5);
        transfer.reached(300_000);
        transfer.reached(300_001);
        transfer.finish(TransferEnd::Transferred);
        drop(progress.transfer(TransferKind::Unpack, "b", "", None));
        progress.finish();
        let seen = seen.lock().expect("lock");
        let (first, second) = (TransferId(0), TransferId(1));
        assert_eq!(seen.len(), 5, "{seen:?}");
        assert_eq!(seen[1], Event::TransferProgress { id: first, bytes: 300_000 });
        let (how, bytes) = (TransferEnd::Transferred, 300_001);
        assert_eq!(seen[2], Event::TransferFinished { id: first, how, bytes });
        let (how, bytes) = (TransferEnd::Abandoned, 0);
        assert_eq!(seen[4], Event::TransferFinished { id: second, how, bytes });
    }
}
