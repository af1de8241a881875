//! A scriptable registry for tests: answers as a registry does, unless a rule says otherwise, and
//! records what it was asked.

mod replies;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::image::Digest;

pub(super) use replies::{File, basic};
use replies::{Reply, Store};

/// A running registry on a loopback port; ends with the test.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    address: SocketAddr,
    access: Access,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    store: Mutex<Store>,
    connections: AtomicUsize,
}

/// Who may do what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Open,
    /// User `user`, password `pass:word`.
    Basic,
    /// Tokens from `/token`, for anybody to pull and for `user` to push.
    Bearer,
}

/// A request that was made.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Which of the matching requests a rule is for.
#[derive(Clone, Copy)]
pub(crate) enum When {
    Always,
    /// The first so many.
    First(usize),
    /// Each so many-th, after so many that are none.
    Every(usize, usize),
}

/// What happens instead of, or with, the usual answer.
#[derive(Clone)]
pub(crate) enum Act {
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

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Fake {
    pub(crate) async fn start(access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (rules, seen, store, connections) = Default::default();
        let state = Arc::new(State { address, access, rules, seen, store, connections });
        let accepting = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&accepting)));
            }
        });
        Self { address, state }
    }

    /// Adds a rule: for requests by `method` (empty for any) whose path holds `path`.
    pub(crate) fn rule(&self, method: &'static str, path: &'static str, when: When, act: Act) {
        self.state.rules.lock().unwrap().push(Rule { method, path, when, act, hits: 0 });
    }

    pub(crate) fn add_blob(&self, repository: &str, bytes: &[u8]) {
        let key = (repository.to_owned(), Digest::of(bytes).to_string());
        self.state.store.lock().unwrap().blobs.insert(key, bytes.to_vec());
    }

    /// Puts a file outside the registry, e.g. at `/a/b.tar`.
    pub(super) fn add_file(&self, path: &str, file: File) {
        self.state.store.lock().unwrap().files.insert(path.to_owned(), file);
    }

    pub(crate) fn add_manifest(&self, repository: &str, name: &str, media_type: &str, bytes: &[u8]) {
        let mut store = self.state.store.lock().unwrap();
        for name in [name.to_owned(), Digest::of(bytes).to_string()] {
            store.manifests.insert((repository.to_owned(), name), (media_type.to_owned(), bytes.to_vec()));
        }
    }

    pub(crate) fn lose_blob(&self, repository: &str, bytes: &[u8]) {
        let key = (repository.to_owned(), Digest::of(bytes).to_string());
        self.state.store.lock().unwrap().blobs.remove(&key);
    }

    pub(crate) fn blob(&self, repository: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), Digest::of(bytes).to_string());
        self.state.store.lock().unwrap().blobs.get(&key).cloned()
    }

    pub(crate) fn manifest(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), name.to_owned());
        self.state.store.lock().unwrap().manifests.get(&key).map(|(_, bytes)| bytes.clone())
    }

    /// Connections that were ever made.
    pub(super) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn open_uploads(&self) -> usize {
        self.state.store.lock().unwrap().uploads.len()
    }

    /// The requests by `method` (empty for any) whose path holds `path`.
    pub(crate) fn seen(&self, method: &str, path: &str) -> Vec<Seen> {
        let matches = |seen: &&Seen| (method.is_empty() || seen.method == method) && seen.path.contains(path);
        self.state.seen.lock().unwrap().iter().filter(matches).cloned().collect()
    }

    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
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
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
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
                reply.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                reply.headers.push((name.to_owned(), value));
            }
            _ => {}
        }
        let mut head = format!("HTTP/1.1 {} x\r\ncontent-length: {length}\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let body = if request.method == "HEAD" { Vec::new() } else { reply.body };
        let broken = body.len() < length && request.method != "HEAD";
        if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() || broken {
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
    let mut request = Seen { method, path, headers, body: Vec::new() };
    let length: usize = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
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
            (rule.method.is_empty() || rule.method == request.method) && request.path.contains(rule.path)
        };
        for rule in rules.iter_mut().filter(fits) {
            rule.hits += 1;
            let now = match rule.when {
                When::Always => true,
                When::First(most) => rule.hits <= most,
                When::Every(step, spared) => {
                    rule.hits > spared && (rule.hits - 1 - spared).is_multiple_of(step)
                }
            };
            if now {
                return Some(rule.act.clone());
            }
        }
        None
    }
}
