//! A context: files that COPY and ADD can reach, seen as a tree of layer entries.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};

use super::SourceError;
use super::facts::Facts;
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
    skipped: Vec<String>,
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
            Walk { ignore: &ignore, changes: Vec::new(), links: BTreeMap::new(), skipped: Vec::new() };
        walk.directory(root.as_fd(), &LayerPath::root(), &Verdict::root())?;
        let Walk { changes, skipped, .. } = walk;
        let index = LayerIndex::from_changes(&changes, None)?;
        Ok(Self {
            files: Files::Beneath(Arc::new(root)),
            tree: Tree::new(vec![Arc::new(index)]),
            ignore,
            facts: Mutex::default(),
            skipped,
        })
    }

    /// A context of files that were gathered from somewhere else. Nothing of it is ignored.
    ///
    /// # Errors
    ///
    /// Fails where two entries have one path.
    pub fn gathered(changes: Vec<Change>) -> Result<Self, SourceError> {
        let index = LayerIndex::from_changes(&changes, None)?;
        let contents = changes.into_iter().map(|change| (change.entry.path, change.content));
        Ok(Self {
            files: Files::Gathered(contents.collect()),
            tree: Tree::new(vec![Arc::new(index)]),
            ignore: Ignore::none(),
            facts: Mutex::default(),
            skipped: Vec::new(),
        })
    }

    /// What is in the context.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Paths that no image can hold, e.g. sockets.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
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
    skipped: Vec<String>,
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
                self.skipped.push(path.to_string());
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
