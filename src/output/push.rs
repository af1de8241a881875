//! Push: blobs, then each platform's manifest by digest, then the index, then the tags.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};

use super::OutputError;
use crate::engine::{Built, BuiltImage};
use crate::image::{Descriptor, Digest, Reference, Repository};
use crate::progress::{Progress, TransferEnd, TransferKind, human};
use crate::registry::{Client, Pushed, Target};
use crate::store::Store;

/// Blobs and manifests on their way at the same time. The client bounds how many of them are transfers:
/// questions about those that are there already wait for no transfer.
const PARALLEL: usize = 16;

/// Pushes under all names. No tag moves before everything that it needs is there, in every
/// repository.
pub(super) async fn push(
    client: &Client,
    store: &Store,
    built: &Built,
    names: &[Reference],
    by_digest: bool,
    progress: &Progress,
) -> Result<(), OutputError> {
    let mut repositories: BTreeMap<&Repository, Vec<&str>> = BTreeMap::new();
    for name in names {
        repositories.entry(name.repository()).or_default().extend(name.tag().filter(|_| !by_digest));
    }
    for (repository, tags) in &repositories {
        if !is_there(client, built, repository, tags).await? {
            let tagged = built.index.is_none() && !tags.is_empty();
            push_content(client, store, built, repository, tagged, progress).await?;
        }
    }
    for (repository, tags) in repositories {
        for tag in tags {
            client.push_manifest(repository, built.top(), Target::Tag(tag)).await?;
        }
    }
    Ok(())
}

/// Whether the repository holds the result already, from an earlier push: then one question is enough.
async fn is_there(
    client: &Client,
    built: &Built,
    repository: &Repository,
    tags: &[&str],
) -> Result<bool, OutputError> {
    let digest = built.top().digest();
    Ok(match tags.first() {
        Some(tag) => client.is_tagged(repository, tag, &digest).await?,
        None => client.exists_manifest(repository, &digest).await?,
    })
}

/// Everything below the tags: of images that are there already, nothing. A manifest that is about to be
/// `tagged` is sent under its tag alone, which makes it available by its digest, too.
async fn push_content(
    client: &Client,
    store: &Store,
    built: &Built,
    repository: &Repository,
    tagged: bool,
    progress: &Progress,
) -> Result<(), OutputError> {
    let there = futures::future::try_join_all(
        built
            .images
            .iter()
            .map(|image| async { client.exists_manifest(repository, &image.manifest.digest()).await }),
    )
    .await?;
    let missing: Vec<&BuiltImage> =
        built.images.iter().zip(there).filter(|(_, there)| !there).map(|(image, _)| image).collect();
    let mut blobs: BTreeMap<Digest, (Descriptor, Option<Repository>)> = BTreeMap::new();
    for image in &missing {
        for layer in &image.layers {
            let descriptor = layer.blob.descriptor.clone();
            blobs.insert(descriptor.digest, (descriptor, layer.origin.clone()));
        }
        blobs.insert(image.config_descriptor.digest, (image.config_descriptor.clone(), None));
    }
    futures::stream::iter(blobs.into_values().map(Ok::<_, OutputError>))
        .try_for_each_concurrent(PARALLEL, |(descriptor, origin)| async move {
            push_blob(client, store, repository, &descriptor, origin.as_ref(), progress).await
        })
        .await?;
    futures::stream::iter(missing.into_iter().filter(|_| !tagged))
        .map(|image| client.push_manifest(repository, &image.manifest, Target::Digest))
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    if let Some(index) = &built.index {
        client.push_manifest(repository, index, Target::Digest).await?;
    }
    Ok(())
}

/// Brings one blob to a repository, from the store or from where it is.
pub(super) async fn push_blob(
    client: &Client,
    store: &Store,
    repository: &Repository,
    descriptor: &Descriptor,
    origin: Option<&Repository>,
    progress: &Progress,
) -> Result<(), OutputError> {
    let digest = descriptor.digest.to_string();
    let transfer = progress.transfer(
        TransferKind::Push,
        human::short_digest(&digest),
        repository.registry(),
        Some(descriptor.size),
    );
    let mount_from: Vec<Repository> = origin
        .filter(|origin| origin.registry() == repository.registry() && *origin != repository)
        .cloned()
        .into_iter()
        .collect();
    let reached = |bytes| transfer.reached(bytes);
    let pushed = match origin {
        // Nobody here has read it: it goes from one registry to the other, or stays where it is.
        Some(origin) if !store.has_blob(descriptor) => {
            client.copy_blob(origin, repository, descriptor, &reached).await?
        }
        _ => {
            let source = store.blob_path(&descriptor.digest);
            client.push_blob(repository, descriptor, &source, &mount_from, &reached).await?
        }
    };
    transfer.finish(match pushed {
        Pushed::Uploaded => TransferEnd::Transferred,
        Pushed::Mounted => TransferEnd::Mounted,
        Pushed::AlreadyThere => TransferEnd::AlreadyThere,
    });
    Ok(())
}
