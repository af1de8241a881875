//! A transfer as the room that moves the bytes holds it.

use super::event::{Event, TransferEnd, TransferId};
use super::handle::Progress;

/// Bytes between two events. Small enough to look alive on a slow line, large
/// enough that a fast one does not fill the channel.
const GRAIN: u64 = 256 * 1024;

/// Reports one transfer; made by [`Progress::transfer`].
///
/// Dropping it without [`Transfer::finish`] reports that it was given up, so
/// that an early return with an error leaves no line running for ever.
#[derive(Debug)]
pub struct Transfer {
    progress: Progress,
    id: TransferId,
    bytes: u64,
    said: u64,
    finished: bool,
}

impl Transfer {
    pub(super) fn new(progress: Progress, id: TransferId) -> Self {
        Self {
            progress,
            id,
            bytes: 0,
            said: 0,
            finished: false,
        }
    }

    /// Adds bytes that have moved since the last call.
    pub fn advance(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes - self.said >= GRAIN {
            self.said = self.bytes;
            self.progress.send(Event::TransferProgress {
                id: self.id,
                bytes: self.bytes,
            });
        }
    }

    /// Takes back all bytes: an attempt failed and the next begins anew.
    pub fn restart(&mut self) {
        self.bytes = 0;
        self.said = 0;
    }

    /// Reports the end with the bytes counted so far.
    pub fn finish(mut self, how: TransferEnd) {
        self.end(how);
    }

    fn end(&mut self, how: TransferEnd) {
        self.finished = true;
        self.progress.send(Event::TransferFinished {
            id: self.id,
            how,
            bytes: self.bytes,
        });
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if !self.finished {
            self.end(TransferEnd::Abandoned);
        }
    }
}
