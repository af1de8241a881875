//! [`DirWriter`]: writes one layer as a directory, to be a lower of an overlay mount.
//!
//! Entries come at their canonical paths, as [`super::build::Builder`] places them, so every parent
//! is a real directory and no link is ever followed. Until the end all directories are private
//! (0700); then their metadata is set, deepest first, and deletions become what overlayfs reads:
//! a character device 0:0, and `user.overlay.opaque`.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use crate::image::Ownership;

use super::attributes::Attributes;
use super::beneath;
use super::content::Content;
use super::copy::Copier;
use super::entry::{Entry, EntryKind, is_reserved, keep_xattr};
use super::error::LayerError;
use super::halt::Halt;
use super::index::{LayerIndex, Shape};
use super::inspect::read_xattrs;
use super::path::LayerPath;

/// Marks a directory as opaque in a mount with `userxattr`.
pub(super) const OPAQUE_MARK: &CStr = c"user.overlay.opaque";

/// Makes something at a name of an open directory.
type Make<'a, T> = dyn Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno> + 'a;
/// Fills a new file of the given size.
type Fill<'a> = dyn FnMut(&mut Copier, &Entry, u64, &mut File) -> Result<(), LayerError> + 'a;

/// Writes entries below one directory.
#[derive(Debug)]
pub(super) struct DirWriter {
    root: OwnedFd,
    /// The directory that was written to last.
    current: (LayerPath, Arc<OwnedFd>),
    attributes: Attributes,
    copier: Copier,
}

fn private() -> Mode {
    Mode::from_raw_mode(0o700)
}

impl DirWriter {
    /// Writes below `into`, a directory of our own.
    pub(super) fn new(into: &Path, ownership: Ownership) -> Result<Self, LayerError> {
        let failed = |error| LayerError::io("open", into.as_os_str().as_bytes(), error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, into, flags, Mode::empty()).map_err(failed)?;
        let again =
            root.try_clone().map_err(|error| LayerError::io("open", into.as_os_str().as_bytes(), error))?;
        let attributes = Attributes::new(root.as_fd(), ownership).map_err(failed)?;
        let current = (LayerPath::root(), Arc::new(again));
        Ok(Self { root, current, attributes, copier: Copier::default() })
    }

    /// From now on writing content ends when `halt` is asked.
    pub(super) fn heed(&mut self, halt: &Halt) {
        self.copier.heed(halt);
    }

    /// Writes one entry with the bytes that `content` names.
    pub(super) fn write_content(&mut self, entry: &Entry, content: &Content) -> Result<(), LayerError> {
        if !entry.is_file() {
            return self.write(entry, &mut io::empty());
        }
        match content.file()? {
            Some(source) => self
                .file(entry, &mut |copier, entry, size, file| copier.copy_file(entry, size, &source, file)),
            None => self.write(entry, &mut content.open()?),
        }
    }

    /// Makes a regular file, which `fill` writes.
    fn file(&mut self, entry: &Entry, fill: &mut Fill<'_>) -> Result<(), LayerError> {
        let EntryKind::File { size } = entry.kind else { return Ok(()) };
        let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) else {
            return Ok(());
        };
        self.enter(&parent)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = self.attributes.first_mode(entry);
        let file = self.fresh(&entry.path, name, &|at, name| rustix::fs::openat(at, name, flags, mode));
        let mut file = File::from(file?);
        fill(&mut self.copier, entry, size, &mut file)?;
        self.attributes.describe_new(file.as_fd(), entry)
    }

    /// Writes one entry; a directory gets its metadata in [`DirWriter::finish`].
    pub(super) fn write(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), LayerError> {
        let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) else {
            return Ok(());
        };
        let name = name.to_vec();
        self.enter(&parent)?;
        let failed = |action, error: Errno| LayerError::io(action, &entry.path, error);
        match &entry.kind {
            EntryKind::Directory => self.directory(&entry.path, &name)?,
            EntryKind::File { .. } => {
                self.file(entry, &mut |copier, entry, size, file| {
                    copier.copy_stream(entry, size, content, file)
                })?;
            }
            EntryKind::HardLink { target } => {
                let file = target.file_name().unwrap_or_default();
                let above = beneath::open_directory(self.root.as_fd(), &target.parent().unwrap_or_default());
                let above = match above {
                    Ok(above) => above,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    Err(error) => return Err(LayerError::io("open", target, error)),
                };
                let made = self.fresh(&entry.path, &name, &|at, name| {
                    match rustix::fs::linkat(&above, file, at, name, AtFlags::empty()) {
                        // The file is in a lower layer; see [`super::Tree::repairs`].
                        Err(Errno::NOENT) => Ok(()),
                        result => result,
                    }
                });
                made?;
            }
            EntryKind::Symlink { target } => {
                self.fresh(&entry.path, &name, &|at, name| rustix::fs::symlinkat(&target[..], at, name))?;
                self.attributes.describe_by_name(self.current.1.as_fd(), &name, entry)?;
            }
            EntryKind::Fifo => self.node(entry, &name, FileType::Fifo, 0)?,
            EntryKind::Char { major, minor } => {
                self.node(entry, &name, FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))?;
            }
            EntryKind::Block { major, minor } => {
                self.node(entry, &name, FileType::BlockDevice, rustix::fs::makedev(*major, *minor))?;
            }
            EntryKind::Whiteout | EntryKind::Opaque => {
                return Err(failed("write the marker", Errno::INVAL));
            }
        }
        Ok(())
    }

    /// Writes deletions and the metadata of directories, and gives back what the file system
    /// refused: devices, and extended attributes of the named files.
    pub(super) fn finish(&mut self, index: &LayerIndex) -> Result<Vec<LayerPath>, LayerError> {
        for slot in index.slots() {
            if slot.shape == Shape::Deleted {
                self.enter(&slot.path.parent().unwrap_or_default())?;
                let name = slot.path.file_name().unwrap_or_default();
                let made = rustix::fs::mknodat(self.at(), name, FileType::CharacterDevice, Mode::empty(), 0);
                made.map_err(|error| LayerError::io("mark as deleted", &slot.path, error))?;
            }
        }
        for slot in index.slots().iter().rev().filter(|slot| slot.is_directory()) {
            let implicit;
            let entry = match &slot.shape {
                Shape::Real(entry) => entry,
                Shape::Implicit | Shape::Deleted => {
                    implicit = Entry::new(slot.path.clone(), EntryKind::Directory, 0o755);
                    &implicit
                }
            };
            let open =
                || beneath::open(self.root.as_fd(), slot.path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY);
            let directory = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.ensure(&slot.path)?;
                    beneath::open(self.at(), b"", OFlags::RDONLY | OFlags::DIRECTORY)
                }
                result => result,
            };
            let directory = directory.map_err(|error| LayerError::io("open", &slot.path, error))?;
            if slot.opaque {
                rustix::fs::fsetxattr(&directory, OPAQUE_MARK, b"y", XattrFlags::empty())
                    .map_err(|error| LayerError::io("mark as opaque", &slot.path, error))?;
            }
            self.attributes.describe(directory.as_fd(), entry)?;
        }
        Ok(self.take_unwritten())
    }

    /// The paths that the file system or the user namespace refused a part of.
    pub(super) fn into_unwritten(mut self) -> Vec<LayerPath> {
        self.take_unwritten()
    }

    fn take_unwritten(&mut self) -> Vec<LayerPath> {
        let mut unwritten = self.attributes.take_unwritten();
        unwritten.sort();
        unwritten.dedup();
        unwritten
    }

    /// For a directory in which files stand already: every file is given its owner, since none has
    /// it by itself.
    pub(super) fn over_others(self) -> Self {
        Self { attributes: self.attributes.over_others(), ..self }
    }

    /// Gives a directory its metadata, after all that stands in it; what `renew` finds there of
    /// attributes and records is removed first.
    pub(super) fn describe_directory(&mut self, entry: &Entry, renew: bool) -> Result<(), LayerError> {
        let failed = |error| LayerError::io("set the attributes of", &entry.path, error);
        let fd = beneath::open(self.root.as_fd(), entry.path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY);
        let fd = fd.map_err(|error| LayerError::io("open", &entry.path, error))?;
        if renew {
            let attributes = read_xattrs(fd.as_fd()).map_err(failed)?;
            let own = |name: &[u8], value: &[u8]| is_reserved(name) || keep_xattr(name, value).is_some();
            for (name, _) in attributes.iter().filter(|(name, value)| own(name, value)) {
                rustix::fs::fremovexattr(&fd, &name[..]).map_err(failed)?;
            }
        }
        self.attributes.describe(fd.as_fd(), entry)
    }

    /// Removes everything in the directory `path`.
    pub(super) fn clear(&mut self, path: &LayerPath) -> Result<(), LayerError> {
        self.enter(path)?;
        let failed = |error| LayerError::io("read", path, error);
        let opened = beneath::open(self.root.as_fd(), path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY);
        let opened = opened.map_err(|error| LayerError::io("read", path, error))?;
        for entry in Dir::read_from(&opened).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                self.remove(&path.join(name)?, name)?;
            }
        }
        Ok(())
    }

    /// The file at `path`; no link is followed. The path's parent is the current directory then.
    pub(super) fn stat(&mut self, path: &LayerPath) -> Result<Option<Stat>, LayerError> {
        self.enter(&path.parent().unwrap_or_default())?;
        let name = path.file_name().unwrap_or(b".");
        match rustix::fs::statat(self.at(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(LayerError::io("read", path, error)),
        }
    }

    pub(super) fn at(&self) -> BorrowedFd<'_> {
        self.current.1.as_fd()
    }

    /// The directory `path`, made where it is missing, as a base for making files in it.
    pub(super) fn directory_at(&mut self, path: &LayerPath) -> Result<Arc<OwnedFd>, LayerError> {
        self.enter(path)?;
        Ok(Arc::clone(&self.current.1))
    }

    /// Writes something by itself with the way in which files get their attributes here.
    pub(super) fn write_with<T>(&mut self, write: impl FnOnce(&mut Attributes) -> T) -> T {
        write(&mut self.attributes)
    }

    /// The way in which files get their attributes here, for another thread.
    pub(super) fn attributes(&self) -> Attributes {
        self.attributes.another()
    }

    /// Makes `path` the current directory, creating it where it is missing.
    fn enter(&mut self, path: &LayerPath) -> Result<(), LayerError> {
        if self.current.0 != *path {
            self.ensure(path)?;
        }
        Ok(())
    }

    fn ensure(&mut self, path: &LayerPath) -> Result<(), LayerError> {
        let opened = match beneath::open_directory(self.root.as_fd(), path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_root() => {
                for above in path.ancestors().chain([path.clone()]).filter(|above| !above.is_root()) {
                    let parent = above.parent().unwrap_or_default();
                    let at = beneath::open_directory(self.root.as_fd(), &parent)
                        .map_err(|error| LayerError::io("open", &parent, error))?;
                    match rustix::fs::mkdirat(&at, above.file_name().unwrap_or_default(), private()) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(LayerError::io("create", &above, error)),
                    }
                }
                beneath::open_directory(self.root.as_fd(), path)
            }
            result => result,
        };
        let opened = opened.map_err(|error| LayerError::io("open", path, error))?;
        self.current = (path.clone(), Arc::new(opened));
        Ok(())
    }

    fn directory(&mut self, path: &LayerPath, name: &[u8]) -> Result<(), LayerError> {
        match rustix::fs::mkdirat(self.at(), name, private()) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(LayerError::io("create", path, error)),
        }
        let stat = rustix::fs::statat(self.at(), name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|error| LayerError::io("create", path, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            self.fresh(path, name, &|at, name| rustix::fs::mkdirat(at, name, private()))?;
        }
        Ok(())
    }

    /// Makes something new at `name` of the current directory; what stands there is removed first.
    fn fresh<T>(&mut self, path: &LayerPath, name: &[u8], make: &Make<'_, T>) -> Result<T, LayerError> {
        let made = match make(self.at(), name) {
            Err(Errno::EXIST) => {
                self.remove(path, name)?;
                make(self.at(), name)
            }
            result => result,
        };
        made.map_err(|error| LayerError::io("create", path, error))
    }

    /// Removes what stands at `name` of the current directory, and all below it.
    pub(super) fn remove(&mut self, path: &LayerPath, name: &[u8]) -> Result<(), LayerError> {
        let failed = |error| LayerError::io("replace", path, error);
        match rustix::fs::unlinkat(self.at(), name, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(failed(error)),
        }
        // Directories are found from the top and removed from the bottom, one open at a time, so
        // that depth costs no descriptors.
        let mut found = vec![path.clone()];
        let mut next = 0;
        while let Some(directory) = found.get(next).cloned() {
            next += 1;
            let opened =
                beneath::open(self.root.as_fd(), directory.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY);
            let opened = opened.map_err(|error| LayerError::io("replace", &directory, error))?;
            for entry in Dir::read_from(&opened).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                match entry.file_name().to_bytes() {
                    b"." | b".." => {}
                    name => match rustix::fs::unlinkat(&opened, name, AtFlags::empty()) {
                        Ok(()) => {}
                        Err(Errno::ISDIR) => found.push(directory.join(name)?),
                        Err(error) => return Err(failed(error)),
                    },
                }
            }
        }
        for directory in found.iter().rev() {
            let parent = directory.parent().unwrap_or_default();
            let at = beneath::open_directory(self.root.as_fd(), &parent)
                .map_err(|error| LayerError::io("replace", directory, error))?;
            rustix::fs::unlinkat(&at, directory.file_name().unwrap_or_default(), AtFlags::REMOVEDIR)
                .map_err(failed)?;
        }
        Ok(())
    }

    fn node(&mut self, entry: &Entry, name: &[u8], kind: FileType, device: u64) -> Result<(), LayerError> {
        let made = self.fresh(&entry.path, name, &|at, name| match rustix::fs::mknodat(
            at,
            name,
            kind,
            Mode::from_raw_mode(0o600),
            device,
        ) {
            Err(Errno::PERM | Errno::ACCESS) if kind != FileType::Fifo => Ok(false),
            result => result.map(|()| true),
        });
        if !made? {
            self.attributes.lacks(&entry.path);
            return Ok(());
        }
        self.attributes.describe_by_name(self.current.1.as_fd(), name, entry)
    }
}
