//! Files on web servers: asked for again only where they changed, verified, resumed.

use std::path::Path;
use std::sync::Arc;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE,
};
use reqwest::{Method, Request, Response, Url};

use crate::image::Digest;

use super::date::http_date;
use super::download::range_start;
use super::endpoint::{locate, same_origin};
use super::error::{Cause, Failure, Operation, RegistryError};
use super::redact::{self, mask};
use super::refusal::refusal;
use super::retry::Retries;
use super::session::{Host, Server, Shared};
use super::sink::{Partial, Sink};
use super::web_url::{Authorization, WebUrl};

/// Redirects that are followed.
const REDIRECTS: usize = 10;
/// Longest entity tag that is remembered, in bytes.
const LONGEST_ETAG: usize = 1024;

/// What is wanted from a web server.
#[derive(Debug, Clone)]
pub struct Download<'a> {
    /// Where the file is. User and password in it are sent as Basic authentication.
    pub url: &'a WebUrl,
    /// Sent to the URL's own host alone, instead of what the URL holds.
    pub authorization: Option<&'a Authorization>,
    /// The entity tag of the file that is here, if one is.
    pub etag: Option<&'a str>,
    /// The `Last-Modified` of the file that is here, if one is.
    pub last_modified: Option<&'a str>,
    /// What a file that is sent must hash to. The one that is here is the caller's to check.
    pub checksum: Option<Digest>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Downloaded {
    /// The file that is here is the current one; nothing was written.
    NotModified,
    /// The file was written.
    Whole(WebFile),
}

/// A file that was downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebFile {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Number of bytes.
    pub size: u64,
    /// Its entity tag, as the server wrote it.
    pub etag: Option<String>,
    /// Its `Last-Modified`, as the server wrote it.
    pub last_modified: Option<String>,
    /// The same in seconds since 1970, where it can be read.
    pub mtime: Option<i64>,
}

/// The server that a URL names.
#[derive(Debug)]
struct WebServer {
    shared: Arc<Shared>,
    host: Arc<Host>,
    name: String,
    place: String,
}

impl Server for WebServer {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn host(&self) -> &Host {
        &self.host
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

/// Fetches a file into `file`; only a whole and verified one is left there.
pub(super) async fn download(
    shared: &Arc<Shared>,
    request: &Download<'_>,
    file: &Path,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Downloaded, RegistryError> {
    let name = request.url.authority();
    let place = request.url.to_string();
    let operation = Operation::Download(place.clone());
    let server = WebServer { shared: Arc::clone(shared), host: shared.host(&name), name, place };
    let mut retries = Retries::new(&server, operation);
    let mut again = false;
    loop {
        let mut transfer = Transfer::new(&server, request, file, progress);
        let end = loop {
            let before = transfer.offset;
            match transfer.attempt().await {
                Ok(end) => break end,
                Err(failure) => {
                    if transfer.offset > before {
                        retries.progressed();
                    }
                    retries.after(failure).await?;
                }
            }
        };
        if end == End::NotModified {
            return Ok(Downloaded::NotModified);
        }
        let resumed = transfer.resumed;
        let failure = match transfer.finish().await {
            Ok(whole) => match request.checksum {
                Some(wanted) if wanted != whole.digest => {
                    let cause = Cause::Mismatch { got: whole.digest, wanted };
                    // A file put together from parts may be at fault itself.
                    if resumed && !std::mem::replace(&mut again, true) {
                        Failure::passing(cause)
                    } else {
                        Failure::lasting(cause)
                    }
                }
                _ => {
                    transfer.keep();
                    return Ok(Downloaded::Whole(whole));
                }
            },
            Err(failure) => failure,
        };
        drop(transfer);
        retries.after(failure).await?;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    NotModified,
    Complete,
}

/// What an answer says of the file.
#[derive(Debug, Default)]
struct Said {
    etag: Option<String>,
    last_modified: Option<String>,
    /// Proves that a part belongs to the same file; without one, nothing is resumed.
    validator: Option<String>,
    /// Number of bytes.
    total: Option<u64>,
}

impl Said {
    fn read(headers: &HeaderMap) -> Self {
        let etag = text(headers, "etag").filter(|etag| etag.len() <= LONGEST_ETAG);
        let last_modified = text(headers, "last-modified").filter(|date| http_date(date).is_some());
        let date = |name: &str| text(headers, name).and_then(http_date);
        // A date proves something only when the file cannot have changed twice in that second.
        let settled = date(DATE.as_str()).zip(date("last-modified")).is_some_and(|(now, then)| now > then);
        let strong = etag.filter(|etag| !etag.starts_with("W/"));
        Self {
            etag: etag.map(str::to_owned),
            last_modified: last_modified.map(str::to_owned),
            validator: strong.or(last_modified.filter(|_| settled)).map(str::to_owned),
            total: text(headers, "content-length").and_then(|length| length.parse().ok()),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A file on its way, over as many connections as it takes.
struct Transfer<'a> {
    server: &'a WebServer,
    request: &'a Download<'a>,
    file: &'a Path,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    offset: u64,
    resumed: bool,
    said: Said,
    /// Made with the first answer that has a body.
    sink: Option<(Sink, Partial)>,
}

impl<'a> Transfer<'a> {
    fn new(
        server: &'a WebServer,
        request: &'a Download<'a>,
        file: &'a Path,
        progress: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Self {
        let said = Said::default();
        Self { server, request, file, progress, offset: 0, resumed: false, said, sink: None }
    }

    /// Fetches what is missing, over one connection.
    async fn attempt(&mut self) -> Result<End, Failure> {
        let transport = &self.server.shared.transport;
        if self.offset > 0 && self.said.validator.is_none() {
            self.restart().await?;
        }
        let _slot = self.server.host.limiter.acquire().await;
        let (mut response, end) = self.follow().await?;
        self.count(response.status().as_u16());
        let parts = response.headers().get("content-range").and_then(|value| value.to_str().ok());
        match response.status().as_u16() {
            200 | 203 => {
                let said = Said::read(response.headers());
                if self.offset == 0 && self.is_known(&said) {
                    return Ok(End::NotModified);
                }
                self.restart().await?;
                self.said = said;
            }
            206 if self.offset > 0 => {
                let same_size = parts.and_then(range_total) == self.said.total || self.said.total.is_none();
                if parts.and_then(range_start) != Some(self.offset) || !same_size {
                    return Err(self.cannot_resume());
                }
                self.resumed = true;
            }
            416 if self.offset > 0 => return Err(self.cannot_resume()),
            304 if self.offset == 0 && self.conditions().next().is_some() => return Ok(End::NotModified),
            _ => return Err(self.refused(&mut response, &end).await),
        }
        while let Some(bytes) = transport.chunk(&mut response).await? {
            self.offset += bytes.len() as u64;
            self.sink().write(bytes).await?;
            (self.progress)(self.offset);
        }
        match self.said.total {
            Some(total) if self.offset < total => {
                Err(Failure::network(format!("the content ended after {} of {total} bytes", self.offset)))
            }
            _ => Ok(End::Complete),
        }
    }

    fn sink(&mut self) -> &mut Sink {
        &mut self.sink.get_or_insert_with(|| (Sink::new(self.file, None), Partial::new(self.file))).0
    }

    async fn restart(&mut self) -> Result<(), Failure> {
        if self.offset > 0 {
            self.offset = 0;
            self.resumed = false;
            (self.progress)(0);
            self.sink().restart().await?;
        }
        self.sink();
        Ok(())
    }

    /// The next try begins anew.
    fn cannot_resume(&mut self) -> Failure {
        self.said.validator = None;
        Failure::network("the server does not continue at the byte that it was asked for")
    }

    /// Whether the server sends what is here, having ignored the question for something newer.
    fn is_known(&self, said: &Said) -> bool {
        let strong = |etag: &str| etag.trim_start_matches("W/").to_owned();
        said.etag.as_deref().zip(self.request.etag).is_some_and(|(one, other)| strong(one) == strong(other))
    }

    /// The headers that ask for the file only if it is another than the one that is here.
    fn conditions(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let pairs = [(IF_NONE_MATCH, self.request.etag), (IF_MODIFIED_SINCE, self.request.last_modified)];
        pairs.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(value?).ok()?)))
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // What is checked and added is the file, not a form of it for the way.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.offset == 0 {
            headers.extend(self.conditions());
        } else if let Some(validator) =
            self.said.validator.as_deref().and_then(|text| HeaderValue::from_str(text).ok())
        {
            headers.insert(RANGE, HeaderValue::from_str(&format!("bytes={}-", self.offset)).expect("digits"));
            headers.insert(IF_RANGE, validator);
        }
        headers
    }

    fn authorization(&self) -> Option<&HeaderValue> {
        self.request.authorization.or(self.request.url.login()).map(Authorization::value)
    }

    /// Asks, and follows redirects: from the first URL each time, since signed ones expire.
    async fn follow(&self) -> Result<(Response, Url), Failure> {
        let transport = &self.server.shared.transport;
        let start = self.request.url.url();
        let mut url = start.clone();
        let mut authorization = self.authorization();
        for _ in 0..=REDIRECTS {
            // Once the request has left its host, it gets no credentials even if it comes back.
            authorization = authorization.filter(|_| same_origin(start, &url));
            let mut request = Request::new(Method::GET, url.clone());
            *request.headers_mut() = self.headers();
            if let Some(value) = authorization {
                request.headers_mut().insert(AUTHORIZATION, value.clone());
            }
            self.server.host.bucket.request();
            // Servers that make the file on demand take their time.
            let response = transport.execute(request, transport.timeouts().answer).await;
            let response = response.map_err(|failure| located(failure, start, &url))?;
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match (response.status().as_u16(), location) {
                (301..=303 | 307 | 308, Some(location)) => url = locate(transport, start, &url, location)?,
                _ => return Ok((response, url)),
            }
        }
        Err(Failure::protocol(format!("the server redirects more than {REDIRECTS} times")))
    }

    fn count(&self, status: u16) {
        let Host { limiter, bucket, .. } = &*self.server.host;
        match status {
            429 => limiter.throttled(),
            200..400 => limiter.good(),
            _ => {}
        }
        if !matches!(status, 408 | 429 | 500..) {
            bucket.answer();
        }
    }

    /// The failure that an answer is, without the secrets that a server may quote.
    async fn refused(&self, response: &mut Response, end: &Url) -> Failure {
        let mut failure = refusal(&self.server.shared.transport, response, self.authorization()).await;
        if let Cause::Status { code, message, .. } = &mut *failure.cause {
            let queries = [self.request.url.url(), end].into_iter().flat_map(Url::query_pairs);
            let values = queries.map(|(_, value)| value.into_owned());
            let password = self.request.url.password().map(|secret| secret.expose().to_owned());
            for secret in values.chain(password) {
                *code = mask(code, &secret);
                *message = mask(message, &secret);
            }
        }
        located(failure, self.request.url.url(), end)
    }

    /// Waits until all is written.
    async fn finish(&mut self) -> Result<WebFile, Failure> {
        let digest = self.sink().finish().await?;
        Ok(WebFile {
            digest,
            size: self.offset,
            etag: self.said.etag.clone(),
            mtime: self.said.last_modified.as_deref().and_then(http_date),
            last_modified: self.said.last_modified.clone(),
        })
    }

    /// The file stays.
    fn keep(&mut self) {
        if let Some((_, partial)) = &mut self.sink {
            partial.keep();
        }
    }
}

/// Adds where it happened to a failure after a redirect to another server.
fn located(mut failure: Failure, start: &Url, at: &Url) -> Failure {
    if !same_origin(start, at)
        && let Cause::Status { message: text, .. }
        | Cause::Name(text)
        | Cause::Network(text)
        | Cause::Protocol(text)
        | Cause::Certificate(text) = &mut *failure.cause
    {
        *text = format!("{text}, at {} after a redirect", redact::url(at));
    }
    failure
}

/// Size of the whole in a `Content-Range`, e.g. of `bytes 7-9/10`.
fn range_total(text: &str) -> Option<u64> {
    text.rsplit_once('/')?.1.trim().parse().ok()
}
