//! Records on disk: a line of JSON, and a line with the digest of that line and of the record's name. A
//! record in which a bit has changed, or that stands under another name, is none.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, StoreError};
use crate::image::{Digest, Sha256};

impl Store {
    /// Reads a record; one that is missing or damaged is a miss.
    pub(super) fn read_record<T: DeserializeOwned>(&self, path: &Path) -> Option<T> {
        unseal(self.record_name(path), &fs::read(path).ok()?)
    }

    /// Writes a record under its name.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub(super) fn write_record<T: Serialize>(&self, path: &Path, record: &T) -> Result<(), StoreError> {
        self.write_whole(path, &seal(self.record_name(path), record))
    }

    /// Where the record is in the store, so that a store can be moved.
    fn record_name<'p>(&self, path: &'p Path) -> &'p [u8] {
        path.strip_prefix(self.root()).unwrap_or(path).as_os_str().as_bytes()
    }
}

fn seal<T: Serialize>(name: &[u8], record: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(record).expect("records hold only text keys");
    let digest = digest(name, &bytes).to_string();
    bytes.push(b'\n');
    bytes.extend_from_slice(digest.as_bytes());
    bytes.push(b'\n');
    bytes
}

fn unseal<T: DeserializeOwned>(name: &[u8], bytes: &[u8]) -> Option<T> {
    // JSON that was written in one piece has no line break.
    let (line, rest) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n')?);
    let said = rest.strip_prefix(b"\n")?.strip_suffix(b"\n")?;
    if said != digest(name, line).to_string().as_bytes() {
        return None;
    }
    serde_json::from_slice(line).ok()
}

fn digest(name: &[u8], line: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.field(b"fanfold record");
    hasher.field(name);
    hasher.field(line);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_other_name_is_found() {
        let record = vec!["text\nof two lines".to_owned(), "\u{e9}".to_owned()];
        let bytes = seal(b"steps/1", &record);
        assert_eq!(unseal::<Vec<String>>(b"steps/1", &bytes), Some(record));
        assert_eq!(unseal::<Vec<String>>(b"steps/2", &bytes), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal::<Vec<String>>(b"steps/1", &flipped), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(unseal::<Vec<String>>(b"steps/1", &bytes[..length]), None, "length {length}");
        }
        assert_eq!(unseal::<Vec<String>>(b"steps/1", b"[\"old\"]"), None);
    }
}
