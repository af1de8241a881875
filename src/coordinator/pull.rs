//! Brings layers of images and remote caches into the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::try_join_all;
use tokio::task::spawn_blocking;

use super::BuildError;
use super::remotes::explain;
use crate::engine::{Elsewhere, Engine, Layer};
use crate::image::{Descriptor, Origin};
use crate::plan::{ImageName, ResolvedImage};
use crate::progress::{Progress, TransferEnd, TransferKind, human};
use crate::registry::Client;
use crate::source::{Layout, Selector};
use crate::store::{BlobRecord, Lock};

/// What is to be made of a base's layers once they are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing.
    Blob,
    /// The list of their files.
    Index,
    /// Directories for an overlay.
    Directory,
}

/// The layers of an image, not necessarily in the store yet.
pub(super) fn layers(image: &ResolvedImage) -> Vec<Layer> {
    let origin = match &image.name {
        ImageName::Registry(reference) => Origin::Registry(reference.repository().clone()),
        ImageName::Layout(text) => Origin::Layout(layout_path(text)),
    };
    let pairs = image.layers.iter().zip(&image.config.diff_ids);
    pairs
        .map(|(descriptor, diff_id)| {
            let blob = BlobRecord { diff_id: *diff_id, descriptor: descriptor.clone() };
            Layer::from_elsewhere(blob, origin.clone())
        })
        .collect()
}

/// The path of a layout that was opened by this name before.
fn layout_path(text: &str) -> PathBuf {
    Selector::split(text).map_or_else(|_| PathBuf::from(text), |(path, _)| path)
}

/// Fetches what is missing of these layers and makes the wanted form of each, all at the same time.
/// True where there was nothing to do.
pub(super) async fn fetch(
    client: &Client,
    engine: &Arc<Engine>,
    progress: &Progress,
    layers: Vec<Layer>,
    form: Form,
) -> Result<bool, BuildError> {
    let layers = layers.into_iter().map(|layer| async move {
        let Some(Elsewhere { blob, origin }) = layer.elsewhere.clone() else { return Ok(true) };
        let unpacked = form == Form::Directory
            && engine.store().layer_directory(&layer.id, engine.ownership()).is_some();
        let was_here = fetch_blob(client, engine, progress, &origin, &blob.descriptor).await?;
        if form != Form::Blob {
            let engine = Arc::clone(engine);
            spawn_blocking(move || match form {
                Form::Directory => engine.directory(&layer).map(drop),
                _ => engine.prepare_index(&layer),
            })
            .await
            .expect("unpacking does not panic")?;
        }
        Ok::<_, BuildError>(was_here && (form != Form::Directory || unpacked))
    });
    Ok(try_join_all(layers).await?.into_iter().all(|was_here| was_here))
}

/// Fetches one blob, once for all builds that want it. True where it was here already.
async fn fetch_blob(
    client: &Client,
    engine: &Engine,
    progress: &Progress,
    origin: &Origin,
    descriptor: &Descriptor,
) -> Result<bool, BuildError> {
    let store = Arc::clone(engine.store());
    if store.has_blob(descriptor) {
        return Ok(true);
    }
    let _lock = lock(engine, descriptor).await?;
    if store.has_blob(descriptor) {
        return Ok(true);
    }
    let repository = match origin {
        Origin::Registry(repository) => repository,
        Origin::Layout(path) => {
            copy_blob(engine, path, descriptor)?;
            return Ok(false);
        }
    };
    let digest = descriptor.digest.to_string();
    let transfer = progress.transfer(
        TransferKind::Pull,
        human::short_digest(&digest),
        repository.registry(),
        Some(descriptor.size),
    );
    let scratch = store.scratch_dir()?;
    let file = scratch.path().join("blob");
    client.pull_blob(repository, descriptor, &file, &|bytes| transfer.reached(bytes)).await?;
    store.adopt_blob(&file, &descriptor.digest)?;
    transfer.finish(TransferEnd::Transferred);
    Ok(false)
}

/// Copies one blob out of an OCI layout.
fn copy_blob(engine: &Engine, layout: &Path, descriptor: &Descriptor) -> Result<(), BuildError> {
    let store = engine.store();
    let scratch = store.scratch_dir()?;
    let file = scratch.path().join("blob");
    let copy = || Layout::open(layout)?.copy_blob(descriptor, &file);
    tokio::task::block_in_place(copy).map_err(|error| explain(error, &layout.display().to_string()))?;
    Ok(store.adopt_blob(&file, &descriptor.digest)?)
}

/// Waits for a lock on a thread that may wait.
async fn lock(engine: &Engine, descriptor: &Descriptor) -> Result<Lock, BuildError> {
    let store = Arc::clone(engine.store());
    let digest = descriptor.digest;
    let lock = spawn_blocking(move || store.lock(&digest)).await.expect("waiting does not panic");
    Ok(lock?)
}
