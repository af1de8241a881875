//! The border between the thread that writes and the ways of writing.

use std::time::Duration;

use super::escape;
use super::event::Event;

/// Turns events into bytes. Holds no descriptor and no clock: times come in as
/// arguments, bytes go out through `out`, so each one is tested as a value.
pub(super) trait Renderer: Send {
    /// Takes in an event that was sent at `at`, measured from the build's start.
    fn event(&mut self, at: Duration, event: &Event, out: &mut Vec<u8>);

    /// Shows the text of an error, below all that was shown before.
    fn error(&mut self, _at: Duration, text: &str, out: &mut Vec<u8>) {
        error_text(text, out);
    }

    /// Pause between calls of [`Renderer::frame`]; none if it has no use.
    fn interval(&self) -> Option<Duration> {
        None
    }

    /// Brings what is live up to date.
    fn frame(&mut self, _at: Duration, _out: &mut Vec<u8>) {}

    /// Writes what was held back; nothing follows.
    fn finish(&mut self, _at: Duration, _out: &mut Vec<u8>) {}
}

/// The error's text with one newline at its end, free of control sequences.
pub(super) fn error_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(escape::text(text).trim_end().as_bytes());
    out.push(b'\n');
}

/// Writes nothing but errors.
pub(super) struct Quiet;

impl Renderer for Quiet {
    fn event(&mut self, _at: Duration, _event: &Event, _out: &mut Vec<u8>) {}
}

/// Hands every event to a function.
pub(super) struct Observer<F>(pub(super) F);

impl<F: FnMut(&Event) + Send> Renderer for Observer<F> {
    fn event(&mut self, _at: Duration, event: &Event, _out: &mut Vec<u8>) {
        (self.0)(event);
    }
}
