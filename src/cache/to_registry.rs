//! Records into registries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};

use super::export::{Brought, Exported, keys_of};
use super::place::{prefix, tag};
use super::{CacheError, Entry, codec};
use crate::image::{Descriptor, Digest, Origin, RawManifest, Reference, Repository};
use crate::progress::{Progress, TransferEnd, TransferKind, human};
use crate::registry::{Client, ErrorKind, Pushed};
use crate::source::Layout;
use crate::store::Store;

/// Questions for records at the same time.
const PARALLEL: usize = 32;
/// Layers on their way at the same time.
const PARALLEL_LAYERS: usize = 4;

/// Where records go.
pub(super) struct Target<'a> {
    pub(super) reference: &'a Reference,
    /// Repositories that may have the layers.
    pub(super) mount_from: &'a [Repository],
    /// Whether it is worth waiting for a registry that does not answer.
    pub(super) patient: bool,
}

/// A record that the cache does not have under these keys.
struct Pending<'a> {
    entry: &'a Entry,
    manifest: RawManifest,
    keys: Vec<Digest>,
}

/// What the tasks of one export share.
struct Export<'a> {
    target: &'a Target<'a>,
    prefix: &'a str,
    store: &'a Store,
    client: &'a Client,
    progress: &'a Progress,
    exported: Mutex<&'a mut Exported>,
    /// The first failure that concerns one result alone: the others are written all the same.
    failed: Mutex<Option<CacheError>>,
}

/// Writes what the cache does not have.
pub(super) async fn write(
    target: &Target<'_>,
    entries: &[Entry],
    store: &Store,
    client: &Client,
    progress: &Progress,
    exported: &mut Exported,
) -> Result<(), CacheError> {
    let prefix = prefix(target.reference).unwrap_or_default();
    let exported = Mutex::new(exported);
    let export = Export { target, prefix, store, client, progress, exported, failed: Mutex::new(None) };
    let pending: Vec<Pending<'_>> = stream::iter(entries)
        .map(|entry| export.missing(entry))
        .buffered(PARALLEL)
        .try_filter_map(|pending| async { Ok(pending) })
        .try_collect()
        .await?;
    if !pending.is_empty() {
        export.push_config().await?;
    }
    // A layer goes before its records, and once for all of them.
    let mut by_layer: BTreeMap<Digest, Vec<Pending<'_>>> = BTreeMap::new();
    for pending in pending {
        by_layer.entry(pending.entry.blob.descriptor.digest).or_default().push(pending);
    }
    stream::iter(by_layer.into_values().map(Ok))
        .try_for_each_concurrent(PARALLEL_LAYERS, |pending| export.push(pending))
        .await?;
    match export.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

impl<'a> Export<'a> {
    fn repository(&self) -> &'a Repository {
        self.target.reference.repository()
    }

    fn count(&self, change: impl FnOnce(&mut Exported)) {
        change(&mut self.exported.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Keeps a failure that concerns one result, and passes on one that concerns all.
    fn keep(&self, error: CacheError) -> Result<(), CacheError> {
        if !error.is_of_one_record() {
            return Err(error);
        }
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        Ok(())
    }

    /// The record, where the cache does not have it. A question costs less than writing, and where the
    /// record is there its layer is, too: in most builds most are.
    async fn missing(&self, entry: &'a Entry) -> Result<Option<Pending<'a>>, CacheError> {
        let encoded = codec::encode(entry).and_then(|manifest| Ok((manifest, keys_of(entry)?)));
        let (manifest, all) = match encoded {
            Ok(encoded) => encoded,
            Err(error) => return self.keep(error).map(|()| None),
        };
        let asked =
            all.iter().map(|key| async move { Ok::<_, CacheError>((*key, self.has(entry, key).await?)) });
        let asked: Vec<(Digest, bool)> = futures::future::try_join_all(asked).await?;
        let keys: Vec<Digest> = asked.into_iter().filter(|(_, has)| !has).map(|(key, _)| key).collect();
        if keys.is_empty() {
            self.count(|exported| exported.known += 1);
            return Ok(None);
        }
        Ok(Some(Pending { entry, manifest, keys }))
    }

    async fn has(&self, entry: &Entry, key: &Digest) -> Result<bool, CacheError> {
        let tag = tag(self.prefix, key);
        match self.client.find_record(self.repository(), &tag, codec::LIMIT).await {
            Ok(Some(raw)) => Ok(codec::decode(&raw, Some(key)).is_ok_and(|known| known.is_of(entry))),
            Ok(None) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Retryable && !self.target.patient => Err(error.into()),
            // Writing tells what is wrong, and may be allowed where reading is not.
            Err(_) => Ok(false),
        }
    }

    async fn push_config(&self) -> Result<(), CacheError> {
        let descriptor = codec::empty_config();
        self.store.put_blob(codec::EMPTY)?;
        let source = self.store.blob_path(&descriptor.digest);
        self.client.push_blob(self.repository(), &descriptor, &source, &[], &|_| ()).await?;
        Ok(())
    }

    /// A layer, then its records.
    async fn push(&self, pending: Vec<Pending<'a>>) -> Result<(), CacheError> {
        let Some(first) = pending.first() else { return Ok(()) };
        let origins: BTreeSet<&Origin> = pending.iter().filter_map(|one| one.entry.origin.as_ref()).collect();
        match self.push_layer(&first.entry.blob.descriptor, &origins).await {
            Ok(brought) => self.count(|exported| exported.count(brought)),
            Err(error) => return self.keep(error),
        }
        stream::iter(pending.into_iter().map(Ok))
            .try_for_each_concurrent(PARALLEL, |one| async move {
                let puts = one.keys.iter().map(|key| {
                    let manifest = &one.manifest;
                    async move {
                        let tag = tag(self.prefix, key);
                        self.client.put_record(self.repository(), manifest, &tag).await
                    }
                });
                futures::future::try_join_all(puts).await?;
                self.count(|exported| exported.written += 1);
                Ok(())
            })
            .await
    }

    async fn push_layer(
        &self,
        descriptor: &Descriptor,
        origins: &BTreeSet<&Origin>,
    ) -> Result<Brought, CacheError> {
        let repository = self.repository();
        let digest = descriptor.digest.to_string();
        let transfer = self.progress.transfer(
            TransferKind::Push,
            human::short_digest(&digest),
            repository.registry(),
            Some(descriptor.size),
        );
        let reached = |bytes: u64| transfer.reached(bytes);
        let elsewhere = |other: &&Repository| *other != repository;
        let from: Vec<Repository> = origins
            .iter()
            .filter_map(|origin| origin.repository())
            .chain(self.target.mount_from)
            .filter(elsewhere)
            .filter(|other| other.registry() == repository.registry())
            .cloned()
            .collect();
        let source = self.store.blob_path(&descriptor.digest);
        let pushed = if self.store.has_blob(descriptor) {
            self.client.push_blob(repository, descriptor, &source, &from, &reached).await?
        } else if let Some(origin) = origins.iter().find_map(|origin| origin.repository()) {
            self.client.copy_blob(origin, repository, descriptor, &reached).await?
        } else if let Some(Origin::Layout(path)) = origins.iter().next() {
            let scratch = self.store.scratch_dir()?;
            let file = scratch.path().join("blob");
            tokio::task::block_in_place(|| Layout::open(path)?.copy_blob(descriptor, &file))?;
            // A registry may lose the blob until its manifests are there: it is sent again from the store.
            self.store.adopt_blob(&file, &descriptor.digest)?;
            self.client.push_blob(repository, descriptor, &source, &from, &reached).await?
        } else {
            return Err(CacheError::Missing(descriptor.digest));
        };
        let (end, brought) = match pushed {
            Pushed::Uploaded => (TransferEnd::Transferred, Brought::Sent),
            Pushed::Mounted => (TransferEnd::Mounted, Brought::Mounted),
            Pushed::AlreadyThere => (TransferEnd::AlreadyThere, Brought::Present),
        };
        transfer.finish(end);
        Ok(brought)
    }
}
