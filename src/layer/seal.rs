//! [`seal`]: turns changes into a layer blob; [`recompress`]: turns a blob into another of the same tar.
//!
//! One pass: content is read straight into blocks of 1 MiB, hashed, and compressed on other threads while
//! the next is read; one more thread hashes and writes the blob. The bytes depend on the tar and the
//! compression alone.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::image::media_type::LayerEncoding;
use crate::image::{Compression, DiffId, Digest, HashingWriter, Sha256};

use super::behind::Behind;
use super::blocks::{Blocks, Take, Through, written};
use super::content::{Change, in_order};
use super::decode::decoder;
use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::gzip_writer::GzipWriter;
use super::halt::Halt;
use super::limits::Limits;
use super::pool::{MEMBER, Pool};
use super::tar_writer::{PIECE, append, end};
use super::zstd_writer::ZstdWriter;

/// How a layer is written.
#[derive(Debug, Clone, Copy)]
pub struct Seal<'a> {
    /// Upper bound of all modification times, in seconds since 1970 (`SOURCE_DATE_EPOCH`).
    pub clamp: Option<i64>,
    /// Compression of the blob.
    pub compression: Compression,
    /// Compresses.
    pub pool: &'a Pool,
    /// Ends it before it is done.
    pub halt: &'a Halt,
}

/// A layer blob that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// Digest of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Bytes of the uncompressed tar.
    pub uncompressed_size: u64,
}

/// Writes `changes`, in whatever order they come, as a layer blob to the new file `destination`.
///
/// The file is neither synced nor renamed: that is the store's business. On failure it is removed.
///
/// # Errors
///
/// Fails for a path that stands there twice, a hard link whose file is not among the changes before
/// it, a file that changed while it was read, when reading or writing fails, and when it is halted.
pub fn seal(changes: &[Change], options: &Seal<'_>, destination: &Path) -> Result<Sealed, LayerError> {
    let source = Source::Changes(changes, options.clamp);
    create(source, options, destination)
}

/// Writes the tar of the blob `blob`, byte for byte, with another compression to the new file
/// `destination`, as [`seal`] does. Its times are not bound.
///
/// The diff id that is given back was found on the way: whoever expected one compares it.
///
/// # Errors
///
/// Fails when the blob cannot be read or decompressed or exceeds the default [`Limits`], and when writing
/// fails, and when it is halted.
pub fn recompress(
    blob: impl Read + Send + 'static,
    encoding: LayerEncoding,
    options: &Seal<'_>,
    destination: &Path,
) -> Result<Sealed, LayerError> {
    let plain = decoder(BufReader::with_capacity(PIECE, blob), encoding, &Limits::default())?;
    create(Source::Tar(plain), options, destination)
}

/// The digest of the tar that [`seal`] makes of `changes` with the same bound on times; nothing is
/// compressed or written.
///
/// # Errors
///
/// As [`seal`].
pub fn diff_id(changes: &[Change], clamp: Option<i64>, halt: &Halt) -> Result<DiffId, LayerError> {
    let source = Source::Changes(changes, clamp);
    let (Through(mut plain), last, length) =
        source.cut(Through(HashingWriter::new(io::sink())), PIECE, halt)?;
    plain.write_all(&last[..length]).map_err(written)?;
    Ok(DiffId(plain.finish().1))
}

fn create(source: Source<'_>, options: &Seal<'_>, destination: &Path) -> Result<Sealed, LayerError> {
    let shown = destination.as_os_str().as_bytes();
    let failed = |error| LayerError::io("create", shown, error);
    let file = File::options().write(true).create(true).truncate(true).open(destination).map_err(failed)?;
    let sealed = write(source, options, file);
    if sealed.is_err() {
        // The first failure is the one to report.
        drop(std::fs::remove_file(destination));
    }
    sealed
}

fn write(source: Source<'_>, options: &Seal<'_>, file: File) -> Result<Sealed, LayerError> {
    let Seal { compression, pool, halt, .. } = *options;
    let blob = Behind::new(file);
    if compression.encoding() == LayerEncoding::Tar {
        let (Through(mut blob), last, length) = source.cut(Through(blob), PIECE, halt)?;
        blob.write_all(&last[..length]).map_err(written)?;
        let (digest, size) = blob.finish().map_err(written)?;
        return Ok(Sealed { diff_id: DiffId(digest), digest, size, uncompressed_size: size });
    }
    let (hasher, uncompressed_size, blob) = if compression.encoding() == LayerEncoding::Zstd {
        let plain = Hashed::new(ZstdWriter::new(pool, compression, blob));
        let (mut plain, last, length) = source.cut(plain, MEMBER, halt)?;
        plain.see(&last[..length]);
        (plain.hasher, plain.size, plain.taker.finish(&last[..length])?)
    } else {
        let plain = Hashed::new(GzipWriter::new(pool, compression, blob));
        let (mut plain, last, length) = source.cut(plain, MEMBER, halt)?;
        plain.see(&last[..length]);
        (plain.hasher, plain.size, plain.taker.finish(last, length)?)
    };
    let (digest, size) = blob.finish().map_err(written)?;
    Ok(Sealed { diff_id: DiffId(hasher.finish()), digest, size, uncompressed_size })
}

/// Where a tar comes from.
enum Source<'a> {
    /// It is made of changes, with a bound on their times.
    Changes(&'a [Change], Option<i64>),
    /// It is there.
    Tar(Box<dyn Read + Send>),
}

impl Source<'_> {
    /// Cuts the tar into blocks; the last, which is not full, is given back.
    fn cut<T: Take>(self, taker: T, size: usize, halt: &Halt) -> Result<(T, Vec<u8>, usize), LayerError> {
        halt.check()?;
        let mut blocks = Blocks::new(Halted { taker, halt }, size);
        match self {
            Self::Changes(changes, clamp) => tar(changes, clamp, &mut blocks)?,
            Self::Tar(mut plain) => blocks.drain(&mut plain)?,
        }
        let (Halted { taker, .. }, last, length) = blocks.finish();
        Ok((taker, last, length))
    }
}

/// Makes the tar of `changes`.
fn tar<T: Take>(changes: &[Change], clamp: Option<i64>, blocks: &mut Blocks<T>) -> Result<(), LayerError> {
    let changes = in_order(changes)?;
    for (at, change) in changes.iter().enumerate() {
        let mut entry = change.entry.clamped(clamp);
        if let EntryKind::HardLink { target } = &entry.kind {
            let file = Entry::new(target.clone(), EntryKind::File { size: 0 }, 0);
            let found = changes[..at].binary_search_by(|earlier| earlier.entry.tar_order(&file));
            let Some(file) = found.ok().map(|at| &changes[at].entry).filter(|entry| entry.is_file()) else {
                return Err(LayerError::refused(
                    &entry.path,
                    "its hard link has no file before it in the layer",
                ));
            };
            // Some readers set a link's metadata on the file they share: it must be the file's.
            entry = Entry { path: entry.path, kind: entry.kind, ..file.clamped(clamp) };
        }
        if entry.is_file() {
            append(blocks, &entry, &mut change.content.open()?)?;
        } else {
            append(blocks, &entry, &mut io::empty())?;
        }
    }
    end(blocks)
}

/// Takes no block once the work is to end.
struct Halted<'a, T> {
    taker: T,
    halt: &'a Halt,
}

impl<T: Take> Take for Halted<'_, T> {
    fn take(&mut self, block: Vec<u8>, length: usize) -> Result<Vec<u8>, LayerError> {
        self.halt.check()?;
        self.taker.take(block, length)
    }
}

/// Counts and hashes the blocks that pass.
struct Hashed<T> {
    hasher: Sha256,
    size: u64,
    taker: T,
}

impl<T> Hashed<T> {
    fn new(taker: T) -> Self {
        Self { hasher: Sha256::new(), size: 0, taker }
    }

    fn see(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }
}

impl<T: Take> Take for Hashed<T> {
    fn take(&mut self, block: Vec<u8>, length: usize) -> Result<Vec<u8>, LayerError> {
        self.see(&block[..length]);
        self.taker.take(block, length)
    }
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
