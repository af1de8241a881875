//! Blobs: fetching, verifying while streaming, resuming.

use std::path::Path;

use reqwest::Method;
use reqwest::header::{IF_RANGE, RANGE};

use crate::image::{Descriptor, Digest};

use super::error::{Cause, Failure, Operation, RegistryError};
use super::exchange::{Call, scope};
use super::follow::{Ending, Follow};
use super::retry::Retries;
use super::session::Session;
use super::sink::{Partial, Sink};

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

/// Fetches a blob into `file`; only a verified file is left there. `follow` is told how far it is.
pub(super) async fn pull(
    session: &Session,
    descriptor: &Descriptor,
    file: &Path,
    follow: Option<&Follow>,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), RegistryError> {
    // Dropped last: whoever is told of a failure finds no file.
    let ending = Ending(follow);
    let mut partial = Partial::new(file);
    let mut retries = Retries::new(session, operation(descriptor));
    let mut wrong = false;
    loop {
        let mut transfer = Transfer::new(session, descriptor, Sink::new(file, follow), progress);
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
        let failure = match transfer.sink.finish().await {
            Ok(digest) if end == End::Complete && digest == descriptor.digest => {
                partial.keep();
                ending.whole();
                return Ok(());
            }
            Ok(_) => wrong_content(&mut wrong),
            Err(failure) => failure,
        };
        retries.after(failure).await?;
        if let Some(follow) = follow {
            follow.restart();
        }
    }
}

/// What fetching a blob is called.
pub(super) fn operation(descriptor: &Descriptor) -> Operation {
    Operation::Pull(format!("blob {}", descriptor.digest))
}

/// The request for a blob.
pub(super) fn call<'a>(session: &Session, descriptor: &Descriptor) -> Call<'a> {
    Call::new(Method::GET, format!("blobs/{}", descriptor.digest))
        .scope(scope(session.repository().path(), "pull"))
        .bulk()
}

async fn fetch_once(
    tries: &Retries<'_>,
    session: &Session,
    descriptor: &Descriptor,
) -> Result<Option<Vec<u8>>, Failure> {
    tries.send(call(session, descriptor)).await?.expect(&[200]).await?.body(descriptor.size).await
}

/// The failure that a body is which ended too early.
pub(super) fn truncated(got: u64, descriptor: &Descriptor) -> Failure {
    Failure::network(format!("the content ended after {got} of {} bytes", descriptor.size))
}

/// Wrong content is fetched once more, in case a proxy spoilt it, and never resumed.
pub(super) fn wrong_content(wrong: &mut bool) -> Failure {
    let cause = Cause::Protocol("the content is not what its digest and size promise".to_owned());
    if std::mem::replace(wrong, true) { Failure::lasting(cause) } else { Failure::passing(cause) }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// As many bytes as promised.
    Complete,
    /// More than that.
    TooLong,
}

/// A blob on its way into a file, over as many connections as it takes.
struct Transfer<'a> {
    session: &'a Session,
    descriptor: &'a Descriptor,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    offset: u64,
    /// Whether the registry can continue; some answer 416 to any open-ended range.
    ranges: bool,
    etag: Option<String>,
    sink: Sink,
}

impl<'a> Transfer<'a> {
    fn new(
        session: &'a Session,
        descriptor: &'a Descriptor,
        sink: Sink,
        progress: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Self {
        Self { session, descriptor, progress, offset: 0, ranges: true, etag: None, sink }
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
        if answer.status() == 206 && answer.header("content-range").and_then(range_start) != Some(self.offset)
        {
            self.ranges = false;
            return Err(Failure::network("the registry continued at another byte than it was asked to"));
        }
        self.etag = answer.header("etag").filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
        while let Some(bytes) = answer.chunk().await? {
            let offset = self.offset + bytes.len() as u64;
            if offset > self.descriptor.size {
                return Ok(End::TooLong);
            }
            self.sink.write(bytes).await?;
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
        self.sink.restart().await
    }
}

/// First byte of a `Content-Range`, e.g. of `bytes 7-9/10`.
pub(super) fn range_start(text: &str) -> Option<u64> {
    text.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
