//! [`Behind`]: writes and hashes a blob on a thread of its own, so that whoever makes it need not wait.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use crate::image::{Digest, HashingWriter};

/// Bytes that are handed over at once. A blob that is not larger is not worth a thread.
const PIECE: usize = 256 << 10;
/// Pieces that may wait to be written.
const PIECES: usize = 4;

/// A blob that is being written.
pub(super) struct Behind {
    piece: Vec<u8>,
    blob: Blob,
}

enum Blob {
    /// Nothing is written yet.
    Here(HashingWriter<File>),
    There(Writer),
    /// Writing has failed, and that was said.
    Failed,
}

/// The thread that writes.
struct Writer {
    pieces: SyncSender<Vec<u8>>,
    /// Pieces that were written, for their memory.
    spare: Receiver<Vec<u8>>,
    thread: JoinHandle<io::Result<HashingWriter<File>>>,
}

impl Behind {
    /// Begins a blob in an empty file.
    pub(super) fn new(file: File) -> Self {
        Self { piece: Vec::new(), blob: Blob::Here(HashingWriter::new(file)) }
    }

    /// Waits until all is written; gives digest and size.
    pub(super) fn finish(self) -> io::Result<(Digest, u64)> {
        let mut file = match self.blob {
            Blob::Here(file) => file,
            Blob::There(writer) => writer.finish()?,
            Blob::Failed => return Err(failed()),
        };
        file.write_all(&self.piece)?;
        let (_, digest, size) = file.finish();
        Ok((digest, size))
    }

    /// Hands the piece over, which is full.
    fn hand_over(&mut self) -> io::Result<()> {
        let writer = match std::mem::replace(&mut self.blob, Blob::Failed) {
            Blob::Here(file) => Writer::start(file)?,
            Blob::There(writer) => writer,
            Blob::Failed => return Err(failed()),
        };
        let next = writer.spare.try_recv().unwrap_or_default();
        if writer.pieces.send(std::mem::replace(&mut self.piece, next)).is_err() {
            // It has ended before the end, for a reason.
            return writer.finish().and(Err(failed()));
        }
        self.blob = Blob::There(writer);
        Ok(())
    }
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE {
            self.hand_over()?;
        }
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writer {
    fn start(mut file: HashingWriter<File>) -> io::Result<Self> {
        let (pieces, due) = sync_channel::<Vec<u8>>(PIECES);
        let (written, spare) = channel();
        let thread = std::thread::Builder::new().name("blob".to_owned()).spawn(move || {
            while let Ok(mut piece) = due.recv() {
                file.write_all(&piece)?;
                piece.clear();
                // At the end nobody wants it any more.
                drop(written.send(piece));
            }
            Ok(file)
        })?;
        Ok(Self { pieces, spare, thread })
    }

    fn finish(self) -> io::Result<HashingWriter<File>> {
        drop(self.pieces);
        self.thread.join().unwrap_or_else(|_| Err(failed()))
    }
}

fn failed() -> io::Error {
    io::Error::other("the thread that writes the blob ended early")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_and_hashed() {
        let directory = tempfile::tempdir().unwrap();
        let data: Vec<u8> = (0..3_000_000u32).map(|number| (number / 9) as u8).collect();
        for (length, step) in [(0, 1), (10, 3), (PIECE, 1000), (PIECE + 1, PIECE + 1), (data.len(), 70_001)] {
            let path = directory.path().join(length.to_string());
            let mut blob = Behind::new(File::create(&path).unwrap());
            data[..length].chunks(step).for_each(|bytes| blob.write_all(bytes).unwrap());
            let (digest, size) = blob.finish().unwrap();
            assert_eq!((digest, size), (Digest::of(&data[..length]), length as u64));
            assert!(std::fs::read(&path).unwrap() == data[..length], "{length} bytes");
        }
    }

    #[test]
    fn a_disk_that_fails_is_told() {
        for length in [10, 2 * PIECE, 40 * PIECE] {
            let mut blob = Behind::new(File::options().write(true).open("/dev/full").unwrap());
            let written = blob.write_all(&vec![1; length]).and_then(|()| blob.finish());
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull, "{length} bytes");
        }
    }
}
