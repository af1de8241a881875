//! What belongs into the root of every command, and what one command has asked for.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use super::super::super::mount::Mount;
use super::super::super::mounts::{DEVICES, LINKS, PROC_MASKED, SYS_MASKED};
use super::super::super::root::{Kind, Root, Stub};
use super::super::super::run::MOUNT;
use super::super::super::spec::RunSpec;
use super::super::super::wire::{Failure, Step};
use super::binds::{Bind, BindSource, PROCESSES};
use super::place::Place;

/// Mode of a directory that anybody may use.
const FOR_ALL: u32 = 0o1777;
/// Mode of other directories.
const DIRECTORY: u32 = 0o755;
/// The bits of a mode that are not the type.
const PERMISSIONS: u32 = 0o7777;
const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A root that is ready for a command.
#[derive(Debug)]
pub(in crate::sandbox) struct Prepared {
    /// What is bound in it, for [`PathView`](super::PathView).
    pub(in crate::sandbox) binds: Vec<Bind>,
    /// What was made in the root to be bound on, to be removed with
    /// [`remove_stubs`](super::super::super::root::remove_stubs).
    pub(in crate::sandbox) stubs: Vec<Stub>,
    /// The null device.
    pub(in crate::sandbox) null: OwnedFd,
}

/// Prepares the root directory at `root` for a command. `scratch` is an empty directory of ours for what the
/// command can use as long as it runs: /dev, shared memory and other temporary directories.
///
/// These are directories on disk: how much they may hold is not limited. There are no terminals in /dev:
/// the ones that the system has are those of other processes.
pub(in crate::sandbox) fn prepare(spec: &RunSpec, root: &Path, scratch: &Path) -> Result<Prepared, Failure> {
    let step = "opening the root";
    let root_path = fs::canonicalize(root).step(step)?;
    let root = Root::new(open(&root_path).step(step)?).step(step)?;
    let scratch = fs::canonicalize(scratch).step("scratch space")?;
    let mut maker = Maker { root, root_path, scratch, binds: Vec::new(), made: 0 };
    maker.system().step("preparing /proc and /sys")?;
    let null = maker.devices().step("preparing /dev")?;
    maker.names(spec).step("preparing /etc/hosts")?;
    for mount in &spec.mounts {
        maker.mount(mount).map_err(|error| Failure {
            step: MOUNT.to_owned(),
            message: format!("failed to mount {}: {error}", String::from_utf8_lossy(mount.target())),
            errno: 0,
        })?;
    }
    Ok(Prepared { binds: maker.binds, stubs: maker.root.stubs().to_vec(), null })
}

/// Makes binds.
struct Maker {
    root: Root,
    root_path: PathBuf,
    scratch: PathBuf,
    binds: Vec<Bind>,
    /// Directories that were made in scratch space.
    made: u32,
}

/// A place to bind on.
struct Target {
    place: Place,
    existed: Option<u32>,
}

impl Maker {
    fn system(&mut self) -> io::Result<()> {
        let target = self.point(b"/proc", Kind::Directory)?;
        let directory = open(Path::new(PROCESSES))?;
        self.add(target, BindSource::Processes { directory }, false, &PROC_MASKED);
        let target = self.point(b"/sys", Kind::Directory)?;
        // An outer container may have none.
        if let Ok(source) = directory_at(Path::new("/sys")) {
            self.add(target, source, true, &SYS_MASKED);
        }
        Ok(())
    }

    /// Gives the null device.
    fn devices(&mut self) -> io::Result<OwnedFd> {
        let dev = self.scratch.join("dev");
        make_directory(&dev, DIRECTORY)?;
        let target = self.point(b"/dev", Kind::Directory)?;
        self.add(target.clone(), directory_at(&dev)?, false, &[]);
        for (name, optional) in DEVICES {
            let source = match file_at(&Path::new("/dev").join(name)) {
                Err(error) if optional && error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            fs::File::create_new(dev.join(name))?;
            let place = target.with([&name.as_bytes().to_vec()]);
            self.add(place, source, true, &[]);
        }
        // Terminals belong to other processes, so there is none to be had.
        for (name, text) in LINKS.iter().filter(|(name, _)| *name != "ptmx") {
            std::os::unix::fs::symlink(text, dev.join(name))?;
        }
        make_directory(&dev.join("shm"), FOR_ALL)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
    }

    /// Name servers and names of hosts.
    fn names(&mut self, spec: &RunSpec) -> io::Result<()> {
        let target = self.point(b"/etc/resolv.conf", Kind::File)?;
        self.add(target, file_at(&spec.resolv_conf)?, true, &[]);
        let target = self.point(b"/etc/hosts", Kind::File)?;
        let mut hosts = spec.hosts.clone();
        if !spec.extra_hosts.is_empty() {
            let mut content = fs::read(&hosts)?;
            if !content.is_empty() && !content.ends_with(b"\n") {
                content.push(b'\n');
            }
            for (name, address) in &spec.extra_hosts {
                writeln!(content, "{address}\t{name}")?;
            }
            hosts = self.scratch.join("hosts");
            fs::File::create_new(&hosts)?.write_all(&content)?;
        }
        self.add(target, file_at(&hosts)?, true, &[]);
        Ok(())
    }

    fn mount(&mut self, mount: &Mount) -> io::Result<()> {
        match mount {
            Mount::Layers { .. } => {
                Err(io::Error::other("layers cannot be stacked here: a directory of them is needed"))
            }
            Mount::Directory { path, target, read_only } => {
                let is_directory = fs::symlink_metadata(path)?.is_dir();
                let (kind, source) = if is_directory {
                    (Kind::Directory, directory_at(path)?)
                } else {
                    (Kind::File, file_at(path)?)
                };
                let target = self.target(target, kind)?;
                self.add(target.place, source, *read_only, &[]);
                Ok(())
            }
            Mount::Tmpfs { target, .. } => {
                let target = self.target(target, Kind::Directory)?;
                let path = self.scratch.join(format!("tmp{}", self.made));
                self.made += 1;
                make_directory(&path, target.existed.unwrap_or(FOR_ALL) | 0o700)?;
                self.add(target.place, directory_at(&path)?, false, &[]);
                Ok(())
            }
            Mount::File { content, target, mode, uid, gid, secret: _ } => {
                let target = self.target(target, Kind::File)?;
                let content = in_memory(content.bytes())?;
                let mode = mode & PERMISSIONS;
                self.add(target.place, BindSource::Memory { content, mode, uid: *uid, gid: *gid }, true, &[]);
                Ok(())
            }
            // It is shown as the owner that its directory gives it; whoever a command is may use it.
            Mount::Socket { path, target, .. } => {
                let target = self.target(target, Kind::File)?;
                self.add(target.place, file_at(path)?, true, &[]);
                Ok(())
            }
        }
    }

    fn add(&mut self, target: Place, source: BindSource, read_only: bool, masked: &'static [&'static str]) {
        self.binds.push(Bind { target, source, read_only, masked });
    }

    /// Where to bind what every root has; it is made where it is missing.
    fn point(&mut self, path: &[u8], kind: Kind) -> io::Result<Place> {
        let file = self.root.mount_point(path, kind)?;
        place(&file, &self.root_path, &Place::default())
    }

    /// Where to bind what a Dockerfile asks for.
    fn target(&mut self, path: &[u8], kind: Kind) -> io::Result<Target> {
        let written = Place::written(path);
        let above =
            self.binds.iter().rev().filter_map(|bind| Some((bind, written.below(&bind.target)?.to_vec())));
        let Some((bind, rest)) = above.max_by_key(|(bind, _)| bind.target.len()) else {
            let target = self.root.target(path, kind)?;
            let existed = mode_of(&target.point)?;
            let place = place(&target.point, &self.root_path, &Place::default())?;
            return Ok(Target { place, existed: target.existed.then_some(existed) });
        };
        if bind.is_processes() || bind.target == Place::written(b"/sys") {
            return Err(io::Error::other("nothing can be mounted in /proc or /sys"));
        }
        if rest.is_empty() {
            return Ok(Target { place: bind.target.clone(), existed: None });
        }
        let BindSource::Directory { path: source, .. } = &bind.source else {
            return Err(io::Error::other("a part of the path is a file"));
        };
        let mut inner = Root::new(open(source)?)?;
        let target = if bind.read_only {
            let point =
                inner.open(&rest, OFlags::PATH).map_err(|error| match Errno::from_io_error(&error) {
                    Some(Errno::NOENT) => io::Error::other(
                        "it does not exist, and cannot be made, as it lies in what is mounted read-only",
                    ),
                    _ => error,
                })?;
            let is_directory = FileType::from_raw_mode(rustix::fs::fstat(&point)?.st_mode).is_dir();
            if is_directory != (kind == Kind::Directory) {
                return Err(io::Error::other("it is of another kind than what is to be mounted on it"));
            }
            (point, true)
        } else {
            let target = inner.target(&rest, kind)?;
            (target.point, target.existed)
        };
        let existed = mode_of(&target.0)?;
        let place = place(&target.0, source, &bind.target)?;
        Ok(Target { place, existed: target.1.then_some(existed) })
    }
}

fn mode_of(file: &OwnedFd) -> io::Result<u32> {
    Ok(rustix::fs::fstat(file)?.st_mode & PERMISSIONS)
}

/// The place of a file below `above`, which is a directory outside and shows at `target`.
fn place(file: &OwnedFd, above: &Path, target: &Place) -> io::Result<Place> {
    let path = outside(file)?;
    let rest = path.strip_prefix(above).map_err(|_| io::Error::other("it was moved away"))?;
    let mut written = target.path();
    written.push(b'/');
    written.extend_from_slice(rest.as_os_str().as_bytes());
    Ok(Place::written(&written))
}

fn outside(file: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, PATH | OFlags::DIRECTORY, Mode::empty())?)
}

fn directory_at(path: &Path) -> io::Result<BindSource> {
    let path = fs::canonicalize(path)?;
    Ok(BindSource::Directory { directory: open(&path)?, path })
}

fn file_at(path: &Path) -> io::Result<BindSource> {
    let path = fs::canonicalize(path)?;
    Ok(BindSource::File { file: rustix::fs::open(&path, PATH, Mode::empty())?, path })
}

/// Makes a directory with exactly this mode.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir(path)?;
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?)
}

/// A file in memory that nobody can change. What is given back can neither be read nor written, only opened.
fn in_memory(content: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("file", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = fs::File::from(file);
    file.write_all(content)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::open(own, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}
