//! Finding what a path means in a root that is not the process's.
//!
//! Invariants:
//! - The kernel is asked for places alone, which have no links and no `..`, and told to follow no link:
//!   where one turns up, its text is read and resolved here. So no link of the root leads out of it,
//!   whatever else changes the tree at the same time.
//! - `..` goes up from a directory that was there.
//! - The links of /proc that lead to open files are followed for processes of the command alone, and
//!   only to what these have open.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::task::Task;
use super::place::{Place, names};
use super::processes::{self, Magic};
use super::view::{PathView, is_directory};

/// As many links as the kernel follows.
const LINK_LIMIT: u32 = 40;

/// An existing file.
#[derive(Debug)]
pub(super) struct Found {
    /// Where it is; `None` for what a process has open and no path leads to.
    pub(super) place: Option<Place>,
    /// The file, open as a path.
    pub(super) file: OwnedFd,
    /// What the disk says of it.
    pub(super) stat: Stat,
}

/// A name that a file has or may get.
#[derive(Debug)]
pub(super) struct Entry {
    /// The place of the name.
    pub(super) place: Option<Place>,
    /// The directory, open as a path; `None` for the root, the `.` or `..` of a directory, and for what no
    /// path leads to.
    pub(super) parent: Option<Parent>,
    /// The file that has the name.
    pub(super) file: Option<Found>,
    /// Whether the path asked for a directory, as by a slash at its end.
    pub(super) directory: bool,
}

/// The directory of a name, and the name.
#[derive(Debug)]
pub(super) struct Parent {
    /// The directory, open as a path.
    pub(super) directory: OwnedFd,
    /// What the disk says of it.
    pub(super) stat: Stat,
    /// Its place.
    pub(super) place: Place,
    /// The name in it.
    pub(super) name: Vec<u8>,
}

/// A walk along one path.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    view: &'a PathView,
    task: &'a Task<'a>,
    last: Last,
    links: u32,
}

/// What happens to a link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// It is followed.
    Follow,
    /// It is followed where a slash comes after it.
    Keep,
    /// It is never followed: it is its name that matters.
    Name,
}

/// Where a walk has ended.
enum End {
    Found(Found),
    /// The last name is not there.
    Missing(Place),
}

/// What a link says.
enum Link {
    Text(Vec<u8>),
    /// An open file, and where it is.
    File(OwnedFd, Option<Place>),
}

impl<'a> Walk<'a> {
    /// A walk for a task.
    pub(super) fn new(view: &'a PathView, task: &'a Task<'a>, last: Last) -> Self {
        Self { view, task, last, links: 0 }
    }

    /// Finds an existing file.
    pub(super) fn find(mut self, start: Place, path: &[u8]) -> Result<Found, Errno> {
        match self.walk(start, path)? {
            (End::Found(found), _) => Ok(found),
            (End::Missing(_), _) => Err(Errno::NOENT),
        }
    }

    /// Finds a name.
    pub(super) fn entry(mut self, start: Place, path: &[u8]) -> Result<Entry, Errno> {
        let dots = ends_with_dots(path);
        let (end, directory) = self.walk(start, path)?;
        let (place, file) = match end {
            End::Found(found) => (found.place.clone(), Some(found)),
            End::Missing(place) => (Some(place), None),
        };
        let parent = match place.as_ref().and_then(Place::split) {
            Some((parent, name)) if !dots => {
                let directory = self.view.open(self.task, &parent)?;
                let stat = rustix::fs::fstat(&directory)?;
                Some(Parent { directory, stat, place: parent, name })
            }
            _ => None,
        };
        Ok(Entry { place, parent, file, directory })
    }

    /// The second value says whether the path asked for a directory.
    fn walk(&mut self, start: Place, path: &[u8]) -> Result<(End, bool), Errno> {
        if path.len() >= libc::PATH_MAX as usize {
            return Err(Errno::NAMETOOLONG);
        }
        let mut here = start;
        let mut queue = names(path);
        let mut directory = path.ends_with(b"/") || ends_with_dots(path);
        loop {
            // The kernel is asked for all names up to the next `..` at once.
            let mut run = queue.iter().position(|name| name == b"..").unwrap_or(queue.len());
            if run == 0 {
                if queue.pop_front().is_some() {
                    here.pop();
                    continue;
                }
                return Ok((End::Found(self.directory_at(here)?), directory));
            }
            let mut is_last = run == queue.len();
            let mut full = here.with(queue.iter().take(run));
            let opened = match self.view.open(self.task, &full) {
                Err(Errno::LOOP) => match self.first_link(&here, &queue, run)? {
                    Some((count, link)) => {
                        is_last = is_last && count == run;
                        run = count;
                        full = here.with(queue.iter().take(run));
                        link
                    }
                    // It has gone meanwhile.
                    None => {
                        self.count_link()?;
                        continue;
                    }
                },
                Err(Errno::NOENT) if is_last => {
                    let parent = full.split().map(|(parent, _)| parent).unwrap_or_default();
                    self.directory_at(parent)?;
                    return Ok((End::Missing(full), directory));
                }
                other => other?,
            };
            let stat = rustix::fs::fstat(&opened)?;
            let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
            let follow = match self.last {
                Last::Follow => true,
                Last::Keep => directory,
                Last::Name => false,
            };
            if is_last && !(is_link && follow) {
                if directory && self.last != Last::Name && !is_directory(&stat) {
                    return Err(Errno::NOTDIR);
                }
                return Ok((End::Found(Found { place: Some(full), file: opened, stat }), directory));
            }
            queue.drain(..run);
            if !is_link {
                if !is_directory(&stat) {
                    return Err(Errno::NOTDIR);
                }
                here = full;
                continue;
            }
            self.count_link()?;
            let parent = full.split().map(|(parent, _)| parent).unwrap_or_default();
            match self.read_link(&full, &opened)? {
                Link::Text(text) if text.is_empty() => return Err(Errno::NOENT),
                Link::Text(text) => {
                    here = if text.starts_with(b"/") { Place::default() } else { parent };
                    if queue.is_empty() {
                        directory |= text.ends_with(b"/") || ends_with_dots(&text);
                    }
                    for name in names(&text).into_iter().rev() {
                        queue.push_front(name);
                    }
                }
                Link::File(file, place) if queue.is_empty() => {
                    let stat = rustix::fs::fstat(&file)?;
                    if directory && !is_directory(&stat) {
                        return Err(Errno::NOTDIR);
                    }
                    return Ok((End::Found(Found { place, file, stat }), directory));
                }
                Link::File(_, place) => here = place.ok_or(Errno::ACCESS)?,
            }
        }
    }

    /// Opens what has to be a directory.
    fn directory_at(&self, place: Place) -> Result<Found, Errno> {
        let file = self.view.open(self.task, &place)?;
        let stat = rustix::fs::fstat(&file)?;
        if !is_directory(&stat) {
            return Err(Errno::NOTDIR);
        }
        Ok(Found { place: Some(place), file, stat })
    }

    fn count_link(&mut self) -> Result<(), Errno> {
        self.links += 1;
        if self.links > LINK_LIMIT { Err(Errno::LOOP) } else { Ok(()) }
    }

    /// The first link among the next names, and how many names lead there.
    fn first_link(
        &self,
        here: &Place,
        queue: &VecDeque<Vec<u8>>,
        run: usize,
    ) -> Result<Option<(usize, OwnedFd)>, Errno> {
        let mut place = here.clone();
        for (index, name) in queue.iter().take(run).enumerate() {
            place.push(name);
            let file = self.view.open(self.task, &place)?;
            if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::Symlink {
                return Ok(Some((index + 1, file)));
            }
        }
        Ok(None)
    }

    fn read_link(&self, place: &Place, link: &OwnedFd) -> Result<Link, Errno> {
        let magic = match self.view.bind_at(place) {
            Some((bind, rest)) if bind.is_processes() => {
                processes::magic(rest).zip(processes::relative(place, &bind.target))
            }
            _ => None,
        };
        let Some((magic, rest)) = magic else {
            return Ok(Link::Text(rustix::fs::readlinkat(link, "", Vec::with_capacity(256))?.into_bytes()));
        };
        match magic {
            Magic::Own | Magic::OwnThread => Ok(Link::Text(processes::own_link(self.task, &magic)?)),
            Magic::Root => Ok(Link::Text(b"/".to_vec())),
            Magic::Cwd | Magic::Executable(_) => self.magic_text(&magic, rest).map(Link::Text),
            Magic::Descriptor => {
                let file = rustix::fs::openat(
                    self.view.processes().list(),
                    rest,
                    OFlags::PATH | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                let outside = self.view.outside(&file)?;
                let named = outside.starts_with(b"/") && !outside.starts_with(b"/memfd:");
                let place = named.then(|| self.view.place_of(&outside)).flatten();
                // What a process opens as a path it opens itself: nothing but its name is sure to be ours.
                if named && place.is_none() {
                    return Err(Errno::ACCESS);
                }
                // A file that was removed has no place, even where another one got its name.
                let place = place.filter(|_| rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_nlink > 0));
                Ok(Link::File(file, place))
            }
            Magic::Other => Err(Errno::ACCESS),
        }
    }

    /// Where a link to a working directory or an executable leads, as the command sees it.
    fn magic_text(&self, magic: &Magic, rest: &str) -> Result<Vec<u8>, Errno> {
        if let Magic::Executable(process) = magic
            && let Some(path) = self.view.processes().executable(*process)
        {
            return Ok(path);
        }
        let text = rustix::fs::readlinkat(self.view.processes().list(), rest, Vec::with_capacity(256))?;
        self.view.place_of(text.as_bytes()).map(|place| place.path()).ok_or(Errno::NOENT)
    }

    /// What readlink says of a link that was found at `place`.
    pub(super) fn text(&self, place: &Place, link: &OwnedFd) -> Result<Vec<u8>, Errno> {
        let found =
            self.view.bind_at(place).filter(|(bind, _)| bind.is_processes()).and_then(|(bind, rest)| {
                processes::magic(rest).zip(processes::relative(place, &bind.target))
            });
        match found {
            None => Ok(rustix::fs::readlinkat(link, "", Vec::with_capacity(256))?.into_bytes()),
            Some((magic @ (Magic::Own | Magic::OwnThread), _)) => processes::own_link(self.task, &magic),
            Some((Magic::Root, _)) => Ok(b"/".to_vec()),
            Some((magic @ (Magic::Cwd | Magic::Executable(_)), rest)) => self.magic_text(&magic, rest),
            Some((Magic::Descriptor | Magic::Other, rest)) => {
                let text =
                    rustix::fs::readlinkat(self.view.processes().list(), rest, Vec::with_capacity(256))?;
                Ok(self.view.shown(text.into_bytes()))
            }
        }
    }
}

/// Whether a path ends with `.` or `..`, which no file can be given as its name.
fn ends_with_dots(path: &[u8]) -> bool {
    let last = path.rsplit(|byte| *byte == b'/').find(|name| !name.is_empty());
    matches!(last, Some(b"." | b".."))
}
