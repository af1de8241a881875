//! The file that a transfer goes into: written on one thread and hashed on another.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::bytes::Bytes;

use crate::image::{Digest, Sha256};

use super::error::Failure;
use super::follow::Follow;

/// Pieces between network and disk: enough to keep both busy, few enough to stay small in memory
/// (a piece is up to 400 KiB).
const PIECES: usize = 8;

/// What is told to the threads that write and hash.
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
    /// Begins the file; `follow` is told of the bytes that are in it.
    pub(super) fn new(path: &Path, follow: Option<&Follow>) -> Self {
        let (pieces, received) = mpsc::channel(PIECES);
        // Here, not on the thread: that may begin after the file was removed again.
        let file = File::create(path);
        let follow = follow.cloned();
        let writer = tokio::task::spawn_blocking(move || write(file?, received, follow.as_ref()));
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

/// Writes on this thread, and hashes on another: together they would be slower than a fast network.
fn write(file: File, pieces: mpsc::Receiver<Piece>, follow: Option<&Follow>) -> io::Result<Digest> {
    std::thread::scope(|scope| {
        let (hashed, to_hash) = std::sync::mpsc::sync_channel(PIECES);
        let hashing = std::thread::Builder::new().spawn_scoped(scope, move || hash(&to_hash))?;
        let written = fill(file, pieces, &hashed, follow);
        drop(hashed);
        let digest = hashing.join().map_err(|_| io::Error::other("the hashing thread has ended"))?;
        written.map(|()| digest)
    })
}

fn fill(
    mut file: File,
    mut pieces: mpsc::Receiver<Piece>,
    hashed: &SyncSender<Piece>,
    follow: Option<&Follow>,
) -> io::Result<()> {
    let mut written = 0;
    while let Some(piece) = pieces.blocking_recv() {
        match &piece {
            Piece::Bytes(bytes) => {
                file.write_all(bytes)?;
                written += bytes.len() as u64;
                if let Some(follow) = follow {
                    follow.reached(written);
                }
            }
            Piece::Restart => {
                written = 0;
                if let Some(follow) = follow {
                    follow.restart();
                }
                file.set_len(0)?;
                file.rewind()?;
            }
        }
        hashed.send(piece).map_err(|_| io::Error::other("the hashing thread has ended"))?;
    }
    Ok(())
}

fn hash(pieces: &Receiver<Piece>) -> Digest {
    let mut hasher = Sha256::new();
    while let Ok(piece) = pieces.recv() {
        match piece {
            Piece::Bytes(bytes) => hasher.update(&bytes),
            Piece::Restart => hasher = Sha256::new(),
        }
    }
    hasher.finish()
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
