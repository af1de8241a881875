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
        let mut said = None;
        for _ in 0..=DEEPEST_INDEX {
            match parse(reference, &raw)? {
                Document::Image(manifest) => {
                    let config = self.config(reference, &manifest, said.as_ref()).await?;
                    return image(reference, &raw, manifest, config, platform);
                }
                Document::Index(index) => {
                    let entry = self.choose_entry(reference, &index, platform).await?;
                    raw = self.manifest(reference, &entry).await?;
                    said = entry.platform;
                }
            }
        }
        Err(BuildError::new(ErrorKind::Registry, format!("the index of {reference} is nested too deep")))
    }

    /// The entry for a platform. Attestations stand in an index as entries for an unknown platform;
    /// where an entry says nothing, the image's config does.
    async fn choose_entry(
        &self,
        reference: &Reference,
        index: &Index,
        platform: &Platform,
    ) -> Result<Descriptor, BuildError> {
        let mut platforms = Vec::new();
        let mut entries = Vec::new();
        for entry in &index.manifests {
            let said = match &entry.platform {
                Some(said) => Some(said.clone()),
                None => self.platform_of(reference, entry).await?,
            };
            if let Some(said) = said.filter(|said| said.os() != "unknown") {
                platforms.push(said);
                entries.push(entry);
            }
        }
        match choose(platform, &platforms) {
            Some(chosen) => Ok(entries[chosen].clone()),
            None => Err(missing(reference, platform, &platforms)),
        }
    }

    /// What the config of an index entry says; `None` for anything but an image.
    async fn platform_of(
        &self,
        reference: &Reference,
        entry: &Descriptor,
    ) -> Result<Option<Platform>, BuildError> {
        let raw = self.manifest(reference, entry).await?;
        let Ok(Document::Image(manifest)) = raw.parse() else { return Ok(None) };
        Ok(Some(self.config(reference, &manifest, None).await?.platform))
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

    /// An image's config. `said` is the platform of its index entry, which may name a variant that
    /// the config leaves out.
    async fn config(
        &self,
        reference: &Reference,
        manifest: &ImageManifest,
        said: Option<&Platform>,
    ) -> Result<ImageConfig, BuildError> {
        let bytes = match self.store.read_blob(&manifest.config.digest) {
            Some(bytes) => bytes,
            None => {
                let repository = reference.repository();
                let bytes = self.client.fetch_small(repository, &manifest.config, LARGEST_CONFIG).await?;
                self.store.put_blob(&bytes)?;
                bytes
            }
        };
        ImageConfig::parse_entry(&bytes, said).map_err(|error| {
            BuildError::new(ErrorKind::Platform, format!("base image {reference}: {error}"))
                .with_hint("have the image built again, or use another one")
        })
    }
}

/// The image, if it is for the platform.
fn image(
    reference: &Reference,
    raw: &RawManifest,
    manifest: ImageManifest,
    config: ImageConfig,
    platform: &Platform,
) -> Result<ResolvedImage, BuildError> {
    if choose(platform, std::slice::from_ref(&config.platform)).is_none() {
        return Err(missing(reference, platform, std::slice::from_ref(&config.platform)));
    }
    if config.diff_ids.len() != manifest.layers.len() {
        let (ids, layers) = (config.diff_ids.len(), manifest.layers.len());
        let text = format!("base image {reference}: the config names {ids} layers and the manifest {layers}");
        return Err(BuildError::new(ErrorKind::Platform, text)
            .with_hint("have the image built again, or use another one"));
    }
    Ok(ResolvedImage {
        reference: reference.clone(),
        platform: config.platform.clone(),
        manifest: raw.descriptor(),
        config,
        layers: manifest.layers,
    })
}

fn parse(reference: &Reference, raw: &RawManifest) -> Result<Document, BuildError> {
    raw.parse().map_err(|error| {
        BuildError::new(ErrorKind::Registry, format!("base image {reference}: {error}"))
            .with_hint("name another tag, or have the image pushed again")
    })
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
