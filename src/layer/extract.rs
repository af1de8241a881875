//! [`extract`]: copies single files out of a layer blob, where unpacking it all would be a waste.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use super::build::Builder;
use super::decode::Compression;
use super::entry::EntryKind;
use super::error::LayerError;
use super::limits::Limits;
use super::path::LayerPath;
use super::stream::read_blob;
use crate::image::DiffId;

/// Where the files lie that were taken out of a layer: first byte and length.
type Places = BTreeMap<LayerPath, (u64, u64)>;

/// Content is copied in pieces of this size.
const PIECE: usize = 128 << 10;

/// Appends the content of the regular files `wanted` to `spool`, and says where each stands: first
/// byte and length, as [`super::Content::Range`] takes them.
///
/// The blob is read to its end, for its diff id: if that is another, so may be the files.
///
/// Paths are those under which the layer's index holds a file; for hard links that is
/// [`super::FileNode::path`].
///
/// # Errors
///
/// Fails as [`super::unpack`] does, when the spool cannot be written, and when the layer does not
/// hold one of the files.
pub fn extract(
    blob: File,
    encoding: impl Into<Compression>,
    wanted: &BTreeSet<LayerPath>,
    spool: &mut File,
) -> Result<(Places, DiffId), LayerError> {
    let write_error = |error| LayerError::io("write", "spool", error);
    let mut end = spool.seek(SeekFrom::End(0)).map_err(write_error)?;
    let mut found = BTreeMap::new();
    let mut builder = Builder::new();
    let mut buffer = vec![0; PIECE];
    let (diff_id, _) = read_blob(blob, encoding, &Limits::default(), &mut |entry, content| {
        let Some(entry) = builder.place(entry)? else { return Ok(()) };
        let EntryKind::File { size } = entry.kind else { return Ok(()) };
        if wanted.contains(&entry.path) {
            let mut copied = 0;
            loop {
                let count = content.read(&mut buffer).map_err(LayerError::stream)?;
                if count == 0 {
                    break;
                }
                spool.write_all(&buffer[..count]).map_err(write_error)?;
                copied += count as u64;
            }
            if copied != size {
                let path = entry.path.to_string();
                return Err(LayerError::SizeChanged { path, expected: size, found: copied });
            }
            // A file that stands in the archive twice counts as it stands last.
            found.insert(entry.path, (end, size));
            end += size;
        }
        Ok(())
    })?;
    match wanted.iter().find(|path| !found.contains_key(path)) {
        Some(missing) => Err(LayerError::Missing { path: missing.to_string() }),
        None => Ok((found, diff_id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::media_type::LayerEncoding;
    use crate::layer::{Entry, TarWriter};
    use std::io::Read;
    use std::os::unix::fs::FileExt;

    #[test]
    fn wanted_files_alone_are_copied() {
        let at = |path: &str| LayerPath::new(path).unwrap();
        let mut writer = TarWriter::new(tempfile::tempfile().unwrap());
        let mut append = |path: &str, kind, mut content: &[u8]| {
            writer.append(&Entry::new(at(path), kind, 0o644), &mut content).unwrap();
        };
        append("lib", EntryKind::Symlink { target: b"usr/lib".to_vec() }, b"");
        append("big", EntryKind::File { size: 5 }, b"00000");
        append("lib/x", EntryKind::File { size: 3 }, b"abc");
        append("twice", EntryKind::File { size: 1 }, b"1");
        append("twice", EntryKind::File { size: 1 }, b"2");
        let mut blob = writer.finish().unwrap();
        blob.rewind().unwrap();

        let mut spool = tempfile::tempfile().unwrap();
        spool.write_all(b"before").unwrap();
        let wanted = BTreeSet::from([at("usr/lib/x"), at("twice")]);
        let clone = |file: &File| file.try_clone().unwrap();
        let (found, diff_id) = extract(clone(&blob), LayerEncoding::Tar, &wanted, &mut spool).unwrap();
        blob.rewind().unwrap();
        let whole = crate::layer::decode::verify_diff_id(clone(&blob), LayerEncoding::Tar).unwrap();
        assert_eq!(diff_id, whole);
        let read = |path: &str| {
            let (offset, length) = found[&at(path)];
            let mut bytes = vec![0; length as usize];
            spool.read_exact_at(&mut bytes, offset).unwrap();
            bytes
        };
        assert_eq!((read("usr/lib/x"), read("twice")), (b"abc".to_vec(), b"2".to_vec()));
        spool.rewind().unwrap();
        let mut all = String::new();
        spool.read_to_string(&mut all).unwrap();
        assert_eq!(all, "beforeabc12");

        blob.rewind().unwrap();
        let error = extract(blob, LayerEncoding::Tar, &BTreeSet::from([at("lib")]), &mut spool).unwrap_err();
        assert!(matches!(error, LayerError::Missing { .. }), "{error}");
    }
}
