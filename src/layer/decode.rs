//! Decompression of layers and archives, with bounds against bombs.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::image::media_type::LayerEncoding;
use crate::image::{DiffId, HashingWriter};

use super::error::LayerError;
use super::limits::Limits;
use super::tar_header::checksum_holds;
use super::tar_writer::BLOCK;

/// Below this many uncompressed bytes the ratio is not looked at: short runs of zeros compress well.
const RATIO_APPLIES_AFTER: u64 = 100 << 20;
/// The memory that xz may ask for; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 80 << 20;
/// Compressed bytes are read from disk in pieces of this size.
const PIECE: usize = 128 << 10;

/// Compression of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    Plain,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
    /// One or more bzip2 streams; only `ADD` takes it.
    Bzip2,
    /// One or more xz streams; only `ADD` takes it.
    Xz,
}

impl From<LayerEncoding> for Compression {
    fn from(encoding: LayerEncoding) -> Self {
        match encoding {
            LayerEncoding::Tar => Self::Plain,
            LayerEncoding::Gzip => Self::Gzip,
            LayerEncoding::Zstd => Self::Zstd,
        }
    }
}

/// The compression that `start`, the first bytes of a file, announces.
pub fn detect(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, 8, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame before the first real one.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::Plain,
    }
}

/// The uncompressed bytes of `reader`.
///
/// Reading fails with a [`LayerError::Limit`] inside the `io::Error` when more comes out than the
/// limits allow.
///
/// # Errors
///
/// Fails when the decoder cannot be set up.
pub fn decoder(
    reader: impl BufRead + Send + 'static,
    compression: impl Into<Compression>,
    limits: &Limits,
) -> Result<Box<dyn Read + Send>, LayerError> {
    let compressed = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: reader, count: Arc::clone(&compressed) };
    let inner: Box<dyn Read + Send> = match compression.into() {
        Compression::Plain => Box::new(counted),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(counted)),
        Compression::Zstd => {
            Box::new(zstd::stream::read::Decoder::with_buffer(counted).map_err(LayerError::Stream)?)
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(counted)),
        Compression::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED);
            let stream = stream.map_err(|error| LayerError::Stream(error.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(counted, stream))
        }
    };
    Ok(Box::new(Bounded { inner, compressed, out: 0, limits: *limits }))
}

/// The uncompressed tar in `file`, whatever its compression; `None` when it is not a tar, so that
/// `ADD` copies it as a file.
///
/// Told by content, never by name: the `ustar` magic or a first header whose checksum holds.
///
/// # Errors
///
/// Fails when the file cannot be read.
pub fn archive(
    mut file: impl Read + Send + 'static,
    limits: &Limits,
) -> Result<Option<Box<dyn Read + Send>>, LayerError> {
    let mut start = Vec::new();
    (&mut file).take(BLOCK as u64).read_to_end(&mut start).map_err(LayerError::Stream)?;
    let compression = detect(&start);
    if compression == Compression::Plain && !is_tar(&start) {
        return Ok(None);
    }
    let whole = BufReader::with_capacity(PIECE, Cursor::new(start).chain(file));
    let mut plain = decoder(whole, compression, limits)?;
    let mut header = Vec::new();
    // What cannot be decompressed is no archive.
    match (&mut plain).take(BLOCK as u64).read_to_end(&mut header) {
        Ok(_) if is_tar(&header) => Ok(Some(Box::new(Cursor::new(header).chain(plain)))),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// Whether an uncompressed tar with something in it begins with `start`, its first 512 bytes or more.
pub fn is_tar(start: &[u8]) -> bool {
    if start.len() < BLOCK || start[..BLOCK].iter().all(|&byte| byte == 0) {
        return false;
    }
    if &start[257..262] == b"ustar" {
        return true;
    }
    // A tar of version 7 has no magic.
    start.first_chunk().is_some_and(checksum_holds)
}

/// The diff id of the tar in `blob`, without looking at its entries.
///
/// # Errors
///
/// Fails when the blob cannot be read or decompressed, or exceeds the default [`Limits`].
pub fn verify_diff_id(
    blob: impl Read + Send + 'static,
    encoding: LayerEncoding,
) -> Result<DiffId, LayerError> {
    let mut plain = decoder(BufReader::with_capacity(PIECE, blob), encoding, &Limits::default())?;
    let mut hasher = HashingWriter::new(io::sink());
    io::copy(&mut BufReader::with_capacity(PIECE, &mut plain), &mut hasher).map_err(LayerError::stream)?;
    Ok(DiffId(hasher.finish().1))
}

/// Counts the compressed bytes that were used.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.count.fetch_add(amount as u64, Ordering::Relaxed);
        self.inner.consume(amount);
    }
}

/// Stops a decompression bomb.
struct Bounded {
    inner: Box<dyn Read + Send>,
    compressed: Arc<AtomicU64>,
    out: u64,
    limits: Limits,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.out += count as u64;
        let limit = self.limits.total_bytes;
        if self.out > limit {
            return Err(io::Error::other(LayerError::Limit { what: "bytes in one archive", limit }));
        }
        let used = self.compressed.load(Ordering::Relaxed).max(1);
        if self.out > RATIO_APPLIES_AFTER && self.out / used > self.limits.ratio {
            let limit = self.limits.ratio;
            return Err(io::Error::other(LayerError::Limit { what: "bytes per compressed byte", limit }));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::tar_reader::{Mode, read_tar};
    use std::io::{Seek, Write};

    fn tar() -> Vec<u8> {
        let entry = crate::layer::Entry::new(
            crate::layer::LayerPath::new("f").unwrap(),
            crate::layer::EntryKind::File { size: 3 },
            0o644,
        );
        let mut writer = crate::layer::TarWriter::new(Vec::new());
        writer.append(&entry, &mut &b"abc"[..]).unwrap();
        writer.finish().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn file(bytes: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn compressed() -> Vec<(&'static str, Vec<u8>)> {
        let tar = tar();
        let (left, right) = tar.split_at(700);
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        bzip2.write_all(&tar).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
        xz.write_all(&tar).unwrap();
        vec![
            ("plain", tar.clone()),
            ("gzip members", [gzip(left), gzip(right)].concat()),
            ("zstd frames", [skippable, zstd(left), zstd(right)].concat()),
            ("bzip2", bzip2.finish().unwrap()),
            ("xz", xz.finish().unwrap()),
        ]
    }

    #[test]
    fn archives_are_told_by_content() {
        for (name, bytes) in compressed() {
            let mut plain = archive(file(&bytes), &Limits::default()).unwrap().expect(name);
            let mut out = Vec::new();
            plain.read_to_end(&mut out).unwrap();
            assert_eq!(out, tar(), "{name}");
        }
        let mut version_7 = tar();
        version_7[257..265].fill(0);
        version_7[148..156].fill(b' ');
        let sum: u32 = version_7[..512].iter().map(|&byte| u32::from(byte)).sum();
        version_7[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        assert!(archive(file(&version_7), &Limits::default()).unwrap().is_some());
        version_7[0] = b'g';
        for (name, bytes) in [
            ("empty", Vec::new()),
            ("zeros", vec![0; 2048]),
            ("text", b"hello".to_vec()),
            ("gzip of text", gzip(b"hello")),
            ("broken gzip", gzip(&tar())[..20].to_vec()),
            ("wrong checksum", version_7),
        ] {
            assert!(archive(file(&bytes), &Limits::default()).unwrap().is_none(), "{name}");
        }
    }

    #[test]
    fn diff_id_of_every_encoding() {
        let want = DiffId(crate::image::Digest::of(&tar()));
        let all = compressed();
        for (at, encoding) in [(0, LayerEncoding::Tar), (1, LayerEncoding::Gzip), (2, LayerEncoding::Zstd)] {
            let found = verify_diff_id(Cursor::new(all[at].1.clone()), encoding).unwrap();
            assert_eq!(found, want);
        }
        assert!(verify_diff_id(Cursor::new(b"junk".to_vec()), LayerEncoding::Gzip).is_err());
    }

    #[test]
    fn bombs_are_stopped() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        for _ in 0..120 {
            encoder.write_all(&vec![0; 1 << 20]).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        let error = verify_diff_id(Cursor::new(bomb.clone()), LayerEncoding::Zstd).unwrap_err();
        assert!(matches!(error, LayerError::Limit { what: "bytes per compressed byte", .. }), "{error}");

        let limits = Limits { total_bytes: 1 << 20, ..Limits::default() };
        let mut plain = decoder(Cursor::new(bomb), Compression::Zstd, &limits).unwrap();
        let error = LayerError::stream(io::copy(&mut plain, &mut io::sink()).unwrap_err());
        assert!(matches!(error, LayerError::Limit { limit: 1_048_576, .. }), "{error}");
    }

    #[test]
    fn every_encoding_reads_as_the_same_entries() {
        for (name, bytes) in compressed() {
            let plain = archive(file(&bytes), &Limits::default()).unwrap().unwrap();
            let mut names = Vec::new();
            read_tar(plain, Mode::Archive, &mut |entry, _| {
                names.push(entry.path.to_string());
                Ok(())
            })
            .unwrap();
            assert_eq!(names, ["/f"], "{name}");
        }
    }
}
