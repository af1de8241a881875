//! What is asked of registries for caches, in one place.

use std::time::Duration;

use tokio::time::timeout;

use super::CacheError;
use crate::image::{Descriptor, RawManifest, Reference, Repository};
use crate::registry::{Client, ErrorKind, Pushed, RegistryError, Target};
use crate::store::Store;

/// The longest that one look-up may take.
const LONGEST: Duration = Duration::from_secs(10);

/// The manifest under `tag`; `None` where there is none.
pub(super) async fn find_record(
    client: &Client,
    repository: &Repository,
    tag: &str,
) -> Result<Option<RawManifest>, CacheError> {
    let Ok(reference) = format!("{repository}:{tag}").parse::<Reference>() else { return Ok(None) };
    let late = |_| CacheError::Late { place: repository.to_string(), seconds: LONGEST.as_secs() };
    match timeout(LONGEST, client.resolve(&reference)).await.map_err(late)? {
        Ok(raw) => Ok(Some(raw)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Puts a manifest under `tag`.
pub(super) async fn put_record(
    client: &Client,
    repository: &Repository,
    manifest: &RawManifest,
    tag: &str,
) -> Result<(), RegistryError> {
    client.push_manifest(repository, manifest, Target::Tag(tag)).await
}

/// Brings a blob from one repository to another.
pub(super) async fn copy_blob(
    client: &Client,
    store: &Store,
    from: &Repository,
    to: &Repository,
    descriptor: &Descriptor,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Pushed, CacheError> {
    let scratch = store.scratch_dir()?;
    let file = scratch.path().join("blob");
    client.pull_blob(from, descriptor, &file, &|_| ()).await?;
    let pushed = client.push_blob(to, descriptor, &file, std::slice::from_ref(from), progress).await?;
    // A registry may lose the blob until its manifest is there; then it is sent again, from the store.
    store.adopt_blob(&file, &descriptor.digest)?;
    Ok(pushed)
}
