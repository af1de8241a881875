//! [`GzipWriter`]: compresses blocks on the shared [`Pool`] and writes the members in order.
//!
//! Each block is a gzip member of its own, so the bytes depend on the blocks alone, not on which thread
//! compressed which. Buffers go round: none is allocated or cleared for a block. Rules: RFC 1952.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::image::Compression;

use super::blocks::{Take, written};
use super::error::LayerError;
use super::pool::{Job, MEMBER, Member, Pool};

/// Blocks of one layer in flight at most, whatever the number of workers: with their compressed forms they
/// take 50 MB. One thread cannot read and hash for more workers than this anyway.
const MOST_IN_FLIGHT: usize = 24;

/// Writes blocks as gzip members.
pub(super) struct GzipWriter<'a, W> {
    room: Room<'a>,
    compression: Compression,
    blob: W,
    /// Number of the next block to submit.
    next: u64,
    /// Number of the next member to write.
    due: u64,
    /// Members that were ready before their turn.
    early: BTreeMap<u64, (Vec<u8>, usize)>,
    reply: Sender<Member>,
    members: Receiver<Member>,
    /// Buffers to be filled again: plain ones and compressed ones.
    blocks: Vec<Vec<u8>>,
    outs: Vec<Vec<u8>>,
}

impl<'a, W: Write> GzipWriter<'a, W> {
    pub(super) fn new(pool: &'a Pool, compression: Compression, blob: W) -> Self {
        let (reply, members) = channel();
        Self {
            room: Room { pool, held: 0 },
            compression,
            blob,
            next: 0,
            due: 0,
            early: BTreeMap::new(),
            reply,
            members,
            blocks: Vec::new(),
            outs: Vec::new(),
        }
    }

    fn submit(&mut self, block: Vec<u8>, length: usize) -> Result<(), LayerError> {
        while let Ok(member) = self.members.try_recv() {
            self.accept(member)?;
        }
        // A layer keeps twice as many blocks in flight as there are workers: enough that they never
        // wait, and few enough that other layers get their share.
        let most = (2 * self.room.pool.workers()).min(MOST_IN_FLIGHT);
        while self.next - self.due >= most as u64 {
            self.accept_next()?;
        }
        while !self.room.pool.try_reserve() {
            if self.next == self.due {
                self.room.pool.reserve();
                break;
            }
            self.accept_next()?;
        }
        self.room.held += 1;
        self.room.pool.submit(Job {
            number: self.next,
            compression: self.compression,
            block,
            length,
            out: self.outs.pop().unwrap_or_default(),
            reply: self.reply.clone(),
        });
        self.next += 1;
        Ok(())
    }

    fn accept_next(&mut self) -> Result<(), LayerError> {
        let member = self.members.recv().expect("this writer holds a sender itself");
        self.accept(member)
    }

    fn accept(&mut self, member: Member) -> Result<(), LayerError> {
        let size = member.size.ok_or_else(out_of_memory)?;
        self.blocks.push(member.block);
        self.early.insert(member.number, (member.out, size));
        while let Some((out, size)) = self.early.remove(&self.due) {
            self.due += 1;
            self.room.release();
            self.blob.write_all(&out[..size]).map_err(written)?;
            self.outs.push(out);
        }
        Ok(())
    }

    /// Writes the last block, of any size, and gives back the writer of the blob.
    pub(super) fn finish(mut self, last: Vec<u8>, length: usize) -> Result<W, LayerError> {
        if self.next == 0 {
            // Most layers are small: no other thread, no waiting.
            let pool = self.room.pool;
            let member = pool.compress_here(self.compression, &last[..length]).ok_or_else(out_of_memory)?;
            self.blob.write_all(&member).map_err(written)?;
            return Ok(self.blob);
        }
        if length > 0 {
            self.submit(last, length)?;
        }
        while self.due < self.next {
            self.accept_next()?;
        }
        Ok(self.blob)
    }
}

impl<W: Write> Take for GzipWriter<'_, W> {
    fn take(&mut self, block: Vec<u8>, length: usize) -> Result<Vec<u8>, LayerError> {
        self.submit(block, length)?;
        Ok(self.blocks.pop().unwrap_or_else(|| vec![0; MEMBER]))
    }
}

/// What compressing fails with: its only reason.
pub(super) fn out_of_memory() -> LayerError {
    written(io::ErrorKind::OutOfMemory.into())
}

/// Room that one layer holds in the pool; after a failure the blocks still in flight are nobody's.
struct Room<'a> {
    pool: &'a Pool,
    held: usize,
}

impl Room<'_> {
    fn release(&mut self) {
        self.held -= 1;
        self.pool.release(1);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.pool.release(self.held);
    }
}
