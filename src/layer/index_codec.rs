//! The stored form of a [`LayerIndex`].
//!
//! ```text
//! "fanfold-layer-index" version:u8=1  count:varint  slot*  sha256:[u8; 32] over all before it
//! slot = shared:varint suffix:bytes  flags:u8  [metadata]
//! metadata = mode:varint uid:varint gid:varint mtime:zigzag kind  xattrs:varint (name:bytes value:bytes)*
//! kind = size:varint | target:bytes | major:varint minor:varint | nothing, by the tag in flags
//! bytes = length:varint, that many bytes
//! ```
//!
//! Slots stand in path order; `shared` counts the bytes a path has in common with the one before.

use crate::image::Digest;

use super::entry::{Entry, EntryKind, Xattrs};
use super::error::LayerError;
use super::index::{LayerIndex, Shape, Slot};
use super::path::LayerPath;

const MAGIC: &[u8] = b"fanfold-layer-index\x01";
const DIGEST: usize = 32;
/// Flag of an opaque directory; the other bits are the tag.
const OPAQUE: u8 = 0x80;

const IMPLICIT: u8 = 0;
const DELETED: u8 = 1;
const FILE: u8 = 2;
const HARD_LINK: u8 = 3;
const SYMLINK: u8 = 4;
const DIRECTORY: u8 = 5;
const FIFO: u8 = 6;
const CHAR: u8 = 7;
const BLOCK: u8 = 8;

impl LayerIndex {
    /// The index as bytes; equal indexes give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put(&mut out, self.slots().len() as u64);
        let mut before: &[u8] = b"";
        for slot in self.slots() {
            let path = slot.path.as_bytes();
            let shared = path.iter().zip(before).take_while(|(left, right)| left == right).count();
            put(&mut out, shared as u64);
            put_bytes(&mut out, &path[shared..]);
            before = path;
            let opaque = if slot.opaque { OPAQUE } else { 0 };
            match &slot.shape {
                Shape::Implicit => out.push(IMPLICIT | opaque),
                Shape::Deleted => out.push(DELETED | opaque),
                Shape::Real(entry) => put_entry(&mut out, entry, opaque),
            }
        }
        let digest = Digest::of(&out);
        out.extend_from_slice(digest.raw());
        out
    }

    /// Reads what [`LayerIndex::encode`] wrote.
    ///
    /// # Errors
    ///
    /// Fails for another format or version and for any damage: the bytes end in their own digest.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayerError> {
        let damaged = |reason| LayerError::Index { reason };
        let Some((body, digest)) = bytes.split_last_chunk::<DIGEST>() else {
            return Err(damaged("it is too short"));
        };
        let Some(rest) = body.strip_prefix(MAGIC) else {
            return Err(damaged("it has another format or version"));
        };
        if Digest::of(body).raw() != digest {
            return Err(damaged("its digest does not match"));
        }
        let slots = Reader(rest).slots().ok_or_else(|| damaged("it is malformed"))?;
        let sorted = slots.is_sorted_by(|left, right| left.path < right.path);
        if !sorted || !slots.first().is_some_and(|slot| slot.path.is_root()) {
            return Err(damaged("its paths are out of order"));
        }
        Ok(Self::from_slots(slots))
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry, opaque: u8) {
    let tag = match entry.kind {
        EntryKind::File { .. } => FILE,
        EntryKind::HardLink { .. } => HARD_LINK,
        EntryKind::Symlink { .. } => SYMLINK,
        EntryKind::Directory => DIRECTORY,
        EntryKind::Fifo => FIFO,
        EntryKind::Char { .. } => CHAR,
        EntryKind::Block { .. } => BLOCK,
        EntryKind::Whiteout => DELETED,
        EntryKind::Opaque => IMPLICIT,
    };
    out.push(tag | opaque);
    for value in [entry.mode, entry.uid, entry.gid] {
        put(out, value.into());
    }
    put(out, (entry.mtime << 1 ^ entry.mtime >> 63) as u64);
    match &entry.kind {
        EntryKind::File { size } => put(out, *size),
        EntryKind::HardLink { target } => put_bytes(out, target.as_bytes()),
        EntryKind::Symlink { target } => put_bytes(out, target),
        EntryKind::Char { major, minor } | EntryKind::Block { major, minor } => {
            put(out, (*major).into());
            put(out, (*minor).into());
        }
        EntryKind::Directory | EntryKind::Fifo | EntryKind::Whiteout | EntryKind::Opaque => {}
    }
    put(out, entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

/// Takes values from the front; `None` when the bytes do not hold them.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn slots(mut self) -> Option<Vec<Slot>> {
        let count = usize::try_from(self.varint()?).ok()?;
        // Each slot takes three bytes at least, so a false count cannot ask for much memory.
        let mut slots = Vec::with_capacity(count.min(self.0.len() / 3));
        let mut path: Vec<u8> = Vec::new();
        for _ in 0..count {
            let shared = usize::try_from(self.varint()?).ok().filter(|&shared| shared <= path.len())?;
            path.truncate(shared);
            path.extend_from_slice(self.bytes()?);
            slots.push(self.slot(LayerPath::new(&path).ok()?)?);
        }
        self.0.is_empty().then_some(slots)
    }

    fn slot(&mut self, path: LayerPath) -> Option<Slot> {
        let flags = self.byte()?;
        let shape = match flags & !OPAQUE {
            IMPLICIT => Shape::Implicit,
            DELETED => Shape::Deleted,
            tag => Shape::Real(self.entry(path.clone(), tag)?),
        };
        Some(Slot::new(path, shape, flags & OPAQUE != 0))
    }

    fn entry(&mut self, path: LayerPath, tag: u8) -> Option<Entry> {
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let mtime = self.varint()?;
        let mtime = (mtime >> 1) as i64 ^ -((mtime & 1) as i64);
        let kind = match tag {
            FILE => EntryKind::File { size: self.varint()? },
            HARD_LINK => EntryKind::HardLink { target: LayerPath::new(self.bytes()?).ok()? },
            SYMLINK => EntryKind::Symlink { target: self.bytes()?.to_vec() },
            DIRECTORY => EntryKind::Directory,
            FIFO => EntryKind::Fifo,
            CHAR => EntryKind::Char { major: self.small()?, minor: self.small()? },
            BLOCK => EntryKind::Block { major: self.small()?, minor: self.small()? },
            _ => return None,
        };
        let mut xattrs = Xattrs::new();
        for _ in 0..self.varint()? {
            xattrs.insert(self.bytes()?.to_vec(), self.bytes()?.to_vec());
        }
        Some(Entry { path, kind, mode, uid, gid, mtime, xattrs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::build::Builder;

    fn sample() -> LayerIndex {
        let at = |path: &[u8]| LayerPath::new(path).unwrap();
        let mut builder = Builder::new();
        let kinds = [
            EntryKind::File { size: u64::MAX },
            EntryKind::HardLink { target: at(b"d/0") },
            EntryKind::Symlink { target: b"../\xff".to_vec() },
            EntryKind::Directory,
            EntryKind::Fifo,
            EntryKind::Char { major: 5, minor: 1 << 19 },
            EntryKind::Block { major: 8, minor: 0 },
            EntryKind::Whiteout,
        ];
        for (number, kind) in kinds.into_iter().enumerate() {
            let mut entry = Entry::new(at(format!("d/{number}").as_bytes()), kind, 0o4755);
            (entry.uid, entry.gid, entry.mtime) = (4_000_000_000, 1, -1_000_000_000_000);
            entry.xattrs.insert(b"user.\xfe".to_vec(), vec![0, 1, 2]);
            builder.place(entry).unwrap();
        }
        builder.place(Entry::opaque(at(b"d"))).unwrap();
        builder.place(Entry::new(at(b"\xff\xfe"), EntryKind::Directory, 0o1777)).unwrap();
        builder.finish().unwrap()
    }

    #[test]
    fn round_trip() {
        for index in [sample(), Builder::new().finish().unwrap()] {
            assert_eq!(LayerIndex::decode(&index.encode()).unwrap(), index);
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(LayerIndex::decode(&flipped).is_err(), "byte {at}");
        }
        for length in 0..bytes.len() {
            assert!(LayerIndex::decode(&bytes[..length]).is_err(), "length {length}");
        }
    }
}
