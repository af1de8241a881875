//! The archive that `docker load` takes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde_json::json;

use super::file::Sink;
use super::layout::append_bytes;
use super::stored::{Stored, copy};
use super::{Destination, OutputError};
use crate::engine::{Built, EngineError};
use crate::image::media_type::layer_encoding;
use crate::image::{DiffId, HashingWriter, Reference};
use crate::layer::{Entry, EntryKind, LayerError, LayerPath, Limits, TarWriter, decoder};
use crate::store::{BlobRecord, Store};

/// Writes the only image of a result: config, uncompressed layers, and the manifest that names them.
pub(super) fn write(
    store: &Store,
    built: &Built,
    names: &[Reference],
    destination: &Destination,
) -> Result<(), OutputError> {
    let [image] = built.images.as_slice() else {
        return Err(OutputError::Unsuitable {
            message: format!("a docker archive holds one platform, and {} were built", built.images.len()),
            hint: "use type=oci, which holds all of them, or build one --platform".to_owned(),
        });
    };
    let scratch = store.scratch_dir().map_err(EngineError::from)?;
    let mut tar = TarWriter::new(Sink::open(destination)?);
    let config_name = format!("{}.json", image.config_descriptor.digest.hex());
    append_bytes(&mut tar, LayerPath::new(&config_name)?, &image.config)?;
    let mut written = BTreeSet::new();
    let mut layer_names = Vec::new();
    for layer in &image.layers {
        let name = format!("{}.tar", layer.blob.diff_id.0.hex());
        if written.insert(layer.blob.diff_id) {
            // The size stands before the content in a tar, and only unpacking tells it.
            let path = scratch.path().join(&name);
            let size = unpack(store, &layer.blob, &path)?;
            let mut spool = File::open(&path).map_err(OutputError::at("read", &path))?;
            tar.append(&Entry::new(LayerPath::new(&name)?, EntryKind::File { size }, 0o644), &mut spool)?;
            drop(std::fs::remove_file(&path));
        }
        layer_names.push(name);
    }
    let tags: Vec<_> = names.iter().map(familiar).collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": tags, "Layers": layer_names }]);
    let manifest = serde_json::to_vec(&manifest).expect("JSON values can be written");
    append_bytes(&mut tar, LayerPath::new("manifest.json")?, &manifest)?;
    tar.finish()?.commit()
}

/// Writes the uncompressed tar of a layer to a file, if it is the layer that it should be. Gives its size.
fn unpack(store: &Store, layer: &BlobRecord, path: &Path) -> Result<u64, OutputError> {
    let descriptor = &layer.descriptor;
    let encoding = layer_encoding(&descriptor.media_type).ok_or_else(|| OutputError::Unsuitable {
        message: format!("layers of type `{}` cannot be unpacked", descriptor.media_type),
        hint: "use type=oci".to_owned(),
    })?;
    let blob = File::open(store.blob_path(&descriptor.digest))
        .map_err(|error| OutputError::damaged(&descriptor.digest, format!("it cannot be opened: {error}")))?;
    let file = File::create(path).map_err(OutputError::at("write", path))?;
    let mut spool = HashingWriter::new(file);
    let mut plain = decoder(BufReader::new(blob), encoding, &Limits::default())?;
    // Where the blob has the right digest, it was made wrong.
    let unreadable = |error| match Stored::check(store, &descriptor.digest) {
        Ok(()) => EngineError::BadLayer(LayerError::Stream(error)).into(),
        Err(damaged) => damaged,
    };
    copy(&mut plain, &mut spool, unreadable, OutputError::at("write", path))?;
    let (_, found, size) = spool.finish();
    if found != layer.diff_id.0 {
        Stored::check(store, &descriptor.digest)?;
        let (expected, found) = (layer.diff_id, DiffId(found));
        return Err(EngineError::WrongDiffId { expected, found }.into());
    }
    Ok(size)
}

/// The short form of a name, which Docker shows and expects here: `busybox:1`, `a/b:1`.
fn familiar(name: &Reference) -> String {
    let full = name.to_string();
    let short = full.strip_prefix("docker.io/").map(|rest| rest.strip_prefix("library/").unwrap_or(rest));
    short.unwrap_or(&full).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn familiar_names() {
        for (name, want) in [("busybox", "busybox:latest"), ("a/b:1", "a/b:1"), ("r.io/a:1", "r.io/a:1")] {
            assert_eq!(familiar(&name.parse().unwrap()), want);
        }
    }
}
