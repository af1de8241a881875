//! [`Writers`]: writes the entries of one archive as a directory, small files on several threads.
//!
//! What stands on disk is the same for any number of threads: directories, links, devices and large
//! files are made by the caller's thread in the order of the archive; small files, which are put
//! aside meanwhile, have their directory before they are handed out, and never stand where something
//! else stands. Hard links wait for all files. Whatever replaces something waits for everything.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write as _};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::OFlags;

use crate::image::Ownership;

use super::attributes::Attributes;
use super::dir_writer::DirWriter;
use super::entry::{Entry, EntryKind};
use super::error::LayerError;
use super::index::LayerIndex;
use super::path::LayerPath;

/// Largest file that is put aside; a larger one is written as it comes.
const SMALL: u64 = 512 << 10;
/// A batch is handed out when it has so many bytes, files, or directories that are kept open for it.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_FILES: usize = 64;
const BATCH_DIRECTORIES: usize = 8;
/// Batches that wait for a thread.
const WAITING: usize = 4;

/// Writes below one directory.
#[derive(Debug)]
pub(super) struct Writers {
    writer: DirWriter,
    batch: Batch,
    links: Vec<Entry>,
    /// Threads that may be started.
    most: usize,
    threads: Vec<JoinHandle<Vec<LayerPath>>>,
    shared: Arc<Shared>,
}

/// Small files with their contents.
#[derive(Debug, Default)]
struct Batch {
    contents: Vec<u8>,
    files: Vec<Small>,
    directories: usize,
}

#[derive(Debug)]
struct Small {
    at: Arc<OwnedFd>,
    entry: Entry,
    content: Range<usize>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Batch>,
    /// Batches that are being written.
    busy: usize,
    /// Batches that were written, for their memory.
    spare: Vec<Batch>,
    closed: bool,
    failure: Option<LayerError>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `holds`; then nothing has failed.
    fn wait_while(&self, holds: impl Fn(&Queue) -> bool) -> Result<MutexGuard<'_, Queue>, LayerError> {
        let holds = |queue: &mut Queue| queue.failure.is_none() && holds(queue);
        let mut queue = self.changed.wait_while(self.queue(), holds).unwrap_or_else(PoisonError::into_inner);
        match queue.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(queue),
        }
    }
}

impl Writers {
    /// Writes below `into`, a directory of our own, with up to `threads` threads beside the caller's.
    pub(super) fn new(into: &Path, ownership: Ownership, threads: usize) -> Result<Self, LayerError> {
        Ok(Self {
            writer: DirWriter::new(into, ownership)?,
            batch: Batch::default(),
            links: Vec::new(),
            most: threads,
            threads: Vec::new(),
            shared: Arc::default(),
        })
    }

    /// Takes the next entry; `replaces` says that something else stands in its place.
    pub(super) fn write(
        &mut self,
        entry: Entry,
        replaces: bool,
        content: &mut dyn Read,
    ) -> Result<(), LayerError> {
        if replaces {
            self.settle()?;
            return self.writer.write(&entry, content);
        }
        match entry.kind {
            EntryKind::File { size } if size <= SMALL => self.put_aside(entry, size, content),
            EntryKind::HardLink { .. } => {
                self.links.push(entry);
                Ok(())
            }
            _ => self.writer.write(&entry, content),
        }
    }

    /// Writes what is left, deletions, and the metadata of directories; gives back the paths that the
    /// file system or the user namespace refused a part of.
    pub(super) fn finish(mut self, index: &LayerIndex) -> Result<Vec<LayerPath>, LayerError> {
        self.settle()?;
        let mut unwritten = self.close();
        unwritten.extend(self.writer.finish(index)?);
        unwritten.sort();
        unwritten.dedup();
        Ok(unwritten)
    }

    fn put_aside(&mut self, entry: Entry, size: u64, content: &mut dyn Read) -> Result<(), LayerError> {
        let at = self.writer.directory_at(&entry.path.parent().unwrap_or_default())?;
        let start = self.batch.contents.len();
        content.take(size + 1).read_to_end(&mut self.batch.contents).map_err(LayerError::stream)?;
        let content = start..self.batch.contents.len();
        if content.len() as u64 != size {
            let (path, found) = (entry.path.to_string(), content.len() as u64);
            return Err(LayerError::SizeChanged { path, expected: size, found });
        }
        let same = self.batch.files.last().is_some_and(|last| Arc::ptr_eq(&last.at, &at));
        self.batch.directories += usize::from(!same);
        self.batch.files.push(Small { at, entry, content });
        let full = self.batch.contents.len() >= BATCH_BYTES
            || self.batch.files.len() >= BATCH_FILES
            || self.batch.directories >= BATCH_DIRECTORIES;
        if full { self.hand_out() } else { Ok(()) }
    }

    /// Gives the batch to a thread, which is started if all others have something to do.
    fn hand_out(&mut self) -> Result<(), LayerError> {
        let occupied = {
            let queue = self.shared.queue();
            queue.busy + queue.waiting.len() >= self.threads.len()
        };
        if occupied && self.threads.len() < self.most {
            let (shared, mut attributes) = (Arc::clone(&self.shared), self.writer.attributes());
            let thread = std::thread::Builder::new().name("write".to_owned());
            match thread.spawn(move || work(&shared, &mut attributes)) {
                Ok(thread) => self.threads.push(thread),
                // With fewer threads it takes longer.
                Err(_) => self.most = self.threads.len(),
            }
        }
        if self.threads.is_empty() {
            return self.write_here();
        }
        let mut queue = self.shared.wait_while(|queue| queue.waiting.len() >= WAITING)?;
        let next = queue.spare.pop().unwrap_or_default();
        queue.waiting.push_back(std::mem::replace(&mut self.batch, next));
        drop(queue);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn write_here(&mut self) -> Result<(), LayerError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch = self.writer.write_with(|attributes| batch.write(attributes))?;
        Ok(())
    }

    /// Returns when all that came so far is on disk.
    fn settle(&mut self) -> Result<(), LayerError> {
        self.write_here()?;
        drop(self.shared.wait_while(|queue| queue.busy > 0 || !queue.waiting.is_empty())?);
        for link in std::mem::take(&mut self.links) {
            self.writer.write(&link, &mut std::io::empty())?;
        }
        Ok(())
    }

    /// Ends the threads; batches that wait are dropped.
    fn close(&mut self) -> Vec<LayerPath> {
        let mut queue = self.shared.queue();
        queue.closed = true;
        queue.waiting.clear();
        drop(queue);
        self.shared.changed.notify_all();
        // A thread that panicked has left its mark in the queue.
        self.threads.drain(..).flat_map(|thread| thread.join().unwrap_or_default()).collect()
    }
}

impl Drop for Writers {
    /// Nothing is written any more after this, so that the directory can be removed.
    fn drop(&mut self) {
        drop(self.close());
    }
}

impl Batch {
    /// Writes the files, and gives the batch back, empty.
    fn write(mut self, attributes: &mut Attributes) -> Result<Self, LayerError> {
        for Small { at, entry, content } in self.files.drain(..) {
            let failed = |error| LayerError::io("create", &entry.path, error);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let name = entry.path.file_name().unwrap_or_default();
            let file = rustix::fs::openat(&at, name, flags, attributes.first_mode(&entry)).map_err(failed)?;
            let mut file = File::from(file);
            let written = file.write_all(&self.contents[content]);
            written.map_err(|error| LayerError::io("write", &entry.path, error))?;
            attributes.describe_new(file.as_fd(), &entry)?;
        }
        self.contents.clear();
        self.directories = 0;
        Ok(self)
    }
}

/// Counts a batch as written, also when that panics.
struct Busy<'a> {
    shared: &'a Shared,
    result: Option<Result<Batch, LayerError>>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let panicked =
            || Err(LayerError::Stream(std::io::Error::other("a thread that writes files panicked")));
        let mut queue = self.shared.queue();
        queue.busy -= 1;
        match self.result.take().unwrap_or_else(panicked) {
            Ok(batch) => queue.spare.push(batch),
            // The first failure is the one that is told.
            Err(failure) => _ = queue.failure.get_or_insert(failure),
        }
        drop(queue);
        self.shared.changed.notify_all();
    }
}

/// Writes batches until there are no more; gives back the paths that lack something.
fn work(shared: &Shared, attributes: &mut Attributes) -> Vec<LayerPath> {
    loop {
        let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
        let queue = shared.changed.wait_while(shared.queue(), idle);
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        let Some(batch) = queue.waiting.pop_front() else { return attributes.take_unwritten() };
        queue.busy += 1;
        drop(queue);
        // There is room for another batch.
        shared.changed.notify_all();
        let mut busy = Busy { shared, result: None };
        busy.result = Some(batch.write(attributes));
    }
}
