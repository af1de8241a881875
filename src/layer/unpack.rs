//! [`unpack`]: reads a layer blob once, for its diff id, its index and, if asked, its directory.

use std::io::Read;
use std::path::Path;

use crate::image::{DiffId, Ownership};

use super::build::Builder;
use super::content::{Change, in_order};
use super::decode::Compression;
use super::dir_writer::DirWriter;
use super::error::LayerError;
use super::halt::Halt;
use super::index::LayerIndex;
use super::limits::Limits;
use super::path::LayerPath;
use super::stream::read_blob;
use super::writers::Writers;

/// Most threads that write files of one layer. More wait for each other in the file system.
const MOST_THREADS: usize = 4;

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
/// `blob` may be a file that grows while it is read. Memory is bounded for layers of any size, but for
/// the index.
///
/// # Errors
///
/// Fails as [`super::read_tar`] does, for impossible links, and when the directory cannot be
/// written. What was written by then is left for the caller to remove.
pub fn unpack(
    blob: impl Read + Send + 'static,
    encoding: impl Into<Compression>,
    into: Option<(&Path, Ownership)>,
    limits: &Limits,
) -> Result<Unpacked, LayerError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    unpack_on(blob, encoding, into, limits, cores.min(MOST_THREADS))
}

/// As [`unpack`], with up to `threads` threads that write files beside the one that reads the entries.
fn unpack_on(
    blob: impl Read + Send + 'static,
    encoding: impl Into<Compression>,
    into: Option<(&Path, Ownership)>,
    limits: &Limits,
    threads: usize,
) -> Result<Unpacked, LayerError> {
    let mut builder = Builder::new();
    let mut writers = into.map(|(into, ownership)| Writers::new(into, ownership, threads)).transpose()?;
    let (diff_id, size) = read_blob(blob, encoding, limits, &mut |entry, content| {
        let placed = builder.place_over(entry)?;
        match (&mut writers, placed) {
            (Some(writers), Some((entry, replaces))) => writers.write(entry, replaces, content),
            _ => Ok(()),
        }
    })?;
    let index = builder.finish()?;
    let unwritten = writers.map(|writers| writers.finish(&index)).transpose()?.unwrap_or_default();
    Ok(Unpacked { diff_id, index, size, unwritten })
}

/// Writes changes as [`unpack`] writes a layer sealed from them, into the fresh empty directory
/// `into`; gives back the paths as in [`Unpacked::unwritten`].
///
/// # Errors
///
/// Fails for changes that [`super::seal`] refuses, when reading or writing fails, and when it is halted.
pub fn write_directory(
    changes: &[Change],
    clamp: Option<i64>,
    into: &Path,
    ownership: Ownership,
    halt: &Halt,
) -> Result<Vec<LayerPath>, LayerError> {
    let mut builder = Builder::new();
    let mut writer = DirWriter::new(into, ownership)?;
    writer.heed(halt);
    for change in in_order(changes)? {
        halt.check()?;
        let Some(entry) = builder.place(change.entry.clamped(clamp))? else { continue };
        writer.write_content(&entry, &change.content)?;
    }
    let index = builder.finish()?;
    writer.finish(&index)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
