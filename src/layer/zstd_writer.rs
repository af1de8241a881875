//! [`ZstdWriter`]: compresses blocks as one zstd frame, on several threads where it is worth them.
//!
//! zstd cuts what is more than a block into jobs of a size that depends on the level alone, so any number
//! of threads from one on gives the same bytes; without threads of its own it would give others, and is
//! used so for layers of less than one block only. Rules: RFC 8878; `zstd.h`, advanced parameters.

use std::io::{self, Write};

use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

use crate::image::Compression;

use super::blocks::{Take, written};
use super::error::LayerError;
use super::gzip_writer::out_of_memory;
use super::pool::{Pool, Seats};

/// Writes blocks as a zstd frame.
pub(super) struct ZstdWriter<'a, W: Write> {
    pool: &'a Pool,
    compression: Compression,
    /// The blob, until something is written to it.
    blob: Option<W>,
    frame: Option<(Encoder<'static, W>, Seats<'a>)>,
}

impl<'a, W: Write> ZstdWriter<'a, W> {
    pub(super) fn new(pool: &'a Pool, compression: Compression, blob: W) -> Self {
        Self { pool, compression, blob: Some(blob), frame: None }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        if let Some(blob) = self.blob.take() {
            let effort = Effort::of(self.compression);
            let seats = self.pool.take_seats(effort.threads);
            self.frame = Some((effort.encoder(blob, seats.count()).map_err(written)?, seats));
        }
        // There is none where memory for the encoder was missing.
        let (encoder, _) = self.frame.as_mut().ok_or_else(out_of_memory)?;
        encoder.write_all(bytes).map_err(written)
    }

    /// Writes the last block, of any size, and gives back the writer of the blob.
    pub(super) fn finish(mut self, last: &[u8]) -> Result<W, LayerError> {
        if let Some(mut blob) = self.blob {
            let frame = self.pool.compress_here(self.compression, last).ok_or_else(out_of_memory)?;
            blob.write_all(&frame).map_err(written)?;
            return Ok(blob);
        }
        self.write(last)?;
        let (encoder, _seats) = self.frame.ok_or_else(out_of_memory)?;
        encoder.finish().map_err(written)
    }
}

impl<W: Write> Take for ZstdWriter<'_, W> {
    fn take(&mut self, block: Vec<u8>, length: usize) -> Result<Vec<u8>, LayerError> {
        self.write(&block[..length])?;
        Ok(block)
    }
}

/// What a level of zstd may take.
struct Effort {
    level: u32,
    /// Plain bytes of one job; part of what determines a layer's digest.
    job: u32,
    /// Threads at most. A frame keeps the plain bytes of so many jobs and of three more in memory, and
    /// their compressed forms.
    threads: usize,
}

impl Effort {
    fn of(compression: Compression) -> Self {
        const MIB: u32 = 1 << 20;
        let level = compression.level().unwrap_or_default();
        let (job, threads) = match level {
            // Windows of up to 2 MiB: 40 MB with two threads and 80 with eight, which are more than one
            // thread can read and hash for.
            0..=8 => (2 * MIB, 8),
            // Windows of 4 MiB: 100 MB with two threads, up to 300 with eight.
            9..=17 => (4 * MIB, 8),
            // Windows of 8 MiB: 300 MB with two threads.
            18 | 19 => (16 * MIB, 4),
            // Windows of 32, 64 and 128 MiB, and tables of several times that for each thread: gigabytes.
            20 => (32 * MIB, 2),
            21 => (64 * MIB, 2),
            _ => (128 * MIB, 2),
        };
        Self { level, job, threads }
    }

    fn encoder<W: Write>(&self, blob: W, threads: usize) -> io::Result<Encoder<'static, W>> {
        let mut encoder = Encoder::new(blob, i32::try_from(self.level).unwrap_or_default())?;
        encoder.include_checksum(true)?;
        encoder.include_contentsize(false)?;
        encoder.multithread(u32::try_from(threads).unwrap_or(1))?;
        encoder.set_parameter(CParameter::JobSize(self.job))?;
        Ok(encoder)
    }
}
