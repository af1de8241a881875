//! [`Codecs`]: compressors of whole blocks, made when first needed and used again.

use libdeflater::{CompressionLvl, Compressor};
use zstd::zstd_safe::{self, CParameter};

use crate::image::Compression;
use crate::image::media_type::LayerEncoding;

enum Codec {
    Gzip(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

/// The compressors of one thread, one for each compression that it met.
#[derive(Default)]
pub(super) struct Codecs(Vec<(Compression, Codec)>);

impl std::fmt::Debug for Codecs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(compression, _)| compression)).finish()
    }
}

impl Codecs {
    /// Compresses a block as one gzip member or zstd frame into the front of `out`, which grows where it
    /// must; gives the size. `None` means that memory was exhausted: nothing else fails.
    pub(super) fn compress(
        &mut self,
        compression: Compression,
        block: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let at = match self.0.iter().position(|(known, _)| *known == compression) {
            Some(at) => at,
            None => {
                self.0.push((compression, Codec::new(compression)?));
                self.0.len() - 1
            }
        };
        self.0[at].1.compress(block, out)
    }
}

impl Codec {
    fn new(compression: Compression) -> Option<Self> {
        let level = compression.level().and_then(|level| i32::try_from(level).ok())?;
        if compression.encoding() == LayerEncoding::Zstd {
            let mut compressor = zstd::bulk::Compressor::new(level).ok()?;
            compressor.set_parameter(CParameter::ChecksumFlag(true)).ok()?;
            compressor.set_parameter(CParameter::ContentSizeFlag(false)).ok()?;
            return Some(Self::Zstd(compressor));
        }
        Some(Self::Gzip(Compressor::new(CompressionLvl::new(level).ok()?)))
    }

    fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let bound = match self {
            Self::Gzip(compressor) => compressor.gzip_compress_bound(block.len()),
            Self::Zstd(_) => zstd_safe::compress_bound(block.len()),
        };
        if out.len() < bound {
            out.resize(bound, 0);
        }
        match self {
            // No name, no time, no system, whatever the host; a byte tells the level as fast, usual or slow.
            Self::Gzip(compressor) => compressor.gzip_compress(block, out).ok(),
            Self::Zstd(compressor) => compressor.compress_to_buffer(block, out.as_mut_slice()).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn members_have_a_fixed_header() {
        let mut codecs = Codecs::default();
        let mut out = Vec::new();
        for (level, extra) in [(0, 4), (1, 4), (2, 0), (6, 0), (7, 0), (8, 2), (9, 2)] {
            let compression = Compression::new(LayerEncoding::Gzip, Some(level)).unwrap();
            for block in [&b""[..], b"abc", &[0; 1 << 20]] {
                let size = codecs.compress(compression, block, &mut out).unwrap();
                assert_eq!(&out[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, extra, 0xff], "level {level}");
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(&out[..size]).read_to_end(&mut plain).unwrap();
                assert_eq!(plain, block);
            }
        }
    }

    #[test]
    fn every_level_reads_back_and_repeats() {
        let block: Vec<u8> = (0..300_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let mut codecs = Codecs::default();
        let levels = (0..=9).map(|level| (LayerEncoding::Gzip, level));
        for (encoding, level) in levels.chain((1..=22).map(|level| (LayerEncoding::Zstd, level))) {
            let compression = Compression::new(encoding, Some(level)).unwrap();
            let compress = |codecs: &mut Codecs| {
                let mut out = Vec::new();
                let size = codecs.compress(compression, &block, &mut out).unwrap();
                out.truncate(size);
                out
            };
            let found = compress(&mut codecs);
            assert_eq!(found, compress(&mut codecs), "{compression}: used again");
            assert_eq!(found, compress(&mut Codecs::default()), "{compression}: made new");
            let plain = match encoding {
                LayerEncoding::Zstd => zstd::decode_all(&found[..]).unwrap(),
                _ => {
                    let mut plain = Vec::new();
                    flate2::read::GzDecoder::new(&found[..]).read_to_end(&mut plain).unwrap();
                    plain
                }
            };
            assert!(plain == block, "{compression}");
        }
        assert!(codecs.compress(Compression::NONE, b"", &mut Vec::new()).is_none());
    }
}
