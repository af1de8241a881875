//! Push: blobs, then each platform's manifest by digest, then the index, then the tags.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};

use super::OutputError;
use crate::engine::Built;
use crate::image::{Descriptor, Digest, Reference, Repository};
use crate::progress::{Progress, TransferEnd, TransferKind, human};
use crate::registry::{Client, Pushed, Target};
use crate::store::Store;

/// Uploads at the same time, for each registry.
const PARALLEL: usize = 4;

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
    let repositories: BTreeSet<&Repository> = names.iter().map(Reference::repository).collect();
    for repository in &repositories {
        push_content(client, store, built, repository, progress).await?;
    }
    if by_digest {
        return Ok(());
    }
    for name in names {
        if let Some(tag) = name.tag() {
            client.push_manifest(name.repository(), built.top(), Target::Tag(tag)).await?;
        }
    }
    Ok(())
}

/// Everything below the tags.
async fn push_content(
    client: &Client,
    store: &Store,
    built: &Built,
    repository: &Repository,
    progress: &Progress,
) -> Result<(), OutputError> {
    let mut blobs: BTreeMap<Digest, (Descriptor, Option<Repository>)> = BTreeMap::new();
    for image in &built.images {
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
    futures::stream::iter(&built.images)
        .map(|image| client.push_manifest(repository, &image.manifest, Target::Digest))
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    if let Some(index) = &built.index {
        client.push_manifest(repository, index, Target::Digest).await?;
    }
    Ok(())
}

async fn push_blob(
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
    let source = store.blob_path(&descriptor.digest);
    let pushed = client
        .push_blob(repository, descriptor, &source, &mount_from, &|bytes| transfer.reached(bytes))
        .await?;
    transfer.finish(match pushed {
        Pushed::Uploaded => TransferEnd::Transferred,
        Pushed::Mounted => TransferEnd::Mounted,
        Pushed::AlreadyThere => TransferEnd::AlreadyThere,
    });
    Ok(())
}
