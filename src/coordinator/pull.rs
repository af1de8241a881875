//! Brings a base's layers into the store.

use std::sync::Arc;

use futures::future::try_join_all;
use tokio::task::spawn_blocking;

use super::BuildError;
use super::remotes::explain;
use crate::engine::{Engine, Layer};
use crate::image::Descriptor;
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
    let pairs = image.layers.iter().zip(&image.config.diff_ids);
    pairs
        .map(|(descriptor, diff_id)| {
            Layer::of_base(BlobRecord { diff_id: *diff_id, descriptor: descriptor.clone() })
        })
        .collect()
}

/// Pulls what is missing and makes the wanted form of every layer, all layers at the same time.
/// True where there was nothing to do.
pub(super) async fn pull(
    client: &Client,
    engine: &Arc<Engine>,
    progress: &Progress,
    image: &ResolvedImage,
    form: Form,
) -> Result<bool, BuildError> {
    let name = &image.name;
    let layers = layers(image).into_iter().map(|layer| async move {
        let Some(base) = layer.base.clone() else { return Ok(true) };
        let unpacked = form == Form::Directory
            && engine.store().layer_directory(&layer.id, engine.ownership()).is_some();
        let was_here = pull_blob(client, engine, progress, name, &base.descriptor).await?;
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

/// Pulls one blob, once for all builds that want it. True where it was here already.
async fn pull_blob(
    client: &Client,
    engine: &Engine,
    progress: &Progress,
    name: &ImageName,
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
    let repository = match name {
        ImageName::Registry(reference) => reference.repository(),
        ImageName::Layout(text) => {
            copy_blob(engine, text, descriptor)?;
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
fn copy_blob(engine: &Engine, layout: &str, descriptor: &Descriptor) -> Result<(), BuildError> {
    let store = engine.store();
    let scratch = store.scratch_dir()?;
    let file = scratch.path().join("blob");
    let copy = || {
        let (path, _) = Selector::split(layout)?;
        Layout::open(&path)?.copy_blob(descriptor, &file)
    };
    tokio::task::block_in_place(copy).map_err(|error| explain(error, layout))?;
    Ok(store.adopt_blob(&file, &descriptor.digest)?)
}

/// Waits for a lock on a thread that may wait.
async fn lock(engine: &Engine, descriptor: &Descriptor) -> Result<Lock, BuildError> {
    let store = Arc::clone(engine.store());
    let digest = descriptor.digest;
    let lock = spawn_blocking(move || store.lock(&digest)).await.expect("waiting does not panic");
    Ok(lock?)
}
