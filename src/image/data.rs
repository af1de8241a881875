//! [`DataHash`]: tells files of equal data, wherever no specification asks for a digest.

use std::io::{self, Read};

/// What a file's data is known by in keys and in the stat cache: its BLAKE3 hash.
///
/// No image names it. It is several times as fast to make as a [`Digest`](super::Digest), and every file
/// that is copied needs one before anything can be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHash([u8; Self::LENGTH]);

impl DataHash {
    /// Bytes of a hash.
    pub const LENGTH: usize = blake3::OUT_LEN;

    /// Hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }

    /// Hash of all that `data` has, which goes through `buffer`: 16 KiB and more fill the widest vectors.
    ///
    /// # Errors
    ///
    /// Fails where reading fails.
    pub fn read(mut data: impl Read, buffer: &mut [u8]) -> io::Result<Self> {
        let mut hasher = DataHasher::new();
        loop {
            match data.read(buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The hash with these raw bytes.
    pub const fn from_raw(raw: [u8; Self::LENGTH]) -> Self {
        Self(raw)
    }

    /// The raw bytes.
    pub const fn raw(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

/// A running [`DataHash`].
#[derive(Debug, Clone, Default)]
pub struct DataHasher(blake3::Hasher);

impl DataHasher {
    /// The hash of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all that was added.
    pub fn finish(self) -> DataHash {
        DataHash(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hash_however_it_is_made() {
        let data: Vec<u8> = (0..200_000u32).map(|number| (number / 3) as u8).collect();
        let whole = DataHash::of(&data);
        assert_eq!(DataHash::read(&data[..], &mut [0; 1000]).unwrap(), whole);
        let mut hasher = DataHasher::new();
        data.chunks(77).for_each(|piece| hasher.update(piece));
        assert_eq!(hasher.finish(), whole);
        assert_eq!(DataHash::from_raw(*whole.raw()), whole);
        assert_ne!(DataHash::of(&data[1..]), whole);
    }
}
