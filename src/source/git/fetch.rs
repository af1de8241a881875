//! The front door: from a request to the files of a commit.

use std::path::Path;

use super::command::Host;
use super::credentials::Credentials;
use super::error::GitError;
use super::gather::Gather;
use super::request::{GitCommit, GitRequest, GitTree};
use crate::dockerfile::GitTime;
use crate::secrets::Secrets;
use crate::source::{SourceError, Spool};

/// Finds out what commit a request means right now. Nothing is asked where it says so in full.
///
/// `spool_dir` is for temporary files, `cache_dir` for bare repositories, which stay. `cancel` is
/// asked again and again whether to stop.
///
/// # Errors
///
/// Fails where git or the server fails, where there is no such reference, and where the commit is
/// not the expected one.
pub fn resolve(
    request: &GitRequest<'_>,
    spool_dir: &Path,
    cache_dir: &Path,
    secrets: &Secrets,
    cancel: &dyn Fn() -> bool,
) -> Result<GitCommit, SourceError> {
    keeps_git_dir(request)?;
    let credentials = Credentials::new(secrets, &request.address.remote);
    let host = Host::new(request.environment, credentials, spool_dir, cache_dir, cancel)?;
    Ok(super::resolve::commit(&host, request, cache_dir)?)
}

/// Resolves a request and fetches the files of its commit.
///
/// # Errors
///
/// As [`resolve`] and [`fetch_commit`].
pub fn fetch(
    request: &GitRequest<'_>,
    spool_dir: &Path,
    cache_dir: &Path,
    secrets: &Secrets,
    cancel: &dyn Fn() -> bool,
) -> Result<GitTree, SourceError> {
    let commit = resolve(request, spool_dir, cache_dir, secrets, cancel)?;
    fetch_commit(request, &commit, spool_dir, cache_dir, secrets, cancel)
}

/// Fetches the files of a commit that [`resolve`] found. The server is not asked for what is in
/// `cache_dir` already.
///
/// # Errors
///
/// Fails where git or the server fails, where the directory is none, and for whatever in the
/// repository or one of its submodules is refused.
pub fn fetch_commit(
    request: &GitRequest<'_>,
    commit: &GitCommit,
    spool_dir: &Path,
    cache_dir: &Path,
    secrets: &Secrets,
    cancel: &dyn Fn() -> bool,
) -> Result<GitTree, SourceError> {
    let address = request.address;
    let keep_git_dir = keeps_git_dir(request)?;
    let credentials = Credentials::new(secrets, &address.remote);
    let host = Host::new(request.environment, credentials, spool_dir, cache_dir, cancel)?;
    let submodules = address.submodules.unwrap_or(true);
    let mut gather = Gather::new(&host, cache_dir, Spool::new(spool_dir)?, submodules);
    if address.mtime == GitTime::Checkout {
        gather.mtime = Some(request.now);
    }
    let subdir = address.subdir.as_deref();
    let (commit, commit_time) = gather.commit(&address.remote, commit, subdir, keep_git_dir)?;
    Ok(GitTree { commit, changes: gather.changes, commit_time })
}

/// Whether `.git` is wanted.
fn keeps_git_dir(request: &GitRequest<'_>) -> Result<bool, GitError> {
    let keep = match (request.keep_git_dir, request.address.keep_git_dir) {
        (Some(flag), Some(query)) if flag != query => {
            return Err(GitError::Invalid("inconsistent keep-git-dir configuration".to_owned()));
        }
        (flag, query) => flag.or(query).unwrap_or(false),
    };
    match &request.address.subdir {
        Some(subdir) if keep => Err(GitError::Invalid(format!(
            "keep-git-dir cannot be used with the directory {subdir:?}: `.git` belongs to the whole commit"
        ))),
        _ => Ok(keep),
    }
}
