//! The root of a command that is not the root of its process: what lies where.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::task::Task;
use super::super::view::{Located, View};
use super::binds::{self, Bind, BindSource};
use super::place::Place;
use super::processes::Processes;
use super::walk::{Entry, Found, Last, Walk};

/// How the kernel ends the path of a file that has no name any more.
const DELETED: &[u8] = b" (deleted)";
/// What a link of /proc says where a process has something open that has no place in its root.
const ELSEWHERE: &[u8] = b"/(elsewhere)";

/// A root directory, and what is bound over parts of it.
#[derive(Debug)]
pub(in crate::sandbox) struct PathView {
    root: OwnedFd,
    /// Its path outside, without links.
    root_path: PathBuf,
    /// Those with longer targets first, so that the first match is the right one.
    binds: Vec<Bind>,
    processes: Processes,
    /// The descriptors of the supervisor, by number.
    own: OwnedFd,
}

impl PathView {
    /// The view of commands whose root is the directory at `root`.
    pub(in crate::sandbox) fn new(
        root: &std::path::Path,
        mut binds: Vec<Bind>,
        processes: Processes,
    ) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        let root_path = outside_path(&own, &root)?;
        // Of two with the same target the later one counts.
        binds.reverse();
        binds.sort_by_key(|bind| std::cmp::Reverse(bind.target.len()));
        Ok(Self {
            root,
            root_path: PathBuf::from(std::ffi::OsStr::from_bytes(&root_path)),
            binds,
            processes,
            own,
        })
    }

    /// What is known of the command's processes.
    pub(in crate::sandbox) fn processes(&self) -> &Processes {
        &self.processes
    }

    /// What is bound.
    pub(in crate::sandbox) fn binds(&self) -> &[Bind] {
        &self.binds
    }

    /// The root directory's path outside.
    pub(in crate::sandbox) fn root_path(&self) -> &std::path::Path {
        &self.root_path
    }

    /// Finds an existing file.
    pub(super) fn find(
        &self,
        task: &Task<'_>,
        directory: i32,
        path: &[u8],
        follow: bool,
    ) -> Result<Found, Errno> {
        let start = self.start(task, directory, path)?;
        Walk::new(self, task, if follow { Last::Follow } else { Last::Keep }).find(start, path)
    }

    /// Finds the name that `path` ends with, whether a file has it or not. Without `follow` a link is
    /// the file that is meant, also before a slash.
    pub(super) fn entry(
        &self,
        task: &Task<'_>,
        directory: i32,
        path: &[u8],
        follow: bool,
    ) -> Result<Entry, Errno> {
        let start = self.start(task, directory, path)?;
        Walk::new(self, task, if follow { Last::Follow } else { Last::Name }).entry(start, path)
    }

    /// What a link that was found at `place` says.
    pub(super) fn link_text(&self, task: &Task<'_>, place: &Place, link: &OwnedFd) -> Result<Vec<u8>, Errno> {
        Walk::new(self, task, Last::Keep).text(place, link)
    }

    /// What a task has open.
    pub(super) fn opened(&self, task: &Task<'_>, number: i32) -> Result<Found, Errno> {
        let file = task.descriptor(number)?;
        let stat = rustix::fs::fstat(&file)?;
        let place = self.place_of(&self.outside(&file)?);
        Ok(Found { place, file, stat })
    }

    /// Where the walk along `path` starts.
    fn start(&self, task: &Task<'_>, directory: i32, path: &[u8]) -> Result<Place, Errno> {
        match path.first() {
            None => Err(Errno::NOENT),
            Some(b'/') => Ok(Place::default()),
            Some(_) => self.place_of_directory(task, directory),
        }
    }

    /// The place of a task's working directory.
    pub(super) fn working_directory(&self, task: &Task<'_>) -> Result<Place, Errno> {
        self.place_of_directory(task, libc::AT_FDCWD)
    }

    /// The place of the working directory or of a directory that a task has open.
    fn place_of_directory(&self, task: &Task<'_>, number: i32) -> Result<Place, Errno> {
        let link = match number {
            libc::AT_FDCWD => format!("{}/cwd", task.thread()),
            0.. => format!("{}/fd/{number}", task.thread()),
            _ => return Err(Errno::BADF),
        };
        let path = match rustix::fs::readlinkat(task.proc(), link, Vec::with_capacity(256)) {
            Err(Errno::NOENT) => return Err(Errno::BADF),
            other => other?.into_bytes(),
        };
        if let Some(place) = self.place_of(&path) {
            // A directory whose name happens to end so is one as well.
            return if path.ends_with(DELETED) && self.open(task, &place).is_err() {
                Err(Errno::NOENT)
            } else {
                Ok(place)
            };
        }
        if path.starts_with(b"/") { Err(Errno::ACCESS) } else { Err(Errno::NOTDIR) }
    }

    /// Where in the root something is that has this path outside.
    pub(super) fn place_of(&self, outside: &[u8]) -> Option<Place> {
        let mut best: Option<(usize, Place)> = None;
        let mut consider = |above: &std::path::Path, target: &Place| {
            let depth = above.as_os_str().len();
            if best.as_ref().is_none_or(|(known, _)| depth > *known)
                && let Some(rest) = binds::way(outside, above)
            {
                let mut place = target.path();
                place.push(b'/');
                place.extend_from_slice(&rest);
                best = Some((depth, Place::written(&place)));
            }
        };
        consider(&self.root_path, &Place::default());
        for bind in &self.binds {
            if let Some(above) = bind.outside() {
                consider(above, &bind.target);
            }
        }
        best.map(|(_, place)| place)
    }

    /// What a command is told of a path that the kernel gives for something open.
    pub(super) fn shown(&self, outside: Vec<u8>) -> Vec<u8> {
        if !outside.starts_with(b"/") || outside.starts_with(b"/memfd:") {
            return outside;
        }
        self.place_of(&outside).map_or_else(|| ELSEWHERE.to_vec(), |place| place.path())
    }

    /// The bind that a place lies in, and the way there from its target.
    pub(super) fn bind_at<'a>(&'a self, place: &'a Place) -> Option<(&'a Bind, &'a [u8])> {
        self.binds.iter().find_map(|bind| Some((bind, place.below(&bind.target)?)))
    }

    /// Opens what is at a place, without following any link.
    pub(super) fn open(&self, task: &Task<'_>, place: &Place) -> Result<OwnedFd, Errno> {
        let Some((bind, rest)) = self.bind_at(place) else {
            return binds::open_plain(&self.root, place.below(&Place::default()).unwrap_or_default());
        };
        if bind.is_processes() && !self.processes.shows(task, rest) {
            return Err(Errno::NOENT);
        }
        bind.open(rest)
    }

    /// Whether nothing may be changed at a place: `EROFS`.
    pub(super) fn check_writable(&self, place: &Place) -> Result<(), Errno> {
        match self.bind_at(place) {
            Some((bind, rest)) if bind.refuses_writing(rest) => Err(Errno::ROFS),
            _ => Ok(()),
        }
    }

    /// Whether a name may be taken away or given to something else. Where a bind is, or is below, it
    /// stays: `EBUSY`.
    pub(super) fn check_movable(&self, place: &Place) -> Result<(), Errno> {
        let is_way = |bind: &Bind| bind.target.below(place).is_some();
        if self.binds.iter().any(is_way) { Err(Errno::BUSY) } else { Ok(()) }
    }

    /// Whether two places are in the same bind, or both in the root.
    pub(super) fn is_same_mount(&self, one: &Place, other: &Place) -> bool {
        let target = |place| self.bind_at(place).map(|(bind, _)| &bind.target);
        target(one) == target(other)
    }

    /// What a file in memory shows of itself instead of the truth: mode, user, group.
    pub(super) fn shown_owner(&self, place: &Place) -> Option<(u32, u32, u32)> {
        match self.bind_at(place)?.0.source {
            BindSource::Memory { mode, uid, gid, .. } => Some((mode, uid, gid)),
            _ => None,
        }
    }

    /// Opens an open file once more, with other flags. What is opened is exactly that file, whatever
    /// has its name by now.
    pub(super) fn reopen(&self, file: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        // The supervisor never gets a controlling terminal by what a command opens.
        let flags =
            (flags - OFlags::NOFOLLOW - OFlags::CREATE - OFlags::EXCL) | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::openat(&self.own, file.as_raw_fd().to_string(), flags, Mode::empty())
    }

    /// The path of an open file by way of the supervisor's descriptors, for calls that take no
    /// descriptor of a path.
    pub(super) fn own_path(&self, file: &OwnedFd) -> String {
        format!("/proc/self/fd/{}", file.as_raw_fd())
    }

    /// The path of an open file outside of the root.
    pub(super) fn outside(&self, file: &OwnedFd) -> Result<Vec<u8>, Errno> {
        outside_path(&self.own, file)
    }
}

impl View for PathView {
    fn locate(&self, task: &Task<'_>, directory: i32, path: &[u8], follow: bool) -> Result<Located, Errno> {
        let found = if path.is_empty() {
            self.opened(task, directory)?
        } else {
            self.find(task, directory, path, follow)?
        };
        let place = found.place.ok_or(Errno::ACCESS)?;
        let inside = place.path();
        match self.bind_at(&place) {
            // No path leads there from the task. The text of a script can be read all the same.
            Some((bind, _)) if matches!(bind.source, BindSource::Memory { .. }) => {
                return Ok(Located { file: found.file, path: Vec::new(), inside });
            }
            // Files of processes are no programs, and a text of theirs is written by the command.
            Some((bind, _)) if bind.is_processes() && !is_directory(&found.stat) => {
                return Err(Errno::ACCESS);
            }
            _ => {}
        }
        let path = self.outside(&found.file)?;
        // What was removed has no path any more.
        if !path.starts_with(b"/") || found.stat.st_nlink == 0 || self.place_of(&path).is_none() {
            return Err(Errno::NOENT);
        }
        Ok(Located { file: found.file, path, inside })
    }
}

/// Whether a file is a directory.
pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn outside_path(own: &OwnedFd, file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let path = rustix::fs::readlinkat(own, file.as_raw_fd().to_string(), Vec::with_capacity(256))?;
    Ok(path.into_bytes())
}
