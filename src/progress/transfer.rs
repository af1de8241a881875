//! A transfer as the room that moves the bytes holds it.

use std::sync::atomic::{AtomicU64, Ordering};

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
    bytes: AtomicU64,
    said: AtomicU64,
    finished: bool,
}

impl Transfer {
    pub(super) fn new(progress: Progress, id: TransferId) -> Self {
        Self { progress, id, bytes: AtomicU64::new(0), said: AtomicU64::new(0), finished: false }
    }

    /// Says how many bytes have moved in all. Fewer than before means that an attempt failed and
    /// the next one began anew.
    pub fn reached(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        let said = self.said.load(Ordering::Relaxed);
        if bytes < said || bytes - said >= GRAIN {
            self.said.store(bytes, Ordering::Relaxed);
            self.progress.send(Event::TransferProgress { id: self.id, bytes });
        }
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
            bytes: self.bytes.load(Ordering::Relaxed),
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
