//! Resolves image names to one platform's manifest and config.

use std::collections::BTreeMap;

use fanfold_platforms::{Platform, choose};
use futures::future::try_join_all;

use super::{BuildError, ErrorKind};
use crate::image::{Descriptor, Document, ImageConfig, ImageManifest, Index, RawManifest, Reference};
use crate::plan::{ResolvedImage, Wanted};
use crate::registry::Client;
use crate::store::Store;

/// Configs are small; anything larger is an attack.
const LARGEST_CONFIG: u64 = 8 << 20;
/// An index in an index in an index is the most that anybody makes.
const DEEPEST_INDEX: usize = 3;

/// Resolves images, from the store where it knows them, else from their registries.
pub(super) struct Bases<'a> {
    pub(super) client: &'a Client,
    pub(super) store: &'a Store,
    pub(super) ask_always: bool,
}

impl Bases<'_> {
    /// Resolves all of these at once; each name is asked for once, whatever the number of platforms.
    pub(super) async fn resolve(
        &self,
        wanted: Vec<Wanted>,
    ) -> Result<Vec<(Wanted, ResolvedImage)>, BuildError> {
        let mut by_name: BTreeMap<Reference, Vec<Wanted>> = BTreeMap::new();
        for item in wanted {
            by_name.entry(item.reference.clone()).or_default().push(item);
        }
        let groups = by_name.into_iter().map(|(reference, items)| async move {
            let first = &items[0];
            let top = self.top(&reference).await.map_err(|error| error.at(first.span, &first.platform))?;
            let images = items.into_iter().map(|item| {
                let (top, reference) = (&top, &reference);
                async move {
                    let image = self
                        .select(reference, top, &item.platform)
                        .await
                        .map_err(|error| error.at(item.span, &item.platform))?;
                    Ok::<_, BuildError>((item, image))
                }
            });
            try_join_all(images).await
        });
        Ok(try_join_all(groups).await?.into_iter().flatten().collect())
    }

    /// The document that a name stands for.
    async fn top(&self, reference: &Reference) -> Result<RawManifest, BuildError> {
        if !self.ask_always
            && let Some(descriptor) = self.store.reference(reference)
            && let Some(bytes) = self.store.read_blob(&descriptor.digest)
        {
            return Ok(RawManifest { media_type: descriptor.media_type, bytes });
        }
        let raw = self.client.resolve(reference).await.map_err(|error| not_found(reference, error.into()))?;
        self.store.put_blob(&raw.bytes)?;
        self.store.put_reference(reference, &raw.descriptor())?;
        Ok(raw)
    }

    /// The image of one platform.
    async fn select(
        &self,
        reference: &Reference,
        top: &RawManifest,
        platform: &Platform,
    ) -> Result<ResolvedImage, BuildError> {
        let mut raw = top.clone();
        for _ in 0..=DEEPEST_INDEX {
            match parse(reference, &raw)? {
                Document::Image(manifest) => {
                    return self.image(reference, &raw, &manifest, platform).await;
                }
                Document::Index(index) => {
                    let entry = choose_entry(reference, &index, platform)?;
                    raw = self.manifest(reference, &entry).await?;
                }
            }
        }
        Err(BuildError::new(ErrorKind::Registry, format!("the index of {reference} is nested too deep")))
    }

    async fn manifest(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<RawManifest, BuildError> {
        if let Some(bytes) = self.store.read_blob(&descriptor.digest) {
            return Ok(RawManifest { media_type: descriptor.media_type.clone(), bytes });
        }
        let raw = self.client.manifest(reference.repository(), descriptor).await?;
        self.store.put_blob(&raw.bytes)?;
        Ok(raw)
    }

    async fn image(
        &self,
        reference: &Reference,
        raw: &RawManifest,
        manifest: &ImageManifest,
        platform: &Platform,
    ) -> Result<ResolvedImage, BuildError> {
        let bytes = match self.store.read_blob(&manifest.config.digest) {
            Some(bytes) => bytes,
            None => {
                let repository = reference.repository();
                let bytes = self.client.fetch_small(repository, &manifest.config, LARGEST_CONFIG).await?;
                self.store.put_blob(&bytes)?;
                bytes
            }
        };
        let config = ImageConfig::parse(&bytes).map_err(|error| {
            BuildError::new(ErrorKind::Platform, format!("base image {reference}: {error}"))
        })?;
        if choose(platform, std::slice::from_ref(&config.platform)).is_none() {
            return Err(missing(reference, platform, std::slice::from_ref(&config.platform)));
        }
        if config.diff_ids.len() != manifest.layers.len() {
            return Err(BuildError::new(
                ErrorKind::Platform,
                format!(
                    "base image {reference}: the config names {} layers and the manifest {}",
                    config.diff_ids.len(),
                    manifest.layers.len()
                ),
            ));
        }
        Ok(ResolvedImage {
            reference: reference.clone(),
            platform: config.platform.clone(),
            manifest: raw.descriptor(),
            config,
            layers: manifest.layers.clone(),
        })
    }
}

fn parse(reference: &Reference, raw: &RawManifest) -> Result<Document, BuildError> {
    raw.parse().map_err(|error| {
        BuildError::new(ErrorKind::Registry, format!("base image {reference}: {error}"))
            .with_hint("name another tag, or have the image pushed again")
    })
}

/// The entry for a platform. Attestations stand in an index as entries for an unknown platform.
fn choose_entry(reference: &Reference, index: &Index, platform: &Platform) -> Result<Descriptor, BuildError> {
    let (platforms, entries): (Vec<_>, Vec<_>) = index
        .manifests
        .iter()
        .filter_map(|entry| Some((entry.platform.clone()?, entry)))
        .filter(|(platform, _)| platform.os() != "unknown")
        .unzip();
    match choose(platform, &platforms) {
        Some(chosen) => Ok(entries[chosen].clone()),
        None => Err(missing(reference, platform, &platforms)),
    }
}

fn missing(reference: &Reference, wanted: &Platform, has: &[Platform]) -> BuildError {
    let mut names: Vec<_> = has.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    let has = if names.is_empty() { "no platform at all".to_owned() } else { names.join(", ") };
    BuildError::new(ErrorKind::Platform, format!("base image {reference} has no {wanted}; it has: {has}"))
        .with_hint("use a base that has the platform, or leave the platform out of --platform")
}

/// A base that does not exist is a missing base, whatever the registry calls it.
fn not_found(reference: &Reference, error: BuildError) -> BuildError {
    if error.kind == ErrorKind::Platform {
        return BuildError {
            message: format!("base image {reference} not found: {}", error.message),
            hint: error.hint.or_else(|| Some("look at the name and the tag for a mistake".to_owned())),
            ..error
        };
    }
    error
}
