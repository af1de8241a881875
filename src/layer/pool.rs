//! [`Pool`]: the compression threads that all layers and platforms share.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::image::Compression;

use super::codec::Codecs;

/// Uncompressed bytes of one gzip member; part of what determines a layer's digest.
pub(super) const MEMBER: usize = 1 << 20;
/// Blocks in flight over all layers, for each worker: one being compressed, one waiting for each of
/// input and output, and one being filled. This bounds memory, whatever the number of layers.
const BLOCKS_PER_WORKER: usize = 4;

/// Threads that compress blocks. Dropping the pool ends them.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A block to compress, and where the member goes.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) compression: Compression,
    pub(super) block: Vec<u8>,
    /// How many bytes of the block count.
    pub(super) length: usize,
    /// Where the member's bytes are put.
    pub(super) out: Vec<u8>,
    pub(super) reply: Sender<Member>,
}

/// A compressed block.
pub(super) struct Member {
    pub(super) number: u64,
    /// How many bytes of `out` count; `None` when compressing failed, which means that memory was exhausted.
    pub(super) size: Option<usize>,
    /// The compressed bytes.
    pub(super) out: Vec<u8>,
    /// The block's buffer, to be filled again.
    pub(super) block: Vec<u8>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    in_flight: usize,
    closed: bool,
    /// Compressors for layers too small for a thread.
    spare: Vec<Codecs>,
    /// Threads that encoders with threads of their own have now.
    seated: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
    seats: Condvar,
    limit: usize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Starts `workers` threads, at least one.
    ///
    /// # Errors
    ///
    /// Fails when the system refuses a thread and there is none yet; with fewer threads than asked
    /// for the pool is slower, the bytes are the same.
    pub fn new(workers: usize) -> std::io::Result<Self> {
        let workers = workers.max(1);
        let shared = Arc::new(Shared { limit: workers * BLOCKS_PER_WORKER, ..Shared::default() });
        let mut pool = Self { shared, threads: Vec::new() };
        for _ in 0..workers {
            let shared = Arc::clone(&pool.shared);
            match std::thread::Builder::new().name("compress".to_owned()).spawn(move || work(&shared)) {
                Ok(thread) => pool.threads.push(thread),
                Err(error) if pool.threads.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(pool)
    }

    /// The number of threads.
    pub fn workers(&self) -> usize {
        self.threads.len()
    }

    /// Takes room for one block if there is some.
    pub(super) fn try_reserve(&self) -> bool {
        let mut state = self.shared.lock();
        let free = state.in_flight < self.shared.limit;
        state.in_flight += usize::from(free);
        free
    }

    /// Waits for room for one block. Only for a layer that holds none: it would wait for itself.
    pub(super) fn reserve(&self) {
        let mut state = self.shared.lock();
        while state.in_flight >= self.shared.limit {
            state = self.shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.in_flight += 1;
    }

    /// Gives back the room of `blocks` blocks.
    pub(super) fn release(&self, blocks: usize) {
        self.shared.lock().in_flight -= blocks;
        self.shared.room.notify_all();
    }

    /// Hands a block, for which room was reserved, to the workers.
    pub(super) fn submit(&self, job: Job) {
        self.shared.lock().jobs.push_back(job);
        self.shared.work.notify_one();
    }

    /// Compresses a block on the caller's thread; `None` when memory was exhausted.
    pub(super) fn compress_here(&self, compression: Compression, block: &[u8]) -> Option<Vec<u8>> {
        let spare = self.shared.lock().spare.pop();
        let mut codecs = spare.unwrap_or_default();
        let mut out = Vec::new();
        let size = codecs.compress(compression, block, &mut out);
        self.shared.lock().spare.push(codecs);
        out.truncate(size?);
        Some(out)
    }

    /// Waits until an encoder that makes its own threads may have `most` of them, or all there are where
    /// the pool has fewer. All encoders together never have more threads, nor the memory of more.
    pub(super) fn take_seats(&self, most: usize) -> Seats<'_> {
        let count = most.clamp(1, self.workers());
        let mut state = self.shared.lock();
        while state.seated + count > self.workers() {
            state = self.shared.seats.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.seated += count;
        Seats { pool: self, count }
    }
}

/// Threads that an encoder of its own may have, until this is dropped.
#[derive(Debug)]
pub(super) struct Seats<'a> {
    pool: &'a Pool,
    count: usize,
}

impl Seats<'_> {
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

impl Drop for Seats<'_> {
    fn drop(&mut self) {
        self.pool.shared.lock().seated -= self.count;
        self.pool.shared.seats.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A worker that panicked has no more to say than its silence.
            drop(thread.join());
        }
    }
}

fn work(shared: &Shared) {
    let mut codecs = Codecs::default();
    loop {
        let mut state = shared.lock();
        let mut job = loop {
            if let Some(job) = state.jobs.pop_front() {
                break job;
            }
            if state.closed {
                return;
            }
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let size = codecs.compress(job.compression, &job.block[..job.length], &mut job.out);
        // The layer may have failed meanwhile; then nobody listens.
        drop(job.reply.send(Member { number: job.number, size, out: job.out, block: job.block }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded() {
        let pool = Pool::new(2).unwrap();
        let taken = (0..100).filter(|_| pool.try_reserve()).count();
        assert_eq!(taken, 8);
        pool.release(1);
        pool.reserve();
        assert!(!pool.try_reserve());
    }

    #[test]
    fn seats_are_given_whole() {
        let pool = Pool::new(3).unwrap();
        for (most, want) in [(0, 1), (2, 2), (3, 3), (8, 3)] {
            assert_eq!(pool.take_seats(most).count(), want);
        }
        let (first, second) = (pool.take_seats(2), pool.take_seats(1));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.take_seats(8).count());
            drop(first);
            drop(second);
            assert_eq!(waiting.join().unwrap(), 3);
        });
    }
}
