//! Root file systems: as a directory tree, or as one tar.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fanfold_platforms::Platform;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};

use super::file::{Sink, begun, is_stream};
use super::{Destination, OutputError};
use crate::engine::{Built, BuiltImage, Contents, Engine, State};
use crate::layer::{Entry, EntryKind, LayerPath, Node, TarWriter, Tree};

/// An image's merged files, ready to be read.
struct Rootfs {
    tree: Tree,
    files: Vec<(LayerPath, Node)>,
    contents: Contents,
}

impl Rootfs {
    fn open(engine: &Engine, image: &BuiltImage) -> Result<Self, OutputError> {
        let state = State { layers: image.layers.iter().map(|layer| layer.layer.clone()).collect() };
        let tree = engine.tree(&state)?;
        let files = tree.walk(&LayerPath::root());
        let wanted = files.iter().filter_map(|(path, _)| tree.file(path)).map(|file| (file.layer, file.path));
        let contents = engine.contents(&state, wanted)?;
        Ok(Self { tree, files, contents })
    }
}

/// `linux_arm_v7`: the folder of a platform, where there are several.
fn folder(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

/// Writes all images into one tar; several go into a folder each.
pub(super) fn write_tar(
    engine: &Engine,
    built: &Built,
    destination: &Destination,
) -> Result<(), OutputError> {
    let open = built.images.iter().map(|image| Rootfs::open(engine, image));
    // What has gone to a stream cannot be taken back: all layers are read before, and damage is found.
    let opened: Box<dyn Iterator<Item = Result<Rootfs, OutputError>>> = match is_stream(destination) {
        true => Box::new(open.collect::<Result<Vec<_>, _>>()?.into_iter().map(Ok)),
        false => Box::new(open),
    };
    begun(destination, write_entries(built, opened, Sink::open(destination)?))
}

fn write_entries(
    built: &Built,
    opened: impl Iterator<Item = Result<Rootfs, OutputError>>,
    sink: Sink,
) -> Result<(), OutputError> {
    let mut tar = TarWriter::new(sink);
    for (image, rootfs) in built.images.iter().zip(opened) {
        let rootfs = rootfs?;
        let top = if built.images.len() > 1 {
            let top = LayerPath::new(folder(&image.platform))?;
            tar.append(&Entry::new(top.clone(), EntryKind::Directory, 0o755), &mut io::empty())?;
            top
        } else {
            LayerPath::root()
        };
        let mut firsts = HashMap::new();
        for (path, node) in &rootfs.files {
            let mut entry = node.entry.clone();
            entry.path = top.join(path)?;
            match rootfs.tree.file(path) {
                None => tar.append(&entry, &mut io::empty())?,
                Some(file) => {
                    let first =
                        firsts.entry((file.layer, file.path.clone())).or_insert_with(|| entry.path.clone());
                    if *first == entry.path {
                        entry.kind = file.entry.kind.clone();
                        tar.append(&entry, &mut rootfs.contents.get(file.layer, &file.path)?.open()?)?;
                    } else {
                        entry.kind = EntryKind::HardLink { target: first.clone() };
                        tar.append(&entry, &mut io::empty())?;
                    }
                }
            }
        }
    }
    tar.finish()?.commit()
}

/// Writes all images below a directory; several go into a folder each. Files belong to the caller.
pub(super) fn write_directory(engine: &Engine, built: &Built, directory: &Path) -> Result<(), OutputError> {
    for image in &built.images {
        let top = if built.images.len() > 1 {
            directory.join(folder(&image.platform))
        } else {
            directory.to_owned()
        };
        fs::create_dir_all(&top).map_err(OutputError::at("create", &top))?;
        let root = rustix::fs::open(&top, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| OutputError::at("open", &top)(errno.into()))?;
        let rootfs = Rootfs::open(engine, image)?;
        let mut writer =
            DirectoryWriter { rootfs: &rootfs, root: root.as_fd(), top: &top, firsts: HashMap::new() };
        writer.write()?;
    }
    Ok(())
}

/// Writes entries below a directory without following any link in it.
struct DirectoryWriter<'a> {
    rootfs: &'a Rootfs,
    root: BorrowedFd<'a>,
    top: &'a Path,
    /// The first name under which each file was written.
    firsts: HashMap<(usize, LayerPath), LayerPath>,
}

impl DirectoryWriter<'_> {
    fn write(&mut self) -> Result<(), OutputError> {
        let (root, rootfs, top) = (self.root, self.rootfs, self.top);
        let mut directories = Vec::new();
        for (path, node) in &rootfs.files {
            let fail = |error: io::Error| OutputError::at("write", &top.join(path.as_os_path()))(error);
            let parent = open_directory(root, &path.parent().unwrap_or_default()).map_err(fail)?;
            let Some(name) = path.file_name() else { continue };
            if node.entry.is_directory() {
                make_directory(parent.as_fd(), name).map_err(fail)?;
                directories.push((path, &node.entry));
            } else {
                self.write_other(parent.as_fd(), name, path, &node.entry, &fail)?;
            }
        }
        // A directory's mode could forbid to write into it, and writing changes its time.
        for (path, entry) in directories.into_iter().rev() {
            let fail = |error: io::Error| OutputError::at("write", &top.join(path.as_os_path()))(error);
            let directory = open_directory(root, path).map_err(fail)?;
            rustix::fs::chmodat(&directory, ".", Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(|errno| fail(errno.into()))?;
            rustix::fs::utimensat(&directory, ".", &times(entry), AtFlags::empty())
                .map_err(|errno| fail(errno.into()))?;
        }
        Ok(())
    }

    fn write_other(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &LayerPath,
        entry: &Entry,
        fail: &dyn Fn(io::Error) -> OutputError,
    ) -> Result<(), OutputError> {
        let system = |errno: rustix::io::Errno| fail(errno.into());
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(system(errno)),
        }
        match &entry.kind {
            EntryKind::Symlink { target } => {
                rustix::fs::symlinkat(target.as_slice(), parent, name).map_err(system)?;
            }
            EntryKind::Fifo => {
                rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::from_raw_mode(entry.mode), 0)
                    .map_err(system)?;
            }
            // Device nodes need privileges, and nobody wants them in a folder.
            EntryKind::Char { .. } | EntryKind::Block { .. } => return Ok(()),
            _ => {
                let Some(source) = self.rootfs.tree.file(path) else { return Ok(()) };
                let file = (source.layer, source.path.clone());
                if let Some(first) = self.firsts.get(&file) {
                    let beside =
                        open_directory(self.root, &first.parent().unwrap_or_default()).map_err(fail)?;
                    let first = first.file_name().unwrap_or_default();
                    return rustix::fs::linkat(&beside, first, parent, name, AtFlags::empty())
                        .map_err(system);
                }
                self.firsts.insert(file, path.clone());
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(system)?;
                let mut file = fs::File::from(file);
                let mut content = self.rootfs.contents.get(source.layer, &source.path)?.open()?;
                io::copy(&mut content, &mut file).map_err(fail)?;
                for (key, value) in entry.xattrs.iter().filter(|(key, _)| key.starts_with(b"user.")) {
                    // Not every file system has attributes, and the content is whole without them.
                    let _ = rustix::fs::fsetxattr(&file, key.as_slice(), value, XattrFlags::empty());
                }
                rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(system)?;
            }
        }
        rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(system)
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Opens a directory below `root`, one component after the other.
fn open_directory(root: BorrowedFd<'_>, path: &LayerPath) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory = rustix::fs::openat(root, ".", flags, Mode::empty())?;
    for component in path.components() {
        directory = rustix::fs::openat(&directory, component, flags, Mode::empty())?;
    }
    Ok(directory)
}

/// Makes a directory, in the place of anything else but a directory.
fn make_directory(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o700);
    match rustix::fs::mkdirat(parent, name, mode) {
        Err(rustix::io::Errno::EXIST) => {
            let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                return Ok(rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?);
            }
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            Ok(rustix::fs::mkdirat(parent, name, mode)?)
        }
        result => Ok(result?),
    }
}
