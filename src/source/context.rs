//! A context: files that COPY and ADD can reach, seen as a tree of layer entries.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};

use super::facts::Facts;
use super::select::{Selected, select};
use super::{SourceError, sockets};
use crate::dockerfile::Selection;
use crate::dockerfile::ignore::{Ignore, Verdict};
use crate::layer::{Change, Content, Entry, EntryKind, LayerIndex, LayerPath, Tree};

/// Files that COPY and ADD can reach: those of a directory, or gathered from elsewhere.
///
/// The tree of a directory holds everything that `.dockerignore` leaves, owned by root; owners of the
/// machine that builds mean nothing in an image.
#[derive(Debug)]
pub struct Context {
    files: Files,
    ignore: Ignore,
    tree: Tree,
    facts: Mutex<HashMap<LayerPath, Arc<Facts>>>,
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
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty())
            .map_err(|errno| SourceError::io("open the build context", directory, errno))?;
        let mut walk =
            Walk { ignore: &ignore, changes: Vec::new(), links: BTreeMap::new(), sockets: Vec::new() };
        walk.directory(root.as_fd(), &LayerPath::root(), &Verdict::root())?;
        let Walk { changes, sockets, .. } = walk;
        let index = LayerIndex::from_changes(&changes, None)?;
        Ok(Self {
            ignore,
            sockets,
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
            facts: Mutex::default(),
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
                Content::Beneath { root: Arc::clone(root), path: path.as_os_path().to_owned() }
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

    pub(super) fn known_facts(&self) -> &Mutex<HashMap<LayerPath, Arc<Facts>>> {
        &self.facts
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

/// A walk in progress.
struct Walk<'a> {
    ignore: &'a Ignore,
    changes: Vec<Change>,
    links: BTreeMap<(u64, u64), LayerPath>,
    sockets: Vec<LayerPath>,
}

impl Walk<'_> {
    /// Adds what is below a directory, in order of names.
    fn directory(
        &mut self,
        fd: BorrowedFd<'_>,
        path: &LayerPath,
        verdict: &Verdict,
    ) -> Result<(), SourceError> {
        let fail = |errno| SourceError::io("read the directory", path.as_os_path(), errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        for name in names {
            let child = path.join(name.to_bytes())?;
            let verdict = self.ignore.verdict(child.as_bytes(), verdict);
            self.child(fd, &name, child, &verdict)?;
        }
        Ok(())
    }

    fn child(
        &mut self,
        fd: BorrowedFd<'_>,
        name: &CStr,
        path: LayerPath,
        verdict: &Verdict,
    ) -> Result<(), SourceError> {
        if verdict.ignored && !self.ignore.may_reinclude_below(path.as_bytes()) {
            return Ok(());
        }
        let fail = |errno| SourceError::io("read", path.as_os_path(), errno);
        let stat = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => EntryKind::Directory,
            _ if verdict.ignored => return Ok(()),
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                match (stat.st_nlink > 1).then(|| self.links.get(&(stat.st_dev, stat.st_ino))).flatten() {
                    Some(first) => EntryKind::HardLink { target: first.clone() },
                    None => {
                        self.links.insert((stat.st_dev, stat.st_ino), path.clone());
                        EntryKind::File { size }
                    }
                }
            }
            FileType::Symlink => {
                let target = readlinkat(fd, name, Vec::new()).map_err(fail)?;
                EntryKind::Symlink { target: target.into_bytes() }
            }
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice => EntryKind::Char {
                major: rustix::fs::major(stat.st_rdev),
                minor: rustix::fs::minor(stat.st_rdev),
            },
            FileType::BlockDevice => EntryKind::Block {
                major: rustix::fs::major(stat.st_rdev),
                minor: rustix::fs::minor(stat.st_rdev),
            },
            _ => {
                self.sockets.push(path);
                return Ok(());
            }
        };
        let is_directory = kind == EntryKind::Directory;
        let mut entry = Entry::new(path.clone(), kind, stat.st_mode & 0o7777);
        entry.mtime = stat.st_mtime;
        let before = self.changes.len();
        self.changes.push(Change { entry, content: Content::Empty });
        if is_directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = openat(fd, name, flags, Mode::empty()).map_err(fail)?;
            self.directory(below.as_fd(), &path, verdict)?;
            // An ignored directory is there for the sake of what is included below it.
            if verdict.ignored && self.changes.len() == before + 1 {
                self.changes.pop();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
