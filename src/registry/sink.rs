//! The file that a transfer goes into: written and hashed on a thread of its own.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::bytes::Bytes;

use crate::image::{Digest, Sha256};

use super::error::Failure;

/// Pieces between network and disk: enough to keep both busy, few enough to stay small in memory
/// (a piece is up to 400 KiB).
const PIECES: usize = 8;

/// What is told to the thread that hashes and writes.
enum Piece {
    Bytes(Bytes),
    /// All again from the first byte.
    Restart,
}

/// A file that is being written. It is created at once, or overwritten.
#[derive(Debug)]
pub(super) struct Sink {
    path: PathBuf,
    pieces: Option<mpsc::Sender<Piece>>,
    writer: Option<JoinHandle<io::Result<Digest>>>,
}

impl Sink {
    /// Begins the file.
    pub(super) fn new(path: &Path) -> Self {
        let (pieces, received) = mpsc::channel(PIECES);
        // Here, not on the thread: that may begin after the file was removed again.
        let file = File::create(path);
        let writer = tokio::task::spawn_blocking(move || write(file?, received));
        Self { path: path.to_owned(), pieces: Some(pieces), writer: Some(writer) }
    }

    /// Appends bytes.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.pass_on(Piece::Bytes(bytes)).await
    }

    /// Drops all that was written.
    pub(super) async fn restart(&mut self) -> Result<(), Failure> {
        self.pass_on(Piece::Restart).await
    }

    async fn pass_on(&mut self, piece: Piece) -> Result<(), Failure> {
        let sent = match &self.pieces {
            Some(pieces) => pieces.send(piece).await.is_ok(),
            None => false,
        };
        if sent {
            return Ok(());
        }
        // The writer ends early only because it failed.
        self.finish().await.map(drop)
    }

    /// Waits until all is written; returns its digest.
    pub(super) async fn finish(&mut self) -> Result<Digest, Failure> {
        drop(self.pieces.take());
        let ended = || io::Error::other("the writing thread has ended");
        let result = match self.writer.take() {
            Some(writer) => writer.await.unwrap_or_else(|_| Err(ended())),
            None => Err(ended()),
        };
        result.map_err(|error| Failure::local(format!("failed to write {}", self.path.display()), error))
    }
}

fn write(mut file: File, mut pieces: mpsc::Receiver<Piece>) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Bytes(bytes) => {
                hasher.update(&bytes);
                file.write_all(&bytes)?;
            }
            Piece::Restart => {
                hasher = Sha256::new();
                file.set_len(0)?;
                file.rewind()?;
            }
        }
    }
    Ok(hasher.finish())
}

/// Removes the file unless it is to be kept, also when the future is dropped.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    keep: bool,
}

impl Partial {
    /// Watches over the file at `path`.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), keep: false }
    }

    /// The file is whole and verified.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.keep {
            // It may never have been made; nobody reads it under this name.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
