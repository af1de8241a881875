//! Brings layers of images and remote caches into the store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use futures::future::try_join_all;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::BuildError;
use super::arriving::{Arriving, Verdict};
use super::remotes::explain;
use crate::engine::{Elsewhere, Engine, EngineError, Layer};
use crate::image::{Descriptor, Origin, Repository};
use crate::layer::LayerError;
use crate::plan::{ImageName, ResolvedImage};
use crate::progress::{Progress, TransferEnd, TransferKind, human};
use crate::registry::{Client, Follow, Follower};
use crate::source::{Layout, Selector};
use crate::store::{BlobRecord, Lock, ScratchDir};

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

/// Layers that are fetched at a time, from all registries: the bound on files and threads. How many
/// connections one registry gets is the client's to decide.
static FETCHES: Semaphore = Semaphore::const_new(16);
/// Layers that are unpacked at a time while they arrive. Each has threads enough to keep two cores busy.
static ARRIVALS: LazyLock<Semaphore> = LazyLock::new(one_for_each_core);
/// Layers that are unpacked at a time out of blobs in the store. Apart from the others: these wait for a
/// layer's lock, which may be held by one who waits for room to unpack what arrives.
static STORED: LazyLock<Semaphore> = LazyLock::new(one_for_each_core);

fn one_for_each_core() -> Semaphore {
    Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))
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
        let Some(elsewhere) = layer.elsewhere.clone() else { return Ok(true) };
        Fetch { client, engine, progress, layer, elsewhere, form }.carry_out().await
    });
    Ok(try_join_all(layers).await?.into_iter().all(|was_here| was_here))
}

/// Makes sure that blobs of results of remote caches hold the layers that their records promise, where they
/// are here. Layers whose blobs are elsewhere are nothing to check.
pub(super) async fn check(engine: &Arc<Engine>, layers: &[Layer]) -> Result<(), BuildError> {
    for layer in layers {
        let Some(elsewhere) = &layer.elsewhere else { continue };
        if !engine.store().has_blob(&elsewhere.blob.descriptor) {
            continue;
        }
        let _room = STORED.acquire().await.expect("the semaphore is never closed");
        let (engine, layer) = (Arc::clone(engine), layer.clone());
        let checked = blocking(move || engine.check_blob(&layer)).await;
        checked.map_err(|error| explain_layer(elsewhere, error))?;
    }
    Ok(())
}

/// One layer that is brought into the store.
struct Fetch<'a> {
    client: &'a Client,
    engine: &'a Arc<Engine>,
    progress: &'a Progress,
    layer: Layer,
    elsewhere: Elsewhere,
    form: Form,
}

/// What nobody else may touch, or remove, while a layer is fetched: held by all that work on it, also by
/// a thread that has not noticed yet that its work is for nothing.
#[derive(Debug)]
struct Held {
    scratch: ScratchDir,
    _locks: Vec<Lock>,
}

impl Fetch<'_> {
    /// True where there was nothing to do.
    async fn carry_out(self) -> Result<bool, BuildError> {
        if self.is_here() {
            return Ok(true);
        }
        let had_blob = self.has_blob();
        if !had_blob {
            // Before the locks: who holds one never waits for this.
            let _room = FETCHES.acquire().await.expect("the semaphore is never closed");
            let locks = self.lock().await?;
            if self.is_here() {
                return Ok(true);
            }
            if !self.has_blob() {
                let held = Arc::new(Held { scratch: self.engine.store().scratch_dir()?, _locks: locks });
                match &self.elsewhere.origin {
                    Origin::Registry(repository) => {
                        self.pull(repository, &held).await?;
                        return Ok(false);
                    }
                    Origin::Layout(path) => self.copy(path, &held)?,
                }
            }
        }
        // The blob is here.
        match self.form {
            Form::Blob => Ok(had_blob),
            Form::Index | Form::Directory => {
                self.unpack_stored().await?;
                Ok(had_blob && self.form == Form::Index)
            }
        }
    }

    fn descriptor(&self) -> &Descriptor {
        &self.elsewhere.blob.descriptor
    }

    fn has_blob(&self) -> bool {
        self.engine.store().has_blob(self.descriptor())
    }

    /// Whether what is wanted is in the store. An index serves only together with the blob.
    fn is_here(&self) -> bool {
        let store = self.engine.store();
        match self.form {
            Form::Blob => self.has_blob(),
            Form::Index => false,
            Form::Directory => {
                store.layer_directory(&self.layer.id, self.engine.ownership()).is_some()
                    && (self.has_blob() || store.layer_index(&self.layer.id).is_some())
            }
        }
    }

    /// Waits for the locks of the blob and of the layer, on a thread that may wait.
    ///
    /// Both names come from a manifest that nobody has verified: they are taken in one order everywhere,
    /// or two layers that name each other would wait forever.
    async fn lock(&self) -> Result<Vec<Lock>, BuildError> {
        let engine = Arc::clone(self.engine);
        let names = BTreeSet::from([self.descriptor().digest, *self.layer.id.digest()]);
        let lock_all = move || names.iter().map(|name| engine.lock(name)).collect::<Result<_, _>>();
        Ok(blocking(lock_all).await?)
    }

    /// Fetches the blob, and unpacks it while it arrives.
    async fn pull(&self, repository: &Repository, held: &Arc<Held>) -> Result<(), BuildError> {
        let descriptor = self.descriptor();
        let digest = descriptor.digest.to_string();
        let (short, host) = (human::short_digest(&digest), repository.registry());
        let transfer = self.progress.transfer(TransferKind::Pull, short, host, Some(descriptor.size));
        let file = held.scratch.path().join("blob");
        let follow = Follow::new();
        let pulling = async {
            let told = |bytes| transfer.reached(bytes);
            Ok(self.client.pull_followed(repository, descriptor, &file, &follow, &told).await?)
        };
        // Where one fails the other is given up; where the blob is at fault, the pull says so first.
        tokio::try_join!(pulling, self.unpack_arriving(Arriving::new(follow.follower(), &file), held))?;
        self.engine.store().adopt_blob(&file, &descriptor.digest)?;
        transfer.finish(TransferEnd::Transferred);
        Ok(())
    }

    async fn unpack_arriving(&self, blob: Arriving<Follower>, held: &Arc<Held>) -> Result<(), BuildError> {
        if self.form == Form::Blob {
            return Ok(());
        }
        // A layer that has not begun to arrive takes no other's place.
        let blob = blocking(move || blob.begun()).await;
        let room = ARRIVALS.acquire().await.expect("the semaphore is never closed");
        let (engine, layer, held) = (Arc::clone(self.engine), self.layer.clone(), Arc::clone(held));
        let directory = self.form == Form::Directory;
        let unpacked = blocking(move || {
            let _held = (held, room);
            unpack_along(&engine, &layer, blob, directory)
        });
        unpacked.await.map_err(|error| explain_layer(&self.elsewhere, error))
    }

    /// Makes the form out of a blob in the store.
    async fn unpack_stored(&self) -> Result<(), BuildError> {
        let room = STORED.acquire().await.expect("the semaphore is never closed");
        let (engine, layer, form) = (Arc::clone(self.engine), self.layer.clone(), self.form);
        let unpacked = blocking(move || {
            let _room = room;
            match form {
                Form::Directory => engine.directory(&layer).map(drop),
                Form::Index | Form::Blob => engine.prepare_index(&layer),
            }
        });
        unpacked.await.map_err(|error| explain_layer(&self.elsewhere, error))
    }

    /// Copies the blob out of an OCI layout.
    fn copy(&self, layout: &Path, held: &Held) -> Result<(), BuildError> {
        let file = held.scratch.path().join("blob");
        let copy = || Layout::open(layout)?.copy_blob(self.descriptor(), &file);
        tokio::task::block_in_place(copy).map_err(|error| explain(error, &layout.display().to_string()))?;
        Ok(self.engine.store().adopt_blob(&file, &self.descriptor().digest)?)
    }
}

/// Names the layer and where it comes from, where they are at fault.
fn explain_layer(elsewhere: &Elsewhere, error: EngineError) -> BuildError {
    let at_fault = match &error {
        EngineError::BadLayer(error) => !is_ours(error),
        EngineError::WrongDiffId { .. } | EngineError::UnknownLayerType(_) => true,
        _ => false,
    };
    let mut error = BuildError::from(error);
    if at_fault {
        let digest = elsewhere.blob.descriptor.digest;
        error.message = match &elsewhere.origin {
            Origin::Registry(repository) => format!("layer {digest} of {repository}: {}", error.message),
            Origin::Layout(path) => format!("layer {digest} of {}: {}", path.display(), error.message),
        };
    }
    error
}

/// Whether an error is one of the disk that a layer is unpacked to.
fn is_ours(error: &LayerError) -> bool {
    matches!(error, LayerError::Io { .. })
}

/// Unpacks a blob while it arrives, again when it arrives again, and gives the result its place when the
/// blob is verified.
fn unpack_along(
    engine: &Engine,
    layer: &Layer,
    mut blob: Arriving<Follower>,
    directory: bool,
) -> Result<(), EngineError> {
    loop {
        let made = engine.unpack_from(layer, blob.reader(), directory);
        match made {
            // More bytes would not help.
            Err(EngineError::BadLayer(error)) if is_ours(&error) => return Err(EngineError::BadLayer(error)),
            Err(error @ (EngineError::Store(_) | EngineError::Io { .. } | EngineError::Cancelled)) => {
                return Err(error);
            }
            _ => {}
        }
        match blob.verdict() {
            Verdict::Whole => return engine.keep_unpacked(layer, made?).map(drop),
            Verdict::Anew => {}
            // The pull says why.
            Verdict::Lost => return Err(EngineError::Cancelled),
        }
    }
}

/// Runs something on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.expect("waiting and unpacking do not panic")
}
