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

/// A record that the cache does not have under these keys: none, where it is known.
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
    if !pending.iter().all(Pending::is_known) {
        export.push_config().await?;
    }
    // A layer goes before its records, and once for all of them.
    let mut by_layer: BTreeMap<Digest, Vec<Pending<'_>>> = BTreeMap::new();
    for pending in pending {
        by_layer.entry(pending.entry.blob.descriptor.digest).or_default().push(pending);
    }
    let incomplete: Vec<Vec<Pending<'_>>> = stream::iter(by_layer.into_values())
        .map(|pending| export.incomplete(pending))
        .buffered(PARALLEL)
        .try_filter_map(|pending| async { Ok(pending) })
        .try_collect()
        .await?;
    stream::iter(incomplete.into_iter().map(Ok))
        .try_for_each_concurrent(PARALLEL_LAYERS, |pending| export.push(pending))
        .await?;
    match export.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

impl Pending<'_> {
    fn is_known(&self) -> bool {
        self.keys.is_empty()
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

    /// The record, with the keys under which the cache does not have it. A question costs less than writing,
    /// and in most builds most are there. `None` where it cannot be written at all.
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

    /// Results of one layer, where there is something to be done for them. Where all records are known their
    /// layer should be there, too; but a registry may lose it.
    async fn incomplete(&self, pending: Vec<Pending<'a>>) -> Result<Option<Vec<Pending<'a>>>, CacheError> {
        let known = pending.iter().all(Pending::is_known);
        let Some(first) = pending.first().filter(|_| known) else { return Ok(Some(pending)) };
        if !self.client.exists_blob(self.repository(), &first.entry.blob.descriptor).await? {
            return Ok(Some(pending));
        }
        self.count(|exported| exported.known += pending.len());
        Ok(None)
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
            // Whoever has the record cannot do better; the others cannot be written.
            Err(error) if error.is_of_one_record() => {
                let known = pending.iter().filter(|one| one.is_known()).count();
                self.count(|exported| exported.lost += known);
                if known == pending.len() {
                    return Ok(());
                }
                return self.keep(error);
            }
            Err(error) => return Err(error),
        }
        let (known, pending): (Vec<_>, Vec<_>) = pending.into_iter().partition(Pending::is_known);
        self.count(|exported| exported.known += known.len());
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
        // A layer that was found in this very cache may be elsewhere, too.
        let mut others = origins.iter().filter_map(|origin| origin.repository());
        let own = others.clone().next();
        let pushed = if self.store.has_blob(descriptor) {
            self.client.push_blob(repository, descriptor, &source, &from, &reached).await?
        } else if let Some(origin) = others.find(elsewhere).or(own) {
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
