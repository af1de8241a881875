//! Blobs: checking for, mounting, uploading in one piece or in chunks.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, Url};

use crate::image::{Descriptor, Digest, Repository};

use super::client::Pushed;
use super::error::{Cause, Failure, Operation, RegistryError};
use super::exchange::{Answer, Call, FilePart, scope};
use super::retry::Retries;
use super::session::Session;

/// Size of a chunk where the registry asks for no larger one; some take no more.
const CHUNK: u64 = 4 * 1024 * 1024;
/// Upload sessions that are begun anew because the registry lost or muddled them.
const RESTARTS: u32 = 3;
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
    let operation = Operation::Push(format!("blob {}", descriptor.digest));
    let target = session.repository();
    let mount = mount_from.iter().find(|from| from.registry() == target.registry() && *from != target);
    let mut upload = Upload {
        session,
        descriptor,
        source,
        progress,
        mount,
        location: None,
        chunk: None,
        restarts: 0,
        retries: Retries::new(session, operation),
    };
    upload.run().await
}

/// Whether the repository holds a blob; what cannot be told counts as no.
pub(super) async fn is_there(session: &Session, descriptor: &Descriptor) -> Result<bool, RegistryError> {
    let mut retries = Retries::new(session, Operation::Push(format!("blob {}", descriptor.digest)));
    loop {
        match head(session, descriptor).await {
            Ok(there) => return Ok(there),
            Err(failure) => retries.after(failure).await?,
        }
    }
}

async fn head(session: &Session, descriptor: &Descriptor) -> Result<bool, Failure> {
    let call = Call::new(Method::HEAD, format!("blobs/{}", descriptor.digest)).scope(push_scope(session));
    let mut answer = session.send(call).await?;
    match answer.status() {
        200 => Ok(true),
        401 | 403 | 408 | 429 => Err(answer.refusal().await),
        _ => Ok(false),
    }
}

fn push_scope(session: &Session) -> String {
    scope(session.repository().path(), "pull,push")
}

struct Upload<'a> {
    session: &'a Session,
    descriptor: &'a Descriptor,
    source: &'a Path,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    mount: Option<&'a Repository>,
    /// Where the open upload session goes on.
    location: Option<Url>,
    /// Size of chunks; `None` to send all at once.
    chunk: Option<u64>,
    restarts: u32,
    retries: Retries<'a>,
}

/// How a mount ended.
enum Mount {
    Done,
    /// Not mounted, but an upload was begun.
    Begun,
    Refused,
}

impl Upload<'_> {
    async fn run(&mut self) -> Result<Pushed, RegistryError> {
        if is_there(self.session, self.descriptor).await? {
            return Ok(Pushed::AlreadyThere);
        }
        if let Err(failure) = self.check_source().await {
            self.retries.after(failure).await?;
        }
        loop {
            let mut failure = match self.attempt().await {
                Ok(pushed) => return Ok(pushed),
                Err(failure) => failure,
            };
            // The blob may be there although the answer that says so was lost.
            let unsure = self.location.is_some() && failure.status().is_none_or(|status| status >= 500);
            if unsure && matches!(head(self.session, self.descriptor).await, Ok(true)) {
                return Ok(Pushed::Uploaded);
            }
            self.cancel().await;
            match failure.status() {
                Some(413) if self.chunk.is_none() && self.descriptor.size > CHUNK => {
                    self.chunk = Some(CHUNK);
                    continue;
                }
                // The registry knows the session no more, or something else than was sent.
                Some(404 | 416) if self.restarts < RESTARTS => {
                    self.restarts += 1;
                    failure = Failure::passing(*failure.cause);
                }
                _ => {}
            }
            self.retries.after(failure).await?;
        }
    }

    /// A file of another size would only fail after all of it was sent.
    async fn check_source(&self) -> Result<(), Failure> {
        let fail = |error| Failure::local(format!("failed to read {}", self.source.display()), error);
        let length = tokio::fs::metadata(self.source).await.map_err(fail)?.len();
        if length == self.descriptor.size {
            return Ok(());
        }
        let text = format!("it has {length} bytes where {} were expected", self.descriptor.size);
        Err(fail(std::io::Error::other(text)))
    }

    async fn attempt(&mut self) -> Result<Pushed, Failure> {
        let mounted = match self.mount.take() {
            Some(from) => self.mount(from).await?,
            None => Mount::Refused,
        };
        match mounted {
            Mount::Done => return Ok(Pushed::Mounted),
            Mount::Begun => {}
            Mount::Refused => self.begin().await?,
        }
        match self.chunk.filter(|chunk| *chunk < self.descriptor.size) {
            Some(chunk) => self.send_chunks(chunk).await?,
            None => self.send_all().await?,
        }
        Ok(Pushed::Uploaded)
    }

    async fn mount(&mut self, from: &Repository) -> Result<Mount, Failure> {
        // Paths and digests hold no character that a query would have to escape.
        let path = format!("blobs/uploads/?mount={}&from={}", self.descriptor.digest, from.path());
        let call =
            Call::new(Method::POST, path).scope(push_scope(self.session)).scope(scope(from.path(), "pull"));
        let answer = match self.session.send(call).await {
            Ok(answer) => answer,
            Err(failure) if failure.is_authentication() => return Ok(Mount::Refused),
            Err(failure) => return Err(failure),
        };
        match answer.status() {
            201 => Ok(Mount::Done),
            202 => {
                self.go_on_at(&answer)?;
                Ok(Mount::Begun)
            }
            status if (400..500).contains(&status) && status != 429 => Ok(Mount::Refused),
            _ => answer.expect(&[]).await.map(|_| Mount::Refused),
        }
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        let call = Call::new(Method::POST, "blobs/uploads/").scope(push_scope(self.session));
        let answer = self.session.send(call).await?.expect(&[202]).await?;
        self.go_on_at(&answer)
    }

    /// Takes the place and the chunk size from an answer that opens a session.
    fn go_on_at(&mut self, answer: &Answer) -> Result<(), Failure> {
        let location = answer.location();
        self.location = Some(
            location
                .ok_or_else(|| Failure::protocol("the registry began an upload without a Location"))??,
        );
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

    fn part(&self, start: u64, length: u64) -> FilePart<'_> {
        FilePart { path: self.source, start, length, progress: self.progress }
    }

    async fn send_all(&self) -> Result<(), Failure> {
        let call = Call::to(Method::PUT, self.closing_place()?).scope(push_scope(self.session));
        let call =
            call.header(CONTENT_TYPE, "application/octet-stream").file(self.part(0, self.descriptor.size));
        let answer = self.session.send(call).await?.expect(&[200, 201, 204]).await?;
        self.check(&answer)
    }

    /// Sends chunk by chunk. The last one goes with the closing request, since there are registries
    /// that fail on an empty one.
    async fn send_chunks(&mut self, chunk: u64) -> Result<(), Failure> {
        let size = self.descriptor.size;
        let mut start = 0;
        while size - start > chunk {
            let call = self.chunk_call(Method::PATCH, self.place()?, start, chunk);
            let sent = match self.session.send(call).await {
                Ok(answer) => answer.expect(&[202, 201, 204]).await,
                Err(failure) => Err(failure),
            };
            let end = start + chunk;
            start = match sent {
                Ok(answer) => {
                    if let Some(location) = answer.location() {
                        self.location = Some(location?);
                    }
                    match answer.header("range").map(range_end) {
                        None => end,
                        Some(Some(last)) if last + 1 == end => end,
                        // Never believed downwards: the data may have been stored all the same.
                        Some(_) => {
                            return Err(Failure::network("the registry counts other bytes than were sent"));
                        }
                    }
                }
                Err(failure) if failure.status().is_none_or(|status| status >= 500) => {
                    match self.confirmed(start, end).await {
                        Some(confirmed) if confirmed > start => confirmed,
                        _ => return Err(failure),
                    }
                }
                Err(failure) => return Err(failure),
            };
        }
        let call = self.chunk_call(Method::PUT, self.closing_place()?, start, size - start);
        let answer = self.session.send(call).await?.expect(&[200, 201, 204]).await?;
        self.check(&answer)
    }

    fn chunk_call(&self, method: Method, url: Url, start: u64, length: u64) -> Call<'_> {
        Call::to(method, url)
            .scope(push_scope(self.session))
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, &format!("{start}-{}", start + length - 1))
            .file(self.part(start, length))
    }

    /// How far the registry got with a chunk that broke off; `None` where it cannot be trusted.
    async fn confirmed(&mut self, start: u64, end: u64) -> Option<u64> {
        let call = Call::to(Method::GET, self.location.clone()?).scope(push_scope(self.session));
        let answer = self.session.send(call).await.ok().filter(|answer| answer.status() == 204)?;
        // `0-0` means one byte or none.
        let next = answer.header("range").and_then(range_end).filter(|last| *last > 0)? + 1;
        if let Some(location) = answer.location() {
            self.location = Some(location.ok()?);
        }
        (start..=end).contains(&next).then_some(next)
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
            let _ = tokio::time::timeout(CANCEL, self.session.send(call)).await;
        }
    }
}

/// Last byte of `Range: 0-9`, also with a leading `bytes=`.
fn range_end(text: &str) -> Option<u64> {
    text.trim().trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()
}
