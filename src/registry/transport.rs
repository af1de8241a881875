//! HTTP clients, built when first needed, and what their errors mean.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Request, Response, Url, redirect};
use tokio::time::Instant;

use super::authorities::Authorities;
use super::config::{Config, Timeouts};
use super::error::{Cause, Failure};
use super::names::{NameError, Names};
use super::redact::escape;

/// How often a streamed request is looked after.
const TICK: Duration = Duration::from_millis(100);

/// Builds and keeps the HTTP clients: one per way of verifying and of reaching a host.
#[derive(Debug)]
pub(super) struct Transport {
    insecure: Vec<String>,
    authorities: Authorities,
    names: Arc<Names>,
    user_agent: String,
    timeouts: Timeouts,
    clients: Mutex<HashMap<Way, Client>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Way {
    tls: Tls,
    /// Without a proxy, as always for loopback.
    direct: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Tls {
    /// Plain HTTP: no certificate authority is loaded.
    None,
    Verified,
    Unverified,
}

/// How far a body that is streamed has got.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Bytes that were handed over.
    pub(super) bytes: AtomicU64,
    /// Whether there is nothing to hand over now.
    pub(super) starved: AtomicBool,
}

/// A file that broke while it was being sent; kept apart from errors of the network.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct SourceError(pub(super) io::Error);

impl Transport {
    /// Builds nothing yet.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            insecure: config.insecure.iter().map(|host| bare(host).to_owned()).collect(),
            authorities: Authorities::new(config),
            names: Arc::new(Names::new(config.timeouts.connect * 4 / 5)),
            user_agent: config.user_agent.clone(),
            timeouts: config.timeouts.clone(),
            clients: Mutex::new(HashMap::new()),
        }
    }

    /// How long to wait for what.
    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Whether `authority` (`host[:port]`) was listed as insecure.
    pub(super) fn is_insecure(&self, authority: &str) -> bool {
        self.insecure.iter().any(|listed| listed == authority || *listed == host_of(authority))
    }

    /// Whether plain HTTP to this URL's host is acceptable.
    pub(super) fn plain_allowed(&self, url: &Url) -> bool {
        is_loopback(url.host_str().unwrap_or_default()) || self.is_insecure(&authority(url))
    }

    /// The HTTP client for `url`.
    pub(super) fn client(&self, url: &Url) -> Result<Client, Failure> {
        let tls = match url.scheme() {
            "http" => Tls::None,
            _ if self.is_insecure(&authority(url)) => Tls::Unverified,
            _ => Tls::Verified,
        };
        let way = Way { tls, direct: is_loopback(url.host_str().unwrap_or_default()) };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&way) {
            return Ok(client.clone());
        }
        let client = self.build(way)?;
        clients.insert(way, client.clone());
        Ok(client)
    }

    fn build(&self, way: Way) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .user_agent(&self.user_agent)
            // Redirects are followed by hand, where the credentials are at hand too.
            .redirect(redirect::Policy::none())
            .dns_resolver(Arc::clone(&self.names))
            .connect_timeout(self.timeouts.connect);
        if way.direct {
            builder = builder.no_proxy();
        }
        builder = match way.tls {
            Tls::None => builder.tls_certs_only([]),
            Tls::Unverified => builder.tls_danger_accept_invalid_certs(true),
            Tls::Verified => builder.tls_certs_only(self.authorities.load()?),
        };
        builder.build().map_err(|error| {
            Failure::lasting(Cause::Configuration(format!("failed to set up TLS: {}", deepest(&error))))
        })
    }

    /// Sends a request without a streamed body; waits `patience` for the head of the answer.
    pub(super) async fn execute(&self, request: Request, patience: Duration) -> Result<Response, Failure> {
        let client = self.client(request.url())?;
        match tokio::time::timeout(patience, client.execute(request)).await {
            Ok(result) => result.map_err(|error| classify(&error)),
            Err(_) => Err(Failure::network(format!("no answer within {} s", patience.as_secs_f32()))),
        }
    }

    /// Sends a request whose body of `length` bytes is streamed.
    ///
    /// The request may take as long as it needs while bytes flow; `report` is told of them. What the body
    /// waits for is not the server's fault.
    pub(super) async fn stream(
        &self,
        request: Request,
        sent: &Sent,
        length: u64,
        report: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Response, Failure> {
        let client = self.client(request.url())?;
        let mut sending = std::pin::pin!(client.execute(request));
        let mut ticks = tokio::time::interval(TICK);
        let (mut last, mut since) = (0, Instant::now());
        loop {
            tokio::select! {
                result = &mut sending => {
                    report(sent.bytes.load(Ordering::Relaxed));
                    return result.map_err(|error| classify(&error));
                }
                _ = ticks.tick() => {
                    let now = sent.bytes.load(Ordering::Relaxed);
                    if now != last || sent.starved.load(Ordering::Relaxed) {
                        (last, since) = (now, Instant::now());
                        report(now);
                    }
                    let patience = if now < length { self.timeouts.idle } else { self.timeouts.answer };
                    if since.elapsed() > patience {
                        return Err(Failure::network(format!("no byte taken or answered within {} s", patience.as_secs_f32())));
                    }
                }
            }
        }
    }

    /// The next piece of a body; `None` at its end.
    pub(super) async fn chunk(
        &self,
        response: &mut Response,
    ) -> Result<Option<tokio_util::bytes::Bytes>, Failure> {
        let idle = self.timeouts.idle;
        match tokio::time::timeout(idle, response.chunk()).await {
            Ok(result) => result.map_err(|error| classify(&error)),
            Err(_) => Err(Failure::network(format!("no byte within {} s", idle.as_secs_f32()))),
        }
    }

    /// The whole body, when it is not longer than `limit` bytes; else `None`.
    pub(super) async fn body(&self, response: &mut Response, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(response).await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Ok(None);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes))
    }
}

/// `host[:port]` of a URL, as registries are written in references.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether `host` is this machine and nothing else.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host of `host[:port]`.
pub(super) fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn bare(listed: &str) -> &str {
    let listed = listed.trim();
    let listed = listed.strip_prefix("https://").or_else(|| listed.strip_prefix("http://")).unwrap_or(listed);
    listed.trim_end_matches('/')
}

/// Sorts an error of the HTTP library.
fn classify(error: &reqwest::Error) -> Failure {
    if let Some(SourceError(error)) = find::<SourceError>(error) {
        let copy = error
            .raw_os_error()
            .map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error);
        return Failure::local("failed to read the blob that is pushed", copy);
    }
    if let Some(error) = find::<rustls::Error>(error) {
        return match error {
            rustls::Error::InvalidCertificate(why) => {
                Failure::lasting(Cause::Certificate(escape(&why.to_string())))
            }
            rustls::Error::InvalidMessage(_) => Failure::lasting(Cause::NotTls),
            other => Failure::protocol(format!("TLS failed: {}", escape(&other.to_string()))),
        };
    }
    if let Some(error) = find::<NameError>(error) {
        let cause = Cause::Name(escape(&error.to_string()));
        return if error.is_lasting() { Failure::lasting(cause) } else { Failure::passing(cause) };
    }
    let text = deepest(error);
    if error.is_connect() {
        return Failure::network(format!("no connection: {text}"));
    }
    Failure::network(format!("the connection broke: {text}"))
}

/// The error of type `T` in the chain of sources, also inside I/O errors.
fn find<T: Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    let mut current: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        current = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The text of the innermost source, which says most; never the URL.
fn deepest(error: &reqwest::Error) -> String {
    let mut current: Option<&(dyn Error + 'static)> = error.source();
    let mut text = "broken request".to_owned();
    while let Some(error) = current {
        text = error.to_string();
        current = error.source();
    }
    escape(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (host, want) in [
            ("localhost", true),
            ("127.8.8.8", true),
            ("[::1]", true),
            ("a.localhost", true),
            ("localhost.example.com", false),
            ("10.0.0.1", false),
            ("127.0.0.1.nip.io", false),
        ] {
            assert_eq!(is_loopback(host), want, "{host}");
        }
        let config =
            Config { insecure: vec!["a.io:5000".into(), "http://b.io/".into()], ..Config::default() };
        let transport = Transport::new(&config);
        for (authority, want) in
            [("a.io:5000", true), ("a.io", false), ("b.io", true), ("b.io:81", true), ("[::1]:5", false)]
        {
            assert_eq!(transport.is_insecure(authority), want, "{authority}");
        }
    }
}
