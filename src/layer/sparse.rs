//! Sparse files in tar: the GNU formats 0.0, 0.1, 1.0 and the old GNU header.
//!
//! Source: GNU tar manual, appendix "Storing Sparse Files".

use std::io::{self, Read};

use super::pax;
use super::tar_header::number;

/// Longest accepted map: the map is kept in memory, so a claim of a billion segments must not be believed.
pub(super) const MOST_SEGMENTS: usize = 64 << 10;

/// Where the stored bytes of a sparse file stand in the file.
#[derive(Debug)]
pub(super) struct SparseMap {
    segments: Vec<(u64, u64)>,
    size: u64,
    stored: u64,
}

impl SparseMap {
    /// Checks a map of (offset, length) against the file's size and the bytes in the archive.
    pub(super) fn new(mut segments: Vec<(u64, u64)>, size: u64, stored: u64) -> Result<Self, &'static str> {
        segments.retain(|&(_, length)| length != 0);
        if segments.len() > MOST_SEGMENTS {
            return Err("sparse map is too long");
        }
        let mut end = 0u64;
        let mut data = 0u64;
        for &(offset, length) in &segments {
            if offset < end {
                return Err("sparse map is not in order");
            }
            end =
                offset.checked_add(length).filter(|&end| end <= size).ok_or("sparse map exceeds its file")?;
            data += length;
        }
        if data != stored {
            return Err("sparse map does not match the stored bytes");
        }
        Ok(Self { segments, size, stored })
    }

    /// Size of the file, holes included.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the file in the archive.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// The whole file, holes as zeros.
    pub(super) fn reader<'a>(self, stored: &'a mut dyn Read) -> SparseReader<'a> {
        SparseReader { segments: self.segments.into_iter().peekable(), size: self.size, at: 0, stored }
    }
}

/// See [`SparseMap::reader`].
pub(super) struct SparseReader<'a> {
    segments: std::iter::Peekable<std::vec::IntoIter<(u64, u64)>>,
    size: u64,
    at: u64,
    stored: &'a mut dyn Read,
}

impl Read for SparseReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.segments.next_if(|&(offset, length)| offset + length <= self.at).is_some() {}
        let (limit, hole) = match self.segments.peek() {
            Some(&(offset, _)) if self.at < offset => (offset, true),
            Some(&(offset, length)) => (offset + length, false),
            None => (self.size, true),
        };
        let most = usize::try_from(limit - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = if hole {
            buffer[..most].fill(0);
            most
        } else {
            self.stored.read(&mut buffer[..most])?
        };
        self.at += count as u64;
        Ok(count)
    }
}

/// Decimal numbers in pairs of offset and length.
pub(super) fn pairs<'a>(numbers: impl Iterator<Item = &'a [u8]>) -> Result<Vec<(u64, u64)>, &'static str> {
    let mut pairs = Vec::new();
    let mut offset = None;
    for text in numbers {
        let value = pax::decimal(text).ok_or("sparse map has a bad number")?;
        match offset.take() {
            None => offset = Some(value),
            Some(_) if pairs.len() >= MOST_SEGMENTS => return Err("sparse map is too long"),
            Some(offset) => pairs.push((offset, value)),
        }
    }
    if offset.is_some() { Err("sparse map has half a segment") } else { Ok(pairs) }
}

/// The segments of an old GNU header or one of its extensions.
pub(super) fn gnu_pairs(headers: &[tar::GnuSparseHeader]) -> Result<Vec<(u64, u64)>, &'static str> {
    let used = headers.iter().filter(|header| !header.is_empty());
    used.map(|header| {
        let pair = unsigned(&header.offset).zip(unsigned(&header.numbytes));
        pair.ok_or("sparse map has a bad number")
    })
    .collect()
}

/// A header's number that must not be negative.
pub(super) fn unsigned(field: &[u8]) -> Option<u64> {
    number(field).and_then(|value| u64::try_from(value).ok())
}
