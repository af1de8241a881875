//! Blobs: fetching, verifying while streaming, resuming.

use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use reqwest::Method;
use reqwest::header::{IF_RANGE, RANGE};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::bytes::Bytes;

use crate::image::{Descriptor, Digest, Sha256};

use super::error::{Cause, Failure, Operation, RegistryError};
use super::exchange::{Answer, Call, scope};
use super::retry::Retries;
use super::session::Session;

/// Pieces between network and disk: enough to keep both busy, few enough to stay small in memory
/// (a piece is up to 400 KiB).
const PIECES: usize = 8;

/// Fetches a small blob into memory.
pub(super) async fn fetch_small(
    session: &Session,
    descriptor: &Descriptor,
    limit: u64,
) -> Result<Vec<u8>, RegistryError> {
    let mut retries = Retries::new(session, operation(descriptor));
    if descriptor.size > limit {
        let text =
            format!("the blob has {} bytes, more than the {limit} that are accepted here", descriptor.size);
        return Err(retries.error(Failure::protocol(text)));
    }
    let mut wrong = false;
    loop {
        let failure = match fetch_once(&retries, session, descriptor).await {
            Ok(Some(bytes)) if Digest::of(&bytes) == descriptor.digest => return Ok(bytes),
            Ok(Some(bytes)) if (bytes.len() as u64) < descriptor.size => {
                truncated(bytes.len() as u64, descriptor)
            }
            Ok(_) => wrong_content(&mut wrong),
            Err(failure) => failure,
        };
        retries.after(failure).await?;
    }
}

/// Fetches a blob into `file`; only a verified file is left there.
pub(super) async fn pull(
    session: &Session,
    descriptor: &Descriptor,
    file: &Path,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), RegistryError> {
    let mut partial = Partial { path: file.to_owned(), keep: false };
    let mut retries = Retries::new(session, operation(descriptor));
    let mut wrong = false;
    loop {
        let mut transfer = Transfer::new(session, descriptor, file, progress);
        let end = loop {
            let before = transfer.offset;
            match transfer.attempt(&retries).await {
                Ok(end) => break end,
                Err(failure) => {
                    if transfer.offset > before {
                        retries.progressed();
                    }
                    retries.after(failure).await?;
                }
            }
        };
        let failure = match transfer.finish().await {
            Ok(digest) if end == End::Complete && digest == descriptor.digest => {
                partial.keep = true;
                return Ok(());
            }
            Ok(_) => wrong_content(&mut wrong),
            Err(failure) => failure,
        };
        retries.after(failure).await?;
    }
}

fn operation(descriptor: &Descriptor) -> Operation {
    Operation::Pull(format!("blob {}", descriptor.digest))
}

fn call<'a>(session: &Session, descriptor: &Descriptor) -> Call<'a> {
    Call::new(Method::GET, format!("blobs/{}", descriptor.digest))
        .scope(scope(session.repository().path(), "pull"))
}

async fn fetch_once(
    tries: &Retries<'_>,
    session: &Session,
    descriptor: &Descriptor,
) -> Result<Option<Vec<u8>>, Failure> {
    tries.send(call(session, descriptor)).await?.expect(&[200]).await?.body(descriptor.size).await
}

fn truncated(got: u64, descriptor: &Descriptor) -> Failure {
    Failure::network(format!("the content ended after {got} of {} bytes", descriptor.size))
}

/// Wrong content is fetched once more, in case a proxy spoilt it, and never resumed.
fn wrong_content(wrong: &mut bool) -> Failure {
    let cause = Cause::Protocol("the content is not what its digest and size promise".to_owned());
    if std::mem::replace(wrong, true) { Failure::lasting(cause) } else { Failure::passing(cause) }
}

/// Removes the file unless it is to be kept, also when the future is dropped.
struct Partial {
    path: PathBuf,
    keep: bool,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.keep {
            // It may never have been made; nobody reads it under this name.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// As many bytes as promised.
    Complete,
    /// More than that.
    TooLong,
}

/// What is told to the thread that hashes and writes.
enum Piece {
    Bytes(Bytes),
    /// All again from the first byte.
    Restart,
}

/// A blob on its way into a file, over as many connections as it takes.
struct Transfer<'a> {
    session: &'a Session,
    descriptor: &'a Descriptor,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    path: &'a Path,
    offset: u64,
    /// Whether the registry can continue; some answer 416 to any open-ended range.
    ranges: bool,
    etag: Option<String>,
    pieces: Option<mpsc::Sender<Piece>>,
    writer: Option<JoinHandle<io::Result<Digest>>>,
}

impl<'a> Transfer<'a> {
    fn new(
        session: &'a Session,
        descriptor: &'a Descriptor,
        path: &'a Path,
        progress: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Self {
        let (pieces, received) = mpsc::channel(PIECES);
        let target = path.to_owned();
        let writer = tokio::task::spawn_blocking(move || write(&target, received));
        Self {
            session,
            descriptor,
            progress,
            path,
            offset: 0,
            ranges: true,
            etag: None,
            pieces: Some(pieces),
            writer: Some(writer),
        }
    }

    /// Fetches what is missing, over one connection.
    async fn attempt(&mut self, tries: &Retries<'_>) -> Result<End, Failure> {
        if self.offset == self.descriptor.size {
            return Ok(End::Complete);
        }
        if self.offset > 0 && !self.ranges {
            self.restart().await?;
        }
        let mut call = call(self.session, self.descriptor);
        if self.offset > 0 {
            call = call.header(RANGE, &format!("bytes={}-", self.offset));
            if let Some(etag) = &self.etag {
                call = call.header(IF_RANGE, etag);
            }
        }
        let mut answer = tries.send(call).await?;
        if answer.status() == 416 && self.offset > 0 {
            self.ranges = false;
            return Err(Failure::network("the registry cannot continue at a given byte"));
        }
        answer = answer.expect(&[200, 206]).await?;
        if answer.status() == 200 && self.offset > 0 {
            self.restart().await?;
        }
        if answer.status() == 206 && range_start(&answer) != Some(self.offset) {
            self.ranges = false;
            return Err(Failure::network("the registry continued at another byte than it was asked to"));
        }
        self.etag = answer.header("etag").filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
        while let Some(bytes) = answer.chunk().await? {
            let offset = self.offset + bytes.len() as u64;
            if offset > self.descriptor.size {
                return Ok(End::TooLong);
            }
            self.pass_on(Piece::Bytes(bytes)).await?;
            self.offset = offset;
            (self.progress)(offset);
        }
        if self.offset < self.descriptor.size {
            return Err(truncated(self.offset, self.descriptor));
        }
        Ok(End::Complete)
    }

    async fn restart(&mut self) -> Result<(), Failure> {
        self.offset = 0;
        (self.progress)(0);
        self.pass_on(Piece::Restart).await
    }

    async fn pass_on(&mut self, piece: Piece) -> Result<(), Failure> {
        let sent = match &self.pieces {
            Some(pieces) => pieces.send(piece).await.is_ok(),
            None => false,
        };
        if sent {
            return Ok(());
        }
        // The writer ends early only because it failed.
        self.finish().await.map(drop)
    }

    /// Waits until all is written; returns its digest.
    async fn finish(&mut self) -> Result<Digest, Failure> {
        drop(self.pieces.take());
        let ended = || io::Error::other("the writing thread has ended");
        let result = match self.writer.take() {
            Some(writer) => writer.await.unwrap_or_else(|_| Err(ended())),
            None => Err(ended()),
        };
        result.map_err(|error| Failure::local(format!("failed to write {}", self.path.display()), error))
    }
}

fn write(path: &Path, mut pieces: mpsc::Receiver<Piece>) -> io::Result<Digest> {
    let mut file = std::fs::File::create(path)?;
    let mut hasher = Sha256::new();
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Bytes(bytes) => {
                hasher.update(&bytes);
                file.write_all(&bytes)?;
            }
            Piece::Restart => {
                hasher = Sha256::new();
                file.set_len(0)?;
                file.rewind()?;
            }
        }
    }
    Ok(hasher.finish())
}

/// First byte of `Content-Range: bytes 7-9/10`.
fn range_start(answer: &Answer) -> Option<u64> {
    answer.header("content-range")?.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
