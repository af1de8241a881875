//! A root directory that is furnished for one command without any mount, and put back afterwards.
//!
//! What the command is to find in the place of something else is put there by renaming: the original
//! waits aside, next to the root on the same file system, where the command cannot reach it.
//!
//! Invariants:
//! - No link of the root is followed out of it, and every change is made below a descriptor of its
//!   directory.
//! - It is put back in the opposite order, also after a command that was killed. What a command has
//!   done to our things is dropped; modification times of directories are those that it has left.
//! - A secret is written to memory only.
//! - When this process is killed, the root is of no use any more: whoever started it throws it away.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::copy;
use super::mount::Mount;
use super::mounts::{DEVICES, LINKS, hosts_content};
use super::remove::remove_tree;
use super::requested::{FOR_ALL, PERMISSIONS, failure};
use super::root::{Kind, Place, Root, Stub, remove_stubs, restore_mtime};
use super::spec::{Interpreter, RunSpec};
use super::wire::{Failure, Step};

/// Number of the kernel's driver of memory devices, which null and its like are.
const MEMORY: u32 = 1;

/// A root with what one command needs, until [`Furnished::restore`].
#[derive(Debug)]
pub(super) struct Furnished {
    path: PathBuf,
    root: Root,
    /// Where originals wait. Removed with all that is left in it.
    aside: PathBuf,
    aside_directory: OwnedFd,
    /// Names that were used there.
    used: u32,
    /// Stubs of the root that `undo` has already.
    seen: usize,
    undo: Vec<Undo>,
    lent: Vec<Lent>,
    untouched: Vec<Vec<u8>>,
    notes: Vec<String>,
}

/// A change that is to be taken back.
#[derive(Debug)]
enum Undo {
    Stub(Stub),
    Put {
        parent: OwnedFd,
        name: Vec<u8>,
        /// What was there before, by its name aside.
        original: Option<String>,
        /// Where a directory of ours goes back to.
        home: Option<Home>,
    },
}

/// A directory or file of ours that a command changes.
#[derive(Debug)]
struct Home {
    path: PathBuf,
    was: Stat,
    /// What is in the root is a copy, as the original lies on another file system.
    copied: bool,
}

/// A directory or file of ours that is in the root, or a copy of it.
#[derive(Debug)]
struct Lent {
    home: PathBuf,
    /// Path in the root, without links and without leading slash.
    place: Vec<u8>,
    source: OwnedFd,
}

/// How a root was left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Restored {
    /// Mount points that could not be removed again.
    pub(super) stubs_left: Vec<Vec<u8>>,
    /// Originals that were out of reach, and are back.
    pub(super) untouched: Vec<Vec<u8>>,
    /// What was asked for and cannot be had.
    pub(super) notes: Vec<String>,
}

impl Furnished {
    /// Furnishes the root directory `path` for a command.
    ///
    /// # Errors
    ///
    /// Says which part failed. The root is then as it was.
    pub(super) fn new(spec: &RunSpec, path: &Path) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty()).step("opening the root");
        let root = Root::new(open(path)?).step("opening the root")?;
        let parent = path.parent().ok_or_else(|| io::Error::other("it has no parent directory"));
        let aside = tempfile::Builder::new().prefix(".aside-").tempdir_in(parent.step("root")?);
        let aside = aside.step("making a directory next to the root")?.keep();
        let aside_directory = open(&aside)?;
        let mut furnished = Self {
            path: path.to_owned(),
            root,
            aside,
            aside_directory,
            used: 0,
            seen: 0,
            undo: Vec::new(),
            lent: Vec::new(),
            untouched: Vec::new(),
            notes: Vec::new(),
        };
        match furnished.furnish(spec) {
            Ok(()) => Ok(furnished),
            Err(failure) => {
                furnished.restore()?;
                Err(failure)
            }
        }
    }

    fn furnish(&mut self, spec: &RunSpec) -> Result<(), Failure> {
        self.devices(&spec.interpreters).step("making /dev")?;
        if spec.shm_size.is_some() {
            self.notes.push("/dev/shm has no limit of size, as nothing can be mounted".to_owned());
        }
        for path in ["/proc", "/sys"] {
            self.empty(path.as_bytes()).step(path)?;
            self.root.close(path.as_bytes()).step(path)?;
        }
        let resolv_conf = fs::read(&spec.resolv_conf).step("/etc/resolv.conf")?;
        self.file_in_etc("resolv.conf", &resolv_conf).step("/etc/resolv.conf")?;
        let hosts = hosts_content(&spec.hosts, &spec.extra_hosts).step("/etc/hosts")?;
        self.file_in_etc("hosts", &hosts).step("/etc/hosts")?;
        for mount in &spec.mounts {
            self.mount(mount).map_err(|error| failure(mount.target(), &error))?;
        }
        // The layers have the working directory; where a mount hides it, it is made there.
        if !spec.mounts.is_empty() {
            let found = self.root.open(&spec.cwd, OFlags::PATH);
            if found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                let made = self.root.mount_point(&spec.cwd, Kind::Directory);
                self.note_stubs();
                made.step("workdir")?;
            }
        }
        Ok(())
    }

    /// A name aside that is not used.
    fn fresh(&mut self) -> String {
        self.used += 1;
        self.used.to_string()
    }

    /// Remembers the mount points that were made since.
    fn note_stubs(&mut self) {
        let new = self.root.stubs()[self.seen..].iter().cloned().map(Undo::Stub);
        self.undo.extend(new);
        self.seen = self.root.stubs().len();
    }

    /// Finds or makes what a Dockerfile wants covered.
    fn place(&mut self, target: &[u8], kind: Kind) -> io::Result<Place> {
        let place = self.root.place(target, kind);
        self.note_stubs();
        place
    }

    /// Puts `name` of `from` into a place, whatever is there.
    fn put(
        &mut self,
        place: Place,
        from: &OwnedFd,
        source: impl AsRef<OsStr>,
        home: Option<Home>,
    ) -> io::Result<()> {
        let Place { parent, name, path, existed } = place;
        let before = rustix::fs::fstat(&parent)?;
        let original = self.fresh();
        let moved = match rustix::fs::renameat(&parent, &name, &self.aside_directory, &original) {
            Err(Errno::NOENT) => false,
            other => other.map(|()| true)?,
        };
        let put = rustix::fs::renameat(from, source.as_ref(), &parent, &name);
        let kept = restore_mtime(&parent, &before);
        if moved && existed {
            self.untouched.push(path);
        }
        let home = home.filter(|_| put.is_ok());
        self.undo.push(Undo::Put { parent, name, original: moved.then_some(original), home });
        put?;
        kept
    }

    /// As [`Furnished::put`], for what was made aside.
    fn put_own(&mut self, place: Place, source: &str) -> io::Result<()> {
        let aside = self.aside_directory.try_clone()?;
        self.put(place, &aside, source, None)
    }

    /// A /dev with devices that do no harm, made by this process.
    fn devices(&mut self, interpreters: &[Interpreter]) -> io::Result<()> {
        let name = self.fresh();
        let dev = self.make_directory(&name, 0o755)?;
        for (node, minor, optional) in NODES {
            let number = rustix::fs::makedev(MEMORY, minor);
            let number = if node == "tty" { rustix::fs::makedev(5, 0) } else { number };
            let mode = Mode::from_raw_mode(0o666);
            match rustix::fs::mknodat(&dev, node, FileType::CharacterDevice, mode, number) {
                Err(_) if optional => continue,
                other => other?,
            }
            rustix::fs::chmodat(&dev, node, mode, AtFlags::empty())?;
        }
        for (link, content) in LINKS {
            rustix::fs::symlinkat(content, &dev, link)?;
        }
        for (directory, mode) in [("shm", FOR_ALL), ("pts", 0o755)] {
            rustix::fs::mkdirat(&dev, directory, Mode::RWXU)?;
            rustix::fs::chmodat(&dev, directory, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        for interpreter in interpreters {
            let place = interpreter.place();
            let parent = place.parent().and_then(Path::file_name).unwrap_or_default().as_bytes();
            match rustix::fs::mkdirat(&dev, parent, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => {}
                other => other?,
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::chmodat(&dev, parent, Mode::from_raw_mode(0o755), AtFlags::empty())?;
            let parent = rustix::fs::openat(&dev, parent, flags, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let name = place.file_name().unwrap_or_default().as_bytes();
            let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o755))?;
            // Whatever mask of modes this process has.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o755))?;
            let mut from = std::fs::File::open(&interpreter.path)?;
            io::copy(&mut from, &mut std::fs::File::from(file))?;
        }
        let parent = self.root.directory().try_clone()?;
        // Of whatever kind the image has it: a link would not be ours to follow.
        let place = Place { parent, name: b"dev".to_vec(), path: b"dev".to_vec(), existed: true };
        self.put_own(place, &name)
    }

    /// An empty directory, where the kernel's own is mounted for those who may mount, or nothing is.
    fn empty(&mut self, path: &[u8]) -> io::Result<()> {
        let place = self.place(path, Kind::Directory)?;
        let name = self.fresh();
        self.make_directory(&name, 0o555)?;
        self.put_own(place, &name)
    }

    /// A file of ours in /etc, which may be a link within the root.
    fn file_in_etc(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let etc = self.place(b"/etc", Kind::Directory)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(&etc.parent, &etc.name, flags, Mode::empty())?;
        let path = [&etc.path[..], b"/", name.as_bytes()].concat();
        let file = self.make_file(content, 0o644, (0, 0))?;
        self.put_own(Place { parent, name: name.as_bytes().to_vec(), path, existed: true }, &file)
    }

    /// A new directory aside.
    fn make_directory(&self, name: &str, mode: u32) -> io::Result<OwnedFd> {
        rustix::fs::mkdirat(&self.aside_directory, name, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.aside_directory, name, flags, Mode::empty())?;
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
        Ok(directory)
    }

    /// A new file aside.
    fn make_file(&mut self, content: &[u8], mode: u32, owner: (u32, u32)) -> io::Result<String> {
        let name = self.fresh();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.aside_directory, &name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = fs::File::from(file);
        file.write_all(content)?;
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & PERMISSIONS))?;
        Ok(name)
    }

    /// What stands for one of the mounts that the command has asked for.
    fn mount(&mut self, mount: &Mount) -> io::Result<()> {
        match mount {
            Mount::Layers { .. } => {
                Err(io::Error::other("a part of a stack of layers can only be mounted in a mount namespace"))
            }
            Mount::Directory { path, target, read_only } => self.directory(path, target, *read_only),
            Mount::Tmpfs { target, size } => {
                if size.is_some() {
                    let target = String::from_utf8_lossy(target);
                    self.notes.push(format!("{target} has no limit of size, as nothing can be mounted"));
                }
                let place = self.place(target, Kind::Directory)?;
                let found = rustix::fs::statat(&place.parent, &place.name, AtFlags::SYMLINK_NOFOLLOW)?;
                let name = self.fresh();
                let mode = if place.existed { found.st_mode & PERMISSIONS } else { FOR_ALL };
                self.make_directory(&name, mode)?;
                self.put_own(place, &name)
            }
            Mount::File { content, target, mode, uid, gid, secret } => {
                if *secret && !self.is_in_memory()? {
                    return Err(io::Error::other(
                        "a secret is never written to a disk, and nothing can be mounted here: pass it as a \
                         variable (`--mount=type=secret,id=ID,env=NAME`), keep the state on a tmpfs, or use \
                         --isolation=ptrace",
                    ));
                }
                let place = self.place(target, Kind::File)?;
                let name = self.make_file(content.bytes(), *mode, (*uid, *gid))?;
                self.put_own(place, &name)
            }
            Mount::Socket { path, target, .. } => {
                let place = self.place(target, Kind::File)?;
                let name = self.fresh();
                match rustix::fs::linkat(CWD, path, &self.aside_directory, &name, AtFlags::empty()) {
                    Err(Errno::XDEV) => {
                        return Err(io::Error::other(
                            "the socket lies on another file system, and nothing can be mounted here",
                        ));
                    }
                    other => other?,
                }
                self.put_own(place, &name)
            }
        }
    }

    /// Puts a directory or file of ours into the root, or a copy that the command may do with as it
    /// likes.
    fn directory(&mut self, path: &Path, target: &[u8], read_only: bool) -> io::Result<()> {
        let lent = self.lent.iter().position(|lent| lent.home == path);
        let source = match lent {
            Some(at) => self.lent[at].source.try_clone()?,
            None => open_source(CWD, path)?,
        };
        let found = rustix::fs::fstat(&source)?;
        let is_directory = FileType::from_raw_mode(found.st_mode).is_dir();
        let place = self.place(target, if is_directory { Kind::Directory } else { Kind::File })?;
        if read_only {
            let name = self.fresh();
            copy::entry(&source, &self.aside_directory, &name)?;
            return self.put_own(place, &name);
        }
        let Some(at) = lent else { return self.lend(path, source, &found, place) };
        if self.lent[at].place == place.path {
            return Ok(());
        }
        // It can be in one place alone: here is the way there.
        let name = self.fresh();
        let content = [b"/", &self.lent[at].place[..]].concat();
        rustix::fs::symlinkat(content, &self.aside_directory, &name)?;
        self.put_own(place, &name)
    }

    /// Moves a directory or file of ours to where the command changes it, or a copy of it where it lies
    /// on another file system.
    fn lend(&mut self, path: &Path, source: OwnedFd, was: &Stat, place: Place) -> io::Result<()> {
        let copied = was.st_dev != rustix::fs::fstat(&self.aside_directory)?.st_dev;
        let lent = Lent { home: path.to_owned(), place: place.path.clone(), source };
        if copied {
            let name = self.fresh();
            copy::entry(&lent.source, &self.aside_directory, &name)?;
            let was = rustix::fs::statat(&self.aside_directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let aside = self.aside_directory.try_clone()?;
            self.put(place, &aside, &name, Some(Home { path: path.to_owned(), was, copied }))?;
        } else {
            let parent = open_directory(parent_of(path))?;
            let name = path.file_name().ok_or(Errno::INVAL)?;
            self.put(place, &parent, name, Some(Home { path: path.to_owned(), was: *was, copied }))?;
        }
        self.lent.push(lent);
        Ok(())
    }

    /// Whether the root is on a file system in memory.
    fn is_in_memory(&self) -> io::Result<bool> {
        const RAMFS: libc::c_long = 0x8584_58f6;
        let found = rustix::fs::fstatfs(&self.aside_directory)?.f_type as libc::c_long;
        Ok(found == libc::TMPFS_MAGIC as libc::c_long || found == RAMFS)
    }

    /// Puts the root back. No process of the command may be left.
    ///
    /// # Errors
    ///
    /// Goes through with all of it, and says what failed first: the root is then not to be used.
    pub(super) fn restore(mut self) -> Result<Restored, Failure> {
        let mut restored = Restored::default();
        let mut first = None;
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Stub(stub) => restored.stubs_left.extend(remove_stubs(&self.path, &[stub])),
                Undo::Put { parent, name, original, home } => {
                    let back = self.put_back(&parent, &name, original, home.as_ref());
                    first = first.or(back.err());
                }
            }
        }
        first = first.or(remove_tree(&self.aside).err());
        restored.untouched = std::mem::take(&mut self.untouched);
        restored.notes = std::mem::take(&mut self.notes);
        match first {
            None => Ok(restored),
            Some(error) => Err(error).step("putting the root back as it was"),
        }
    }

    fn put_back(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        original: Option<String>,
        home: Option<&Home>,
    ) -> io::Result<()> {
        let before = rustix::fs::fstat(parent)?;
        let found = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => None,
            other => Some(other?),
        };
        if found.is_some() {
            let ours = self.fresh();
            rustix::fs::renameat(parent, name, &self.aside_directory, &ours)?;
            if let Some(home) = home {
                self.take_home(home, found.filter(|found| is_same(found, &home.was)).map(|_| ours))?;
            }
        } else if let Some(home) = home {
            self.take_home(home, None)?;
        }
        if let Some(original) = original {
            match rustix::fs::renameat(&self.aside_directory, &original, parent, name) {
                // The command has removed the directory with all that it saw there.
                Err(Errno::NOENT) => return Ok(()),
                other => other?,
            }
        }
        match restore_mtime(parent, &before) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Brings a directory or file of ours back from its name aside. A directory that the command has
    /// removed or replaced is empty from now on, a file is gone.
    fn take_home(&mut self, home: &Home, ours: Option<String>) -> io::Result<()> {
        let parent = open_directory(parent_of(&home.path))?;
        let name = home.path.file_name().ok_or(Errno::INVAL)?;
        match ours {
            Some(ours) if !home.copied => {
                Ok(rustix::fs::renameat(&self.aside_directory, &ours, &parent, name)?)
            }
            Some(ours) => {
                let changed = open_source(&self.aside_directory, ours)?;
                let new = tempfile::Builder::new().prefix(".copy-").tempdir_in(parent_of(&home.path))?;
                let new_directory = open_directory(new.path())?;
                copy::entry(&changed, &new_directory, "new")?;
                rustix::fs::renameat(&parent, name, &new_directory, "old")?;
                rustix::fs::renameat(&new_directory, "new", &parent, name)?;
                remove_tree(&new.keep())
            }
            None if !FileType::from_raw_mode(home.was.st_mode).is_dir() => match home.copied {
                true => Ok(rustix::fs::unlinkat(&parent, name, AtFlags::empty())?),
                false => Ok(()),
            },
            None => {
                if home.copied {
                    remove_tree(&home.path)?;
                }
                rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
                let made = rustix::fs::openat(&parent, name, READ, Mode::empty())?;
                let (uid, gid) = (Uid::from_raw(home.was.st_uid), Gid::from_raw(home.was.st_gid));
                rustix::fs::fchown(&made, Some(uid), Some(gid))?;
                Ok(rustix::fs::fchmod(&made, Mode::from_raw_mode(home.was.st_mode & PERMISSIONS))?)
            }
        }
    }
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Device nodes by name and minor number; the last value says that one may be missing.
const NODES: [(&str, u32, bool); DEVICES.len()] = [
    ("null", 3, false),
    ("zero", 5, false),
    ("full", 7, false),
    ("random", 8, false),
    ("urandom", 9, false),
    ("tty", 0, true),
];

fn is_same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens a directory or file of ours for reading.
fn open_source(at: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}
