//! How a stat cache is written: one record for each file, in the order of paths.
//!
//! A head (what this is, when it was written), the records, and the SHA-256 of all before it. Numbers
//! are little-endian. A record leaves out what its path shares with the path before it.

use super::facts::Facts;
use crate::image::{DataHash, Digest};
use crate::layer::{Stamp, Xattrs};

/// What the file begins with; the number rises with every change of what follows.
const HEAD: &[u8; 16] = b"fanfold-stats-2\n";
const DIGEST_LENGTH: usize = 32;

/// Writes records.
pub(super) struct Encoder {
    bytes: Vec<u8>,
    last: Vec<u8>,
}

impl Encoder {
    /// `written`: now, in seconds since 1970.
    pub(super) fn new(written: i64) -> Self {
        let mut bytes = HEAD.to_vec();
        bytes.extend(written.to_le_bytes());
        Self { bytes, last: Vec::new() }
    }

    /// Adds a file, which comes after all before it in the order of paths.
    pub(super) fn add(&mut self, path: &[u8], stat: &Stamp, facts: &Facts) {
        let shared = self.last.iter().zip(path).take_while(|(left, right)| left == right).count();
        self.number(shared);
        self.text(&path[shared..]);
        self.last.truncate(shared);
        self.last.extend_from_slice(&path[shared..]);
        for number in [stat.device, stat.inode, stat.size, stat.modified.1, stat.changed.1] {
            self.bytes.extend(number.to_le_bytes());
        }
        for seconds in [stat.modified.0, stat.changed.0] {
            self.bytes.extend(seconds.to_le_bytes());
        }
        self.bytes.push(u8::from(facts.data.is_some()));
        self.bytes.extend(facts.data.iter().flat_map(DataHash::raw));
        self.number(facts.xattrs.len());
        for (name, value) in &facts.xattrs {
            self.text(name);
            self.text(value);
        }
    }

    /// The whole file.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let digest = Digest::of(&self.bytes);
        self.bytes.extend(digest.raw());
        self.bytes
    }

    /// Lengths and counts: of paths, of attributes and their values, which the kernel bounds.
    fn number(&mut self, number: usize) {
        self.bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len());
        self.bytes.extend_from_slice(text);
    }
}

/// Reads records.
pub(super) struct Decoder<'a> {
    written: i64,
    rest: &'a [u8],
    path: Vec<u8>,
}

impl<'a> Decoder<'a> {
    /// `None` for what is no such file, or damaged.
    pub(super) fn new(file: &'a [u8]) -> Option<Self> {
        let (content, digest) = file.split_at_checked(file.len().checked_sub(DIGEST_LENGTH)?)?;
        let records = content.strip_prefix(HEAD)?;
        if Digest::of(content).raw() != digest {
            return None;
        }
        let mut decoder = Self { written: 0, rest: records, path: Vec::new() };
        decoder.written = i64::from_le_bytes(decoder.array()?);
        Some(decoder)
    }

    /// When the file was written, in seconds since 1970.
    pub(super) fn written(&self) -> i64 {
        self.written
    }

    /// The path of the record that was read last.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The next record; `None` at the end.
    pub(super) fn read(&mut self) -> Option<Facts> {
        let shared = self.number()?;
        let differs = self.text()?;
        if shared > self.path.len() {
            return None;
        }
        self.path.truncate(shared);
        self.path.extend_from_slice(differs);
        let mut numbers = [0; 5];
        for number in &mut numbers {
            *number = u64::from_le_bytes(self.array()?);
        }
        let mut seconds = [0; 2];
        for second in &mut seconds {
            *second = i64::from_le_bytes(self.array()?);
        }
        let [device, inode, size, modified, changed] = numbers;
        let stat =
            Stamp { device, inode, size, modified: (seconds[0], modified), changed: (seconds[1], changed) };
        let data = match self.array()? {
            [0] => None,
            [_] => Some(DataHash::from_raw(self.array()?)),
        };
        let mut xattrs = Xattrs::new();
        for _ in 0..self.number()? {
            let name = self.text()?.to_vec();
            xattrs.insert(name, self.text()?.to_vec());
        }
        Some(Facts { data, xattrs, stat: Some(stat), seen: Some(stat) })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<(&'static [u8], Facts)> {
        let stat = |inode| {
            Some(Stamp {
                device: u64::MAX,
                inode,
                size: 3,
                modified: (-1, 999_999_999),
                changed: (i64::MAX, 5),
            })
        };
        let xattrs =
            Xattrs::from([(b"user.a".to_vec(), b"\0\xff".to_vec()), (b"user.b".to_vec(), Vec::new())]);
        vec![
            (b"a", Facts { data: None, xattrs: Xattrs::new(), stat: stat(1), seen: stat(1) }),
            (b"a/\xff\n", Facts { data: Some(DataHash::of(b"x")), xattrs, stat: stat(2), seen: stat(2) }),
            (
                b"a/b/c",
                Facts { data: Some(DataHash::of(b"")), xattrs: Xattrs::new(), stat: stat(3), seen: stat(3) },
            ),
            (b"b", Facts { data: None, xattrs: Xattrs::new(), stat: stat(4), seen: stat(4) }),
        ]
    }

    fn encoded() -> Vec<u8> {
        let mut encoder = Encoder::new(-7);
        for (path, facts) in records() {
            encoder.add(path, &facts.stat.unwrap(), &facts);
        }
        encoder.finish()
    }

    #[test]
    fn records_come_back() {
        let file = encoded();
        let mut decoder = Decoder::new(&file).unwrap();
        assert_eq!(decoder.written(), -7);
        for (path, facts) in records() {
            assert_eq!(decoder.read(), Some(facts));
            assert_eq!(decoder.path(), path);
        }
        assert_eq!(decoder.read(), None);
    }

    #[test]
    fn damage_anywhere_is_found() {
        let file = encoded();
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert!(Decoder::new(&damaged).is_none(), "byte {at}");
            assert!(Decoder::new(&file[..at]).is_none(), "{at} bytes");
        }
        assert!(Decoder::new(&[&file[..], b"\0"].concat()).is_none());
    }

    #[test]
    fn nonsense_under_a_right_checksum_ends_the_reading() {
        for tail in [&b"\x01\0\0\0\0\0\0\0"[..], b"\0\0\0\0\xff\xff\xff\xff", b"\0"] {
            let mut encoder = Encoder::new(0);
            encoder.bytes.extend_from_slice(tail);
            let file = encoder.finish();
            assert_eq!(Decoder::new(&file).unwrap().read(), None, "{tail:?}");
        }
    }
}
