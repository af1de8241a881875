//! One request with all that belongs to it: slot, authorization, redirects.

use std::collections::BTreeSet;
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Request, Response, Url};
use tokio_util::bytes::Bytes;

use super::auth::Purpose;
use super::challenge::Challenge;
use super::endpoint::{locate, same_origin};
use super::error::{Failure, Operation};
use super::limiter::{Limiter, Slot};
use super::payload::{Part, Payload};
use super::refusal::refusal;
use super::retry::Retries;
use super::session::{Manner, Session};

/// Redirects that are followed.
const REDIRECTS: usize = 5;

/// A request to be made, as often as it takes.
#[derive(Debug)]
pub(super) struct Call<'a> {
    method: Method,
    to: To,
    scopes: BTreeSet<String>,
    headers: HeaderMap,
    payload: Payload<'a>,
    bulk: bool,
}

#[derive(Debug)]
enum To {
    /// Below `/v2/<repository>/`.
    Path(String),
    /// Where an answer pointed to.
    Url(Url),
}

/// An answer; its slot is taken until it is dropped.
#[derive(Debug)]
pub(super) struct Answer {
    response: Response,
    used: Option<HeaderValue>,
    url: Url,
    base: Url,
    session: Session,
    _slot: Option<Slot>,
}

/// The scope for `actions` (`pull` or `pull,push`) on the repository at `path`.
pub(super) fn scope(path: &str, actions: &str) -> String {
    format!("repository:{path}:{actions}")
}

impl<'a> Call<'a> {
    /// A request below `/v2/<repository>/`.
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self::build(method, To::Path(path.into()))
    }

    /// A request to where an answer pointed.
    pub(super) fn to(method: Method, url: Url) -> Self {
        Self::build(method, To::Url(url))
    }

    fn build(method: Method, to: To) -> Self {
        Self {
            method,
            to,
            scopes: BTreeSet::new(),
            headers: HeaderMap::new(),
            payload: Payload::None,
            bulk: false,
        }
    }

    /// Adds a scope that the token must have.
    pub(super) fn scope(mut self, scope: String) -> Self {
        self.scopes.insert(scope);
        self
    }

    /// Adds a header. Text that no header can carry is left out.
    pub(super) fn header(mut self, name: reqwest::header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sends these bytes.
    pub(super) fn bytes(mut self, bytes: &'a [u8]) -> Self {
        self.payload = Payload::Bytes(bytes);
        self
    }

    /// Sends a part of a blob.
    pub(super) fn part(mut self, part: Part<'a>) -> Self {
        self.payload = Payload::Part(part);
        self.bulk()
    }

    /// A blob is sent or fetched: this is bounded by bandwidth, so that few of them run at a time.
    pub(super) fn bulk(mut self) -> Self {
        self.bulk = true;
        self
    }
}

impl Session {
    /// Makes a request once: authorizes it, waits for a slot, follows redirects, and answers one 401 with
    /// a fresh token. Any other status is an answer. What has to be asked before, the scheme and the
    /// token, has tries of its own.
    ///
    /// # Errors
    ///
    /// Fails without an answer, after a second 401, and for redirects that cannot be followed.
    pub(super) async fn send(&self, operation: &Operation, call: Call<'_>) -> Result<Answer, Failure> {
        let transport = &self.shared.transport;
        let (base, challenge) = self.base(operation).await?;
        if let Some(challenge) = challenge {
            self.host.auth.learn(challenge).await;
        }
        let url = match &call.to {
            To::Url(url) => url.clone(),
            To::Path(path) => base
                .join(&format!("v2/{}/{path}", self.repository().path()))
                .map_err(|_| Failure::protocol("the request has no usable address"))?,
        };
        let path = self.repository().path();
        let purpose = Purpose { transport, store: &self.shared.store, base: &base, path };
        let trusted = same_origin(&base, &url);
        let mut scopes = call.scopes.clone();
        let mut used = if trusted { self.authorize(operation, &purpose, &scopes).await? } else { None };
        let mut refreshed = false;
        loop {
            let limiter = self.limiter(&call);
            let slot = match self.manner() {
                Manner::Usual => Some(limiter.acquire().await),
                Manner::LookUp | Manner::Slotless => None,
            };
            let (mut response, end) = self.follow(&call, &base, &url, used.as_ref()).await?;
            match response.status().as_u16() {
                429 => limiter.throttled(),
                200..400 | 404 => limiter.good(),
                _ => {}
            }
            if !matches!(response.status().as_u16(), 408 | 429 | 500..) {
                self.host.bucket.answer();
            }
            if response.status() != 401 || !trusted || !same_origin(&base, &end) {
                return Ok(Answer { response, used, url: end, base, session: self.clone(), _slot: slot });
            }
            let challenge = Challenge::choose(response.headers());
            let failure = refusal(transport, &mut response, used.as_ref()).await;
            drop(slot);
            let spent = refreshed && used.is_some();
            if spent || !self.host.auth.refused(path, challenge, used.as_ref(), &mut scopes).await {
                return Err(failure);
            }
            refreshed |= used.is_some();
            used = self.authorize(operation, &purpose, &scopes).await?;
            if used.is_none() {
                return Err(failure);
            }
        }
    }

    fn limiter(&self, call: &Call<'_>) -> &Arc<Limiter> {
        if call.bulk { &self.host.limiter } else { &self.host.small }
    }

    async fn base(&self, operation: &Operation) -> Result<(Url, Option<Challenge>), Failure> {
        let mut tries = Retries::new(self, operation.clone());
        loop {
            match self.host.endpoint.base(&self.shared.transport).await {
                Ok(found) => return Ok(found),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    async fn authorize(
        &self,
        operation: &Operation,
        purpose: &Purpose<'_>,
        scopes: &BTreeSet<String>,
    ) -> Result<Option<HeaderValue>, Failure> {
        let mut tries = Retries::new(self, operation.clone());
        loop {
            match self.host.auth.header(purpose, scopes).await {
                Ok(header) => return Ok(header),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    async fn follow(
        &self,
        call: &Call<'_>,
        base: &Url,
        start: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response, Url), Failure> {
        let transport = &self.shared.transport;
        let mut url = start.clone();
        let mut authorization = authorization;
        for _ in 0..=REDIRECTS {
            // Once the request has left the registry, it gets no credentials even if it comes back.
            authorization = authorization.filter(|_| same_origin(base, &url));
            let mut request = Request::new(call.method.clone(), url.clone());
            *request.headers_mut() = call.headers.clone();
            if let Some(value) = authorization {
                request.headers_mut().insert(AUTHORIZATION, value.clone());
            }
            self.host.bucket.request();
            let response = match &call.payload {
                Payload::Part(part) => part.send(transport, request).await?,
                Payload::Bytes(bytes) => {
                    *request.body_mut() = Some(bytes.to_vec().into());
                    transport.execute(request, self.patience()).await?
                }
                Payload::None => {
                    if !matches!(call.method, Method::GET | Method::HEAD) {
                        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                    }
                    transport.execute(request, self.patience()).await?
                }
            };
            let safe = matches!(call.method, Method::GET | Method::HEAD);
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match (response.status().as_u16(), location) {
                (301..=303, Some(location)) if safe => {
                    url = locate(transport, base, &url, location)?;
                }
                (307 | 308, Some(location)) => url = locate(transport, base, &url, location)?,
                _ => return Ok((response, url)),
            }
        }
        Err(Failure::protocol("the registry redirects without end"))
    }
}

impl Answer {
    /// HTTP status.
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header, where it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Where the answer points to.
    pub(super) fn location(&self) -> Option<Result<Url, Failure>> {
        let location = self.header("location")?;
        Some(locate(&self.session.shared.transport, &self.base, &self.url, location))
    }

    /// The answer itself when its status is one of `statuses`.
    ///
    /// # Errors
    ///
    /// Any other status is a failure, with the registry's explanation.
    pub(super) async fn expect(mut self, statuses: &[u16]) -> Result<Self, Failure> {
        if statuses.contains(&self.status()) { Ok(self) } else { Err(self.refusal().await) }
    }

    /// The failure that this answer is.
    pub(super) async fn refusal(&mut self) -> Failure {
        refusal(&self.session.shared.transport, &mut self.response, self.used.as_ref()).await
    }

    /// The next piece of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        self.session.shared.transport.chunk(&mut self.response).await
    }

    /// The whole body; `None` when it is longer than `limit` bytes.
    pub(super) async fn body(&mut self, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        self.session.shared.transport.body(&mut self.response, limit).await
    }
}
