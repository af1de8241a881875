//! One question to the servers, one after the other, until one answers it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;

use super::message::{self, Answer, Kind};
use super::settings::Settings;

/// How long a server may take before the next one, or the same one again, is asked: a packet may
/// have been lost, and one that works hard has the answer by then.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Room for a datagram. Servers send 512 bytes at most to those who do not ask for more.
const LONGEST_DATAGRAM: usize = 4096;

/// A question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    pub(super) settings: &'a Settings,
    /// The whole name, without a dot at its end.
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    /// When no answer is waited for any more.
    pub(super) deadline: Instant,
}

/// What the servers know.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// At least one.
    Addresses(Vec<IpAddr>),
    /// The name has no addresses of this kind.
    Nothing,
    /// No such name, says this server.
    Unknown(IpAddr),
    /// Servers answer, but with a failure.
    Trouble(String),
    /// Some server does not answer.
    Silence(String),
}

impl Query<'_> {
    /// Asks until there is an answer; `None` where the name is none.
    pub(super) async fn ask(self) -> Option<Found> {
        let question = message::question(random(), self.name, self.kind)?;
        if self.kind == Kind::Aaaa && self.settings.no_aaaa {
            return Some(Found::Nothing);
        }
        let mut reasons: Vec<String> = Vec::new();
        let mut silent = false;
        for attempt in 0..self.settings.attempts {
            for server in &self.settings.servers {
                let wait = if attempt == 0 { FIRST_WAIT } else { self.settings.timeout };
                let until = (Instant::now() + wait.min(self.settings.timeout)).min(self.deadline);
                let reason = match tokio::time::timeout_at(until, self.converse(*server, &question)).await {
                    Ok(Ok(Answer::Addresses(addresses))) if addresses.is_empty() => {
                        return Some(Found::Nothing);
                    }
                    Ok(Ok(Answer::Addresses(addresses))) => return Some(Found::Addresses(addresses)),
                    Ok(Ok(Answer::Unknown)) => return Some(Found::Unknown(server.ip())),
                    Ok(Ok(Answer::Truncated)) => {
                        format!("the DNS server {} sends parts of answers", server.ip())
                    }
                    Ok(Ok(Answer::Failed(code))) => {
                        format!("the DNS server {} answers with {}", server.ip(), failure(code))
                    }
                    Ok(Err(error)) => {
                        silent = true;
                        format!("the DNS server {} cannot be reached: {error}", server.ip())
                    }
                    Err(_) => {
                        silent = true;
                        format!("the DNS server {} does not answer", server.ip())
                    }
                };
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
                if Instant::now() >= self.deadline {
                    break;
                }
            }
        }
        let reasons = reasons.join(", ");
        Some(if silent { Found::Silence(reasons) } else { Found::Trouble(reasons) })
    }

    async fn converse(&self, server: SocketAddr, question: &[u8]) -> io::Result<Answer> {
        if !self.settings.tcp {
            match by_datagram(server, question).await? {
                Answer::Truncated => {}
                answer => return Ok(answer),
            }
        }
        by_stream(server, question).await
    }
}

/// Asks in one datagram. Datagrams that do not answer it may be anybody's and are passed over.
async fn by_datagram(server: SocketAddr, question: &[u8]) -> io::Result<Answer> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port that nobody can foresee; only what the server sends to it comes in.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; LONGEST_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = message::answer(&buffer[..length], question) {
            return Ok(answer);
        }
    }
}

/// Asks over a connection.
async fn by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    message::answer(&reply, question)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it answers something else"))
}

/// The name of a failure, as tools show it.
fn failure(code: u8) -> String {
    match code {
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        other => format!("code {other}"),
    }
}

/// A number that nobody can foresee.
fn random() -> u16 {
    let mut bytes = [0; 2];
    // Fails only where the kernel has no random numbers; the port is random still.
    drop(rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes));
    u16::from_be_bytes(bytes)
}
