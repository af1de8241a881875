//! A web server on the loopback interface: files from memory, with what real
//! servers do (validators, ranges, redirects, credentials) and what broken ones
//! do. Below `/git/` it serves repositories through `git http-backend`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A file that is served, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    body: Vec<u8>,
    etag: Option<String>,
    modified: Option<String>,
    redirect: Option<String>,
    authorization: Option<String>,
    unavailable: usize,
    cut: usize,
    delay: Duration,
}

impl Page {
    /// A file of this content.
    pub(crate) fn new(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// Nothing but a pointer to another address.
    pub(crate) fn redirect(target: impl Into<String>) -> Self {
        Self { redirect: Some(target.into()), ..Self::default() }
    }

    /// Carries this ETag (without quotes) and honours If-None-Match and If-Range.
    pub(crate) fn etag(mut self, tag: &str) -> Self {
        self.etag = Some(format!("\"{tag}\""));
        self
    }

    /// Carries this Last-Modified, an HTTP date, and honours If-Modified-Since.
    pub(crate) fn modified(mut self, date: &str) -> Self {
        self.modified = Some(date.to_owned());
        self
    }

    /// Only for requests with this Authorization header.
    pub(crate) fn authorization(mut self, header: &str) -> Self {
        self.authorization = Some(header.to_owned());
        self
    }

    /// Only for this user with this password.
    pub(crate) fn basic(self, user: &str, password: &str) -> Self {
        self.authorization(&basic(user, password))
    }

    /// The first so many requests are answered with 503.
    pub(crate) fn unavailable(mut self, times: usize) -> Self {
        self.unavailable = times;
        self
    }

    /// The first so many answers end in the middle.
    pub(crate) fn cut(mut self, times: usize) -> Self {
        self.cut = times;
        self
    }

    /// Waits so long in the middle of every answer.
    pub(crate) fn slow(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// The header of Basic credentials.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct HttpRequest {
    /// `GET`
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
}

/// Repositories behind `/git/`, and the header that their reader must send.
type Repositories = Option<(PathBuf, Option<String>)>;

#[derive(Debug, Default)]
struct Shared {
    pages: Mutex<BTreeMap<String, Page>>,
    seen: Mutex<Vec<HttpRequest>>,
    repositories: Mutex<Repositories>,
}

/// A running server. It serves until the test program ends.
#[derive(Debug)]
pub(crate) struct HttpServer {
    port: u16,
    shared: Arc<Shared>,
    /// The folder of the certificates, with TLS.
    certificates: Option<tempfile::TempDir>,
}

impl HttpServer {
    /// Serves HTTP on a free port.
    pub(crate) fn start() -> Self {
        Self::launch(None)
    }

    /// Serves HTTPS, with a certificate of an authority of its own: [`HttpServer::authority`].
    pub(crate) fn start_tls() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        super::registry::make_certificates(folder.path());
        Self::launch(Some(folder))
    }

    fn launch(certificates: Option<tempfile::TempDir>) -> Self {
        let tls = certificates.as_ref().map(|folder| tls_config(folder.path()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, tls) = (Arc::clone(&served), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(client, &shared),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).ok()?;
                        let mut stream = rustls::StreamOwned::new(connection, client);
                        let served = serve(&mut stream, &shared);
                        stream.conn.send_close_notify();
                        let _ = stream.flush();
                        served
                    }
                });
            }
        });
        Self { port, shared, certificates }
    }

    /// The port on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority, PEM.
    pub(crate) fn authority(&self) -> PathBuf {
        self.certificates.as_ref().expect("a server with TLS").path().join("ca.pem")
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}{path}", self.port)
    }

    /// The address of a path, with credentials in it.
    pub(crate) fn url_with(&self, userinfo: &str, path: &str) -> String {
        self.url(path).replacen("://", &format!("://{userinfo}@"), 1)
    }

    /// Serves a page under a path, in place of an earlier one.
    pub(crate) fn put(&self, path: &str, page: Page) {
        self.shared.pages.lock().expect("no panic").insert(path.to_owned(), page);
    }

    /// Serves the bare repositories of a folder below `/git/`, to all or to those that send this
    /// Authorization header.
    pub(crate) fn serve_git(&self, folder: &Path, authorization: Option<&str>) {
        *self.shared.repositories.lock().expect("no panic") =
            Some((folder.to_owned(), authorization.map(ToOwned::to_owned)));
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<HttpRequest> {
        self.shared.seen.lock().expect("no panic").clone()
    }

    /// How many requests came with this method for this path.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.requests().iter().filter(|request| request.method == method && request.path == path).count()
    }
}

fn tls_config(folder: &Path) -> Arc<rustls::ServerConfig> {
    let chain = CertificateDer::pem_file_iter(folder.join("server.pem")).expect("a certificate");
    let chain = chain.map(|certificate| certificate.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate with its key");
    Arc::new(config)
}

/// An answer before it is sent.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} Answer\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len()));
        head
    }
}

/// One request on one connection, which is closed afterwards.
fn serve(stream: impl Read + Write, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let request = read_head(&mut reader)?;
    shared.seen.lock().ok()?.push(request.clone());
    if request.headers.get("expect").is_some_and(|value| value.starts_with("100")) {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let body = read_body(&mut reader, &request)?;
    let (answer, page) = match request.path.strip_prefix("/git/") {
        Some(path) => (git(shared, &request, path, &body)?, None),
        None => file(shared, &request)?,
    };
    let stream = reader.get_mut();
    stream.write_all(answer.head().as_bytes()).ok()?;
    if request.method == "HEAD" {
        return stream.flush().ok();
    }
    let (first, second) = answer.body.split_at(answer.body.len() / 2);
    stream.write_all(first).ok()?;
    stream.flush().ok()?;
    if let Some(page) = page {
        std::thread::sleep(page.delay);
        if page.cut > 0 {
            return None;
        }
    }
    stream.write_all(second).ok()?;
    stream.flush().ok()
}

/// The answer for a file. The page is as it was before this request.
fn file(shared: &Shared, request: &HttpRequest) -> Option<(Answer, Option<Page>)> {
    let mut pages = shared.pages.lock().ok()?;
    let path = request.path.split('?').next()?;
    let Some(page) = pages.get_mut(path) else {
        return Some((Answer::new(404), None));
    };
    let before = page.clone();
    if let Some(wanted) = &page.authorization
        && request.headers.get("authorization") != Some(wanted)
    {
        return Some((Answer::new(401).header("WWW-Authenticate", "Basic realm=\"tests\""), None));
    }
    if page.unavailable > 0 {
        page.unavailable -= 1;
        return Some((Answer::new(503).header("Retry-After", "0"), None));
    }
    if let Some(target) = &page.redirect {
        return Some((Answer::new(302).header("Location", target), None));
    }
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    let mut answer = Answer::new(200).header("Accept-Ranges", "bytes");
    for (name, value) in [("ETag", &page.etag), ("Last-Modified", &page.modified)] {
        if let Some(value) = value {
            answer = answer.header(name, value);
        }
    }
    let same_tag = page.etag.is_some() && header("if-none-match") == page.etag.as_deref();
    let same_time = header("if-none-match").is_none()
        && page.modified.is_some()
        && header("if-modified-since") == page.modified.as_deref();
    if same_tag || same_time {
        answer.status = 304;
        return Some((answer, None));
    }
    answer.body.clone_from(&page.body);
    let in_range = header("if-range")
        .is_none_or(|value| Some(value) == page.etag.as_deref() || Some(value) == page.modified.as_deref());
    if let Some(range) = header("range").filter(|_| in_range) {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        let first: usize = first.parse().ok()?;
        let end = last.parse::<usize>().map_or(page.body.len(), |last| page.body.len().min(last + 1));
        if first >= end {
            return Some((
                Answer::new(416).header("Content-Range", format!("bytes */{}", page.body.len())),
                None,
            ));
        }
        let shown = format!("bytes {first}-{}/{}", end - 1, page.body.len());
        answer = answer.header("Content-Range", shown);
        answer.status = 206;
        answer.body = page.body[first..end].to_vec();
    }
    page.cut = page.cut.saturating_sub(1);
    Some((answer, Some(before)))
}

/// The answer of `git http-backend`, a CGI program.
fn git(shared: &Shared, request: &HttpRequest, path: &str, body: &[u8]) -> Option<Answer> {
    let Some((folder, authorization)) = shared.repositories.lock().ok()?.clone() else {
        return Some(Answer::new(404));
    };
    let header = |name: &str| request.headers.get(name).map(String::as_str).unwrap_or_default();
    if authorization.is_some_and(|wanted| header("authorization") != wanted) {
        return Some(Answer::new(401).header("WWW-Authenticate", "Basic realm=\"tests\""));
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut child = Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", &folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_PROJECT_ROOT", &folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{path}"))
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", &request.method)
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    let body = body.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&body);
    });
    let output = child.wait_with_output().ok()?.stdout;
    writer.join().ok()?;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut answer = Answer::new(200);
    answer.body = output[end + 4..].to_vec();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(':')?;
        match name {
            "Status" => answer.status = value.trim().get(..3)?.parse().ok()?,
            _ => answer = answer.header(name, value.trim()),
        }
    }
    Some(answer)
}

fn read_head(reader: &mut impl BufRead) -> Option<HttpRequest> {
    let mut line = String::new();
    reader.take(64 << 10).read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.take(64 << 10).read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Some(HttpRequest { method, path, headers });
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

/// The body of a request, of a known length or in chunks.
fn read_body(reader: &mut impl BufRead, request: &HttpRequest) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = request.headers.get("content-length") {
        reader.take(length.parse().ok()?).read_to_end(&mut body).ok()?;
    } else if request.headers.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let length = u64::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
            reader.take(length).read_to_end(&mut body).ok()?;
            reader.read_line(&mut line).ok()?;
            if length == 0 {
                break;
            }
        }
    }
    Some(body)
}

/// A port of the loopback interface that nobody listens on, and that the kernel gives to nobody who asks
/// for any.
pub(crate) fn closed_port() -> u16 {
    let port = super::registry::free_port();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "port {port} is open");
    port
}
