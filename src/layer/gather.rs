//! [`gather`]: an archive as the files that unpacking it would give, without unpacking it.

use std::collections::HashMap;
use std::io::{self, Read};

use super::build::Builder;
use super::content::Content;
use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::index::LayerIndex;
use super::limits::Limits;
use super::path::LayerPath;
use super::tar_reader::{Mode, read_tar_within};

/// The files of an archive.
#[derive(Debug)]
pub struct Gathered {
    /// What there is, all of it owned by root: owners of the machine that made the archive mean
    /// nothing in an image.
    pub index: LayerIndex,
    /// The data of each regular file, by its first name.
    pub contents: HashMap<LayerPath, Content>,
}

/// Takes the bytes of one file and says where they are kept.
pub type OnContent<'a> = dyn FnMut(&mut dyn Read) -> io::Result<Content> + 'a;

/// Reads an uncompressed tar. Of entries with one name the last counts, as when it is unpacked; an
/// entry below a symbolic link of the archive stands where the link leads, inside the root.
///
/// # Errors
///
/// Fails as [`super::read_tar`] does, for hard links to nothing or to a file that a later entry
/// replaces, for entries below a file, and whatever `keep` fails with.
pub fn gather(plain: impl Read, limits: &Limits, keep: &mut OnContent<'_>) -> Result<Gathered, LayerError> {
    let mut builder = Builder::new();
    let mut contents = HashMap::new();
    read_tar_within(plain, Mode::Files, limits, &mut |mut entry, content| {
        (entry.uid, entry.gid) = (0, 0);
        if let Some(Entry { path, kind: EntryKind::File { .. }, .. }) = builder.place(entry)? {
            contents.insert(path, keep(content).map_err(LayerError::stream)?);
        }
        Ok(())
    })?;
    let index = builder.finish()?;
    for entry in index.entries() {
        if matches!(entry.kind, EntryKind::HardLink { .. }) && !index.holds_target(&entry) {
            return Err(LayerError::refused(&entry.path, "the file it links to is not in the archive"));
        }
    }
    contents.retain(|path, _| index.get(path).is_some_and(Entry::is_file));
    Ok(Gathered { index, contents })
}
