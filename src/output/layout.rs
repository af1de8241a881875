//! OCI layouts, as a directory or as one tar file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::file::{Sink, beside, keep, write_whole};
use super::stored::Stored;
use super::{Destination, OutputError};
use crate::engine::Built;
use crate::image::{
    CONTAINERD_NAME, Descriptor, Digest, HashingReader, LAYOUT_MARKER, REF_NAME, Reference, layout_index,
};
use crate::layer::{Entry, EntryKind, LayerPath, TarWriter};
use crate::store::Store;

/// A blob of the layout: from memory, or from the store.
enum Blob {
    Bytes(Vec<u8>),
    Stored(u64),
}

/// All blobs of a result, by digest; equal ones once.
fn blobs(built: &Built) -> BTreeMap<Digest, Blob> {
    let mut blobs = BTreeMap::new();
    for image in &built.images {
        for layer in &image.layers {
            blobs.insert(layer.blob.descriptor.digest, Blob::Stored(layer.blob.descriptor.size));
        }
        blobs.insert(image.config_descriptor.digest, Blob::Bytes(image.config.clone()));
        blobs.insert(image.manifest.digest(), Blob::Bytes(image.manifest.bytes.clone()));
    }
    if let Some(index) = &built.index {
        blobs.insert(index.digest(), Blob::Bytes(index.bytes.clone()));
    }
    blobs
}

/// The entries of `index.json`: the result once for each name, or once without a name.
fn entries(built: &Built, names: &[Reference]) -> Vec<Descriptor> {
    let named = |name: &Reference| {
        let mut descriptor = built.descriptor();
        descriptor.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
        descriptor.annotations.insert(REF_NAME.to_owned(), name.tag().unwrap_or("latest").to_owned());
        descriptor
    };
    if names.is_empty() { vec![built.descriptor()] } else { names.iter().map(named).collect() }
}

/// Writes a layout into a directory. What is there under other names stays; `index.json` changes last.
pub(super) fn write_directory(
    store: &Store,
    built: &Built,
    names: &[Reference],
    directory: &Path,
) -> Result<(), OutputError> {
    let place = directory.join("blobs/sha256");
    fs::create_dir_all(&place).map_err(OutputError::at("create", &place))?;
    for (digest, blob) in blobs(built) {
        let path = place.join(digest.hex());
        match blob {
            Blob::Bytes(bytes) => write_whole(&path, &bytes)?,
            Blob::Stored(size) => {
                if holds(&path, &digest, size) {
                    continue;
                }
                let mut file = beside(&path).map_err(OutputError::at("write", &path))?;
                Stored::open(store, &digest)?.copy_to(file.as_file_mut(), &path)?;
                keep(file, &path)?;
            }
        }
    }
    write_whole(&directory.join("oci-layout"), LAYOUT_MARKER)?;
    // Builds that add to one layout at a time wait for each other, or names would be lost.
    let whole = File::open(directory).map_err(OutputError::at("open", directory))?;
    flock(&whole, FlockOperation::LockExclusive)
        .map_err(|errno| OutputError::at("lock", directory)(errno.into()))?;
    let path = directory.join("index.json");
    let index = merged_index(&path, &entries(built, names))?;
    write_whole(&path, &index)
}

/// Whether a layout has a blob already, whoever wrote it. One that is damaged is written again.
fn holds(path: &Path, digest: &Digest, size: u64) -> bool {
    // Size and kind first: what is no file may keep its reader waiting.
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size) {
        return false;
    }
    let Ok(file) = File::open(path) else { return false };
    let mut reader = HashingReader::new(file);
    io::copy(&mut reader, &mut io::sink()).is_ok() && reader.finish().1 == *digest
}

/// The layout's `index.json` with the new entries in the place of those of the same name or digest.
fn merged_index(path: &Path, new: &[Descriptor]) -> Result<Vec<u8>, OutputError> {
    let old = match fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(OutputError::at("read", path)(error)),
    };
    let is_replaced = |old: &Value| {
        let name = old["annotations"][CONTAINERD_NAME].as_str();
        new.iter().any(|new| match (name, new.annotations.get(CONTAINERD_NAME)) {
            (None, None) => old["digest"] == json!(new.digest),
            (old, new) => old == new.map(String::as_str),
        })
    };
    layout_index(old.as_deref(), new, is_replaced).map_err(|reason| OutputError::Unsuitable {
        message: format!("`{}` is not the index of an OCI layout: {reason}", path.display()),
        hint: "name another folder, or remove this one".to_owned(),
    })
}

/// Writes a layout as one tar: sorted, dated 1970, owned by root.
pub(super) fn write_tar(
    store: &Store,
    built: &Built,
    names: &[Reference],
    destination: &Destination,
) -> Result<(), OutputError> {
    let mut tar = TarWriter::new(Sink::open(destination)?);
    for directory in ["blobs", "blobs/sha256"] {
        tar.append(&Entry::new(LayerPath::new(directory)?, EntryKind::Directory, 0o755), &mut io::empty())?;
    }
    for (digest, blob) in blobs(built) {
        let path = LayerPath::new(format!("blobs/sha256/{}", digest.hex()))?;
        match blob {
            Blob::Bytes(bytes) => append_bytes(&mut tar, path, &bytes)?,
            Blob::Stored(size) => Stored::open(store, &digest)?.append_to(&mut tar, path, size)?,
        }
    }
    let index = layout_index(None, &entries(built, names), |_| false).expect("there is no old index");
    append_bytes(&mut tar, LayerPath::new("index.json")?, &index)?;
    append_bytes(&mut tar, LayerPath::new("oci-layout")?, LAYOUT_MARKER)?;
    tar.finish()?.commit()
}

/// Appends a file from memory.
pub(super) fn append_bytes<W: io::Write>(
    tar: &mut TarWriter<W>,
    path: LayerPath,
    bytes: &[u8],
) -> Result<(), OutputError> {
    let entry = Entry::new(path, EntryKind::File { size: bytes.len() as u64 }, 0o644);
    let mut content: &[u8] = bytes;
    Ok(tar.append(&entry, &mut content as &mut dyn Read)?)
}
