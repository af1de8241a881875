//! Bringing images into the store before a build asks for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfold_platforms::Platform;
use futures::future::try_join_all;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::bases::Bases;
use super::pull::{self, Form};
use super::{BuildError, Stop, stopped};
use crate::dockerfile::Span;
use crate::engine::{Cancel, Engine};
use crate::image::{Digest, Reference};
use crate::plan::{ImageName, ResolvedImage, WantedImage};
use crate::progress::Progress;
use crate::registry::Client;

/// There is no Dockerfile; what is said of it is taken off every error.
const NOWHERE: Span = Span { first: 1, last: 1 };

/// What it takes to bring images here.
#[derive(Debug)]
pub struct Warm {
    /// Unpacks layers, in the forms that its commands would need.
    pub engine: Arc<Engine>,
    /// Speaks with registries.
    pub client: Client,
    /// Hears what happens.
    pub progress: Progress,
    /// Stops what takes long.
    pub cancel: Cancel,
}

/// An image that is here now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warmed {
    /// Its complete name.
    pub name: String,
    /// The platform that was asked for.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Digest,
    /// Number of its layers.
    pub layers: usize,
    /// Bytes of their blobs.
    pub bytes: u64,
    /// Whether all of it was here before.
    pub was_here: bool,
}

impl Warm {
    /// Asks registries what these names stand for, fetches the images for all of the platforms, and makes
    /// what builds need of their layers.
    ///
    /// # Errors
    ///
    /// Fails where a name or a platform does not exist, or a layer cannot be fetched or unpacked, and where
    /// it is interrupted. What is here by then stays.
    pub async fn run(
        &self,
        images: &[Reference],
        platforms: &[Platform],
        mut interrupted: watch::Receiver<Option<Stop>>,
    ) -> Result<Vec<Warmed>, BuildError> {
        let done = tokio::select! {
            done = self.fetch(images, platforms) => done,
            stop = stopped(&mut interrupted) => Err(stop.error("while images were fetched")),
        };
        // The end waits for all threads: one that unpacks must not go on.
        let done = done.inspect_err(|_| self.cancel.cancel());
        done.map_err(|error| BuildError { span: None, word: None, ..error })
    }

    async fn fetch(&self, images: &[Reference], platforms: &[Platform]) -> Result<Vec<Warmed>, BuildError> {
        let wanted = images.iter().flat_map(|image| {
            let name = ImageName::Registry(image.clone());
            let want = move |platform: &Platform| WantedImage {
                name: name.clone(),
                platform: platform.clone(),
                span: NOWHERE,
            };
            platforms.iter().map(want)
        });
        let bases = Bases { client: &self.client, store: self.engine.store(), ask_always: true };
        let resolved = bases.resolve(wanted.collect()).await?;
        let form = self.form().await?;
        // Platforms that another one stands in for have its layers.
        let mut manifests: BTreeMap<Digest, &ResolvedImage> = BTreeMap::new();
        manifests.extend(resolved.iter().map(|(_, image)| (image.manifest.digest, image)));
        let fetched = manifests.into_iter().map(|(digest, image)| async move {
            let layers = pull::layers(image);
            let was_here = pull::fetch(&self.client, &self.engine, &self.progress, layers, form).await?;
            Ok::<_, BuildError>((digest, was_here))
        });
        let fetched: BTreeMap<Digest, bool> = try_join_all(fetched).await?.into_iter().collect();
        let warmed = resolved.into_iter().map(|(wanted, image)| Warmed {
            name: wanted.name.to_string(),
            platform: wanted.platform,
            manifest: image.manifest.digest,
            layers: image.layers.len(),
            bytes: image.layers.iter().map(|layer| layer.size).sum(),
            was_here: fetched.get(&image.manifest.digest).copied().unwrap_or_default(),
        });
        Ok(warmed.collect())
    }

    /// The form of layers that commands of a build would need.
    async fn form(&self) -> Result<Form, BuildError> {
        if !self.engine.can_run() {
            return Ok(Form::Index);
        }
        let engine = Arc::clone(&self.engine);
        let mounts = spawn_blocking(move || engine.has_overlays()).await.expect("trying does not panic")?;
        // Where there are no overlays, files are copied out of blobs.
        Ok(if mounts { Form::Directory } else { Form::Index })
    }
}
