//! A blob that is read from one repository while it is sent to another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use reqwest::Body;
use reqwest::header::{IF_RANGE, RANGE};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::bytes::{Buf as _, Bytes};

use crate::image::{Descriptor, Sha256};

use super::download::{call, operation, range_start, truncated, wrong_content};
use super::error::{Failure, RegistryError};
use super::exchange::Answer;
use super::limiter::Slot;
use super::retry::{Advice, Retries};
use super::session::{Manner, Server as _, Session};
use super::transport::{Sent, SourceError};

/// The blob of a repository as something that can be uploaded.
///
/// A request body reads on where the one before it ended, so that a blob that is sent in chunks is
/// fetched once. A broken connection is resumed while the body waits. The last byte is handed out only
/// when the whole has the right digest: a registry never gets all of something wrong.
#[derive(Debug)]
pub(super) struct Feed {
    session: Session,
    descriptor: Descriptor,
    reader: Arc<Mutex<Reader>>,
}

#[derive(Debug)]
struct Reader {
    session: Session,
    descriptor: Descriptor,
    /// The open connection, which goes on at `offset` plus what `piece` holds, `skip` bytes later.
    answer: Option<Answer>,
    skip: u64,
    etag: Option<String>,
    /// Whether the registry can continue; some answer 416 to any open-ended range.
    ranges: bool,
    piece: Bytes,
    /// Bytes before this one are in the hasher.
    offset: u64,
    hasher: Sha256,
    /// Both, as they were when the last body began.
    mark: (u64, Sha256),
    /// Number of the body that may read. An older one may live on a while after its request ended.
    turn: u64,
    /// Whether wrong content came once.
    wrong: bool,
    failure: Option<Failure>,
    /// Bounds the number of copies. Their connections wait for no slot: they are opened while the upload
    /// holds one, and two copies could wait for each other.
    _slot: Option<Slot>,
}

impl Feed {
    /// The blob `descriptor` of the repository of `session`. Asks for nothing yet.
    pub(super) fn new(session: &Session, descriptor: &Descriptor) -> Self {
        let session = session.with(Manner::Slotless);
        let reader = Reader {
            session: session.clone(),
            descriptor: descriptor.clone(),
            answer: None,
            skip: 0,
            etag: None,
            ranges: true,
            piece: Bytes::new(),
            offset: 0,
            hasher: Sha256::new(),
            mark: (0, Sha256::new()),
            turn: 0,
            wrong: false,
            failure: None,
            _slot: None,
        };
        Self { session, descriptor: descriptor.clone(), reader: Arc::new(Mutex::new(reader)) }
    }

    /// Waits until another copy may begin, and fetches the first bytes.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        let slot = self.session.host.copies.acquire().await;
        let mut reader = self.reader.lock().await;
        reader._slot = Some(slot);
        while self.descriptor.size > 0
            && let Err(failure) = reader.fill().await
        {
            if failure.advice == Advice::Never {
                // The caller asks whose it is.
                reader.failure = Some(failure);
                return Err(Failure::network("the blob cannot be read"));
            }
        }
        Ok(())
    }

    /// Makes ready for a body that begins at `start`; returns its turn.
    pub(super) async fn begin(&self, start: u64) -> u64 {
        self.reader.lock().await.begin(start)
    }

    /// The request body of `length` bytes from `start` that has the `turn`.
    pub(super) fn body(&self, turn: u64, start: u64, length: u64, sent: &Arc<Sent>) -> Body {
        let state = (Arc::clone(&self.reader), Arc::clone(sent));
        let end = start + length;
        Body::wrap_stream(futures::stream::try_unfold(state, move |(reader, sent)| async move {
            let piece = piece(reader.lock().await, turn, start..end, &sent).await?;
            Ok::<_, SourceError>(piece.map(|piece| (piece, (reader, sent))))
        }))
    }

    /// Why the last body ended early, where the fault was on this side.
    pub(super) async fn take_failure(&self) -> Option<Failure> {
        self.reader.lock().await.failure.take()
    }

    /// The error that `failure` on this side is.
    pub(super) fn error(&self, failure: Failure) -> RegistryError {
        self.session.error(operation(&self.descriptor), failure)
    }
}

/// The next bytes of the body that has the `turn`; `None` at its end.
async fn piece(
    mut reader: MutexGuard<'_, Reader>,
    turn: u64,
    part: std::ops::Range<u64>,
    sent: &Sent,
) -> Result<Option<Bytes>, SourceError> {
    if reader.turn != turn {
        return Err(SourceError(io::Error::other("another request goes on with the blob")));
    }
    if reader.offset >= part.end {
        return Ok(None);
    }
    sent.starved.store(true, Ordering::Relaxed);
    let piece = reader.next(part).await;
    sent.starved.store(false, Ordering::Relaxed);
    match piece {
        Ok(piece) => {
            sent.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok(Some(piece))
        }
        Err(failure) => {
            reader.failure = Some(failure);
            Err(SourceError(io::Error::other("the blob cannot be read")))
        }
    }
}

impl Reader {
    /// Makes ready for a body that begins at `start`; returns its turn.
    fn begin(&mut self, start: u64) -> u64 {
        self.turn += 1;
        self.failure = None;
        if start == self.offset {
            self.mark = (self.offset, self.hasher.clone());
        } else {
            if self.mark.0 > start {
                self.mark = (0, Sha256::new());
            }
            // What lies between the mark and `start` is hashed again, and not sent.
            (self.offset, self.hasher) = self.mark.clone();
            self.answer = None;
            self.piece = Bytes::new();
        }
        self.turn
    }

    /// The next bytes of `part`.
    async fn next(&mut self, part: std::ops::Range<u64>) -> Result<Bytes, Failure> {
        loop {
            self.fill().await?;
            let bound = if self.offset < part.start { part.start } else { part.end };
            let most = usize::try_from(bound - self.offset).unwrap_or(usize::MAX);
            let bytes = self.piece.split_to(most.min(self.piece.len()));
            self.hasher.update(&bytes);
            self.offset += bytes.len() as u64;
            if self.offset == self.descriptor.size && self.hasher.clone().finish() != self.descriptor.digest {
                return Err(wrong_content(&mut self.wrong));
            }
            if bound == part.end {
                return Ok(bytes);
            }
        }
    }

    /// Fetches bytes where none are left. Tries are counted from the last byte that came.
    async fn fill(&mut self) -> Result<(), Failure> {
        if !self.piece.is_empty() {
            return Ok(());
        }
        let session = self.session.clone();
        let mut tries = Retries::new(&session, operation(&self.descriptor));
        loop {
            match self.attempt(&tries).await {
                Ok(bytes) if self.offset + bytes.len() as u64 > self.descriptor.size => {
                    self.answer = None;
                    return Err(wrong_content(&mut self.wrong));
                }
                Ok(bytes) => {
                    self.piece = bytes;
                    return Ok(());
                }
                Err(failure) => {
                    self.answer = None;
                    tries.wait(failure).await?;
                }
            }
        }
    }

    /// Reads from the connection, which is opened where there is none.
    async fn attempt(&mut self, tries: &Retries<'_>) -> Result<Bytes, Failure> {
        if self.answer.is_none() {
            self.open(tries).await?;
        }
        while let Some(answer) = &mut self.answer
            && let Some(mut bytes) = answer.chunk().await?
        {
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes.advance(usize::try_from(skipped).unwrap_or(usize::MAX));
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
        Err(truncated(self.offset, &self.descriptor))
    }

    async fn open(&mut self, tries: &Retries<'_>) -> Result<(), Failure> {
        let mut call = call(&self.session, &self.descriptor);
        let resumes = self.offset > 0 && self.ranges;
        if resumes {
            call = call.header(RANGE, &format!("bytes={}-", self.offset));
            if let Some(etag) = &self.etag {
                call = call.header(IF_RANGE, etag);
            }
        }
        let answer = tries.send(call).await?;
        if answer.status() == 416 && resumes {
            self.ranges = false;
            return Err(Failure::network("the registry cannot continue at a given byte"));
        }
        let answer = answer.expect(&[200, 206]).await?;
        self.skip = match answer.status() {
            200 => self.offset,
            _ if answer.header("content-range").and_then(range_start) == Some(self.offset) => 0,
            _ => {
                self.ranges = false;
                let text = "the registry continued at another byte than it was asked to";
                return Err(Failure::network(text));
            }
        };
        self.etag = answer.header("etag").filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
        self.answer = Some(answer);
        Ok(())
    }
}
