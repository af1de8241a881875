//! What lies in the root of a command without being a part of it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::place::Place;

/// A file or directory that a command finds at a place of its root.
#[derive(Debug)]
pub(in crate::sandbox) struct Bind {
    /// The place. It exists in the root, and what is there is hidden.
    pub(in crate::sandbox) target: Place,
    /// What is found there instead.
    pub(in crate::sandbox) source: BindSource,
    /// Whether the command may only read it. A device can be written to all the same.
    pub(in crate::sandbox) read_only: bool,
    /// Paths below it that are not there for the command.
    pub(in crate::sandbox) masked: &'static [&'static str],
}

/// What a [`Bind`] shows.
#[derive(Debug)]
pub(in crate::sandbox) enum BindSource {
    /// A directory with all below it.
    Directory {
        /// The directory.
        directory: OwnedFd,
        /// Its path outside of the root, without links.
        path: PathBuf,
    },
    /// One file, device or socket.
    File {
        /// The file, open as a path.
        file: OwnedFd,
        /// Its path outside of the root, without links.
        path: PathBuf,
    },
    /// A file that is in memory alone.
    Memory {
        /// The file.
        content: OwnedFd,
        /// The permissions that it shows.
        mode: u32,
        /// The owner that it shows.
        uid: u32,
        /// The group that it shows.
        gid: u32,
    },
    /// The kernel's list of processes, in which `self` is the one that looks.
    Processes {
        /// The mounted directory.
        directory: OwnedFd,
    },
}

/// Where the processes are listed outside of the root.
pub(super) const PROCESSES: &str = "/proc";

/// How a path is opened that has no links: one that turns up on the way ends the call with `ELOOP`.
const PLAIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
const AS_PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Bind {
    /// Opens what is at `rest` in the source, without following any link.
    pub(super) fn open(&self, rest: &[u8]) -> Result<OwnedFd, Errno> {
        match &self.source {
            BindSource::Directory { directory, .. } | BindSource::Processes { directory } => {
                if self.masks(rest) {
                    return Err(Errno::NOENT);
                }
                open_plain(directory, rest)
            }
            BindSource::File { file: single, .. } | BindSource::Memory { content: single, .. } => {
                if !rest.is_empty() {
                    return Err(Errno::NOTDIR);
                }
                Ok(rustix::io::fcntl_dupfd_cloexec(single, 0)?)
            }
        }
    }

    fn masks(&self, rest: &[u8]) -> bool {
        let covers = |name: &&str| match rest.strip_prefix(name.as_bytes()) {
            Some(below) => below.is_empty() || below.starts_with(b"/"),
            None => false,
        };
        self.masked.iter().any(covers)
    }

    /// Where the source is outside of the root.
    pub(super) fn outside(&self) -> Option<&Path> {
        match &self.source {
            BindSource::Directory { path, .. } | BindSource::File { path, .. } => Some(path),
            BindSource::Processes { .. } => Some(Path::new(PROCESSES)),
            BindSource::Memory { .. } => None,
        }
    }

    /// Whether it is the list of processes.
    pub(super) fn is_processes(&self) -> bool {
        matches!(self.source, BindSource::Processes { .. })
    }

    /// Whether what is at `rest` in it may not be changed.
    pub(super) fn refuses_writing(&self, rest: &[u8]) -> bool {
        // Settings of the machine; a process may write to its own files.
        let setting = self.is_processes() && !rest.first().is_some_and(u8::is_ascii_digit);
        self.read_only || setting
    }
}

/// Opens a path below `directory` that has no links; an empty one is the directory.
pub(super) fn open_plain(directory: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    loop {
        match rustix::fs::openat2(&directory, path, AS_PATH, Mode::empty(), PLAIN) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// The path from `above` to `path`, both outside of the root and without links.
pub(super) fn way(path: &[u8], above: &Path) -> Option<Vec<u8>> {
    let rest = Path::new(OsStr::from_bytes(path)).strip_prefix(above).ok()?;
    Some(rest.to_owned().into_os_string().into_vec())
}
