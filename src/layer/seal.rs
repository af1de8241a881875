//! [`seal`]: turns changes into a layer blob.
//!
//! The tar is cut into blocks of 1 MiB, each compressed by itself on the shared [`Pool`] and put
//! together in order: the bytes depend on the tar alone. Rules: RFC 1952.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::image::media_type::LayerEncoding;
use crate::image::{DiffId, Digest, HashingWriter, Sha256};

use super::content::{Change, in_order};
use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::pool::{Job, MEMBER, Member, Pool};
use super::tar_writer::TarWriter;

/// Level of zstd; part of what determines a layer's digest.
const ZSTD_LEVEL: i32 = 3;
/// Threads of one zstd layer. Any number but zero gives the same bytes.
const ZSTD_WORKERS: usize = 4;

/// How a layer is written.
#[derive(Debug, Clone, Copy)]
pub struct Seal<'a> {
    /// Upper bound of all modification times, in seconds since 1970 (`SOURCE_DATE_EPOCH`).
    pub clamp: Option<i64>,
    /// Compression of the blob: gzip of level 6 or zstd of level 3.
    pub encoding: LayerEncoding,
    /// Compresses gzip layers.
    pub pool: &'a Pool,
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
/// it, a file that changed while it was read, and when reading or writing fails.
pub fn seal(changes: &[Change], options: &Seal<'_>, destination: &Path) -> Result<Sealed, LayerError> {
    let shown = destination.as_os_str().as_bytes();
    let failed = |error| LayerError::io("create", shown, error);
    let file = File::options().write(true).create(true).truncate(true).open(destination).map_err(failed)?;
    let sealed = write(changes, options, file);
    if sealed.is_err() {
        // The first failure is the one to report.
        drop(std::fs::remove_file(destination));
    }
    sealed
}

fn write(changes: &[Change], options: &Seal<'_>, file: File) -> Result<Sealed, LayerError> {
    let blob = HashingWriter::new(file);
    match options.encoding {
        LayerEncoding::Tar => {
            let (_, digest, size) = tar(changes, options.clamp, blob)?.finish();
            Ok(Sealed { diff_id: DiffId(digest), digest, size, uncompressed_size: size })
        }
        LayerEncoding::Gzip => tar(changes, options.clamp, GzipWriter::new(options.pool, blob))?.finish(),
        LayerEncoding::Zstd => {
            let encoder = zstd_encoder(blob, options.pool.workers()).map_err(LayerError::stream)?;
            let plain = tar(changes, options.clamp, HashingWriter::new(encoder))?;
            let (encoder, diff_id, uncompressed_size) = plain.finish();
            let (_, digest, size) = encoder.finish().map_err(written)?.finish();
            Ok(Sealed { diff_id: DiffId(diff_id), digest, size, uncompressed_size })
        }
    }
}

/// The digest of the tar that [`seal`] writes of `changes`, without compressing it.
///
/// # Errors
///
/// As [`seal`].
pub fn diff_id(changes: &[Change], clamp: Option<i64>) -> Result<DiffId, LayerError> {
    let (_, digest, _) = tar(changes, clamp, HashingWriter::new(io::sink()))?.finish();
    Ok(DiffId(digest))
}

fn written(error: io::Error) -> LayerError {
    LayerError::io("write", "layer", error)
}

fn zstd_encoder<W: Write>(inner: W, workers: usize) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let mut encoder = zstd::stream::write::Encoder::new(inner, ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.include_contentsize(false)?;
    encoder.multithread(workers.clamp(1, ZSTD_WORKERS) as u32)?;
    Ok(encoder)
}

/// Writes the tar of `changes` and gives back the writer.
fn tar<W: Write>(changes: &[Change], clamp: Option<i64>, inner: W) -> Result<W, LayerError> {
    let changes = in_order(changes)?;
    let mut writer = TarWriter::new(inner);
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
            writer.append(&entry, &mut change.content.open()?)?;
        } else {
            writer.append(&entry, &mut io::empty())?;
        }
    }
    writer.finish()
}

/// Cuts what is written into blocks, and writes the compressed members in order.
struct GzipWriter<'a, W> {
    pool: &'a Pool,
    room: Room<'a>,
    blob: HashingWriter<W>,
    plain: Sha256,
    plain_size: u64,
    block: Vec<u8>,
    /// Number of the next block to submit.
    next: u64,
    /// Number of the next member to write.
    due: u64,
    early: BTreeMap<u64, Vec<u8>>,
    reply: Sender<Member>,
    members: Receiver<Member>,
    buffers: Vec<Vec<u8>>,
}

impl<'a, W: Write> GzipWriter<'a, W> {
    fn new(pool: &'a Pool, blob: HashingWriter<W>) -> Self {
        let (reply, members) = channel();
        Self {
            pool,
            room: Room { pool, held: 0 },
            blob,
            plain: Sha256::new(),
            plain_size: 0,
            block: Vec::new(),
            next: 0,
            due: 0,
            early: BTreeMap::new(),
            reply,
            members,
            buffers: Vec::new(),
        }
    }

    fn hash_block(&mut self) {
        self.plain.update(&self.block);
        self.plain_size += self.block.len() as u64;
    }

    fn submit(&mut self) -> Result<(), LayerError> {
        self.hash_block();
        while let Ok(member) = self.members.try_recv() {
            self.take(member)?;
        }
        // A layer keeps twice as many blocks in flight as there are workers: enough that they never
        // wait, and few enough that other layers get their share.
        while self.next - self.due >= 2 * self.pool.workers() as u64 {
            self.take_next()?;
        }
        while !self.pool.try_reserve() {
            if self.next == self.due {
                self.pool.reserve();
                break;
            }
            self.take_next()?;
        }
        self.room.held += 1;
        let empty = self.buffers.pop().unwrap_or_default();
        let block = std::mem::replace(&mut self.block, empty);
        self.pool.submit(Job { number: self.next, block, reply: self.reply.clone() });
        self.next += 1;
        Ok(())
    }

    fn take_next(&mut self) -> Result<(), LayerError> {
        let member = self.members.recv().expect("this writer holds a sender itself");
        self.take(member)
    }

    fn take(&mut self, member: Member) -> Result<(), LayerError> {
        let bytes = member.bytes.ok_or_else(out_of_memory)?;
        let mut buffer = member.block;
        buffer.clear();
        self.buffers.push(buffer);
        self.early.insert(member.number, bytes);
        while let Some(bytes) = self.early.remove(&self.due) {
            self.due += 1;
            self.room.release();
            self.blob.write_all(&bytes).map_err(written)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Sealed, LayerError> {
        if self.next == 0 {
            // Most layers are small: no thread, no waiting.
            self.hash_block();
            let member = self.pool.compress_here(&self.block).ok_or_else(out_of_memory)?;
            self.blob.write_all(&member).map_err(written)?;
        } else {
            if !self.block.is_empty() {
                self.submit()?;
            }
            while self.due < self.next {
                self.take_next()?;
            }
        }
        let (_, digest, size) = self.blob.finish();
        Ok(Sealed { diff_id: DiffId(self.plain.finish()), digest, size, uncompressed_size: self.plain_size })
    }
}

fn out_of_memory() -> LayerError {
    written(io::ErrorKind::OutOfMemory.into())
}

/// Room that one layer holds in the pool; after a failure the blocks still in flight are nobody's.
struct Room<'a> {
    pool: &'a Pool,
    held: usize,
}

impl Room<'_> {
    fn release(&mut self) {
        self.held -= 1;
        self.pool.release(1);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.pool.release(self.held);
    }
}

impl<W: Write> Write for GzipWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == MEMBER {
            self.submit().map_err(io::Error::other)?;
        }
        let count = bytes.len().min(MEMBER - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
