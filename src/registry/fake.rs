//! A scriptable registry for tests: answers as a registry does, unless a rule says otherwise, and
//! records what it was asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::image::Digest;

/// A running registry on a loopback port; ends with the test.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    address: SocketAddr,
    access: Access,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    store: Mutex<Store>,
}

/// Who may do what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Open,
    /// User `user`, password `pass:word`.
    Basic,
    /// Tokens from `/token`, for anybody to pull and for `user` to push.
    Bearer,
}

#[derive(Default)]
struct Store {
    /// By repository and digest.
    blobs: HashMap<(String, String), Vec<u8>>,
    /// By repository and digest or tag.
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    tokens: usize,
}

/// A request that was made.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// Which of the matching requests a rule is for.
#[derive(Clone, Copy)]
pub(super) enum When {
    Always,
    /// The first so many.
    First(usize),
    /// Each so many-th, beginning with the first.
    Every(usize),
}

/// What happens instead of, or with, the usual answer.
#[derive(Clone)]
pub(super) enum Act {
    /// This status, headers and body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The connection is closed before the answer.
    Reset,
    /// The request is carried out, but the connection closed before the answer.
    Lose,
    /// Only the first bytes of the usual body are sent.
    Truncate(usize),
    /// The usual body with other bytes.
    Spoil,
    /// No answer.
    Hang,
    /// Bytes that are no HTTP.
    Garbage,
    /// The usual answer with this header set.
    Header(&'static str, String),
}

struct Rule {
    method: &'static str,
    path: &'static str,
    when: When,
    act: Act,
    hits: usize,
}

struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: body.into(),
        }
    }

    fn error(status: u16, code: &str) -> Self {
        Self::new(
            status,
            &[],
            format!(r#"{{"errors":[{{"code":"{code}","message":"no"}}]}}"#),
        )
    }
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

impl Fake {
    pub(super) async fn start(access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (rules, seen, store) = Default::default();
        let state = Arc::new(State {
            address,
            access,
            rules,
            seen,
            store,
        });
        let accepting = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&accepting)));
            }
        });
        Self { address, state }
    }

    /// Adds a rule: for requests by `method` (empty for any) whose path holds `path`.
    pub(super) fn rule(&self, method: &'static str, path: &'static str, when: When, act: Act) {
        self.state.rules.lock().unwrap().push(Rule {
            method,
            path,
            when,
            act,
            hits: 0,
        });
    }

    pub(super) fn add_blob(&self, repository: &str, bytes: &[u8]) {
        let key = (repository.to_owned(), Digest::of(bytes).to_string());
        self.state
            .store
            .lock()
            .unwrap()
            .blobs
            .insert(key, bytes.to_vec());
    }

    pub(super) fn add_manifest(
        &self,
        repository: &str,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) {
        let mut store = self.state.store.lock().unwrap();
        for name in [name.to_owned(), Digest::of(bytes).to_string()] {
            store.manifests.insert(
                (repository.to_owned(), name),
                (media_type.to_owned(), bytes.to_vec()),
            );
        }
    }

    pub(super) fn blob(&self, repository: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), Digest::of(bytes).to_string());
        self.state.store.lock().unwrap().blobs.get(&key).cloned()
    }

    pub(super) fn manifest(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), name.to_owned());
        self.state
            .store
            .lock()
            .unwrap()
            .manifests
            .get(&key)
            .map(|(_, bytes)| bytes.clone())
    }

    pub(super) fn open_uploads(&self) -> usize {
        self.state.store.lock().unwrap().uploads.len()
    }

    /// The requests by `method` (empty for any) whose path holds `path`.
    pub(super) fn seen(&self, method: &str, path: &str) -> Vec<Seen> {
        let matches =
            |seen: &&Seen| (method.is_empty() || seen.method == method) && seen.path.contains(path);
        self.state
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(matches)
            .cloned()
            .collect()
    }

    pub(super) fn count(&self, method: &str, path: &str) -> usize {
        self.seen(method, path).len()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await {
        state.seen.lock().unwrap().push(request.clone());
        let act = state.act(&request);
        let mut reply = match act {
            Some(Act::Reset) => return,
            Some(Act::Hang) => return std::future::pending().await,
            Some(Act::Garbage) => {
                let _ = stream.write_all(b"\x16\x03 what\r\n\r\n").await;
                return;
            }
            Some(Act::Answer(status, ref headers, ref body)) => {
                let headers: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                Reply::new(status, &headers, body.as_bytes())
            }
            _ => state.reply(&request),
        };
        let length = reply.body.len();
        match act {
            Some(Act::Lose) => return,
            Some(Act::Truncate(most)) => reply.body.truncate(most),
            Some(Act::Spoil) => reply.body.iter_mut().for_each(|byte| *byte ^= 1),
            Some(Act::Header(name, value)) => {
                reply
                    .headers
                    .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                reply.headers.push((name.to_owned(), value));
            }
            _ => {}
        }
        let mut head = format!(
            "HTTP/1.1 {} x\r\ncontent-length: {length}\r\n",
            reply.status
        );
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let body = if request.method == "HEAD" {
            Vec::new()
        } else {
            reply.body
        };
        let broken = body.len() < length && request.method != "HEAD";
        if stream
            .write_all(&[head.as_bytes(), &body].concat())
            .await
            .is_err()
            || broken
        {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break buffer.drain(..end + 4).collect::<Vec<_>>();
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut request = Seen {
        method,
        path,
        headers,
        body: Vec::new(),
    };
    let length: usize = request
        .header("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    request.body = buffer.drain(..length).collect();
    Some(request)
}

impl State {
    fn act(&self, request: &Seen) -> Option<Act> {
        let mut rules = self.rules.lock().unwrap();
        let fits = |rule: &&mut Rule| {
            (rule.method.is_empty() || rule.method == request.method)
                && request.path.contains(rule.path)
        };
        for rule in rules.iter_mut().filter(fits) {
            rule.hits += 1;
            let now = match rule.when {
                When::Always => true,
                When::First(most) => rule.hits <= most,
                When::Every(step) => (rule.hits - 1).is_multiple_of(step),
            };
            if now {
                return Some(rule.act.clone());
            }
        }
        None
    }

    fn reply(&self, request: &Seen) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if path == "/token" {
            return self.token(request, query);
        }
        let Some(rest) = path.strip_prefix("/v2/") else {
            return Reply::error(404, "NOPE");
        };
        let writes = !matches!(request.method.as_str(), "GET" | "HEAD");
        let (repository, rest) = ["/blobs/", "/manifests/"]
            .iter()
            .find_map(|part| {
                rest.split_once(part)
                    .map(|(before, after)| (before, format!("{part}{after}")))
            })
            .unwrap_or(("", String::new()));
        if let Some(refusal) = self.refuse(request, repository, writes) {
            return refusal;
        }
        if rest.is_empty() {
            return Reply::new(200, &[], "{}");
        }
        if let Some(name) = rest.strip_prefix("/manifests/") {
            return self.manifests(request, repository, name);
        }
        if let Some(session) = rest.strip_prefix("/blobs/uploads/") {
            return self.uploads(request, repository, session, query);
        }
        self.blobs(request, repository, rest.trim_start_matches("/blobs/"))
    }

    /// Tokens tell their scopes: this registry has nothing to hide.
    fn token(&self, request: &Seen, query: &str) -> Reply {
        let form = if request.method == "POST" {
            String::from_utf8_lossy(&request.body).into_owned()
        } else {
            query.to_owned()
        };
        let url: reqwest::Url = format!("http://x/?{form}").parse().unwrap();
        let scopes: Vec<String> = url
            .query_pairs()
            .filter(|(key, _)| key == "scope")
            .map(|(_, value)| value.into_owned())
            .collect();
        let known = match request.header("authorization") {
            None if request.method == "POST" => form.contains("refresh_token=identity"),
            None => scopes.iter().all(|scope| !scope.ends_with("push")),
            Some(value) => value == basic(),
        };
        if !known {
            return Reply::new(401, &[], r#"{"details":"incorrect username or password"}"#);
        }
        let mut store = self.store.lock().unwrap();
        store.tokens += 1;
        let token = STANDARD.encode(format!("{}|{}", store.tokens, scopes.join(" ")));
        Reply::new(
            200,
            &[],
            format!(r#"{{"token":"{token}","expires_in":300}}"#),
        )
    }

    fn refuse(&self, request: &Seen, repository: &str, writes: bool) -> Option<Reply> {
        let given = request.header("authorization").unwrap_or_default();
        let (allowed, challenge) = match self.access {
            Access::Open => (true, String::new()),
            Access::Basic => (given == basic(), "Basic realm=\"fake, really\"".to_owned()),
            Access::Bearer => {
                let token = given
                    .strip_prefix("Bearer ")
                    .and_then(|token| STANDARD.decode(token).ok());
                let token = token.and_then(|token| String::from_utf8(token).ok());
                let actions = if writes { "pull,push" } else { "pull" };
                let wanted = format!("repository:{repository}:{actions}");
                let allowed =
                    token.is_some_and(|token| repository.is_empty() || token.contains(&wanted));
                (
                    allowed,
                    format!(
                        "Bearer realm=\"http://{}/token\",service=\"fake\",scope=\"{wanted}\"",
                        self.address
                    ),
                )
            }
        };
        (!allowed).then(|| Reply {
            headers: vec![("WWW-Authenticate".into(), challenge)],
            ..Reply::error(401, "UNAUTHORIZED")
        })
    }

    fn manifests(&self, request: &Seen, repository: &str, name: &str) -> Reply {
        let mut store = self.store.lock().unwrap();
        if request.method == "PUT" {
            let digest = Digest::of(&request.body).to_string();
            let media_type = request
                .header("content-type")
                .unwrap_or_default()
                .to_owned();
            for name in [name, &digest] {
                store.manifests.insert(
                    (repository.into(), name.into()),
                    (media_type.clone(), request.body.clone()),
                );
            }
            return Reply::new(201, &[("Docker-Content-Digest", &digest)], "");
        }
        match store.manifests.get(&(repository.into(), name.into())) {
            Some((media_type, bytes)) => {
                let digest = Digest::of(bytes).to_string();
                Reply::new(
                    200,
                    &[
                        ("Content-Type", media_type),
                        ("Docker-Content-Digest", &digest),
                    ],
                    bytes.clone(),
                )
            }
            None => Reply::error(404, "MANIFEST_UNKNOWN"),
        }
    }

    fn blobs(&self, request: &Seen, repository: &str, digest: &str) -> Reply {
        let store = self.store.lock().unwrap();
        let Some(bytes) = store.blobs.get(&(repository.into(), digest.into())) else {
            return Reply::error(404, "BLOB_UNKNOWN");
        };
        let range = request
            .header("range")
            .and_then(|text| text.strip_prefix("bytes="));
        match range.and_then(|text| text.trim_end_matches('-').parse::<usize>().ok()) {
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::new(206, &[("Content-Range", &range)], &bytes[start..])
            }
            None => Reply::new(200, &[("ETag", "\"e\"")], bytes.clone()),
        }
    }

    fn uploads(&self, request: &Seen, repository: &str, session: &str, query: &str) -> Reply {
        let mut store = self.store.lock().unwrap();
        let url: reqwest::Url = format!("http://x/?{query}").parse().unwrap();
        let get = |name: &str| {
            url.query_pairs()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let range = |bytes: &Vec<u8>| format!("0-{}", bytes.len().saturating_sub(1));
        let place =
            |session: &str| format!("/v2/{repository}/blobs/uploads/{session}?_state=a%2Bb");
        match request.method.as_str() {
            "POST" => {
                if let (Some(digest), Some(from)) = (get("mount"), get("from"))
                    && let Some(bytes) = store.blobs.get(&(from, digest.clone())).cloned()
                {
                    store.blobs.insert((repository.into(), digest), bytes);
                    return Reply::new(201, &[], "");
                }
                let session = format!("s{}", store.uploads.len());
                store.uploads.insert(session.clone(), Vec::new());
                Reply::new(202, &[("Location", &place(&session))], "")
            }
            "DELETE" => {
                store.uploads.remove(session);
                Reply::new(204, &[], "")
            }
            method => {
                let Some(bytes) = store.uploads.get_mut(session) else {
                    return Reply::error(404, "BLOB_UPLOAD_UNKNOWN");
                };
                if get("_state").as_deref() != Some("a+b") {
                    return Reply::error(400, "STATE_LOST");
                }
                let start = request
                    .header("content-range")
                    .and_then(|text| text.split('-').next()?.parse::<usize>().ok());
                if start.is_some_and(|start| start != bytes.len()) {
                    return Reply::error(416, "RANGE");
                }
                bytes.extend_from_slice(&request.body);
                if method != "PUT" {
                    let status = if method == "GET" { 204 } else { 202 };
                    return Reply::new(
                        status,
                        &[("Location", &place(session)), ("Range", &range(bytes))],
                        "",
                    );
                }
                let digest = Digest::of(bytes).to_string();
                if get("digest").as_deref() != Some(digest.as_str()) {
                    return Reply::error(400, "DIGEST_INVALID");
                }
                let bytes = store.uploads.remove(session).unwrap_or_default();
                store
                    .blobs
                    .insert((repository.into(), digest.clone()), bytes);
                Reply::new(201, &[("Docker-Content-Digest", &digest)], "")
            }
        }
    }
}

/// The `Authorization` that both kinds of access know.
pub(super) fn basic() -> String {
    format!("Basic {}", STANDARD.encode("user:pass:word"))
}
