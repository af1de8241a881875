//! [`Snapshot`]: the metadata of every file of a directory tree, as the kernel has it.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};

use super::beneath;
use super::content::Change;
use super::entry::EntryKind;
use super::error::LayerError;
use super::path::LayerPath;
use super::scan::settle_times;

/// Coarsest step of the clock that file times are taken from: one tick of a kernel with 100 of them
/// in a second, twice. A change within the step in which a snapshot was taken could not be seen.
const CLOCK_STEP: Duration = Duration::from_millis(20);
/// A tick may be told late.
const CLOCK_SLACK: Duration = Duration::from_millis(2);

/// What a directory tree was like at one moment: about 90 bytes for each file.
///
/// Other file systems mounted in the tree are not entered and count as what may not change.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(super) directories: HashMap<LayerPath, Listing>,
}

/// One directory: names in order, each with its metadata.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing {
    /// Inode number of the directory itself.
    pub(super) inode: u64,
    names: Box<[u8]>,
    /// Where each name ends in `names`.
    ends: Box<[u32]>,
    records: Box<[Record]>,
}

/// Metadata of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    ctime: i64,
    pub(super) mtime_ns: u32,
    ctime_ns: u32,
    /// Type and permissions; 0 where another file system is mounted.
    mode: u32,
    uid: u32,
    gid: u32,
    pub(super) links: u32,
}

impl Record {
    fn new(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size as u64,
            mtime: stat.st_mtime,
            ctime: stat.st_ctime,
            mtime_ns: stat.st_mtime_nsec as u32,
            ctime_ns: stat.st_ctime_nsec as u32,
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: stat.st_nlink as u32,
        }
    }

    /// Whether this is where another file system is mounted.
    pub(super) fn is_mount(&self) -> bool {
        self.mode == 0
    }

    /// Whether this is neither a regular file nor a directory.
    pub(super) fn is_special(&self) -> bool {
        let kind = FileType::from_raw_mode(self.mode);
        !self.is_mount() && !matches!(kind, FileType::RegularFile | FileType::Directory)
    }
}

impl Listing {
    fn new(inode: u64, mut found: Vec<(Vec<u8>, Record)>) -> Self {
        found.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        let mut names = Vec::with_capacity(found.iter().map(|(name, _)| name.len()).sum());
        let mut ends = Vec::with_capacity(found.len());
        for (name, _) in &found {
            names.extend_from_slice(name);
            ends.push(names.len() as u32);
        }
        let records = found.into_iter().map(|(_, record)| record).collect();
        Self { inode, names: names.into(), ends: ends.into(), records }
    }

    fn name(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.names[start as usize..self.ends[at] as usize]
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.records.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Record> {
        self.position(name).map(|at| &self.records[at])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Record)> {
        self.records.iter().enumerate().map(|(at, record)| (self.name(at), record))
    }
}

impl Snapshot {
    /// Reads the tree at `root` with `threads` threads; links are not followed.
    ///
    /// [`Snapshot::outlive_clock`] has to be called before the tree is changed.
    ///
    /// # Errors
    ///
    /// Fails where a directory cannot be read, and for paths longer than a layer can hold.
    pub fn take(root: &Path, threads: usize) -> Result<Self, LayerError> {
        let snapshot = walk(&open_root(root)?, threads, &|_| Ok(()))?;
        Ok(snapshot)
    }

    /// The number of files.
    pub fn len(&self) -> usize {
        self.directories.values().map(|listing| listing.records.len()).sum()
    }

    /// Whether the tree is an empty directory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the changed files below `root`, of which this is the snapshot, the times that a layer
    /// sealed from `changes` carries, as [`super::settle_times`] does, and takes them in.
    ///
    /// # Errors
    ///
    /// As [`super::settle_times`].
    pub fn settle(&mut self, root: &Path, changes: &[Change], clamp: Option<i64>) -> Result<(), LayerError> {
        settle_times(root, changes, clamp)?;
        let root = open_root(root)?;
        let mut shared: HashMap<(u64, u64), Record> = HashMap::new();
        for entry in changes.iter().map(|change| &change.entry).filter(|entry| !entry.is_marker()) {
            let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) else { continue };
            let Some(listing) = self.directories.get_mut(&parent) else { continue };
            let Some(at) = listing.position(name) else { continue };
            let directory = beneath::open_directory(root.as_fd(), &parent)
                .map_err(|error| LayerError::io("read", &parent, error))?;
            let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| LayerError::io("read", &entry.path, error))?;
            let record = Record::new(&stat);
            listing.records[at] = record;
            if record.links > 1 && entry.kind != EntryKind::Directory {
                shared.insert((record.device, record.inode), record);
            }
        }
        if !shared.is_empty() {
            // Other names of these files have changed with them: symbolic links have some that are no
            // change of the image.
            for record in self.directories.values_mut().flat_map(|listing| listing.records.iter_mut()) {
                if let Some(now) = shared.get(&(record.device, record.inode)) {
                    *record = *now;
                }
            }
        }
        Ok(())
    }

    /// Waits until a change to any of the files would have another time than those seen: some milliseconds
    /// where the tree was changed just before, else not at all.
    pub fn outlive_clock(&self) {
        let records = self.directories.values().flat_map(|listing| listing.records.iter());
        let Some(newest) = records.map(|record| (record.ctime, record.ctime_ns)).max() else { return };
        let (Ok(seconds), now) = (u64::try_from(newest.0), SystemTime::now()) else { return };
        let newest = UNIX_EPOCH + Duration::new(seconds, newest.1);
        // A time in the future says that the clock was set: no waiting would help.
        let age = now.duration_since(newest).unwrap_or_default();
        if let Some(rest) = clock_step().checked_sub(age) {
            std::thread::sleep(rest);
        }
    }
}

/// The time between two values of the clock by which file systems date changes, and a little more.
fn clock_step() -> Duration {
    let step = rustix::time::clock_getres(rustix::time::ClockId::RealtimeCoarse);
    let nanoseconds = u64::try_from(step.tv_nsec).unwrap_or(0);
    (Duration::from_nanos(nanoseconds) + CLOCK_SLACK).min(CLOCK_STEP)
}

/// Opens the directory that a walk begins at.
pub(super) fn open_root(root: &Path) -> Result<Arc<OwnedFd>, LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, root, flags, Mode::empty());
    fd.map(Arc::new).map_err(|error| LayerError::io("open", root.as_os_str().as_bytes(), error))
}

/// One directory, while it is open.
pub(super) struct Visit<'a> {
    pub(super) path: &'a LayerPath,
    pub(super) at: BorrowedFd<'a>,
    pub(super) listing: &'a Listing,
}

/// Called for every directory, by several threads at once.
pub(super) type OnDirectory<'a> = dyn Fn(&Visit<'_>) -> Result<(), LayerError> + Sync + 'a;

/// Directories that wait to be read.
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: Vec<LayerPath>,
    /// Threads that read a directory, which may hold more of them.
    busy: usize,
    done: Vec<(LayerPath, Listing)>,
    failed: Option<LayerError>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the whole tree; one directory is open at a time for each thread, whatever the depth.
pub(super) fn walk(
    root: &Arc<OwnedFd>,
    threads: usize,
    visit: &OnDirectory<'_>,
) -> Result<Snapshot, LayerError> {
    let device = rustix::fs::fstat(root.as_fd()).map_err(|error| LayerError::io("read", "", error))?.st_dev;
    let state = State { open: vec![LayerPath::root()], ..State::default() };
    let queue = Queue { state: Mutex::new(state), changed: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            let work = || work(&queue, root.as_fd(), device, visit);
            // With fewer threads than asked for it takes longer.
            if std::thread::Builder::new().name("walk".to_owned()).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work(&queue, root.as_fd(), device, visit);
    });
    let state = queue.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.failed {
        Some(error) => Err(error),
        None => Ok(Snapshot { directories: state.done.into_iter().collect() }),
    }
}

fn work(queue: &Queue, root: BorrowedFd<'_>, device: u64, visit: &OnDirectory<'_>) {
    let mut state = queue.lock();
    loop {
        if state.failed.is_some() {
            return;
        }
        let Some(path) = state.open.pop() else {
            if state.busy == 0 {
                return;
            }
            state = queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.busy += 1;
        drop(state);
        let read = read(root, device, &path, visit);
        state = queue.lock();
        state.busy -= 1;
        match read {
            Ok((listing, below)) => {
                state.open.extend(below);
                state.done.push((path, listing));
            }
            Err(error) => _ = state.failed.get_or_insert(error),
        }
        queue.changed.notify_all();
    }
}

/// Reads one directory; gives those that it holds.
fn read(
    root: BorrowedFd<'_>,
    device: u64,
    path: &LayerPath,
    visit: &OnDirectory<'_>,
) -> Result<(Listing, Vec<LayerPath>), LayerError> {
    let failed = |error| LayerError::io("read", path, error);
    let fd = beneath::open(root, path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(|error| LayerError::io("read", path, error))?;
    let inode = rustix::fs::fstat(&fd).map_err(failed)?.st_ino;
    let mut found = Vec::new();
    let mut below = Vec::new();
    for entry in Dir::read_from(&fd).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let mut record = Record::new(&stat);
        // Files of an overlay have devices of their own, so only directories tell a mount.
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if record.device == device {
                below.push(path.join(name.to_bytes())?);
            } else {
                record.mode = 0;
            }
        }
        found.push((name.to_bytes().to_vec(), record));
    }
    let listing = Listing::new(inode, found);
    visit(&Visit { path, at: fd.as_fd(), listing: &listing })?;
    Ok((listing, below))
}
