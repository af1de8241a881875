//! Names against files and a small DNS server on the loopback interface.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// What the server does with a name.
#[derive(Clone, Copy)]
enum Act {
    /// Has this IPv4 address and no IPv6 one.
    Four([u8; 4]),
    /// Has this IPv4 address, and is silent about the other.
    FourAlone([u8; 4]),
    /// Has it for those who ask by TCP.
    Long([u8; 4]),
    /// Sends answers with a wrong id and for another name first.
    Forged([u8; 4]),
    NoData,
    Fails,
    Silent,
}

/// A DNS server, the files of a machine that asks it, and what it was asked.
struct Bench {
    names: Names,
    dir: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    async fn new(known: &[(&'static str, Act)]) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let known: HashMap<&str, Act> = known.iter().copied().collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(udp, tcp, known, Arc::clone(&asked)));
        let dir = tempfile::tempdir().unwrap();
        let names = Names {
            hosts: dir.path().join("hosts"),
            settings: dir.path().join("resolv.conf"),
            port: address.port(),
            patience: Duration::from_secs(8),
        };
        let bench = Self { names, dir, asked };
        bench.write("resolv.conf", "nameserver 127.0.0.1\nsearch a.test b.test\noptions ndots:2 timeout:1\n");
        bench
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    async fn lookup(&self, name: &str) -> Result<Vec<String>, String> {
        let found = self.names.lookup(name).await;
        found.map(|found| found.iter().map(IpAddr::to_string).collect()).map_err(|error| error.to_string())
    }

    /// The names that were asked for since the last call, each once.
    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.dedup();
        asked
    }
}

async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    known: HashMap<&'static str, Act>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut buffer = [0; 600];
    loop {
        tokio::select! {
            got = udp.recv_from(&mut buffer) => {
                let (length, peer) = got.unwrap();
                for reply in replies(&buffer[..length], &known, &asked, false) {
                    udp.send_to(&reply, peer).await.unwrap();
                }
            }
            got = tcp.accept() => {
                let (mut stream, _) = got.unwrap();
                let mut question = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut question).await.unwrap();
                for reply in replies(&question, &known, &asked, true) {
                    stream.write_u16(reply.len() as u16).await.unwrap();
                    stream.write_all(&reply).await.unwrap();
                }
            }
        }
    }
}

/// What is sent for a question.
fn replies(
    question: &[u8],
    known: &HashMap<&'static str, Act>,
    asked: &Mutex<Vec<String>>,
    tcp: bool,
) -> Vec<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8(question[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    let name = labels.join(".");
    let six = question[at + 2] == Kind::Aaaa as u8;
    let head = |code: u8| {
        let mut reply = question.to_vec();
        (reply[2], reply[3]) = (0x81, 0x80 | code);
        reply
    };
    let four = |address: [u8; 4]| {
        let mut reply = head(0);
        reply[7] = 1;
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address);
        reply
    };
    let act = known.get(name.as_str()).copied();
    asked.lock().unwrap().push(name);
    match act {
        None => vec![head(3)],
        Some(Act::Fails) => vec![head(2)],
        Some(Act::Silent) => Vec::new(),
        Some(Act::FourAlone(_)) if six => Vec::new(),
        Some(Act::NoData) => vec![head(0)],
        Some(_) if six => vec![head(0)],
        Some(Act::Long(_)) if !tcp => {
            let mut reply = head(0);
            reply[2] |= 2;
            vec![reply]
        }
        Some(Act::Four(address) | Act::FourAlone(address) | Act::Long(address)) => vec![four(address)],
        Some(Act::Forged(address)) => {
            let (mut id, mut other) = (four([6, 6, 6, 6]), four([6, 6, 6, 6]));
            id[1] ^= 1;
            other[13] ^= 1;
            vec![id, other, b"?".to_vec(), four(address)]
        }
    }
}

fn one(address: &str) -> Result<Vec<String>, String> {
    Ok(vec![address.to_owned()])
}

#[tokio::test]
async fn servers() {
    let bench = Bench::new(&[
        ("r.a.test", Act::Four([10, 0, 0, 1])),
        ("q.b.test", Act::Four([10, 0, 0, 2])),
        ("x.y.z", Act::Four([10, 0, 0, 3])),
        ("alone.y.z", Act::FourAlone([10, 0, 0, 4])),
        ("long.y.z", Act::Long([10, 0, 0, 5])),
        ("forged.y.z", Act::Forged([10, 0, 0, 6])),
        ("empty.y.z", Act::NoData),
        ("part.a.test", Act::NoData),
        ("broken.y.z", Act::Fails),
    ])
    .await;
    for (name, want, asked) in [
        ("r", one("10.0.0.1"), &["r.a.test"][..]),
        ("q", one("10.0.0.2"), &["q.a.test", "q.b.test"]),
        ("x.y.z", one("10.0.0.3"), &["x.y.z"]),
        ("x.y.z.", one("10.0.0.3"), &["x.y.z"]),
        ("alone.y.z", one("10.0.0.4"), &["alone.y.z"]),
        ("long.y.z", one("10.0.0.5"), &["long.y.z"]),
        ("forged.y.z", one("10.0.0.6"), &["forged.y.z"]),
        ("10.1.2.3", one("10.1.2.3"), &[]),
        (
            "no.y.z",
            Err("`no.y.z` is not known to the DNS server 127.0.0.1".to_owned()),
            &["no.y.z", "no.y.z.a.test", "no.y.z.b.test"],
        ),
        ("empty.y.z.", Err("`empty.y.z.` has no address in the DNS".to_owned()), &["empty.y.z"]),
        ("part", Err("`part` has no address in the DNS".to_owned()), &["part.a.test", "part.b.test", "part"]),
        ("broken.y.z.", Err("the DNS server 127.0.0.1 answers with SERVFAIL".to_owned()), &["broken.y.z"]),
        ("a..b", Err("`a..b` is not a host name".to_owned()), &[]),
    ] {
        assert_eq!(bench.lookup(name).await, want, "{name}");
        assert_eq!(bench.asked(), asked, "{name}");
    }
}

#[tokio::test]
async fn servers_that_do_not_answer() {
    let mut bench = Bench::new(&[("s.y.z", Act::Silent), ("x.y.z", Act::Four([10, 0, 0, 3]))]).await;
    bench.names.patience = Duration::from_millis(300);
    let error = bench.names.lookup("s.y.z").await.unwrap_err();
    assert_eq!(error.to_string(), "the DNS server 127.0.0.1 does not answer");
    assert!(!error.is_lasting());
    // Nobody listens at the first; the second knows it.
    bench.names.patience = Duration::from_secs(8);
    bench.write("resolv.conf", "nameserver 127.9.9.9\nnameserver 127.0.0.1\n");
    assert_eq!(bench.lookup("x.y.z").await, one("10.0.0.3"));
    bench.write("resolv.conf", "nameserver 127.9.9.9\noptions attempts:1\n");
    let error = bench.lookup("x.y.z").await.unwrap_err();
    assert!(error.starts_with("the DNS server 127.9.9.9 cannot be reached: Connection refused"), "{error}");
    bench.write("resolv.conf", "nameserver 127.0.0.1\noptions use-vc no-aaaa\n");
    assert_eq!(bench.lookup("x.y.z").await, one("10.0.0.3"));
}

#[tokio::test]
async fn files() {
    let bench =
        Bench::new(&[("r.a.test", Act::Four([10, 0, 0, 1])), ("localhost", Act::Four([6, 6, 6, 6]))]).await;
    // No hosts file: this machine is known all the same, and no server is asked about it.
    let local = bench.lookup("localhost").await.unwrap();
    assert!(local.contains(&Ipv4Addr::LOCALHOST.to_string()), "{local:?}");
    bench.lookup("registry.localhost").await.unwrap();
    assert_eq!(bench.asked(), [""; 0]);
    bench.write("hosts", "10.0.0.7 r\n127.0.0.3 localhost\n");
    assert_eq!(bench.lookup("r").await, one("10.0.0.7"));
    assert_eq!(bench.lookup("localhost").await, one("127.0.0.3"));
    assert_eq!(bench.asked(), [""; 0]);
    // No resolv.conf: a server on this machine.
    std::fs::remove_file(bench.dir.path().join("resolv.conf")).unwrap();
    bench.write("hosts", "");
    assert_eq!(bench.lookup("r.a.test").await, one("10.0.0.1"));
    // What is there has to be readable.
    std::fs::create_dir(bench.dir.path().join("resolv.conf")).unwrap();
    let error = bench.lookup("r.a.test").await.unwrap_err();
    assert!(error.starts_with("failed to read "), "{error}");
}
