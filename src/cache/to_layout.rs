//! Records into OCI layouts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use futures::{StreamExt, stream};
use rustix::fs::OFlags;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::task::{block_in_place, spawn_blocking};

use super::codec::{self, ARTIFACT_TYPE, EMPTY};
use super::export::{Brought, Exported, keys_of};
use super::{CacheError, Entry, from_layout};
use crate::image::{
    Descriptor, Digest, HashingReader, LAYOUT_MARKER, Origin, REF_NAME, RawManifest, Sha256, layout_index,
};
use crate::progress::{Progress, TransferEnd, TransferKind, human};
use crate::registry::Client;
use crate::source::Layout;
use crate::store::Store;

/// Layers that are read at the same time.
const PARALLEL: usize = 4;

/// A record that the layout does not have under these keys: none, where it is known and only its layer is
/// not there.
struct Pending<'a> {
    entry: &'a Entry,
    manifest: RawManifest,
    keys: Vec<Digest>,
}

/// Writes what the layout does not have. Its index changes last, and what others wrote into it stays.
pub(super) async fn write(
    directory: &Path,
    entries: &[Entry],
    store: &Store,
    client: &Client,
    progress: &Progress,
    exported: &mut Exported,
) -> Result<(), CacheError> {
    let mut failed = None;
    let mut layers = whole_layers(directory, entries).await;
    let present = layers.clone();
    let pending = block_in_place(|| begin(directory, entries, &layers, exported, &mut failed))?;
    let (mut counted, mut written) = (BTreeSet::new(), BTreeMap::new());
    for one in pending {
        let layer = one.entry.blob.descriptor.digest;
        let is_known = one.keys.is_empty();
        if !layers.contains(&layer) {
            match bring(directory, one.entry, store, client, progress).await {
                Ok(()) => exported.count(Brought::Sent),
                Err(error) if is_known && error.is_of_one_record() => {
                    exported.lost += 1;
                    continue;
                }
                Err(error) if error.is_of_one_record() => {
                    failed.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            }
            layers.insert(layer);
        } else if present.contains(&layer) && counted.insert(layer) {
            exported.count(Brought::Present);
        }
        if is_known {
            exported.known += 1;
            continue;
        }
        block_in_place(|| keep_small(directory, &one.manifest.bytes))?;
        let descriptor = one.manifest.descriptor();
        written.extend(one.keys.iter().map(|key| (*key, descriptor.clone())));
        exported.written += 1;
    }
    if !written.is_empty() {
        block_in_place(|| finish(directory, &written)).inspect_err(|_| exported.written = 0)?;
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The layers that are there, and are what they should be: a damaged one is there in name only.
async fn whole_layers(directory: &Path, entries: &[Entry]) -> BTreeSet<Digest> {
    let layers: BTreeMap<Digest, u64> =
        entries.iter().map(|entry| &entry.blob.descriptor).map(|layer| (layer.digest, layer.size)).collect();
    let read = |(digest, size)| {
        let path = blob_path(directory, &digest);
        async move {
            let whole = spawn_blocking(move || is_whole(&path, &digest, size)).await;
            whole.unwrap_or(false).then_some(digest)
        }
    };
    let read = stream::iter(layers).map(read).buffer_unordered(PARALLEL);
    read.filter_map(|whole| async move { whole }).collect().await
}

/// Whether a file has this content. It is read as a whole where it can be.
fn is_whole(path: &Path, digest: &Digest, size: u64) -> bool {
    // A link is nobody's blob, and a FIFO must not block.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let Ok(file) = File::options().read(true).custom_flags(flags).open(path) else { return false };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == size) {
        return false;
    }
    let mut reader = HashingReader::new(file);
    let is_read = io::copy(&mut reader, &mut io::sink()).is_ok();
    let (_, found, length) = reader.finish();
    is_read && found == *digest && length == size
}

/// Makes the directories, and finds out which records and layers are not there.
fn begin<'a>(
    directory: &Path,
    entries: &'a [Entry],
    whole: &BTreeSet<Digest>,
    exported: &mut Exported,
    failed: &mut Option<CacheError>,
) -> Result<Vec<Pending<'a>>, CacheError> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(CacheError::at("create", &blobs))?;
    let index = directory.join("index.json");
    let marker = directory.join("oci-layout");
    if !marker.exists() {
        write_whole(directory, &marker, LAYOUT_MARKER)?;
    }
    let layout = if index.exists() { Some(Layout::open(directory)?) } else { None };
    let known = layout.as_ref().map(from_layout::keys).unwrap_or_default();
    let has = |entry: &Entry, key: &Digest| {
        let (Some(layout), Some(descriptor)) = (&layout, known.get(key)) else { return false };
        from_layout::read(layout, descriptor, key).is_ok_and(|known| known.is_of(entry))
    };
    let mut pending = Vec::new();
    for entry in entries {
        let (manifest, keys) = match codec::encode(entry).and_then(|it| Ok((it, keys_of(entry)?))) {
            Ok(encoded) => encoded,
            Err(error) => {
                failed.get_or_insert(error);
                continue;
            }
        };
        let keys: Vec<Digest> = keys.into_iter().filter(|key| !has(entry, key)).collect();
        if keys.is_empty() && whole.contains(&entry.blob.descriptor.digest) {
            exported.known += 1;
        } else {
            pending.push(Pending { entry, manifest, keys });
        }
    }
    if !pending.iter().all(|one: &Pending<'_>| one.keys.is_empty()) {
        keep_small(directory, EMPTY)?;
    }
    Ok(pending)
}

fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

/// Brings a layer's blob, from the store or from where it is, in the place of whatever has its name.
async fn bring(
    directory: &Path,
    entry: &Entry,
    store: &Store,
    client: &Client,
    progress: &Progress,
) -> Result<(), CacheError> {
    let descriptor = &entry.blob.descriptor;
    let path = blob_path(directory, &descriptor.digest);
    let file = block_in_place(|| beside(directory, &path))?;
    if store.has_blob(descriptor) {
        block_in_place(|| copy(store, descriptor, file.as_file(), &path))?;
    } else {
        match &entry.origin {
            Some(Origin::Registry(repository)) => {
                let digest = descriptor.digest.to_string();
                let transfer = progress.transfer(
                    TransferKind::Pull,
                    human::short_digest(&digest),
                    repository.registry(),
                    Some(descriptor.size),
                );
                let reached = |bytes: u64| transfer.reached(bytes);
                client.pull_blob(repository, descriptor, file.path(), &reached).await?;
                transfer.finish(TransferEnd::Transferred);
            }
            Some(Origin::Layout(layout)) => {
                block_in_place(|| Layout::open(layout)?.copy_blob(descriptor, file.path()))?;
            }
            None => return Err(CacheError::Missing(descriptor.digest)),
        }
    }
    block_in_place(|| keep(file, &path))
}

/// Copies a blob out of the store; a cache must not spread what is damaged here.
fn copy(store: &Store, descriptor: &Descriptor, mut to: &File, path: &Path) -> Result<(), CacheError> {
    let source = store.blob_path(&descriptor.digest);
    let mut from = File::open(&source).map_err(CacheError::at("read", &source))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                to.write_all(&buffer[..count]).map_err(CacheError::at("write", path))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CacheError::at("read", &source)(error)),
        }
    }
    if hasher.finish() == descriptor.digest {
        return Ok(());
    }
    store.drop_blob(&descriptor.digest);
    Err(CacheError::Damaged(descriptor.digest))
}

/// Adds the records to the index. Whoever else writes into the layout meanwhile waits, or is waited for.
fn finish(directory: &Path, records: &BTreeMap<Digest, Descriptor>) -> Result<(), CacheError> {
    let whole = File::open(directory).map_err(CacheError::at("open", directory))?;
    loop {
        match flock(&whole, FlockOperation::LockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(CacheError::at("lock", directory)(errno.into())),
        }
    }
    let path = directory.join("index.json");
    let index = merged(&path, records)?;
    write_whole(directory, &path, &index)
}

/// The index with the entries of these records in the place of those of the same keys.
fn merged(path: &Path, records: &BTreeMap<Digest, Descriptor>) -> Result<Vec<u8>, CacheError> {
    let old = match fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(CacheError::at("read", path)(error)),
    };
    let names: BTreeSet<String> = records.keys().map(Digest::hex).collect();
    let is_replaced = |entry: &Value| {
        let name = entry["annotations"][REF_NAME].as_str();
        entry["artifactType"] == ARTIFACT_TYPE && name.is_some_and(|name| names.contains(name))
    };
    let entry = |(key, descriptor): (&Digest, &Descriptor)| {
        let mut entry = descriptor.clone();
        entry.artifact_type = Some(ARTIFACT_TYPE.to_owned());
        entry.annotations.insert(REF_NAME.to_owned(), key.hex());
        entry
    };
    let new: Vec<Descriptor> = records.iter().map(entry).collect();
    layout_index(old.as_deref(), &new, is_replaced)
        .map_err(|reason| CacheError::NoIndex { path: path.to_owned(), reason })
}

fn keep_small(directory: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let digest = Digest::of(bytes);
    let path = blob_path(directory, &digest);
    if fs::read(&path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    write_whole(directory, &path, bytes)
}

/// Writes a file that appears whole or not at all.
fn write_whole(directory: &Path, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let mut file = beside(directory, path)?;
    file.write_all(bytes).map_err(CacheError::at("write", path))?;
    keep(file, path)
}

/// A file of the layout on its way to its name, with the rights that new files have.
fn beside(directory: &Path, path: &Path) -> Result<NamedTempFile, CacheError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".fanfold-").suffix(".tmp").permissions(Permissions::from_mode(0o666));
    builder.tempfile_in(directory).map_err(CacheError::at("write", path))
}

fn keep(file: NamedTempFile, path: &Path) -> Result<(), CacheError> {
    match file.persist(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(CacheError::at("write", path)(error.error)),
    }
}
