//! Walking a folder: one pass over names and metadata, on several threads where that pays.
//!
//! Each directory is listed as a whole by one thread; the listings are put together afterwards, in
//! the order of paths, so that nothing depends on who was first.

use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, readlinkat, statat};

use super::SourceError;
use crate::dockerfile::ignore::{Ignore, Verdict};
use crate::layer::{Entry, EntryKind, LayerPath, Stamp, open_beneath};

/// From this many directories on that wait to be listed, threads save more than they cost.
const WORTH_THREADS: usize = 8;
/// Room for the names that the kernel gives at once, in bytes.
const NAMES_AT_ONCE: usize = 64 << 10;

/// What is in a folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// In the order of paths, all owned by root; the folder itself is not among them.
    pub(super) entries: Vec<Entry>,
    /// What the system says of each entry.
    pub(super) stats: Vec<Stamp>,
    /// What no image can hold, in the order of paths.
    pub(super) sockets: Vec<LayerPath>,
}

/// The number of threads that this process can use at once.
pub(super) fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Notes what is in the directory `root`. No file is opened, and no directory that is ignored with
/// all below it. `threads` is asked for the most threads once there is work for them.
///
/// # Errors
///
/// Fails where a directory cannot be read, or holds a name that no layer can: of several such
/// places, for the first in the order of paths.
pub(super) fn walk(
    root: BorrowedFd<'_>,
    ignore: &Ignore,
    threads: fn() -> usize,
) -> Result<Walked, SourceError> {
    let top = Job { number: 0, path: LayerPath::root(), verdict: Verdict::root() };
    let queue = Mutex::new(Queue { open: vec![top], busy: 0, numbered: 1 });
    let walk = Walk { root, ignore, queue, changed: Condvar::new() };
    let listed = std::thread::scope(|scope| {
        let mut helpers = Vec::new();
        let mut listed = walk.work(&mut |waiting| {
            if helpers.is_empty() && waiting >= WORTH_THREADS {
                helpers.extend((1..threads()).map(|_| scope.spawn(|| walk.work(&mut |_| ()))));
            }
        });
        for helper in helpers {
            listed.extend(helper.join().expect("listing directories does not panic"));
        }
        listed
    });
    assemble(listed)
}

/// A directory to be listed.
struct Job {
    number: usize,
    path: LayerPath,
    verdict: Verdict,
}

/// What is left to do.
struct Queue {
    open: Vec<Job>,
    /// Directories that are being listed, and may lead to others.
    busy: usize,
    /// Numbers that were given out.
    numbered: usize,
}

/// A walk in progress.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    ignore: &'a Ignore,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What is directly in a directory, by name.
#[derive(Default)]
struct Listing {
    items: Vec<Item>,
    /// Why there is no more.
    failure: Option<SourceError>,
}

struct Item {
    entry: Entry,
    stat: Stamp,
    form: Form,
}

/// What matters once all is put together.
#[derive(Clone, Copy)]
enum Form {
    /// A directory, the number of its listing, and whether it is there only for what is below it.
    Directory { number: usize, ignored: bool },
    /// A file with more names than one.
    Shared,
    /// A socket, which has no entry.
    Socket,
    /// Anything else.
    Plain,
}

/// Space that a thread uses again and again.
struct Buffers {
    raw: Vec<MaybeUninit<u8>>,
    /// Names, each with the NUL at its end.
    names: Vec<u8>,
    /// Where they begin and end, and what the directory says they are.
    spans: Vec<(usize, usize, FileType)>,
}

impl Walk<'_> {
    /// Lists directories until none is left. `seen` hears how many wait.
    fn work(&self, seen: &mut dyn FnMut(usize)) -> Vec<(usize, Listing)> {
        let raw = vec![MaybeUninit::uninit(); NAMES_AT_ONCE];
        let mut buffers = Buffers { raw, names: Vec::new(), spans: Vec::new() };
        let mut listed = Vec::new();
        while let Some(job) = self.next() {
            let mut listing = Listing::default();
            let mut below = Vec::new();
            listing.failure = self.list(&job, &mut buffers, &mut listing.items, &mut below).err();
            let waiting = self.finish(below, &mut listing.items);
            listed.push((job.number, listing));
            seen(waiting);
        }
        listed
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next directory; waits while others may still find one.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if let Some(job) = queue.open.pop() {
                queue.busy += 1;
                return Some(job);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Numbers the directories that were found in one, and says how many wait now.
    fn finish(&self, mut below: Vec<Job>, items: &mut [Item]) -> usize {
        let mut queue = self.queue();
        let first = queue.numbered;
        queue.numbered += below.len();
        queue.busy -= 1;
        let directories = items.iter_mut().filter_map(|item| match &mut item.form {
            Form::Directory { number, .. } => Some(number),
            _ => None,
        });
        for (at, (number, job)) in directories.zip(&mut below).enumerate() {
            *number = first + at;
            job.number = first + at;
        }
        // The first by name is the next.
        queue.open.extend(below.into_iter().rev());
        let waiting = queue.open.len();
        if waiting > 0 || queue.busy == 0 {
            self.changed.notify_all();
        }
        waiting
    }

    /// Lists a directory: what is in it goes to `items`, and the directories among that to `below`.
    fn list(
        &self,
        job: &Job,
        buffers: &mut Buffers,
        items: &mut Vec<Item>,
        below: &mut Vec<Job>,
    ) -> Result<(), SourceError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        // Named from the root, so that depth costs no descriptors; no link is followed on the way.
        let directory = open_beneath(self.root, job.path.as_bytes(), flags)
            .map_err(|error| SourceError::io("read", job.path.as_os_path(), error))?;
        let Buffers { raw, names, spans } = buffers;
        names.clear();
        spans.clear();
        let mut reader = RawDir::new(&directory, raw);
        while let Some(entry) = reader.next() {
            let fail = |errno| SourceError::io("read the directory", job.path.as_os_path(), errno);
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes_with_nul();
            if !matches!(name, b".\0" | b"..\0") {
                let start = names.len();
                names.extend_from_slice(name);
                spans.push((start, names.len(), entry.file_type()));
            }
        }
        spans.sort_unstable_by(|left, right| names[left.0..left.1].cmp(&names[right.0..right.1]));
        items.reserve_exact(spans.len());
        for &(start, end, file_type) in &*spans {
            let path = job.path.join(&names[start..end - 1])?;
            let verdict = self.ignore.verdict(path.as_bytes(), &job.verdict);
            if verdict.ignored {
                let is_directory = matches!(file_type, FileType::Directory | FileType::Unknown);
                if !is_directory || !self.ignore.may_reinclude_below(path.as_bytes()) {
                    continue;
                }
            }
            let Ok(name) = CStr::from_bytes_with_nul(&names[start..end]) else { continue };
            let Some(item) = look(directory.as_fd(), name, path, verdict.ignored)? else { continue };
            if let Form::Directory { number, .. } = item.form {
                below.push(Job { number, path: item.entry.path.clone(), verdict });
            }
            items.push(item);
        }
        Ok(())
    }
}

/// What stands under a name in a directory; `None` for what is ignored and no directory.
fn look(
    directory: BorrowedFd<'_>,
    name: &CStr,
    path: LayerPath,
    ignored: bool,
) -> Result<Option<Item>, SourceError> {
    let fail = |errno| SourceError::io("read", path.as_os_path(), errno);
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    let mut mode = stat.st_mode & 0o7777;
    let mut form = Form::Plain;
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            form = Form::Directory { number: 0, ignored };
            EntryKind::Directory
        }
        _ if ignored => return Ok(None),
        FileType::RegularFile => {
            if stat.st_nlink > 1 {
                form = Form::Shared;
            }
            EntryKind::File { size: u64::try_from(stat.st_size).unwrap_or(0) }
        }
        FileType::Symlink => {
            mode = 0o777;
            let target = readlinkat(directory, name, Vec::new()).map_err(fail)?;
            EntryKind::Symlink { target: target.into_bytes() }
        }
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => EntryKind::Char { major, minor },
        FileType::BlockDevice => EntryKind::Block { major, minor },
        _ => {
            form = Form::Socket;
            EntryKind::Fifo
        }
    };
    let mut entry = Entry::new(path, kind, mode);
    entry.mtime = stat.st_mtime;
    Ok(Some(Item { entry, stat: Stamp::of(&stat), form }))
}

/// Puts listings together in the order of paths.
fn assemble(listed: Vec<(usize, Listing)>) -> Result<Walked, SourceError> {
    let count = listed.iter().map(|(_, listing)| listing.items.len()).sum();
    let mut listings: Vec<Listing> = Vec::new();
    listings.resize_with(listed.len(), Listing::default);
    for (number, listing) in listed {
        listings[number] = listing;
    }
    let mut walked =
        Walked { entries: Vec::with_capacity(count), stats: Vec::with_capacity(count), sockets: Vec::new() };
    let mut firsts: HashMap<(u64, u64), LayerPath> = HashMap::new();
    // The directories that lead to where we are: what is left of each, and how many entries stood up to
    // and with its own, if it is ignored.
    let mut open = Vec::new();
    let mut enter = |number: usize, ignored: Option<usize>| {
        let Listing { items, failure } = std::mem::take(&mut listings[number]);
        (items.into_iter(), failure, ignored)
    };
    open.push(enter(0, None));
    while let Some((items, failure, ignored)) = open.last_mut() {
        let Some(Item { mut entry, stat, form }) = items.next() else {
            if let Some(failure) = failure.take() {
                return Err(failure);
            }
            // An ignored directory is there for the sake of what is included below it.
            if *ignored == Some(walked.entries.len()) {
                walked.entries.pop();
                walked.stats.pop();
            }
            open.pop();
            continue;
        };
        match form {
            Form::Socket => {
                walked.sockets.push(entry.path);
                continue;
            }
            Form::Shared => {
                let first = firsts.entry((stat.device, stat.inode)).or_insert_with(|| entry.path.clone());
                if *first != entry.path {
                    entry.kind = EntryKind::HardLink { target: first.clone() };
                }
            }
            Form::Directory { number, ignored } => {
                open.push(enter(number, ignored.then_some(walked.entries.len() + 1)));
            }
            Form::Plain => {}
        }
        walked.entries.push(entry);
        walked.stats.push(stat);
    }
    Ok(walked)
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
