//! [`read_blob`]: a blob's entries, while other threads decompress it and make its diff id.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::image::{DiffId, Sha256};

use super::decode::{Compression, decoder};
use super::error::LayerError;
use super::limits::Limits;
use super::tar_reader::{Mode, OnEntry, read_tar_within};

/// Uncompressed bytes travel in pieces of this size.
const PIECE: usize = 256 << 10;
/// Pieces that may wait for one of their readers: enough to bridge a burst of small files on one
/// side or a stretch of zeros on the other, 4 MiB for both.
const PIECES: usize = 8;

/// A piece on its way; the archive ends where no more come.
type Piece = Arc<Vec<u8>>;

/// Reads all entries of a blob, and gives the diff id and the uncompressed size.
///
/// Decompression and hashing run on threads of their own, beside what `each` does. A blob of a few
/// files is not worth them.
pub(super) fn read_blob(
    blob: impl Read + Send + 'static,
    encoding: impl Into<Compression>,
    limits: &Limits,
    each: &mut OnEntry<'_>,
) -> Result<(DiffId, u64), LayerError> {
    let mut plain = decoder(BufReader::with_capacity(PIECE, blob), encoding, limits)?;
    let first = next_piece(&mut *plain).map_err(LayerError::stream)?;
    if first.len() < PIECE {
        read_tar_within(&first[..], Mode::Layer, limits, each)?;
        let mut hasher = Sha256::new();
        hasher.update(&first);
        return Ok((DiffId(hasher.finish()), first.len() as u64));
    }
    let (to_hasher, hashed) = sync_channel(PIECES);
    let (to_reader, read) = sync_channel(PIECES);
    let hashing = spawn("hash", move || hash(&hashed))?;
    let decoding = spawn("decode", move || decode(first, plain, &to_hasher, &to_reader))?;
    let result =
        read_tar_within(Pieces { receiver: read, piece: Piece::default(), at: 0 }, Mode::Layer, limits, each);
    // The reader's end of the channel is gone by now, so that after a failure the others end as well.
    let panicked = |_| LayerError::Stream(io::Error::other("a thread that reads a layer panicked"));
    let (decoded, hashed) = (decoding.join(), hashing.join());
    result?;
    decoded.map_err(panicked)?;
    hashed.map_err(panicked)
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, LayerError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(LayerError::Stream)
}

/// As many bytes as a piece has, or all that are left.
fn next_piece(plain: &mut (dyn Read + Send)) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(PIECE);
    plain.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

/// Decompresses to the end, or until nobody listens any more.
fn decode(
    first: Vec<u8>,
    mut plain: Box<dyn Read + Send>,
    hasher: &SyncSender<Piece>,
    reader: &SyncSender<io::Result<Piece>>,
) {
    let mut next = Ok(first);
    loop {
        match next {
            Ok(piece) if piece.is_empty() => return,
            Ok(piece) => {
                let piece = Arc::new(piece);
                if hasher.send(Arc::clone(&piece)).is_err() || reader.send(Ok(piece)).is_err() {
                    return;
                }
            }
            Err(error) => {
                // Where reading the entries has failed already, that is what went wrong.
                drop(reader.send(Err(error)));
                return;
            }
        }
        next = next_piece(&mut *plain);
    }
}

fn hash(pieces: &Receiver<Piece>) -> (DiffId, u64) {
    let mut hasher = Sha256::new();
    let mut size = 0;
    while let Ok(piece) = pieces.recv() {
        hasher.update(&piece);
        size += piece.len() as u64;
    }
    (DiffId(hasher.finish()), size)
}

/// The decoder's output as a stream.
struct Pieces {
    receiver: Receiver<io::Result<Piece>>,
    piece: Piece,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.at) = (piece?, 0),
                // The decoder has reached the end.
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
