//! [`advance`]: applies one more layer to a directory tree that holds the layers below it.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Timespec, Timestamps, UTIME_OMIT};

use crate::image::Ownership;

use super::build::Builder;
use super::content::{Change, in_order};
use super::dir_writer::DirWriter;
use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::index::{LayerIndex, Shape};
use super::path::LayerPath;

/// Brings `root`, a tree written by [`super::materialise`] under the same `ownership`, from a stack
/// of layers to the same stack with a layer of these changes on top.
///
/// A directory that only has something of the layer in it keeps its metadata, its time included.
/// Links in the tree are never followed. Gives back paths as [`super::materialise`] does.
///
/// # Errors
///
/// Fails as [`super::write_directory`] does, and for a hard link to a file of a lower layer that this
/// layer replaces or deletes. The tree is of no use after a failure: make a new one.
pub fn advance(root: &Path, changes: &[Change], ownership: Ownership) -> Result<Vec<LayerPath>, LayerError> {
    let mut builder = Builder::new();
    let mut files = Vec::new();
    for change in in_order(changes)? {
        if let Some(entry) = builder.place(change.entry.clone())?
            && !entry.is_directory()
        {
            files.push((entry, &change.content));
        }
    }
    let index = builder.finish()?;
    for (link, _) in &files {
        refuse_lost_target(&index, link)?;
    }
    let mut writer = DirWriter::new(root, ownership)?.over_others();
    let stood = clear_way(&mut writer, &index)?;
    for (entry, content) in &files {
        if let EntryKind::HardLink { target } = &entry.kind {
            let found = writer.stat(target)?.map(|stat| FileType::from_raw_mode(stat.st_mode));
            if found != Some(FileType::RegularFile) {
                return Err(LayerError::refused(&entry.path, "the file it links to does not exist"));
            }
        }
        writer.write_content(entry, content)?;
    }
    for slot in index.slots().iter().rev().filter(|slot| slot.is_directory()) {
        let times = stood.get(&slot.path);
        match (&slot.shape, times) {
            (Shape::Real(entry), _) => writer.describe_directory(entry, times.is_some())?,
            (_, Some(times)) if !slot.opaque => {
                writer.stat(&slot.path)?;
                let name = slot.path.file_name().unwrap_or(b".");
                rustix::fs::utimensat(writer.at(), name, times, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|error| LayerError::io("set the time of", &slot.path, error))?;
            }
            _ => {
                let implicit = Entry::new(slot.path.clone(), EntryKind::Directory, 0o755);
                writer.describe_directory(&implicit, times.is_some())?;
            }
        }
    }
    Ok(writer.into_unwritten())
}

/// Refuses a hard link to a file below that the layer itself hides: it is gone when the link is made.
fn refuse_lost_target(index: &LayerIndex, link: &Entry) -> Result<(), LayerError> {
    let EntryKind::HardLink { target } = &link.kind else { return Ok(()) };
    if index.holds_target(link) {
        return Ok(());
    }
    let hides = |path: &LayerPath| {
        index.find(path.as_bytes()).is_some_and(|at| {
            let slot = index.slot(at);
            slot.opaque || !slot.is_directory()
        })
    };
    match target.ancestors().chain([target.clone()]).any(|path| hides(&path)) {
        true => Err(LayerError::refused(&link.path, "the same layer deletes the file it links to")),
        false => Ok(()),
    }
}

/// Removes what the layer deletes and makes its directories; gives the times of those that stood.
fn clear_way(
    writer: &mut DirWriter,
    index: &LayerIndex,
) -> Result<HashMap<LayerPath, Timestamps>, LayerError> {
    let mut stood = HashMap::new();
    for slot in index.slots() {
        if !slot.is_directory() && slot.shape != Shape::Deleted {
            continue;
        }
        let stat = writer.stat(&slot.path)?;
        let is_directory =
            stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if let Some(stat) = stat
            && is_directory
            && slot.is_directory()
        {
            let mtime = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
            let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            stood.insert(slot.path.clone(), Timestamps { last_access: omit, last_modification: mtime });
            if slot.opaque {
                writer.clear(&slot.path)?;
            }
            continue;
        }
        if stat.is_some() {
            writer.remove(&slot.path, slot.path.file_name().unwrap_or_default())?;
        }
        if slot.is_directory() {
            let directory = Entry::new(slot.path.clone(), EntryKind::Directory, 0o700);
            writer.write(&directory, &mut io::empty())?;
        }
    }
    Ok(stood)
}
