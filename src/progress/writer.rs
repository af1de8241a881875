//! The thread behind the handle: takes events from the channel, lets a renderer
//! turn them into bytes, and writes those in few, whole pieces.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::event::Event;
use super::handle::Clock;
use super::renderer::Renderer;

/// Bytes gathered before a write, so that a chatty command costs few calls.
const BATCH: usize = 64 * 1024;

/// What the handle sends to the thread.
pub(super) enum Message {
    /// A fact.
    Event(Event),
    /// An error's text for people.
    Error(String),
    /// Nothing follows.
    Finish,
}

/// A descriptor until it fails: a closed pipe is no error of the build.
struct Sink(Option<Box<dyn Write + Send>>);

impl Sink {
    fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let failed = match &mut self.0 {
            Some(to) => to.write_all(bytes).and_then(|()| to.flush()).is_err(),
            None => false,
        };
        if failed {
            self.0 = None;
        }
    }
}

/// The thread's state: a renderer and where its bytes go.
pub(super) struct Writer {
    renderer: Box<dyn Renderer>,
    progress: Sink,
    errors: Option<Sink>,
    clock: Arc<Clock>,
    batch: Vec<u8>,
}

impl Writer {
    /// Without `errors`, errors go where progress goes.
    pub(super) fn new(
        renderer: Box<dyn Renderer>,
        progress: Box<dyn Write + Send>,
        errors: Option<Box<dyn Write + Send>>,
        clock: Arc<Clock>,
    ) -> Self {
        Self {
            renderer,
            progress: Sink(Some(progress)),
            errors: errors.map(|to| Sink(Some(to))),
            clock,
            batch: Vec::new(),
        }
    }

    /// Writes until [`Message::Finish`] comes or every sender has gone.
    pub(super) fn run(mut self, receiver: &Receiver<(Duration, Message)>) {
        let interval = self.renderer.interval();
        let mut drawn = Instant::now();
        loop {
            let message = match interval {
                Some(interval) => receiver.recv_timeout(interval.saturating_sub(drawn.elapsed())),
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut next = match message {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            while let Some((at, message)) = next.take() {
                match message {
                    Message::Event(event) => self.renderer.event(at, &event, &mut self.batch),
                    Message::Error(text) => self.error(at, &text),
                    Message::Finish => return self.finish(at),
                }
                if self.batch.len() < BATCH && interval.is_none_or(|i| drawn.elapsed() < i) {
                    next = receiver.try_recv().ok();
                }
            }
            if interval.is_some_and(|interval| drawn.elapsed() >= interval) {
                self.renderer.frame((self.clock)(), &mut self.batch);
                drawn = Instant::now();
            }
            self.flush();
        }
        let at = (self.clock)();
        self.finish(at);
    }

    fn error(&mut self, at: Duration, text: &str) {
        if self.errors.is_some() {
            self.flush();
        }
        self.renderer.error(at, text, &mut self.batch);
        match &mut self.errors {
            Some(errors) => {
                errors.write(&self.batch);
                self.batch.clear();
            }
            None => self.flush(),
        }
    }

    fn finish(mut self, at: Duration) {
        self.renderer.finish(at, &mut self.batch);
        self.flush();
    }

    fn flush(&mut self) {
        self.progress.write(&self.batch);
        self.batch.clear();
    }
}
