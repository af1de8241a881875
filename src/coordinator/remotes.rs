//! Files from web servers and repositories.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::error::DISK_FULL;
use super::options::ContextAt;
use super::{BuildError, ErrorKind, Options};
use crate::dockerfile::{GitAddress, without_userinfo};
use crate::engine::Cancel;
use crate::image::Digest;
use crate::layer::{Content, Limits};
use crate::plan::{FileSource, WantedFiles};
use crate::progress::{Progress, TransferEnd, TransferKind};
use crate::registry::{Client, Download, Downloaded, WebUrl};
use crate::secrets::Secrets;
use crate::source::git::{self, GitEnvironment, GitRequest, GitTree};
use crate::source::{Context, Input, SourceError, remote};
use crate::store::{DownloadRecord, Store};

/// What stands in for the time of a file whose server tells none.
const NO_TIME: i64 = 0;

/// Fetches files from elsewhere, and keeps what can be used again in the store.
#[derive(Debug, Clone)]
pub struct Remotes {
    /// Speaks with web servers.
    pub client: Client,
    /// Hears of downloads.
    pub progress: Progress,
    /// Reads repositories.
    pub repositories: Repositories,
}

/// Fetches commits.
#[derive(Debug, Clone)]
pub struct Repositories {
    /// Keeps downloads and repositories.
    pub store: Arc<Store>,
    /// May hold credentials for servers.
    pub secrets: Secrets,
    /// What `git` gets of this machine.
    pub git: GitEnvironment,
    /// Seconds since 1970.
    pub now: i64,
    /// Stops `git`.
    pub cancel: Cancel,
}

/// A file of a web server, in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// Number of bytes.
    pub size: u64,
    /// When it was changed, in seconds since 1970.
    pub mtime: i64,
}

impl Remotes {
    /// Fetches what a plan wants.
    pub(super) async fn files(
        &self,
        wanted: WantedFiles,
        options: &Options,
    ) -> Result<(FileSource, Context), BuildError> {
        let fetched = match &wanted.source {
            FileSource::Http { url, checksum } => match self.web(url, checksum.as_ref()).await {
                Ok(file) => single(&file),
                Err(error) => Err(error),
            },
            FileSource::Git { address, keep_git_dir, checksum } => {
                self.repository(address, false, keep_git_dir.then_some(true), checksum.clone()).await
            }
            FileSource::Context | FileSource::Named(_) => match options.context_at(&wanted.source) {
                Some(ContextAt::Web(url)) => self.web_context(url).await,
                Some(ContextAt::Git(address)) => self.repository(address, true, None, None).await,
                _ => Err(BuildError::new(ErrorKind::Invalid, "a context without files is not fetched")),
            },
        };
        let context = fetched.map_err(|error| error.spanning(wanted.span))?;
        Ok((wanted.source, context))
    }

    /// A file as a context: the files of an archive, else the file itself.
    async fn web_context(&self, url: &str) -> Result<Context, BuildError> {
        let file = self.web(url, None).await?;
        let spool = self.repositories.store.scratch_dir()?;
        let opened = std::fs::File::open(&file.path).map_err(|error| {
            BuildError::new(ErrorKind::Retryable, format!("failed to read a download: {error}"))
        })?;
        let shown = without_userinfo(url);
        spawn_blocking(move || match Input::read(opened, spool.path(), &Limits::default()) {
            Ok(Input::Archive(context)) => Ok(context),
            // Whatever else it is, it is a file.
            Ok(Input::Dockerfile(_)) | Err(SourceError::NotAnArchive(_)) => single(&file),
            Err(error) => Err(explain(error, &shown)),
        })
        .await
        .expect("reading an archive does not panic")
    }

    /// Downloads a file, where it is not in the store as the server has it now.
    ///
    /// # Errors
    ///
    /// Fails where the server cannot be reached or refuses, and for a file that does not hash to
    /// `checksum`.
    pub async fn web(&self, text: &str, checksum: Option<&Digest>) -> Result<WebFile, BuildError> {
        let url: WebUrl =
            text.parse().map_err(|error| BuildError::new(ErrorKind::Invalid, format!("{error}")))?;
        let shown = url.to_string();
        let authorization = remote::authorisation(&self.repositories.secrets, &url)
            .map_err(|error| explain(error, &shown))?;
        let known = self.repositories.store.download(&url);
        if let (Some(checksum), Some(known)) = (checksum, &known)
            && known.digest == *checksum
            && let Some(file) = self.in_store(&url, known)
        {
            return Ok(file);
        }
        let known = known.filter(|known| self.in_store(&url, known).is_some());
        let scratch = self.repositories.store.scratch_dir()?;
        let path = scratch.path().join("file");
        let transfer =
            self.progress.transfer(TransferKind::Pull, remote::file_name(&url), url.authority(), None);
        let request = Download {
            url: &url,
            authorization: authorization.as_ref(),
            etag: known.as_ref().and_then(|known| known.etag.as_deref()),
            last_modified: known.as_ref().and_then(|known| known.last_modified.as_deref()),
            checksum: checksum.copied(),
        };
        let downloaded = self.client.download(&request, &path, &|bytes| transfer.reached(bytes)).await?;
        let record = match (downloaded, known) {
            (Downloaded::Whole(file), _) => {
                self.repositories.store.adopt_blob(&path, &file.digest)?;
                let record = DownloadRecord::new(&url, &file);
                self.repositories.store.put_download(&record)?;
                transfer.finish(TransferEnd::Transferred);
                record
            }
            (Downloaded::NotModified, Some(known)) => {
                transfer.finish(TransferEnd::AlreadyThere);
                known
            }
            (Downloaded::NotModified, None) => {
                let text = format!("{shown}: the server says that nothing has changed, and nothing is here");
                return Err(BuildError::new(ErrorKind::Retryable, text));
            }
        };
        if let Some(checksum) = checksum.filter(|checksum| **checksum != record.digest) {
            let text = format!("{shown}: digest mismatch {}: {checksum}", record.digest);
            return Err(BuildError::new(ErrorKind::Step, text)
                .with_hint("is it the right file, and --checksum current?"));
        }
        self.in_store(&url, &record)
            .ok_or_else(|| BuildError::new(ErrorKind::Retryable, format!("{shown}: the download is damaged")))
    }

    /// A downloaded file, if it is whole.
    fn in_store(&self, url: &WebUrl, record: &DownloadRecord) -> Option<WebFile> {
        Some(WebFile {
            path: self.repositories.store.verified_blob(&record.digest, record.size)?,
            name: remote::file_name(url),
            size: record.size,
            mtime: record.mtime.unwrap_or(NO_TIME),
        })
    }

    async fn repository(
        &self,
        address: &str,
        is_context: bool,
        keep_git_dir: Option<bool>,
        checksum: Option<String>,
    ) -> Result<Context, BuildError> {
        let repositories = self.repositories.clone();
        let address = git_address(address, is_context)?;
        let tree = spawn_blocking(move || {
            let stop = || repositories.cancel.is_cancelled();
            repositories.fetch(&address, keep_git_dir, checksum.as_deref(), &stop)
        })
        .await
        .expect("reading a repository does not panic")?;
        Context::gathered(tree.changes).map_err(|error| explain(error, "the repository"))
    }
}

impl Repositories {
    /// Fetches the files of a commit. Nothing but this thread is used. `stop` is asked again and again
    /// whether to stop.
    ///
    /// # Errors
    ///
    /// Fails where `git` or the server fails, for what the repository does not have, and for what no
    /// honest repository has.
    pub fn fetch(
        &self,
        address: &GitAddress,
        keep_git_dir: Option<bool>,
        checksum: Option<&str>,
        stop: &dyn Fn() -> bool,
    ) -> Result<GitTree, BuildError> {
        let spool = self.store.scratch_dir()?;
        let request = GitRequest { address, checksum, keep_git_dir, now: self.now, environment: &self.git };
        git::fetch(&request, spool.path(), &self.store.repositories(), &self.secrets, stop)
            .map_err(|error| explain(error, &address.to_string()))
    }
}

/// Reads the address of a repository.
///
/// # Errors
///
/// Fails for what is none.
pub(super) fn git_address(text: &str, is_context: bool) -> Result<GitAddress, BuildError> {
    let parsed = if is_context { GitAddress::parse_context(text) } else { GitAddress::parse(text) };
    let shown = without_userinfo(text);
    match parsed {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(BuildError::new(ErrorKind::Invalid, format!("{shown} is not a git repository"))),
        Err(error) => Err(BuildError::new(ErrorKind::Invalid, format!("{shown}: {error}"))),
    }
}

fn single(file: &WebFile) -> Result<Context, BuildError> {
    remote::single_file(Content::File(file.path.clone()), file.size, &file.name, file.mtime)
        .map_err(|error| explain(error, &file.name))
}

/// A failure to get files of `what`, in the terms of a build.
pub fn explain(error: SourceError, what: &str) -> BuildError {
    let text = BuildError::describe(&error);
    let (kind, hint) = match &error {
        error if error.is_disk_full() => (ErrorKind::Retryable, Some(DISK_FULL)),
        SourceError::Git(error) if error.is_cancelled() => (ErrorKind::Retryable, None),
        SourceError::Git(error) if error.is_invalid() => (ErrorKind::Invalid, error.hint()),
        SourceError::Git(error) if error.is_denied() => (ErrorKind::Authentication, error.hint()),
        SourceError::Git(error) if error.is_missing() => (ErrorKind::Platform, error.hint()),
        SourceError::Git(error) => (ErrorKind::Retryable, error.hint()),
        SourceError::Io { source, .. }
            if matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
            ) =>
        {
            (ErrorKind::Invalid, None)
        }
        SourceError::Io { .. } => (ErrorKind::Retryable, None),
        _ => (ErrorKind::Invalid, None),
    };
    let text = if text.contains(what) { text } else { format!("{what}: {text}") };
    let failure = BuildError::new(kind, text);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
