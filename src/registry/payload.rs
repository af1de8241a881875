//! Where the body of a request comes from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use reqwest::header::{CONTENT_LENGTH, HeaderValue};
use reqwest::{Body, Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::bytes::Bytes;
use tokio_util::io::ReaderStream;

use super::error::Failure;
use super::feed::Feed;
use super::transport::{Sent, SourceError, Transport};

/// Size of the pieces in which files are sent, in bytes.
const PIECE: usize = 256 * 1024;

/// The body of a request.
#[derive(Debug)]
pub(super) enum Payload<'a> {
    /// None.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// A part of a blob.
    Part(Part<'a>),
}

/// What is uploaded as a blob.
#[derive(Debug)]
pub(super) enum Content {
    /// A file.
    File(PathBuf),
    /// A blob of another repository.
    Feed(Feed),
}

/// A part of it as request body, opened anew for each request.
pub(super) struct Part<'a> {
    /// The whole.
    pub(super) content: &'a Content,
    /// First byte.
    pub(super) start: u64,
    /// Number of bytes.
    pub(super) length: u64,
    /// Told of the whole's bytes that were sent so far.
    pub(super) progress: &'a (dyn Fn(u64) + Send + Sync),
}

impl std::fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}+{}", self.content, self.start, self.length)
    }
}

impl Content {
    /// Makes sure that `size` bytes can be had: what is missing would only be found out while it is sent.
    pub(super) async fn prepare(&self, size: u64) -> Result<(), Failure> {
        match self {
            Self::File(path) => check_file(path, size).await,
            Self::Feed(feed) => feed.prepare().await,
        }
    }
}

/// A file of another size would only fail after all of it was sent.
async fn check_file(path: &Path, size: u64) -> Result<(), Failure> {
    let fail = |error| Failure::local(format!("failed to read {}", path.display()), error);
    let length = tokio::fs::metadata(path).await.map_err(fail)?.len();
    if length == size {
        return Ok(());
    }
    Err(fail(std::io::Error::other(format!("it has {length} bytes where {size} were expected"))))
}

impl Part<'_> {
    /// Sends `request` with this body.
    pub(super) async fn send(
        &self,
        transport: &Transport,
        mut request: Request,
    ) -> Result<Response, Failure> {
        let sent = Arc::new(Sent::default());
        *request.body_mut() = Some(match self.content {
            Content::File(path) => self.file(path, &sent).await?,
            Content::Feed(feed) => feed.body(feed.begin(self.start).await, self.start, self.length, &sent),
        });
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(self.length));
        let report = |count| (self.progress)(self.start + count);
        transport.stream(request, &sent, self.length, &report).await
    }

    async fn file(&self, path: &Path, sent: &Arc<Sent>) -> Result<Body, Failure> {
        let fail = |error| Failure::local(format!("failed to read {}", path.display()), error);
        let mut file = tokio::fs::File::open(path).await.map_err(fail)?;
        file.seek(std::io::SeekFrom::Start(self.start)).await.map_err(fail)?;
        let sent = Arc::clone(sent);
        let pieces = ReaderStream::with_capacity(file.take(self.length), PIECE).map(move |piece| {
            let piece = piece.map_err(SourceError)?;
            sent.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok::<Bytes, SourceError>(piece)
        });
        Ok(Body::wrap_stream(pieces))
    }
}
