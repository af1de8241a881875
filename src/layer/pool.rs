//! [`Pool`]: the compression threads that all layers and platforms share.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use libdeflater::{CompressionLvl, Compressor};

/// Uncompressed bytes of one gzip member; part of what determines a layer's digest.
pub(super) const MEMBER: usize = 1 << 20;
/// Level of libdeflate; part of what determines a layer's digest.
const LEVEL: i32 = 6;
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
    pub(super) block: Vec<u8>,
    pub(super) reply: Sender<Member>,
}

/// A compressed block.
pub(super) struct Member {
    pub(super) number: u64,
    /// `None` when compressing failed, which for libdeflate means that memory was exhausted.
    pub(super) bytes: Option<Vec<u8>>,
    /// The block's buffer, to be filled again.
    pub(super) block: Vec<u8>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    in_flight: usize,
    closed: bool,
    /// Compressors for layers too small for a thread.
    spare: Vec<Compressor>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
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

    /// Compresses a block on the caller's thread; `None` as for [`Member::bytes`].
    pub(super) fn compress_here(&self, block: &[u8]) -> Option<Vec<u8>> {
        let spare = self.shared.lock().spare.pop();
        let mut compressor = spare.unwrap_or_else(new_compressor);
        let member = compress(&mut compressor, block);
        self.shared.lock().spare.push(compressor);
        member
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
    let mut compressor = new_compressor();
    loop {
        let mut state = shared.lock();
        let job = loop {
            if let Some(job) = state.jobs.pop_front() {
                break job;
            }
            if state.closed {
                return;
            }
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let bytes = compress(&mut compressor, &job.block);
        // The layer may have failed meanwhile; then nobody listens.
        drop(job.reply.send(Member { number: job.number, bytes, block: job.block }));
    }
}

fn new_compressor() -> Compressor {
    Compressor::new(CompressionLvl::new(LEVEL).expect("the level is within libdeflate's range"))
}

/// One gzip member: no name, no time, and the bytes that libdeflate writes for an extra flag of 0
/// and an unknown system, whatever the host.
fn compress(compressor: &mut Compressor, block: &[u8]) -> Option<Vec<u8>> {
    let mut member = vec![0; compressor.gzip_compress_bound(block.len())];
    let size = compressor.gzip_compress(block, &mut member).ok()?;
    member.truncate(size);
    debug_assert_eq!(&member[..10], b"\x1f\x8b\x08\0\0\0\0\0\0\xff");
    Some(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_a_fixed_header() {
        let pool = Pool::new(1).unwrap();
        for block in [&b""[..], b"abc", &[0; MEMBER]] {
            let member = pool.compress_here(block).unwrap();
            assert_eq!(&member[..10], b"\x1f\x8b\x08\0\0\0\0\0\0\xff");
            let mut out = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&member[..]), &mut out).unwrap();
            assert_eq!(out, block);
        }
    }

    #[test]
    fn room_is_bounded() {
        let pool = Pool::new(2).unwrap();
        let taken = (0..100).filter(|_| pool.try_reserve()).count();
        assert_eq!(taken, 8);
        pool.release(1);
        pool.reserve();
        assert!(!pool.try_reserve());
    }
}
