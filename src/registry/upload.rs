//! Blobs: checking for, mounting, uploading in one piece or in chunks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, Url};

use crate::image::media_type::OCI_LAYER;
use crate::image::{Descriptor, Digest, Repository};

use super::client::Pushed;
use super::error::{Cause, Failure, Operation, RegistryError};
use super::exchange::{Answer, Call, scope};
use super::feed::Feed;
use super::payload::{Content, Part};
use super::retry::{Advice, Retries};
use super::session::{Server as _, Session};

/// Size of a chunk where the registry asks for no larger one; some take no more.
const CHUNK: u64 = 4 * 1024 * 1024;
/// Upload sessions of one blob that a registry may lose or muddle.
const RESTARTS: u32 = 3;
/// Failures of a request that can be done without, before it is done without.
const LOOKS: u32 = 2;
/// Time for telling the registry that an upload is given up.
const CANCEL: Duration = Duration::from_secs(2);

/// Uploads `source` as the blob `descriptor`, unless it is there or can be mounted.
pub(super) async fn push(
    session: &Session,
    descriptor: &Descriptor,
    source: &Path,
    mount_from: &[Repository],
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Pushed, RegistryError> {
    let target = session.repository();
    let mount = mount_from.iter().find(|from| from.registry() == target.registry() && *from != target);
    let content = Content::File(source.to_owned());
    bring(session, descriptor, content, mount, progress).await
}

/// Brings a blob from one repository to another, unless it is there or can be mounted.
pub(super) async fn copy(
    from: &Session,
    to: &Session,
    descriptor: &Descriptor,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Pushed, RegistryError> {
    let (source, target) = (from.repository(), to.repository());
    let mount = (source.registry() == target.registry() && source != target).then_some(source);
    bring(to, descriptor, Content::Feed(Feed::new(from, descriptor)), mount, progress).await
}

async fn bring(
    session: &Session,
    descriptor: &Descriptor,
    content: Content,
    mount: Option<&Repository>,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Pushed, RegistryError> {
    let operation = Operation::Push(format!("blob {}", descriptor.digest));
    let mut upload = Upload::new(session, descriptor, content, progress, &operation);
    let failure = match upload.run(mount).await {
        Ok(pushed) => return Ok(pushed),
        Err(failure) => failure,
    };
    upload.cancel().await;
    Err(match &upload.content {
        Content::Feed(feed) if upload.source_failed => feed.error(failure),
        _ => session.error(operation, failure),
    })
}

/// As [`is_there`], for somebody who has no upload in hand.
pub(super) async fn exists(session: &Session, descriptor: &Descriptor) -> Result<bool, RegistryError> {
    let operation = Operation::Push(format!("blob {}", descriptor.digest));
    let found = is_there(session, &operation, descriptor).await;
    found.map_err(|failure| session.error(operation, failure))
}

/// Begins an upload of which nothing will come: whether the repository takes any.
///
/// It is left to the registry, which clears such away after some days: giving it up takes a right of its own,
/// and so a token, where there are tokens.
pub(super) async fn begin(session: &Session) -> Result<(), RegistryError> {
    let operation = Operation::Push("layers".to_owned());
    let nothing = Descriptor::of(OCI_LAYER, b"");
    let content = Content::File(PathBuf::new());
    let mut upload = Upload::new(session, &nothing, content, &|_| (), &operation);
    upload.begin().await.map_err(|failure| session.error(operation, failure))
}

/// Whether the repository holds a blob; what cannot be told counts as no.
pub(super) async fn is_there(
    session: &Session,
    operation: &Operation,
    descriptor: &Descriptor,
) -> Result<bool, Failure> {
    let mut tries = Retries::new(session, operation.clone());
    loop {
        let call = Call::new(Method::HEAD, format!("blobs/{}", descriptor.digest)).scope(push_scope(session));
        let failure = match tries.send(call).await {
            Ok(mut answer) => match answer.status() {
                200 => return Ok(true),
                401 | 403 | 408 | 429 => answer.refusal().await,
                500..600 if tries.failed() + 1 < LOOKS => answer.refusal().await,
                _ => return Ok(false),
            },
            Err(failure) => failure,
        };
        match failure.status() {
            Some(501 | 505..600) => return Ok(false),
            _ => tries.wait(failure).await?,
        }
    }
}

fn push_scope(session: &Session) -> String {
    scope(session.repository().path(), "pull,push")
}

struct Upload<'a> {
    session: &'a Session,
    descriptor: &'a Descriptor,
    content: Content,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    operation: Operation,
    /// Where the open upload session goes on.
    location: Option<Url>,
    /// Size of chunks; `None` to send all at once.
    chunk: Option<u64>,
    /// Bytes that the open session has for certain.
    offset: u64,
    /// Sessions that the registry lost or muddled.
    restarts: u32,
    /// Whether a request may have arrived although its answer did not.
    unsure: bool,
    /// Whether the last failure was one of the place that the blob is read from.
    source_failed: bool,
    /// The tries to send the content, in whatever session.
    sending: Retries<'a>,
}

impl<'a> Upload<'a> {
    fn new(
        session: &'a Session,
        descriptor: &'a Descriptor,
        content: Content,
        progress: &'a (dyn Fn(u64) + Send + Sync),
        operation: &Operation,
    ) -> Self {
        Self {
            session,
            descriptor,
            content,
            progress,
            location: None,
            chunk: None,
            offset: 0,
            restarts: 0,
            unsure: false,
            source_failed: false,
            sending: Retries::new(session, operation.clone()),
            operation: operation.clone(),
        }
    }
}

impl Upload<'_> {
    async fn run(&mut self, mount: Option<&Repository>) -> Result<Pushed, Failure> {
        if self.is_there().await? {
            return Ok(Pushed::AlreadyThere);
        }
        if let Some(from) = mount
            && self.mount(from).await?
        {
            return Ok(Pushed::Mounted);
        }
        if let Err(failure) = self.content.prepare(self.descriptor.size).await {
            return Err(self.source_failure().await.unwrap_or(failure));
        }
        loop {
            if self.location.is_none() {
                self.begin().await?;
            }
            let sent = match self.chunk.filter(|chunk| *chunk < self.descriptor.size) {
                Some(chunk) => self.send_chunks(chunk).await,
                None => self.send_all().await,
            };
            if let Err(failure) = sent
                && !self.recover(failure).await?
            {
                continue;
            }
            return Ok(Pushed::Uploaded);
        }
    }

    async fn is_there(&self) -> Result<bool, Failure> {
        is_there(self.session, &self.operation, self.descriptor).await
    }

    /// Makes ready for another try of what `failure` ended. Returns whether that is no more needed,
    /// since the blob is there.
    ///
    /// The registry is asked how things stand after each other failure only, and the request just sent
    /// again in between: with a question before each try, a registry that fails every second request
    /// would answer all questions and take no content. Wrong content is not at stake, since the closing
    /// request names the digest.
    async fn recover(&mut self, mut failure: Failure) -> Result<bool, Failure> {
        if let Some(failure) = self.source_failure().await {
            self.cancel().await;
            self.sending.wait(failure).await?;
            self.source_failed = false;
            return Ok(false);
        }
        let (status, lasting) = (failure.status(), failure.advice == Advice::Never);
        let ask = self.sending.failed().is_multiple_of(2);
        let lost = !lasting && status.is_none_or(|status| status >= 500);
        self.unsure |= lost;
        match status {
            Some(413) if self.chunk.is_none() && self.descriptor.size > CHUNK => {
                self.chunk = Some(CHUNK);
                self.cancel().await;
                return Ok(false);
            }
            // The session is gone, or holds something else than was sent, perhaps because of a request
            // whose answer was lost.
            Some(status @ (400 | 404 | 416)) if status != 400 || self.unsure => {
                if self.unsure && self.is_there().await? {
                    return Ok(true);
                }
                failure.advice = Advice::Backoff;
                self.restart(&mut failure).await;
            }
            _ if lasting => return Err(failure),
            _ if lost && ask && self.location.is_some() => {
                let chunked = self.chunk.is_some_and(|chunk| chunk < self.descriptor.size);
                if self.closes() && self.is_there().await? {
                    return Ok(true);
                }
                match (chunked, status) {
                    (true, _) => match self.confirmed().await? {
                        Some(offset) => self.offset = offset,
                        None => self.restart(&mut failure).await,
                    },
                    // It may hold a part now.
                    (false, None) => self.cancel().await,
                    (false, Some(_)) => {}
                }
            }
            _ => {}
        }
        self.sending.wait(failure).await?;
        Ok(false)
    }

    /// Gives up a session that cannot be trusted; `failure` lasts when there were too many of them.
    async fn restart(&mut self, failure: &mut Failure) {
        self.cancel().await;
        self.restarts += 1;
        if self.restarts > RESTARTS {
            failure.advice = Advice::Never;
        }
    }

    /// The failure of the place that the blob is read from, where there was one.
    async fn source_failure(&mut self) -> Option<Failure> {
        let Content::Feed(feed) = &self.content else {
            return None;
        };
        let failure = feed.take_failure().await;
        self.source_failed = failure.is_some();
        failure
    }

    /// Asks for the blob of another repository. Without success an upload may have been begun.
    async fn mount(&mut self, from: &Repository) -> Result<bool, Failure> {
        let mut tries = Retries::new(self.session, self.operation.clone());
        loop {
            // Paths and digests hold no character that a query would have to escape.
            let path = format!("blobs/uploads/?mount={}&from={}", self.descriptor.digest, from.path());
            let call = Call::new(Method::POST, path)
                .scope(push_scope(self.session))
                .scope(scope(from.path(), "pull"));
            let failure = match tries.send(call).await {
                Ok(mut answer) => match answer.status() {
                    201 => return Ok(true),
                    202 => return self.go_on_at(&answer).map(|()| false),
                    _ => answer.refusal().await,
                },
                Err(failure) => failure,
            };
            // Whatever is against it, the blob can be sent.
            let refused = failure.is_authentication() || failure.status().is_some();
            if refused && (failure.advice == Advice::Never || tries.failed() + 1 >= LOOKS) {
                return Ok(false);
            }
            tries.wait(failure).await?;
        }
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        let mut tries = Retries::new(self.session, self.operation.clone());
        loop {
            let call = Call::new(Method::POST, "blobs/uploads/").scope(push_scope(self.session));
            match tries.send(call).await {
                Ok(answer) => match answer.expect(&[202]).await {
                    Ok(answer) => return self.go_on_at(&answer),
                    Err(failure) => tries.wait(failure).await?,
                },
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    /// Takes the place and the chunk size from an answer that opens a session.
    fn go_on_at(&mut self, answer: &Answer) -> Result<(), Failure> {
        let location = answer.location();
        self.location = Some(
            location
                .ok_or_else(|| Failure::protocol("the registry began an upload without a Location"))??,
        );
        self.offset = 0;
        if let Some(least) =
            answer.header("oci-chunk-min-length").and_then(|text| text.trim().parse::<u64>().ok())
        {
            self.chunk = Some(least.max(CHUNK));
        }
        Ok(())
    }

    fn place(&self) -> Result<Url, Failure> {
        self.location.clone().ok_or_else(|| Failure::protocol("the registry began no upload"))
    }

    /// The place with the digest added, which closes the upload.
    fn closing_place(&self) -> Result<Url, Failure> {
        let mut url = self.place()?;
        url.query_pairs_mut().append_pair("digest", &self.descriptor.digest.to_string());
        Ok(url)
    }

    /// Whether the next request closes the upload.
    fn closes(&self) -> bool {
        self.chunk.is_none_or(|chunk| self.descriptor.size - self.offset <= chunk)
    }

    fn part(&self, start: u64, length: u64) -> Part<'_> {
        Part { content: &self.content, start, length, progress: self.progress }
    }

    async fn send_all(&self) -> Result<(), Failure> {
        let call = Call::to(Method::PUT, self.closing_place()?).scope(push_scope(self.session));
        let call =
            call.header(CONTENT_TYPE, "application/octet-stream").part(self.part(0, self.descriptor.size));
        let answer = self.sending.send(call).await?.expect(&[200, 201, 204]).await?;
        self.check(&answer)
    }

    /// Sends chunk by chunk. The last one goes with the closing request, since there are registries
    /// that fail on an empty one.
    async fn send_chunks(&mut self, chunk: u64) -> Result<(), Failure> {
        while !self.closes() {
            let call = self.chunk_call(Method::PATCH, self.place()?, chunk);
            let answer = self.sending.send(call).await?.expect(&[202, 201, 204]).await?;
            let end = self.offset + chunk;
            // Never believed downwards: the data may have been stored all the same.
            if answer.header("range").is_some_and(|range| range_end(range) != Some(end - 1)) {
                drop(answer);
                let mut failure = Failure::network("the registry counts other bytes than were sent");
                self.restart(&mut failure).await;
                return Err(failure);
            }
            if let Some(location) = answer.location() {
                self.location = Some(location?);
            }
            self.offset = end;
            self.sending.progressed();
        }
        let length = self.descriptor.size - self.offset;
        let call = self.chunk_call(Method::PUT, self.closing_place()?, length);
        let answer = self.sending.send(call).await?.expect(&[200, 201, 204]).await?;
        self.check(&answer)
    }

    fn chunk_call(&self, method: Method, url: Url, length: u64) -> Call<'_> {
        Call::to(method, url)
            .scope(push_scope(self.session))
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, &format!("{}-{}", self.offset, self.offset + length - 1))
            .part(self.part(self.offset, length))
    }

    /// How far the registry got with a chunk that broke off; `None` where it cannot be trusted.
    async fn confirmed(&mut self) -> Result<Option<u64>, Failure> {
        let mut tries = Retries::new(self.session, self.operation.clone());
        let answer = loop {
            let call = Call::to(Method::GET, self.place()?).scope(push_scope(self.session));
            let failure = match tries.send(call).await {
                Ok(answer) => match answer.expect(&[204]).await {
                    Ok(answer) => break answer,
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            if failure.status().is_some() && failure.advice == Advice::Never {
                return Ok(None);
            }
            tries.wait(failure).await?;
        };
        let Some(last) = answer.header("range").and_then(range_end) else {
            return Ok(None);
        };
        // `0-0` means one byte or none. One byte of a chunk is not what breaks off; it would be found
        // out in the end.
        let next = if last == 0 { 0 } else { last + 1 };
        if let Some(location) = answer.location() {
            self.location = Some(location?);
        }
        let end = self.chunk.map_or(self.descriptor.size, |chunk| self.offset + chunk);
        Ok((self.offset..=end).contains(&next).then_some(next).filter(|next| *next < self.descriptor.size))
    }

    fn check(&self, answer: &Answer) -> Result<(), Failure> {
        let found = answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        match found {
            Some(found) if found != self.descriptor.digest => Err(Failure::lasting(Cause::Protocol(
                format!("the registry stored {found} where {} was sent", self.descriptor.digest),
            ))),
            _ => Ok(()),
        }
    }

    /// Tells the registry that the open session is given up, if it listens.
    async fn cancel(&mut self) {
        if let Some(location) = self.location.take() {
            let call = Call::to(Method::DELETE, location).scope(push_scope(self.session));
            // Nothing depends on it: registries clear sessions away after some days.
            let _ = tokio::time::timeout(CANCEL, self.sending.send(call)).await;
        }
    }
}

/// Last byte of `Range: 0-9`, also with a leading `bytes=`.
fn range_end(text: &str) -> Option<u64> {
    text.trim().trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()
}
