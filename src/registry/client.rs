//! The client: what the rest of the program can ask of registries.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::image::{Descriptor, Digest, RawManifest, Reference, Repository};

use super::config::Config;
use super::error::RegistryError;
use super::flight::Source;
use super::follow::Follow;
use super::session::{Session, Shared};
use super::web::{self, Download, Downloaded};
use super::{download, manifests, records, upload};

/// A client for all registries of one build.
///
/// Clones share connections, tokens, retry budgets and uploads. Nothing is connected to and no file is
/// read before the first request that needs it; certificate authorities wait for the first HTTPS
/// request. A rustls crypto provider must have been installed by then.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there, or another task of this process has just brought it.
    AlreadyThere,
    /// The registry took it from another of its repositories.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

/// The name under which a manifest is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Its digest.
    Digest,
    /// A tag.
    Tag(&'a str),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with these settings.
    ///
    /// # Errors
    ///
    /// Fails for a `User-Agent` that no header can carry.
    pub fn new(config: Config) -> Result<Self, RegistryError> {
        if reqwest::header::HeaderValue::from_str(&config.user_agent).is_err() {
            return Err(RegistryError::configuration("the user agent is not text for a header".to_owned()));
        }
        Ok(Self { shared: Arc::new(Shared::new(config)) })
    }

    fn session(&self, repository: &Repository) -> Session {
        self.shared.session(repository)
    }

    /// Fetches the manifest or index that `reference` names: by digest where it has one, else by tag.
    ///
    /// # Errors
    ///
    /// Fails when there is no such image, for content that does not match its digest, for more than
    /// 4 MiB, and when the registry refuses or cannot be reached.
    pub async fn resolve(&self, reference: &Reference) -> Result<RawManifest, RegistryError> {
        manifests::resolve(&self.session(reference.repository()), reference).await
    }

    /// The digest that `reference` names now, without fetching the manifest where the registry tells.
    ///
    /// A reference with a digest is answered without a request. Content is not verified: fetch by the
    /// digest to be sure.
    ///
    /// # Errors
    ///
    /// As [`Client::resolve`].
    pub async fn resolve_digest(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        manifests::resolve_digest(&self.session(reference.repository()), reference).await
    }

    /// Fetches the manifest that `descriptor` points to; digest and size are verified.
    ///
    /// # Errors
    ///
    /// As [`Client::resolve`].
    pub async fn manifest(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<RawManifest, RegistryError> {
        manifests::child(&self.session(repository), descriptor).await
    }

    /// Whether `repository` holds the manifest `digest`. Then the registry holds all that it names, and
    /// none of it needs to be pushed.
    ///
    /// For a repository that is about to be pushed to: what was found there, or pushed, is not asked for
    /// again, and [`Client::push_manifest`] goes by the answer. What the registry does not tell counts
    /// as no.
    ///
    /// # Errors
    ///
    /// Fails when the registry refuses or cannot be reached.
    pub async fn exists_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        manifests::exists(&self.session(repository), *digest).await
    }

    /// Whether `tag` of `repository` names `digest` now; then the manifest itself is there, too.
    ///
    /// For a repository that is about to be pushed to, as [`Client::exists_manifest`]: the next
    /// [`Client::push_manifest`] for the tag goes by the answer.
    ///
    /// # Errors
    ///
    /// Fails for text that is no tag, and when the registry refuses or cannot be reached.
    pub async fn is_tagged(
        &self,
        repository: &Repository,
        tag: &str,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        manifests::is_tagged(&self.session(repository), tag, *digest).await
    }

    /// Fetches a blob of at most `limit` bytes into memory; digest and size are verified.
    ///
    /// # Errors
    ///
    /// Fails for a descriptor of more than `limit` bytes, for wrong content after a second try, and when
    /// the registry refuses or cannot be reached.
    pub async fn fetch_small(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        download::fetch_small(&self.session(repository), descriptor, limit).await
    }

    /// Fetches a blob into `file`, which is created or overwritten.
    ///
    /// Broken connections are resumed. `progress` is told how many bytes are there; the number falls when
    /// the transfer has to begin anew. The file is left only when all of it was verified; it is not
    /// synced to disk. Two calls must not share a file.
    ///
    /// # Errors
    ///
    /// Fails for wrong content after a second try, when the file cannot be written, and when the
    /// registry refuses or cannot be reached.
    pub async fn pull_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        file: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RegistryError> {
        download::pull(&self.session(repository), descriptor, file, None, progress).await
    }

    /// As [`Client::pull_blob`], for a file that is read while it grows: `follow` is told of the bytes that
    /// are in it.
    ///
    /// `follow` is told of the end however the pull ends, also when its future is dropped.
    ///
    /// # Errors
    ///
    /// As [`Client::pull_blob`].
    pub async fn pull_followed(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        file: &Path,
        follow: &Follow,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RegistryError> {
        download::pull(&self.session(repository), descriptor, file, Some(follow), progress).await
    }

    /// Fetches a file from a web server into `file`, which is created or overwritten.
    ///
    /// Plain HTTP is spoken to any host that the URL names so. Broken connections are resumed where the
    /// server says what it continues. The body is kept as it is sent, whatever its `Content-Encoding`.
    /// `progress` is told how many bytes are there; the number falls when the transfer has to begin anew.
    /// The file is left only when it is whole and has the wanted checksum; it is not synced to disk. Two
    /// calls must not share a file.
    ///
    /// # Errors
    ///
    /// Fails for content without the wanted checksum, when the file cannot be written, and when the
    /// server refuses or cannot be reached.
    pub async fn download(
        &self,
        request: &Download<'_>,
        file: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Downloaded, RegistryError> {
        web::download(&self.shared, request, file, progress).await
    }

    /// Brings a blob to `repository`: checks for it, mounts it from the first of `mount_from` that is at
    /// the same registry, or uploads `source`.
    ///
    /// Concurrent calls for one blob and repository share one upload. `source` must stay until the
    /// manifests that name the blob are pushed, since registries lose blobs. `progress` is told how many
    /// bytes were sent; the number falls when the upload has to begin anew.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read or has another size, and when the registry refuses or cannot
    /// be reached.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        source: &Path,
        mount_from: &[Repository],
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Pushed, RegistryError> {
        let session = self.session(repository);
        let upload = upload::push(&session, descriptor, source, mount_from, progress);
        self.shared.flights.share(repository, descriptor, Source::File(source.to_owned()), upload).await
    }

    /// Whether `repository` holds a blob; what the registry does not tell counts as no.
    ///
    /// For a repository that may be pushed to next. The answer is always asked for anew.
    ///
    /// # Errors
    ///
    /// Fails when the registry refuses or cannot be reached.
    pub async fn exists_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, RegistryError> {
        upload::exists(&self.session(repository), descriptor).await
    }

    /// Whether `repository` can be pushed to: begins an upload, which the registry clears away by
    /// itself.
    ///
    /// # Errors
    ///
    /// Fails when the registry refuses or cannot be reached.
    pub async fn may_push(&self, repository: &Repository) -> Result<(), RegistryError> {
        upload::begin(&self.session(repository)).await
    }

    /// Brings a blob from one repository to another, of the same or another registry, without a file:
    /// checks for it, mounts it where the registry is the same, or sends on what arrives.
    ///
    /// Memory holds the few pieces between the two connections, not the blob. A wrong blob is never
    /// completed at the target. A connection that breaks is begun again, or resumed, on the side where it
    /// broke. Uploads are shared with [`Client::push_blob`]: whoever asks first brings the blob. `progress`
    /// is told how many bytes were sent; the number falls when the upload has to begin anew.
    ///
    /// # Errors
    ///
    /// Fails for wrong content after a second try, when the source has no such blob, and when either
    /// registry refuses or cannot be reached; the error names the repository where it happened.
    pub async fn copy_blob(
        &self,
        from: &Repository,
        to: &Repository,
        descriptor: &Descriptor,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Pushed, RegistryError> {
        let (source, target) = (self.session(from), self.session(to));
        let upload = upload::copy(&source, &target, descriptor, progress);
        self.shared.flights.share(to, descriptor, Source::Repository(from.clone()), upload).await
    }

    /// Fetches the manifest under `tag` with one request; `None` where there is none, or no such
    /// repository. For cache look-ups, of which hundreds may be made at once.
    ///
    /// It takes seconds at most: two tries, then it fails. When a registry refuses, throttles or does not
    /// answer in time, other look-ups there fail at once for half a minute, with the same error.
    ///
    /// # Errors
    ///
    /// Fails for text that is no tag, for more than `limit` bytes, for content that does not match the
    /// registry's own digest, and when the registry refuses or cannot be reached.
    pub async fn find_record(
        &self,
        repository: &Repository,
        tag: &str,
        limit: u64,
    ) -> Result<Option<RawManifest>, RegistryError> {
        records::find(&self.session(repository), tag, limit).await
    }

    /// Puts a manifest under `tag` with one request, without questions before or after: the last writer
    /// wins. All that it names must have been pushed before; blobs that the registry lost since then are
    /// uploaded again.
    ///
    /// # Errors
    ///
    /// Fails for text that is no tag, and when the registry refuses, stores something else, lacks what the
    /// manifest names, or cannot be reached.
    pub async fn put_record(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: &str,
    ) -> Result<(), RegistryError> {
        manifests::put_tag(&self.session(repository), manifest, tag).await
    }

    /// Pushes a manifest or index, byte for byte. All that it names must have been pushed before.
    ///
    /// Nothing is sent where the registry holds it under that name already. Blobs that the registry lost
    /// since they were pushed are uploaded again. A tag that was moved is looked at afterwards, in case
    /// another writer moved it too.
    ///
    /// # Errors
    ///
    /// Fails when the registry refuses, stores something else, lacks what the manifest names, or cannot
    /// be reached; for a tag also when another writer moved it meanwhile.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        target: Target<'_>,
    ) -> Result<(), RegistryError> {
        manifests::push(&self.session(repository), manifest, target).await
    }
}
