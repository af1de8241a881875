//! Records in registries.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

use super::codec::LIMIT;
use super::imports::{Records, Source, found};
use super::place::{prefix, tag};
use super::statement::Damage;
use super::{CacheError, codec, inline};
use crate::image::media_type::{DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST};
use crate::image::{Descriptor, Digest, Document, ImageManifest, Origin, RawManifest, Reference, Repository};
use crate::registry::Client;

/// Look-ups at the same time; the client knows how many a host takes.
const PARALLEL: usize = 64;
/// Images of an index whose configs are looked into, and how many of them at the same time.
const MOST_IMAGES: usize = 64;
const PARALLEL_IMAGES: usize = 8;
/// Largest manifest or index of an image, in bytes.
const LARGEST_MANIFEST: u64 = 4 << 20;
/// Largest config, in bytes.
const LARGEST_CONFIG: u64 = 4 << 20;
/// The longest that all images of a reference may take.
const LONGEST: Duration = Duration::from_secs(20);

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Looks up all keys at once. A registry that cannot be used is given up.
pub(super) async fn records(
    source: &Source,
    client: &Client,
    reference: &Reference,
    keys: &BTreeSet<Digest>,
) -> Records {
    let Some(prefix) = prefix(reference) else { return Records::new() };
    let repository = reference.repository();
    let all = Mutex::new(Records::new());
    let looked = stream::iter(keys.iter().map(Ok))
        .try_for_each_concurrent(PARALLEL, |key| {
            let all = &all;
            async move {
                let raw = match client
                    .find_record(repository, &tag(prefix, key), LIMIT)
                    .await
                    .map_err(CacheError::from)
                {
                    Ok(Some(raw)) => raw,
                    Ok(None) => return Ok(()),
                    Err(error) if error.is_of_one_record() => {
                        source.warn_of_record(key, &error);
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                };
                match codec::decode(&raw, Some(key)) {
                    Ok(decoded) => {
                        let found = found(decoded, Origin::Registry(repository.clone()));
                        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                        all.entry(*key).or_default().push(found);
                    }
                    Err(damage) => source.warn_of_record(key, &damage),
                }
                Ok(())
            }
        })
        .await;
    if let Err(error) = looked {
        source.give_up(&error);
    }
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The inline records of the images that the reference names, if it names any.
pub(super) async fn images(source: &Source, client: &Client, reference: &Reference) -> Records {
    let late = |_| CacheError::Late { place: reference.to_string(), seconds: LONGEST.as_secs() };
    let read = timeout(LONGEST, read_images(source, client, reference)).await.map_err(late);
    match read.and_then(|read| read) {
        Ok(records) => records,
        Err(error) => {
            // Where the registry cannot be used at all, this is the only one who says so: a reference by
            // digest has no other look-ups.
            if error.is_of_one_record() {
                source.warn("the image", &error);
            } else {
                source.give_up(&error);
            }
            Records::new()
        }
    }
}

async fn read_images(source: &Source, client: &Client, reference: &Reference) -> Result<Records, CacheError> {
    let repository = reference.repository();
    let top = match (reference.digest(), reference.tag()) {
        (None, Some(tag)) => match client.find_record(repository, tag, LARGEST_MANIFEST).await? {
            Some(raw) => raw,
            None => return Ok(Records::new()),
        },
        _ => client.resolve(reference).await?,
    };
    let origin = Origin::Registry(repository.clone());
    let images: Vec<ImageManifest> = match top.parse() {
        Ok(Document::Image(image)) => vec![image],
        Ok(Document::Index(index)) => {
            let children = index.manifests.iter().filter(|child| is_image(child)).take(MOST_IMAGES);
            stream::iter(children)
                .map(|child| child_image(client, repository, child))
                .buffered(PARALLEL_IMAGES)
                .try_filter_map(|image| async { Ok(image) })
                .try_collect()
                .await?
        }
        Err(error) => {
            source.warn("the image", &error);
            return Ok(Records::new());
        }
    };
    let with_config = images.iter().filter(|image| is_config(&image.config));
    let configs: Vec<_> = stream::iter(with_config)
        .map(|image| async move {
            let config = client.fetch_small(repository, &image.config, LARGEST_CONFIG).await?;
            Ok::<_, CacheError>(inline::decode(&config, &image.layers))
        })
        .buffered(PARALLEL_IMAGES)
        .try_collect()
        .await?;
    let mut records = Records::new();
    for inline in configs {
        source.add_inline(&mut records, inline, &origin);
    }
    Ok(records)
}

/// Whether an entry of an index may be an image: caches of other builders, and attestations, are not.
pub(super) fn is_image(entry: &Descriptor) -> bool {
    let known = [OCI_MANIFEST, DOCKER_MANIFEST].contains(&entry.media_type.as_str());
    let unknown = entry.platform.as_ref().is_some_and(|platform| platform.os() == "unknown");
    known && !unknown && entry.artifact_type.is_none()
}

/// Whether the config may be one of an image.
pub(super) fn is_config(config: &Descriptor) -> bool {
    [OCI_CONFIG, DOCKER_CONFIG].contains(&config.media_type.as_str()) && config.size <= LARGEST_CONFIG
}

async fn child_image(
    client: &Client,
    repository: &Repository,
    child: &Descriptor,
) -> Result<Option<ImageManifest>, CacheError> {
    Ok(image(&client.manifest(repository, child).await?).ok())
}

/// A manifest as that of one image.
pub(super) fn image(raw: &RawManifest) -> Result<ImageManifest, Damage> {
    match raw.parse() {
        Ok(Document::Image(image)) => Ok(image),
        Ok(Document::Index(_)) => Err(Damage::new("it is an index within an index")),
        Err(error) => Err(Damage::new(error.to_string())),
    }
}
