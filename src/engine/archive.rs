//! ADD of a local archive: its entries are laid into the destination.

use super::copy::{Copying, Part};
use super::staging::Found;
use super::{EngineError, StepFailure};
use crate::layer::{Content, Entry, EntryKind, LayerError, LayerPath, Limits, Mode, archive, read_tar};
use crate::source::{Selected, Spool};

/// Links followed on the way to one entry.
const MOST_LINKS: usize = 40;

impl Copying<'_, '_> {
    /// Unpacks the source if it is an archive and archives are to be unpacked. Says whether it did.
    ///
    /// The contents lie in a file without a name until the layer is written.
    pub(super) fn try_archive(&mut self, part: &Part<'_>, item: &Selected) -> Result<bool, EngineError> {
        if !part.unpack {
            return Ok(false);
        }
        let Some(file) = part.regular_file(&item.path) else { return Ok(false) };
        let Some(reader) = archive(part.content(&file)?.open()?, &Limits::default())? else {
            return Ok(false);
        };
        for (given, flag) in [(self.op.chmod.is_some(), "--chmod"), (part.excludes, "--exclude")] {
            if given {
                let name = String::from_utf8_lossy(&item.name);
                return Err(StepFailure::refused(format!(
                    "{flag} does not apply to the archive `{name}`, which is unpacked"
                ))
                .with_hint("use --unpack=false to copy the archive itself")
                .into());
            }
        }
        let mut spool = Spool::new(self.engine.store().scratch_dir()?.path())?;
        let mut entries = Vec::new();
        read_tar(reader, Mode::Archive, &mut |entry, content| {
            let content = match entry.kind {
                EntryKind::File { .. } => spool.add(content).map_err(LayerError::Stream)?.0,
                _ => Content::Empty,
            };
            entries.push((entry, content));
            Ok(())
        })
        .map_err(|error| {
            if error.is_disk_full() { error.into() } else { bad(&item.name, error.to_string()) }
        })?;
        let directory = self.destination_directory()?;
        for (entry, content) in entries {
            self.archive_entry(&item.name, entry, content, &directory)?;
        }
        Ok(true)
    }

    fn archive_entry(
        &mut self,
        archive: &[u8],
        mut entry: Entry,
        content: Content,
        top: &LayerPath,
    ) -> Result<(), EngineError> {
        let Some(name) = entry.path.file_name().map(<[u8]>::to_vec) else { return Ok(()) };
        let parent = entry.path.parent().unwrap_or_default();
        let target = self.place_of(archive, &parent, top)?.join(&name)?;
        if let EntryKind::HardLink { target: linked } = &entry.kind {
            let file = linked.file_name().map(<[u8]>::to_vec).unwrap_or_default();
            let file = self.place_of(archive, &linked.parent().unwrap_or_default(), top)?.join(file)?;
            if !self.staging.link(&file, target) {
                return Err(bad(archive, format!("its hard link {} leads to nothing", entry.path)));
            }
            return Ok(());
        }
        entry.path = target;
        self.dress(&mut entry);
        self.staging.put(entry, content, None);
        Ok(())
    }

    /// Where a directory of the archive lies in the image: below the destination, also after links.
    fn place_of(
        &mut self,
        archive: &[u8],
        directory: &LayerPath,
        top: &LayerPath,
    ) -> Result<LayerPath, EngineError> {
        let mut place = top.clone();
        let mut links = 0;
        let mut open: Vec<Vec<u8>> = directory.components().rev().map(<[u8]>::to_vec).collect();
        while let Some(component) = open.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    place = place.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = place.join(&component)?;
            if let Some(target) = self.staging.link_target(&next) {
                links += 1;
                if links > MOST_LINKS {
                    return Err(bad(archive, format!("too many symbolic links at {next}")));
                }
                if target.starts_with(b"/") {
                    place = LayerPath::root();
                }
                open.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
                continue;
            }
            match self.staging.found(&next) {
                Found::Directory => {}
                Found::Nothing if next.starts_with(top) => self.make_directory(&next)?,
                Found::Nothing => {}
                Found::Other => {
                    return Err(bad(archive, format!("{next} is not a directory")));
                }
            }
            place = next;
        }
        if place.starts_with(top) {
            Ok(place)
        } else {
            Err(bad(archive, format!("its directory {directory} leads out of the destination")))
        }
    }
}

fn bad(archive: &[u8], reason: String) -> EngineError {
    EngineError::BadArchive { name: String::from_utf8_lossy(archive).into_owned(), reason }
}
