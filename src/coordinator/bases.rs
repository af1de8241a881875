//! Resolves image names to one platform's manifest and config.

use std::collections::BTreeMap;
use std::fmt;

use fanfold_platforms::{Platform, choose};
use futures::future::try_join_all;

use super::remotes::explain;
use super::{BuildError, ErrorKind};
use crate::dockerfile::{Dockerfile, Span, suggest};
use crate::image::{Descriptor, Document, ImageConfig, ImageManifest, Index, RawManifest, Reference};
use crate::plan::{ImageName, Request, ResolvedImage, WantedImage};
use crate::registry::Client;
use crate::source::{Layout, Selector};
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

/// Where an image is.
enum Place {
    /// In a registry.
    Registry(Reference),
    /// In an OCI layout on this machine, with the name that it was given.
    Layout(Box<Layout>, Selector, String),
}

impl Place {
    fn of(name: &ImageName) -> Result<Self, BuildError> {
        match name {
            ImageName::Registry(reference) => Ok(Self::Registry(reference.clone())),
            ImageName::Layout(text) => {
                let (path, selector) = Selector::split(text).map_err(|error| explain(error, text))?;
                let layout = Layout::open(&path).map_err(|error| explain(error, text))?;
                Ok(Self::Layout(Box::new(layout), selector, text.clone()))
            }
        }
    }

    fn name(&self) -> ImageName {
        match self {
            Self::Registry(reference) => ImageName::Registry(reference.clone()),
            Self::Layout(_, _, text) => ImageName::Layout(text.clone()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

impl Bases<'_> {
    /// Resolves all of these at once; each name is asked for once, whatever the number of platforms.
    pub(super) async fn resolve(
        &self,
        wanted: Vec<WantedImage>,
    ) -> Result<Vec<(WantedImage, ResolvedImage)>, BuildError> {
        let mut by_name: BTreeMap<ImageName, Vec<WantedImage>> = BTreeMap::new();
        for item in wanted {
            by_name.entry(item.name.clone()).or_default().push(item);
        }
        let groups = by_name.into_iter().map(|(name, items)| async move {
            let first = &items[0];
            let fail = |error: BuildError| about(&name, error).at(first.span, &first.platform);
            let place = Place::of(&name).map_err(fail)?;
            let top = self.top(&place).await.map_err(fail)?;
            let images = items.into_iter().map(|item| {
                let (top, place, name) = (&top, &place, &name);
                async move {
                    let image = self
                        .select(place, top, &item.platform)
                        .await
                        .map_err(|error| about(name, error).at(item.span, &item.platform))?;
                    Ok::<_, BuildError>((item, image))
                }
            });
            try_join_all(images).await
        });
        Ok(try_join_all(groups).await?.into_iter().flatten().collect())
    }

    /// The document that a name stands for.
    async fn top(&self, place: &Place) -> Result<RawManifest, BuildError> {
        let reference = match place {
            Place::Registry(reference) => reference,
            Place::Layout(layout, selector, text) => {
                let read = || layout.manifest(&layout.resolve(selector)?);
                return read().map_err(|error| explain(error, text));
            }
        };
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
        place: &Place,
        top: &RawManifest,
        platform: &Platform,
    ) -> Result<ResolvedImage, BuildError> {
        let mut raw = top.clone();
        let mut said = None;
        for _ in 0..=DEEPEST_INDEX {
            match parse(place, &raw)? {
                Document::Image(manifest) => {
                    let config = self.config(place, &manifest, said.as_ref()).await?;
                    return image(place, &raw, manifest, config, platform);
                }
                Document::Index(index) => {
                    let entry = self.choose_entry(place, &index, platform).await?;
                    raw = self.manifest(place, &entry).await?;
                    said = entry.platform;
                }
            }
        }
        Err(BuildError::new(ErrorKind::Registry, format!("the index of {place} is nested too deep")))
    }

    /// The entry for a platform. Attestations stand in an index as entries for an unknown platform;
    /// where an entry says nothing, the image's config does.
    async fn choose_entry(
        &self,
        place: &Place,
        index: &Index,
        platform: &Platform,
    ) -> Result<Descriptor, BuildError> {
        let mut platforms = Vec::new();
        let mut entries = Vec::new();
        for entry in &index.manifests {
            let said = match &entry.platform {
                Some(said) => Some(said.clone()),
                None => self.platform_of(place, entry).await?,
            };
            if let Some(said) = said.filter(|said| said.os() != "unknown") {
                platforms.push(said);
                entries.push(entry);
            }
        }
        match choose(platform, &platforms) {
            Some(chosen) => Ok(entries[chosen].clone()),
            None => Err(missing(place, platform, &platforms)),
        }
    }

    /// What the config of an index entry says; `None` for anything but an image.
    async fn platform_of(&self, place: &Place, entry: &Descriptor) -> Result<Option<Platform>, BuildError> {
        let raw = self.manifest(place, entry).await?;
        let Ok(Document::Image(manifest)) = raw.parse() else { return Ok(None) };
        Ok(Some(self.config(place, &manifest, None).await?.platform))
    }

    async fn manifest(&self, place: &Place, descriptor: &Descriptor) -> Result<RawManifest, BuildError> {
        if let Some(bytes) = self.store.read_blob(&descriptor.digest) {
            return Ok(RawManifest { media_type: descriptor.media_type.clone(), bytes });
        }
        let raw = match place {
            Place::Registry(reference) => self.client.manifest(reference.repository(), descriptor).await?,
            Place::Layout(layout, _, text) => {
                layout.manifest(descriptor).map_err(|error| explain(error, text))?
            }
        };
        self.store.put_blob(&raw.bytes)?;
        Ok(raw)
    }

    /// An image's config. `said` is the platform of its index entry, which may name a variant that
    /// the config leaves out.
    async fn config(
        &self,
        place: &Place,
        manifest: &ImageManifest,
        said: Option<&Platform>,
    ) -> Result<ImageConfig, BuildError> {
        let bytes = match self.store.read_blob(&manifest.config.digest) {
            Some(bytes) => bytes,
            None => {
                let bytes = match place {
                    Place::Registry(reference) => {
                        let repository = reference.repository();
                        self.client.fetch_small(repository, &manifest.config, LARGEST_CONFIG).await?
                    }
                    Place::Layout(layout, _, text) => {
                        let read = layout.read(&manifest.config, LARGEST_CONFIG);
                        read.map_err(|error| explain(error, text))?
                    }
                };
                self.store.put_blob(&bytes)?;
                bytes
            }
        };
        ImageConfig::parse_entry(&bytes, said).map_err(|error| {
            BuildError::new(ErrorKind::Platform, format!("base image {place}: {error}"))
                .with_hint("have the image built again, or use another one")
        })
    }
}

/// An error about an image, with the word that names it in most Dockerfiles.
fn about(name: &ImageName, error: BuildError) -> BuildError {
    let word = last_name(&name.to_string()).to_owned();
    BuildError { word: error.word.or(Some(word)), ..error }
}

/// The same error about an image, with the name as the Dockerfile has it; where the image is called
/// nearly as a stage or a named context, that is said.
pub(super) fn or_stage(error: BuildError, dockerfile: &Dockerfile, request: &Request) -> BuildError {
    let written = error.span.and_then(|span| written(dockerfile, span, error.word.as_deref()?));
    let error = advised(error, dockerfile, request);
    BuildError { word: written.or(error.word), ..error }
}

/// The whole reference to an image in the instruction at `span`: what FROM has, else the value of
/// `from=` whose name ends in `name`.
fn written(dockerfile: &Dockerfile, span: Span, name: &str) -> Option<String> {
    if let Some(stage) = dockerfile.stages.iter().find(|stage| stage.span == span) {
        return Some(stage.base.clone());
    }
    let mut instructions = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    let instruction = instructions.find(|instruction| instruction.span == span)?;
    let values = instruction.text.split("from=").skip(1);
    let references = values
        .filter_map(|value| value.split(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '\'')).next());
    references.filter(|reference| last_name(reference) == name).map(str::to_owned).next()
}

/// An image's name without registry, folders, tag and digest.
fn last_name(reference: &str) -> &str {
    let tagged = reference.split('@').next().unwrap_or_default();
    let last = tagged.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

fn advised(error: BuildError, dockerfile: &Dockerfile, request: &Request) -> BuildError {
    let Some(word) = error.word.as_deref().filter(|_| error.rule.is_none()) else { return error };
    let stages = dockerfile.stages.iter().filter_map(|stage| stage.name.as_deref());
    let contexts = request.contexts.iter().map(|context| &context.name);
    let stage = suggest::nearest(word, stages).map(|name| format!("did you mean the stage {name}?"));
    let context =
        || suggest::nearest(word, contexts).map(|name| format!("did you mean the build context {name}?"));
    match stage.or_else(context) {
        Some(advice) => {
            let hint = error.hint.as_ref().map_or(advice.clone(), |hint| format!("{advice} Else {hint}"));
            error.with_hint(hint)
        }
        None => error,
    }
}

/// The image, if it is for the platform.
fn image(
    place: &Place,
    raw: &RawManifest,
    manifest: ImageManifest,
    config: ImageConfig,
    platform: &Platform,
) -> Result<ResolvedImage, BuildError> {
    if choose(platform, std::slice::from_ref(&config.platform)).is_none() {
        return Err(missing(place, platform, std::slice::from_ref(&config.platform)));
    }
    if config.diff_ids.len() != manifest.layers.len() {
        let (ids, layers) = (config.diff_ids.len(), manifest.layers.len());
        let text = format!("base image {place}: the config names {ids} layers and the manifest {layers}");
        return Err(BuildError::new(ErrorKind::Platform, text)
            .with_hint("have the image built again, or use another one"));
    }
    Ok(ResolvedImage {
        name: place.name(),
        platform: config.platform.clone(),
        manifest: raw.descriptor(),
        config,
        layers: manifest.layers,
    })
}

fn parse(place: &Place, raw: &RawManifest) -> Result<Document, BuildError> {
    raw.parse().map_err(|error| {
        BuildError::new(ErrorKind::Registry, format!("base image {place}: {error}"))
            .with_hint("name another tag, or have the image pushed again")
    })
}

fn missing(place: &Place, wanted: &Platform, has: &[Platform]) -> BuildError {
    let mut names: Vec<_> = has.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    let has = if names.is_empty() { "no platform at all".to_owned() } else { names.join(", ") };
    let text = format!("base image {place} has no {wanted}; it has: {has}");
    let error = BuildError::new(ErrorKind::Platform, text)
        .with_hint("use a base that has the platform, or leave the platform out of --platform");
    BuildError { rule: Some("InvalidBaseImagePlatform"), ..error }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_as_they_are_written() {
        let text = "FROM --platform=linux/arm64 localhost:5055/busybox:none\n\
                    COPY --from=busybox:1 --chown=1 /a /b\n\
                    RUN --mount=type=bind,from=h:5/a,source=/ --mount=type=bind,from=h:5/b/c@sha256:1,target=/t x\n\
                    FROM $BASE\n";
        let dockerfile = crate::dockerfile::parse(text.as_bytes()).unwrap();
        for (line, name, want) in [
            (1, "busybox", Some("localhost:5055/busybox:none")),
            (2, "busybox", Some("busybox:1")),
            (3, "c", Some("h:5/b/c@sha256:1")),
            (3, "d", None),
            (4, "alpine", Some("$BASE")),
            (9, "alpine", None),
        ] {
            let found = written(&dockerfile, Span { first: line, last: line }, name);
            assert_eq!(found.as_deref(), want, "{line}");
        }
        for (reference, want) in
            [("docker.io/library/a:1", "a"), ("localhost:5000/x/a@sha256:00", "a"), ("a", "a")]
        {
            assert_eq!(last_name(reference), want);
        }
    }
}
