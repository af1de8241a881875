//! Where a registry is reached: host and scheme.

use reqwest::{Method, Request, Response, Url};
use tokio::sync::OnceCell;

use super::challenge::Challenge;
use super::error::{Cause, Failure};
use super::redact;
use super::retry::Advice;
use super::transport::{Transport, authority, host_of, is_loopback};

/// The host that serves images of `docker.io`.
const HUB_HOST: &str = "registry-1.docker.io";

/// Base URL of a registry, found out once.
#[derive(Debug)]
pub(super) struct Endpoint {
    authority: String,
    base: OnceCell<Url>,
}

impl Endpoint {
    /// The endpoint of a registry as references name it.
    pub(super) fn new(registry: &str) -> Self {
        let authority = if registry == "docker.io" { HUB_HOST } else { registry };
        Self { authority: authority.to_owned(), base: OnceCell::new() }
    }

    /// The base URL, with the challenge of a probe that this call had to make.
    ///
    /// Only hosts that may speak plain HTTP are probed. Loopback hosts are asked in plain HTTP first,
    /// without credentials: this costs no certificate authorities, and nobody listens there. Listed
    /// hosts are asked by HTTPS first.
    pub(super) async fn base(&self, transport: &Transport) -> Result<(Url, Option<Challenge>), Failure> {
        let mut challenge = None;
        let base = self.base.get_or_try_init(|| async {
            let loopback = is_loopback(host_of(&self.authority));
            let schemes = match (loopback, transport.is_insecure(&self.authority)) {
                (false, false) => return self.url("https"),
                (true, _) => ["http", "https"],
                (false, true) => ["https", "http"],
            };
            let (first, second) = (self.url(schemes[0])?, self.url(schemes[1])?);
            let failed = match probe(transport, &first).await {
                Ok(found) => {
                    challenge = found;
                    return Ok(first);
                }
                Err(failure) => failure,
            };
            match probe(transport, &second).await {
                Ok(found) => {
                    challenge = found;
                    Ok(second)
                }
                // Either may be the registry's way: while one may still work, another try makes sense.
                Err(failure) if failure.advice == Advice::Never && failed.advice != Advice::Never => {
                    Err(failed)
                }
                Err(failure) => Err(failure),
            }
        });
        let base = base.await?.clone();
        Ok((base, challenge))
    }

    fn url(&self, scheme: &str) -> Result<Url, Failure> {
        Url::parse(&format!("{scheme}://{}/", self.authority)).map_err(|_| {
            Failure::lasting(Cause::Configuration(format!("`{}` is not a host", self.authority)))
        })
    }
}

/// Whether something that speaks HTTP by this scheme answers; yields its challenge.
async fn probe(transport: &Transport, base: &Url) -> Result<Option<Challenge>, Failure> {
    let url = base.join("v2/").map_err(|_| Failure::protocol("the registry has no usable address"))?;
    let mut response =
        transport.execute(Request::new(Method::GET, url), transport.timeouts().connect).await?;
    if base.scheme() == "http" && wants_tls(transport, &mut response).await {
        return Err(Failure::protocol("the server speaks HTTPS alone"));
    }
    let challenge = Challenge::choose(response.headers());
    // Read to its end, so that the connection can be used again.
    transport.body(&mut response, 64 * 1024).await?;
    Ok(challenge)
}

/// Whether this is how a TLS server answers plain HTTP.
async fn wants_tls(transport: &Transport, response: &mut Response) -> bool {
    response.status() == 400
        && matches!(transport.body(response, 64 * 1024).await, Ok(Some(body))
            if String::from_utf8_lossy(&body).to_ascii_uppercase().contains("HTTPS"))
}

/// Whether a request to `url` goes to the registry itself, so that it may have the credentials.
pub(super) fn same_origin(base: &Url, url: &Url) -> bool {
    base.scheme() == url.scheme()
        && base.host_str() == url.host_str()
        && base.port_or_known_default() == url.port_or_known_default()
}

/// Resolves a `Location` against the request's URL.
///
/// A registry behind a proxy that ends TLS often writes its own address with `http`: the scheme in
/// use is kept then. Any other step from HTTPS to plain HTTP is refused.
///
/// # Errors
///
/// Fails for text that is no HTTP URL and for such a step.
pub(super) fn locate(transport: &Transport, base: &Url, from: &Url, location: &str) -> Result<Url, Failure> {
    let mut url = from
        .join(location)
        .map_err(|_| Failure::protocol("the server answered with an unusable Location"))?;
    if url.scheme() == "http" && base.scheme() == "https" && authority(&url) == authority(base) {
        url = Url::parse(&url.as_str().replacen("http://", "https://", 1))
            .map_err(|_| Failure::protocol("the server answered with an unusable Location"))?;
    }
    // User and password in a URL would become an Authorization header.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::protocol("the server answered with a Location that holds credentials"));
    }
    match (from.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => Ok(url),
        (_, "http") if transport.plain_allowed(&url) => Ok(url),
        _ => Err(Failure::protocol(format!("refused to go on at {}, which is not HTTPS", redact::url(&url)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Config;

    #[test]
    fn locations() {
        let transport = Transport::new(&Config { insecure: vec!["plain.io".into()], ..Config::default() });
        let base: Url = "https://r.io/".parse().unwrap();
        let from = base.join("v2/a/blobs/uploads/").unwrap();
        for (location, want) in [
            ("/v2/a/blobs/uploads/1?_state=x%2B&y", Some("https://r.io/v2/a/blobs/uploads/1?_state=x%2B&y")),
            ("1", Some("https://r.io/v2/a/blobs/uploads/1")),
            ("http://r.io/up", Some("https://r.io/up")),
            ("https://other.io/up", Some("https://other.io/up")),
            ("http://other.io/up", None),
            ("http://plain.io/up", Some("http://plain.io/up")),
            ("ftp://r.io/up", None),
            ("file:///etc/passwd", None),
            ("https://u:p@r.io/", None),
            ("https://", None),
        ] {
            let got = locate(&transport, &base, &from, location);
            assert_eq!(got.as_ref().ok().map(Url::as_str), want, "{location}");
        }
        assert!(same_origin(&base, &"https://r.io:443/x".parse().unwrap()));
        assert!(!same_origin(&base, &"https://r.io:8443/x".parse().unwrap()));
        assert!(!same_origin(&base, &"http://r.io:443/x".parse().unwrap()));
    }
}
