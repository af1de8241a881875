//! Gathering the files of a commit and of its submodules.

use std::collections::HashSet;
use std::path::Path;

use super::command::Host;
use super::error::GitError;
use super::git_dir;
use super::repository::{Repository, is_damage};
use super::request::GitCommit;
use super::submodules::{self, Modules};
use super::tree::{self, Blob, Item, ItemKind, refused};
use crate::dockerfile::GitRemote;
use crate::layer::{Change, Content, Entry, EntryKind, LayerPath, Limits};
use crate::source::Spool;

/// How deep submodules of submodules may go.
const DEEPEST: usize = 10;
/// How many submodules a source may have altogether.
const MOST_SUBMODULES: usize = 1000;

/// Entries gathered so far.
pub(super) struct Gather<'a> {
    pub(super) host: &'a Host<'a>,
    pub(super) cache_dir: &'a Path,
    pub(super) spool: Spool,
    pub(super) changes: Vec<Change>,
    /// Whether submodules are fetched, or empty directories.
    pub(super) submodules: bool,
    /// Modification time of everything; `None` until the commit is known.
    pub(super) mtime: Option<i64>,
    paths: HashSet<LayerPath>,
    bytes_left: u64,
    fetched: usize,
}

/// A repository that a path is filled from.
struct Part<'a> {
    remote: &'a GitRemote,
    commit: &'a GitCommit,
    /// Where it goes.
    at: &'a LayerPath,
    subdir: Option<&'a str>,
    keep_git_dir: bool,
}

/// What is read from one repository while nobody else may use it.
struct Portion {
    commit: String,
    time: i64,
    changes: Vec<Change>,
    submodules: Vec<Item>,
    modules: Modules,
}

impl<'a> Gather<'a> {
    pub(super) fn new(host: &'a Host<'a>, cache_dir: &'a Path, spool: Spool, submodules: bool) -> Self {
        Self {
            host,
            cache_dir,
            spool,
            changes: Vec::new(),
            submodules,
            mtime: None,
            paths: HashSet::new(),
            bytes_left: Limits::default().total_bytes,
            fetched: 0,
        }
    }

    /// Gathers a commit. Gives its hash and its time.
    pub(super) fn commit(
        &mut self,
        remote: &GitRemote,
        commit: &GitCommit,
        subdir: Option<&str>,
        keep_git_dir: bool,
    ) -> Result<(String, i64), GitError> {
        let at = LayerPath::root();
        self.part(&Part { remote, commit, at: &at, subdir, keep_git_dir }, &mut Vec::new())
    }

    fn part(
        &mut self,
        part: &Part<'_>,
        above: &mut Vec<(String, String)>,
    ) -> Result<(String, i64), GitError> {
        let portion = self.portion(part)?;
        for change in portion.changes {
            if !self.paths.insert(change.entry.path.clone()) {
                return Err(GitError::Refused {
                    remote: part.remote.to_string(),
                    what: format!("`{}`", change.entry.path),
                    reason: "it stands in the commit twice".to_owned(),
                });
            }
            self.changes.push(change);
        }
        above.push((part.remote.url().to_owned(), portion.commit.clone()));
        for item in portion.submodules {
            let inner = inside(part.subdir, &item.path)?;
            if let Some(Some(remote)) = portion.modules.get(&inner) {
                self.submodule(part, remote, &item, above)?;
            }
        }
        above.pop();
        Ok((portion.commit, portion.time))
    }

    fn submodule(
        &mut self,
        parent: &Part<'_>,
        remote: &GitRemote,
        item: &Item,
        above: &mut Vec<(String, String)>,
    ) -> Result<(), GitError> {
        let fault = |reason: String| GitError::Refused {
            remote: parent.remote.to_string(),
            what: format!("submodule `{}`", item.path),
            reason,
        };
        self.fetched += 1;
        if above.len() > DEEPEST {
            return Err(fault(format!("submodules are nested more than {DEEPEST} deep")));
        }
        if self.fetched > MOST_SUBMODULES {
            return Err(fault(format!("there are more than {MOST_SUBMODULES} submodules")));
        }
        if above.iter().any(|(url, commit)| url == remote.url() && *commit == item.hash) {
            return Err(fault("it holds itself".to_owned()));
        }
        let commit = GitCommit { commit: item.hash.clone(), object: item.hash.clone(), reference: None };
        let at = parent.at.join(&item.path)?;
        self.part(&Part { remote, commit: &commit, at: &at, subdir: None, keep_git_dir: false }, above)?;
        Ok(())
    }

    /// Reads one repository, fetching what is missing. A damaged one is fetched again, once.
    fn portion(&mut self, part: &Part<'_>) -> Result<Portion, GitError> {
        let object = &part.commit.object;
        let repository = Repository::open(self.host, self.cache_dir, part.remote, object.len())?;
        let mut is_fresh = false;
        loop {
            if repository.commit_of(object)?.is_none() {
                match repository.fetch(object) {
                    Err(error) if !is_fresh && is_damage(&error) => {
                        repository.renew()?;
                        is_fresh = true;
                        continue;
                    }
                    result => result?,
                }
                is_fresh = true;
            }
            match self.read(&repository, part) {
                Err(GitError::Failed { .. }) if !is_fresh => {
                    repository.renew()?;
                    is_fresh = true;
                }
                result => return result,
            }
        }
    }

    fn read(&mut self, repository: &Repository<'_>, part: &Part<'_>) -> Result<Portion, GitError> {
        let missing = || GitError::NoSuchRef {
            remote: part.remote.to_string(),
            reference: part.commit.object.clone(),
            nearest: None,
        };
        let commit = repository.commit_of(&part.commit.object)?.ok_or_else(missing)?;
        let time = tree::commit_time(repository, &commit)?;
        let mtime = *self.mtime.get_or_insert(time);
        let top = tree::tree_of(repository, &commit, part.subdir)?;
        let room = Limits::default().entries.saturating_sub(self.changes.len() as u64);
        let items = tree::list(repository, &top, room)?;
        let blobs = tree::blobs(repository, &items, &mut self.spool, &mut self.bytes_left)?;
        let mut changes = Vec::with_capacity(items.len());
        let mut submodules = Vec::new();
        for item in items {
            let blob = |is_link| blobs.get(&(item.hash.clone(), is_link)).cloned();
            let path = part.at.join(&item.path)?;
            let (kind, mode, content) = match item.kind {
                ItemKind::File { executable } => match blob(false) {
                    Some(Blob::File(content, size)) => {
                        (EntryKind::File { size }, if executable { 0o755 } else { 0o644 }, content)
                    }
                    _ => return Err(refused(repository, &path.to_string(), "it has no content")),
                },
                ItemKind::Link => match blob(true) {
                    Some(Blob::Target(target)) => (EntryKind::Symlink { target }, 0o777, Content::Empty),
                    _ => return Err(refused(repository, &path.to_string(), "it has no target")),
                },
                ItemKind::Directory | ItemKind::Submodule => (EntryKind::Directory, 0o755, Content::Empty),
            };
            let mut entry = Entry::new(path, kind, mode);
            entry.mtime = mtime;
            changes.push(Change { entry, content });
            if item.kind == ItemKind::Submodule {
                submodules.push(item);
            }
        }
        let modules = if self.submodules && !submodules.is_empty() {
            submodules::read(repository, &commit)?
        } else {
            Modules::new()
        };
        if part.keep_git_dir {
            changes.extend(git_dir::make(repository, part.commit, &commit, &mut self.spool, time)?);
        }
        Ok(Portion { commit, time, changes, submodules, modules })
    }
}

/// The path of something in a directory of a commit, seen from the commit's root.
fn inside(subdir: Option<&str>, path: &LayerPath) -> Result<LayerPath, GitError> {
    Ok(LayerPath::new(subdir.unwrap_or_default())?.join(path)?)
}
