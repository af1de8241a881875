//! Whether the forms of a layer say the same: its index, its directories, its blobs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode as FileMode, OFlags};

use super::survey::LayerFacts;
use super::verify::Finding;
use super::{BlobRecord, Store};
use crate::image::media_type::layer_encoding;
use crate::image::{DiffId, Digest};
use crate::layer::{
    Change, Content, EntryKind, Halt, LayerError, LayerIndex, LayerPath, Limits, Mode, decoder, diff_id,
    read_tar, verify_diff_id,
};

/// Files are read in pieces of this size.
const PIECE: usize = 64 << 10;

/// What is known of a directory.
enum Verdict {
    Whole,
    Damaged(String),
    Unknown(String),
}

impl Store {
    /// Reads all forms of a layer.
    pub(super) fn verify_layer(&self, id: &Digest, facts: &LayerFacts) -> Vec<Finding> {
        let Some(place) = &facts.place else { return Vec::new() };
        let (mut found, mut good) = (Vec::new(), Vec::new());
        for blob in &facts.blobs {
            // Of damaged bytes is told where they are found as a blob.
            match self.verify_contents(blob) {
                Some(Ok(())) => good.push(blob),
                Some(Err(finding)) => found.push(finding),
                None => {}
            }
        }
        let directories = directories(place);
        let path = place.join("index");
        let index = match fs::read(&path) {
            Ok(bytes) => match LayerIndex::decode(&bytes) {
                Ok(index) => index,
                Err(error) => {
                    found.push(Finding::Damaged { kind: "index", path, reason: described(&error) });
                    return found;
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let reason = "it shows several layers at once, and has no digest".to_owned();
                let unknown = |path| Finding::Unknown { path, reason: reason.clone() };
                found.extend(directories.into_iter().map(unknown));
                return found;
            }
            Err(error) => {
                found.push(Finding::Unknown { path, reason: format!("cannot be read: {error}") });
                return found;
            }
        };
        let made_here = !facts.steps.is_empty();
        let expected = facts.blobs.first().map_or(DiffId(*id), |blob| blob.diff_id);
        for path in directories {
            match self.verify_directory(&path, &index, expected, made_here, &good) {
                Verdict::Whole => {}
                Verdict::Damaged(reason) => found.push(Finding::Damaged { kind: "directory", path, reason }),
                Verdict::Unknown(reason) => found.push(Finding::Unknown { path, reason }),
            }
        }
        found
    }

    /// Whether a blob, decompressed, is the layer that it is said to be; `None` where it is not here, or not
    /// the right bytes.
    fn verify_contents(&self, blob: &BlobRecord) -> Option<Result<(), Finding>> {
        let path = self.blob_path(&blob.descriptor.digest);
        let encoding = layer_encoding(&blob.descriptor.media_type)?;
        let file = File::open(&path).ok()?;
        match verify_diff_id(file, encoding) {
            Ok(found) if found == blob.diff_id => Some(Ok(())),
            // Where the bytes are damaged, that is said of the blob. Else the image lies.
            Ok(found) if is_right(&path, &blob.descriptor.digest) => {
                let reason = format!("it holds the layer {}, and should hold {}", found.0, blob.diff_id.0);
                Some(Err(Finding::Damaged { kind: "blob", path, reason }))
            }
            _ => None,
        }
    }

    /// Whether a directory has the files of its layer. Their digest is known where the layer was made by
    /// fanfold: its tar can be written again. The tars of others can only be compared with.
    fn verify_directory(
        &self,
        directory: &Path,
        index: &LayerIndex,
        expected: DiffId,
        made_here: bool,
        blobs: &[&BlobRecord],
    ) -> Verdict {
        let blob = blobs.first();
        if let Some(blob) = blob.filter(|_| !made_here) {
            return self.compare(directory, index, blob).unwrap_or_else(|error| judged(&error));
        }
        let written =
            open(directory).and_then(|root| diff_id(&changes(index, &root), None, &Halt::default()));
        match (written, blob) {
            (Ok(found), _) if found == expected => Verdict::Whole,
            (Err(error), None) => judged(&error),
            (_, Some(blob)) => self.compare(directory, index, blob).unwrap_or_else(|error| judged(&error)),
            (Ok(found), None) if made_here => Verdict::Damaged(format!("its files hash to {}", found.0)),
            (Ok(_), None) => Verdict::Unknown("its blob is not here to compare it with".to_owned()),
        }
    }

    /// Compares the files of a directory with those in a blob.
    fn compare(
        &self,
        directory: &Path,
        index: &LayerIndex,
        blob: &BlobRecord,
    ) -> Result<Verdict, LayerError> {
        let root = open(directory)?;
        let path = self.blob_path(&blob.descriptor.digest);
        let Some(encoding) = layer_encoding(&blob.descriptor.media_type) else {
            return Ok(Verdict::Unknown(format!("{} is no known kind of layer", blob.descriptor.media_type)));
        };
        let file = File::open(&path).map_err(LayerError::Stream)?;
        let plain = decoder(BufReader::with_capacity(PIECE, file), encoding, &Limits::default())?;
        // Where a path stands twice, the second file is the layer's.
        let mut differ: BTreeMap<LayerPath, bool> = BTreeMap::new();
        read_tar(plain, Mode::Layer, &mut |entry, content| {
            let is_kept =
                index.get(&entry.path).is_some_and(|kept| kept.is_file() && kept.kind == entry.kind);
            if entry.is_file() && is_kept {
                let own = content_of(&root, &entry.path);
                let is_same = match own.open() {
                    Ok(mut own) => is_same(&mut own, content).map_err(LayerError::Stream)?,
                    Err(error) if is_denied(&error) => return Err(error),
                    Err(_) => false,
                };
                differ.insert(entry.path, !is_same);
            }
            Ok(())
        })?;
        let first = differ.into_iter().find(|(_, differs)| *differs);
        Ok(first.map_or(Verdict::Whole, |(path, _)| {
            Verdict::Damaged(format!("{path} is not what the layer's blob has"))
        }))
    }
}

/// The forms of a layer that are directories.
fn directories(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

fn open(directory: &Path) -> Result<Arc<OwnedFd>, LayerError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, FileMode::empty());
    root.map(Arc::new).map_err(|errno| LayerError::Stream(errno.into()))
}

fn changes(index: &LayerIndex, root: &Arc<OwnedFd>) -> Vec<Change> {
    let change = |entry: crate::layer::Entry| {
        let content = match entry.kind {
            EntryKind::File { .. } => content_of(root, &entry.path),
            _ => Content::Empty,
        };
        Change { entry, content }
    };
    index.entries().map(change).collect()
}

fn content_of(root: &Arc<OwnedFd>, path: &LayerPath) -> Content {
    Content::Beneath { root: Arc::clone(root), path: path.as_os_path().to_owned() }
}

fn is_same(one: &mut dyn Read, other: &mut dyn Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let count = fill(one, &mut left)?;
        if fill(other, &mut right)? != count || left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or nothing is left.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn is_right(path: &Path, digest: &Digest) -> bool {
    let read = || -> io::Result<Digest> {
        let mut reader = crate::image::HashingReader::new(File::open(path)?);
        io::copy(&mut reader, &mut io::sink())?;
        Ok(reader.finish().1)
    };
    read().is_ok_and(|found| found == *digest)
}

/// What a failure to read a directory says of it.
fn judged(error: &LayerError) -> Verdict {
    if is_denied(error) {
        return Verdict::Unknown(format!("cannot be read by this user: {}", described(error)));
    }
    Verdict::Damaged(described(error))
}

fn is_denied(error: &LayerError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if io == Some(io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn described(error: &LayerError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
