//! A proxy before a registry that misbehaves on purpose.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Every second request is answered with 503, after so many that are not.
    EverySecond(usize),
    /// The first so many requests are cut off without an answer.
    CutFirst(usize),
    /// Every request is answered with this status.
    Always(u16),
    /// Uploads are refused with this status; reading works.
    Uploads(u16),
    /// The first so many requests that upload something are refused with this status.
    FirstUploads {
        /// How many.
        count: usize,
        /// The status.
        status: u16,
    },
    /// What is uploaded is read, and never answered.
    HoldUploads,
    /// The first answer with each blob is cut off after so many bytes. Without `ranges` the registry
    /// does not go on where it ended.
    BreakBlobs { after: u64, ranges: bool },
}

/// A running proxy. It serves until the test program ends.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    failed: Arc<AtomicUsize>,
}

impl Proxy {
    /// Serves `registry` (a port of the loopback interface) with `fault`.
    pub(crate) fn start(registry: u16, fault: Fault) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (seen, failed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let counters = (Arc::clone(&seen), Arc::clone(&failed));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (seen, failed) = (Arc::clone(&counters.0), Arc::clone(&counters.1));
                std::thread::spawn(move || serve(client, registry, fault, &seen, &failed));
            }
        });
        Self { port, seen, failed }
    }

    /// `localhost:PORT/NAME`.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("localhost:{}/{name}", self.port)
    }

    /// The requests that came, as `GET /v2/`.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }

    /// Whether the blob of a digest was asked for with GET.
    pub(crate) fn was_read(&self, digest: &str) -> bool {
        self.seen().iter().any(|request| request.starts_with("GET ") && request.contains(digest))
    }

    /// Digests of the blobs whose upload was completed with PUT.
    pub(crate) fn uploads(&self) -> Vec<String> {
        let seen = self.seen();
        let puts = seen.iter().filter(|request| request.starts_with("PUT ") && request.contains("/uploads/"));
        let digest = |request: &String| {
            let (_, digest) = request.split_once("digest=")?;
            Some(digest.split('&').next()?.replace("%3A", ":"))
        };
        puts.filter_map(digest).collect()
    }

    /// How many of them failed on purpose.
    pub(crate) fn failed(&self) -> usize {
        self.failed.load(Ordering::SeqCst)
    }
}

/// One request on one connection, which is closed afterwards: nothing of HTTP
/// needs to be understood but where the head ends.
fn serve(
    client: TcpStream,
    registry: u16,
    fault: Fault,
    seen: &Mutex<Vec<String>>,
    failed: &AtomicUsize,
) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let (head, request) = read_head(&mut reader)?;
    let method = request.split(' ').next()?.to_owned();
    let is_upload = matches!(method.as_str(), "POST" | "PUT" | "PATCH");
    let is_blob = method == "GET" && request.contains("/blobs/");
    let (number, first) = {
        let mut seen = seen.lock().ok()?;
        let first = !seen.contains(&request);
        seen.push(request);
        (seen.len() - 1, first)
    };
    let (mut head, mut most) = (head, u64::MAX);
    if let Fault::BreakBlobs { after, ranges } = fault
        && is_blob
    {
        if !ranges {
            let lines = head.split_inclusive(|&byte| byte == b'\n');
            let ranged = |line: &[u8]| {
                let line = line.to_ascii_lowercase();
                line.starts_with(b"range:") || line.starts_with(b"if-range:")
            };
            head = lines.filter(|line| !ranged(line)).flatten().copied().collect();
        }
        if first {
            failed.fetch_add(1, Ordering::SeqCst);
            most = after;
        }
    }
    let status = match fault {
        Fault::None | Fault::BreakBlobs { .. } => None,
        Fault::FirstUploads { count, status } => (is_upload
            && failed
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |so_far| {
                    (so_far < count).then_some(so_far + 1)
                })
                .is_ok())
        .then_some(status),
        Fault::HoldUploads => {
            if matches!(method.as_str(), "PUT" | "PATCH") {
                failed.fetch_add(1, Ordering::SeqCst);
                // Until the client gives up.
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
                return None;
            }
            None
        }
        Fault::EverySecond(spared) => (number >= spared && (number - spared) % 2 == 0).then_some(503),
        Fault::CutFirst(count) => (number < count).then_some(0),
        Fault::Always(status) => Some(status),
        Fault::Uploads(status) => is_upload.then_some(status),
    };
    let mut client_out = client.try_clone().ok()?;
    if let Some(status) = status {
        if !matches!(fault, Fault::FirstUploads { .. }) {
            failed.fetch_add(1, Ordering::SeqCst);
        }
        if status != 0 {
            let answer = format!("HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            client_out.write_all(answer.as_bytes()).ok()?;
            // Reads the body away, else the answer may be lost in a reset.
            let _ = client.set_read_timeout(Some(std::time::Duration::from_millis(200)));
            let _ = client.shutdown(Shutdown::Write);
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
        }
        let _ = client.shutdown(Shutdown::Both);
        return Some(());
    }
    let mut upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, registry)).ok()?;
    upstream.write_all(&head).ok()?;
    let mut upstream_out = upstream.try_clone().ok()?;
    std::thread::spawn(move || {
        // The client's body; it ends when the connection does.
        let _ = std::io::copy(&mut reader, &mut upstream_out);
    });
    let _ = std::io::copy(&mut (&mut upstream).take(most), &mut client_out);
    let _ = upstream.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    Some(())
}

/// The head of a request with `Connection: close`, and its method and path.
fn read_head(reader: &mut impl BufRead) -> Option<(Vec<u8>, String)> {
    let mut head = Vec::new();
    let mut request = String::new();
    loop {
        let mut line = Vec::new();
        reader.take(64 << 10).read_until(b'\n', &mut line).ok().filter(|read| *read > 0)?;
        if head.is_empty() {
            request = String::from_utf8_lossy(&line).rsplit_once(' ')?.0.to_owned();
        }
        if line == b"\r\n" {
            head.extend_from_slice(b"Connection: close\r\n\r\n");
            return Some((head, request));
        }
        if !line.to_ascii_lowercase().starts_with(b"connection:") {
            head.extend_from_slice(&line);
        }
    }
}
