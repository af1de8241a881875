//! A context: files that COPY and ADD can reach, seen as a tree of layer entries.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::facts::Known;
use super::select::{Selected, select};
use super::stat_cache::StatCache;
use super::walk::{Walked, processors, walk};
use super::{SourceError, sockets};
use crate::dockerfile::Selection;
use crate::dockerfile::ignore::Ignore;
use crate::layer::{Change, Content, LayerIndex, LayerPath, Tree};

/// Files that COPY and ADD can reach: those of a directory, or gathered from elsewhere.
///
/// The tree of a directory holds everything that `.dockerignore` leaves, owned by root; owners of the
/// machine that builds mean nothing in an image.
#[derive(Debug)]
pub struct Context {
    files: Files,
    ignore: Ignore,
    tree: Tree,
    known: Known,
    sockets: Vec<LayerPath>,
    hint: String,
}

impl Context {
    /// Walks `directory` and notes what is in it. No file is opened yet.
    ///
    /// # Errors
    ///
    /// Fails where the directory or one below it cannot be read, or holds a name that no layer can.
    pub fn open(directory: &Path, ignore: Ignore) -> Result<Self, SourceError> {
        Self::open_with(directory, ignore, None)
    }

    /// As [`Context::open`]. Files of which `stats` knows that they have not changed are not opened
    /// later either; [`Context::keep_stats`] keeps there what was learned.
    ///
    /// # Errors
    ///
    /// As [`Context::open`]. A cache that cannot be used is no error.
    pub fn open_with(
        directory: &Path,
        ignore: Ignore,
        stats: Option<StatCache>,
    ) -> Result<Self, SourceError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty())
            .map_err(|errno| SourceError::io("open the build context", directory, errno))?;
        let Walked { entries, stats: found, sockets } = walk(root.as_fd(), &ignore, processors)?;
        let known = stats.map(|cache| {
            let recalled = cache.recall(entries.iter().map(|entry| &entry.path).zip(&found));
            Known::recalled(cache, recalled)
        });
        let index = LayerIndex::of_sorted(entries)?;
        Ok(Self {
            ignore,
            sockets,
            known: known.unwrap_or_default(),
            ..Self::new(Files::Beneath(Arc::new(root)), Tree::new(vec![Arc::new(index)]))
        })
    }

    /// A context of files that were gathered from somewhere else. Nothing of it is ignored, and of
    /// two entries with one path the later counts.
    ///
    /// # Errors
    ///
    /// Fails for a file below a file, and for a hard link whose file another entry replaces.
    pub fn gathered(changes: Vec<Change>) -> Result<Self, SourceError> {
        let index = LayerIndex::from_changes(&changes, None)?;
        let contents = changes.into_iter().map(|change| (change.entry.path, change.content)).collect();
        Ok(Self::of(index, contents))
    }

    /// A context without any file. `why` is what people are told when a copy finds nothing in it,
    /// e.g. that standard input holds a Dockerfile alone.
    pub fn empty(why: impl Into<String>) -> Self {
        Self::new(Files::Gathered(HashMap::new()), Tree::default()).with_hint(why)
    }

    /// Files whose data is kept at `contents`.
    pub(super) fn of(index: LayerIndex, contents: HashMap<LayerPath, Content>) -> Self {
        Self::new(Files::Gathered(contents), Tree::new(vec![Arc::new(index)]))
    }

    fn new(files: Files, tree: Tree) -> Self {
        Self {
            files,
            ignore: Ignore::none(),
            tree,
            known: Known::default(),
            sockets: Vec::new(),
            hint: "paths are relative to the build context".to_owned(),
        }
    }

    /// The same files, with other advice for people whose copy finds nothing.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// What is in the context.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What a selection takes.
    ///
    /// # Errors
    ///
    /// As [`select`]; a path that `.dockerignore` hides is not found, with the rule.
    pub fn select(&self, selection: &Selection) -> Result<Vec<Selected>, SourceError> {
        select(self.tree(), selection).map_err(|error| match error {
            SourceError::NotFound { path, .. } if sockets::leads_to(&self.tree, &self.sockets, &path) => {
                SourceError::Socket { path }
            }
            SourceError::NotFound { path, hint, .. } => SourceError::NotFound {
                ignored_by: self.ignored_by(path.as_bytes()),
                hint: hint.or_else(|| Some(self.hint.clone())),
                path,
            },
            other => other,
        })
    }

    /// The sockets that a selection would take if an image could hold any.
    ///
    /// # Errors
    ///
    /// As [`Context::select`].
    pub fn sockets_in(&self, selection: &Selection) -> Result<Vec<LayerPath>, SourceError> {
        sockets::taken(&self.tree, &self.sockets, selection)
    }

    /// The data of a regular file.
    pub fn content(&self, path: &LayerPath) -> Content {
        match &self.files {
            Files::Beneath(root) => {
                let (root, path_of) = (Arc::clone(root), path.as_os_path().to_owned());
                match self.known_state(path) {
                    Some(seen) => Content::Seen { root, path: path_of, seen },
                    None => Content::Beneath { root, path: path_of },
                }
            }
            Files::Gathered(contents) => contents.get(path).cloned().unwrap_or(Content::Empty),
        }
    }

    /// The whole of a small file; `None` where nothing is at the path. Links are followed inside
    /// the context.
    ///
    /// # Errors
    ///
    /// Fails for what is no regular file, for one of more than `limit` bytes, and where it cannot
    /// be read.
    pub fn read_file(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let resolved = self.tree.resolve(path.as_bytes(), &LayerPath::root(), true)?;
        if resolved.node.is_none() {
            return Ok(None);
        }
        let unreadable = |reason| SourceError::Unreadable { path: path.to_owned(), reason };
        let Some(file) = self.tree.file(&resolved.path) else {
            return Err(unreadable("is not a regular file".to_owned()));
        };
        let mut bytes = Vec::new();
        let opened = self.content(&file.path).open()?;
        opened
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| SourceError::io("read", file.path.as_os_path(), error))?;
        if bytes.len() as u64 > limit {
            return Err(unreadable(format!("is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// The directory whose files these are, if they are one's.
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        match &self.files {
            Files::Beneath(root) => Some(root.as_fd()),
            Files::Gathered(_) => None,
        }
    }

    /// What is known of the files.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// The rule of `.dockerignore` that hides a path, e.g. `.dockerignore:3: *.log`.
    pub fn ignored_by(&self, path: &[u8]) -> Option<String> {
        let verdict = self.ignore.verdict_of(path);
        let rule = verdict.rule.filter(|_| verdict.ignored)?;
        Some(self.ignore.describe(rule))
    }
}

/// Where the files of a context are.
#[derive(Debug)]
enum Files {
    /// Below a directory that others may change at any time.
    Beneath(Arc<OwnedFd>),
    /// In places of their own.
    Gathered(HashMap<LayerPath, Content>),
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
