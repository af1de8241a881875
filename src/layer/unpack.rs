//! [`unpack`]: reads a layer blob once, for its diff id, its index and, if asked, its directory.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::image::{DiffId, Ownership, Sha256};

use super::build::Builder;
use super::content::{Change, in_order};
use super::decode::{Compression, decoder};
use super::dir_writer::DirWriter;
use super::error::LayerError;
use super::index::LayerIndex;
use super::limits::Limits;
use super::path::LayerPath;
use super::tar_reader::{Mode, OnEntry, read_tar_within};

/// Uncompressed bytes travel from the decoder in pieces of this size.
const PIECE: usize = 256 << 10;
/// Pieces that may wait between the decoder and the writer: enough to bridge a burst of small
/// files on one side or a stretch of zeros on the other, 2 MiB in all.
const PIECES: usize = 8;

/// What was found in a layer blob.
#[derive(Debug)]
pub struct Unpacked {
    /// Digest of the uncompressed tar, to be compared with the image's config.
    pub diff_id: DiffId,
    /// The layer's metadata.
    pub index: LayerIndex,
    /// Bytes of the uncompressed tar.
    pub size: u64,
    /// Paths of which the directory lacks something that the index has: devices, extended attributes
    /// and, under [`Ownership::Kernel`], owners of special files that the file system or the user
    /// namespace refused. Under the other ownerships the index alone has the owners of special files.
    pub unwritten: Vec<LayerPath>,
}

/// Unpacks `blob`, into the fresh empty directory `into` of our own store if there is one, where
/// owners and modes are held as the [`Ownership`] beside it says.
///
/// The directory is a lower for an overlay mount with `userxattr`: deleted files are character
/// devices 0:0, opaque directories carry `user.overlay.opaque`. Hard links to files of lower layers
/// and directories without an entry of their own need [`super::Tree::repairs`].
///
/// # Errors
///
/// Fails as [`super::read_tar`] does, for impossible links, and when the directory cannot be
/// written. What was written by then is left for the caller to remove.
pub fn unpack(
    blob: File,
    encoding: impl Into<Compression>,
    into: Option<(&Path, Ownership)>,
    limits: &Limits,
) -> Result<Unpacked, LayerError> {
    let mut builder = Builder::new();
    let mut writer = into.map(|(into, ownership)| DirWriter::new(into, ownership)).transpose()?;
    let (diff_id, size) = read_blob(blob, encoding, limits, &mut |entry, content| {
        let placed = builder.place(entry)?;
        match (&mut writer, placed) {
            (Some(writer), Some(entry)) => writer.write(&entry, content),
            _ => Ok(()),
        }
    })?;
    let index = builder.finish()?;
    let unwritten = writer.map(|writer| writer.finish(&index)).transpose()?.unwrap_or_default();
    Ok(Unpacked { diff_id, index, size, unwritten })
}

/// Writes changes as [`unpack`] writes a layer sealed from them, into the fresh empty directory
/// `into`; gives back the paths as in [`Unpacked::unwritten`].
///
/// # Errors
///
/// Fails for changes that [`super::seal`] refuses, and when reading or writing fails.
pub fn write_directory(
    changes: &[Change],
    clamp: Option<i64>,
    into: &Path,
    ownership: Ownership,
) -> Result<Vec<LayerPath>, LayerError> {
    let mut builder = Builder::new();
    let mut writer = DirWriter::new(into, ownership)?;
    for change in in_order(changes)? {
        let Some(entry) = builder.place(change.entry.clamped(clamp))? else { continue };
        writer.write_content(&entry, &change.content)?;
    }
    let index = builder.finish()?;
    writer.finish(&index)
}

/// Reads all entries of a blob, and gives the diff id and the uncompressed size.
///
/// Decompression and hashing run on a thread of their own, beside what `each` does.
pub(super) fn read_blob(
    blob: File,
    encoding: impl Into<Compression>,
    limits: &Limits,
    each: &mut OnEntry<'_>,
) -> Result<(DiffId, u64), LayerError> {
    let plain = decoder(BufReader::with_capacity(PIECE, blob), encoding, limits)?;
    let (sender, receiver) = sync_channel(PIECES);
    let decoding = std::thread::Builder::new().name("decode".to_owned());
    let decoding = decoding.spawn(move || decode(plain, &sender)).map_err(LayerError::Stream)?;
    let read = read_tar_within(Pieces { receiver, piece: Vec::new(), at: 0 }, Mode::Layer, limits, each);
    // The receiver is gone by now, so that after a failure the decoder ends as well.
    let decoded = decoding.join();
    read?;
    decoded.map_err(|_| LayerError::Stream(io::Error::other("the decoder panicked")))
}

fn decode(mut plain: Box<dyn Read + Send>, sender: &SyncSender<io::Result<Vec<u8>>>) -> (DiffId, u64) {
    let mut hasher = Sha256::new();
    let mut size = 0;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let message = match (&mut plain).take(PIECE as u64).read_to_end(&mut piece) {
            Ok(0) => break,
            Ok(_) => {
                hasher.update(&piece);
                size += piece.len() as u64;
                Ok(piece)
            }
            Err(error) => Err(error),
        };
        let failed = message.is_err();
        // Nobody listens any more when reading the entries has failed.
        if sender.send(message).is_err() || failed {
            break;
        }
    }
    (DiffId(hasher.finish()), size)
}

/// The decoder's output as a stream.
struct Pieces {
    receiver: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
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

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
