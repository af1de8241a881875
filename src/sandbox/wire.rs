//! Messages between the coordinator, the helper of a step, and process 1 of the step.
//!
//! A message is a kind, a 32-bit length and that many bytes. The coordinator sends the
//! description of the step with the command's output; the helper, which may not have waited for that,
//! sends the id of process 1, and when all is over how it ended. In between, a failure to set up may
//! come from any of the processes.

use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::codec::{Reader, Writer};
use super::enter::Ended;
use super::hidden::Hidden;
use super::rights;
use super::root::Stub;
use super::supervisor::JournalEntry;

/// More than the kernel takes as arguments and environment together.
const LENGTH_LIMIT: usize = 64 << 20;

/// A step of setting up that failed, as text for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: String,
    pub(super) message: String,
    /// Error number where there was one, else 0.
    pub(super) errno: i32,
}

/// Names the step in which something failed.
pub(super) trait Step<T> {
    fn step(self, step: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| {
            let error = error.into();
            Failure {
                step: step.to_owned(),
                message: error.to_string(),
                errno: error.raw_os_error().unwrap_or(0),
            }
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The encoded description of a step, which may hold secrets. Along with it go the descriptors that
    /// the command writes its output and its errors to.
    Spec(Hidden),
    /// The id of the step's process 1, as the coordinator sees it.
    Started(i32),
    /// The coordinator holds process 1 and can kill it.
    Go,
    /// Mount points that were made; for the helper alone.
    Stubs(Vec<Stub>),
    /// Something could not be set up, or the program not be executed.
    Failed(Failure),
    /// The command ended; mount points that could not be removed again, what it could not reach, what it
    /// did not get, and what the supervisor's journal says.
    Ended {
        ended: Ended,
        stubs_left: Vec<Vec<u8>>,
        untouched: Vec<Vec<u8>>,
        notes: Vec<String>,
        journal: Vec<JournalEntry>,
    },
}

impl Message {
    /// An end after which nothing is left to say of the root.
    pub(super) fn ended(ended: Ended) -> Self {
        Self::ended_with(ended, Vec::new())
    }

    /// The same, with what the supervisor's journal says.
    pub(super) fn ended_with(ended: Ended, journal: Vec<JournalEntry>) -> Self {
        Self::Ended { ended, stubs_left: Vec::new(), untouched: Vec::new(), notes: Vec::new(), journal }
    }

    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Spec(bytes) => (b's', bytes.bytes().to_vec()),
            Self::Started(pid) => (b'p', pid.to_le_bytes().to_vec()),
            Self::Go => (b'g', Vec::new()),
            Self::Stubs(stubs) => {
                // A path holds no NUL.
                let paths = stubs
                    .iter()
                    .map(|stub| [if stub.directory { b"d" } else { b"f" }, &stub.path[..], b"\0"].concat());
                (b'm', paths.collect::<Vec<_>>().concat())
            }
            Self::Failed(failure) => {
                let errno = failure.errno.to_le_bytes();
                let text = [failure.step.as_bytes(), b"\0", failure.message.as_bytes()].concat();
                (b'f', [&errno[..], &text].concat())
            }
            Self::Ended { ended, stubs_left, untouched, notes, journal } => {
                let (signaled, code) = match ended {
                    Ended::Exited(code) => (false, code),
                    Ended::Signaled(signal) => (true, signal),
                };
                let mut out = Writer::default();
                out.number(signaled.into());
                out.number(u64::from(code.cast_unsigned()));
                out.list(stubs_left, |out, path| out.bytes(path));
                out.list(untouched, |out, path| out.bytes(path));
                out.list(notes, |out, note| out.bytes(note.as_bytes()));
                out.list(journal, |out, entry| entry.encode(out));
                (b'e', out.finish())
            }
        }
    }

    fn decode(kind: u8, bytes: Vec<u8>) -> Option<Self> {
        let number = |bytes: &[u8]| Some(i32::from_le_bytes(bytes.get(..4)?.try_into().ok()?));
        let paths = |bytes: &[u8]| -> Vec<Vec<u8>> {
            let paths = bytes.split(|byte| *byte == 0).filter(|path| !path.is_empty());
            paths.map(<[u8]>::to_vec).collect()
        };
        Some(match kind {
            b's' => Self::Spec(Hidden::new(bytes)),
            b'p' => Self::Started(number(&bytes)?),
            b'g' => Self::Go,
            b'm' => Self::Stubs(
                paths(&bytes)
                    .into_iter()
                    .map(|path| Stub { directory: path[0] == b'd', path: path[1..].to_vec() })
                    .collect(),
            ),
            b'f' => {
                let text = String::from_utf8_lossy(bytes.get(4..)?).into_owned();
                let (step, message) = text.split_once('\0')?;
                Self::Failed(Failure {
                    step: step.to_owned(),
                    message: message.to_owned(),
                    errno: number(&bytes)?,
                })
            }
            b'e' => {
                let mut input = Reader::new(&bytes);
                let signaled = input.number().ok()? != 0;
                let code = input.small().ok()?.cast_signed();
                let ended = if signaled { Ended::Signaled(code) } else { Ended::Exited(code) };
                let stubs_left = input.list(Reader::bytes).ok()?;
                let untouched = input.list(Reader::bytes).ok()?;
                let notes = input.list(Reader::text).ok()?;
                let journal = input.list(JournalEntry::decode).ok()?;
                input.finish().ok()?;
                Self::Ended { ended, stubs_left, untouched, notes, journal }
            }
            _ => return None,
        })
    }

    pub(super) fn send(&self, socket: &UnixStream) -> io::Result<()> {
        self.send_with(socket, &[])
    }

    /// The same, along with open descriptors.
    pub(super) fn send_with(
        &self,
        mut socket: &UnixStream,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let (kind, bytes) = self.encode();
        if bytes.len() > LENGTH_LIMIT {
            return Err(io::Error::other("step description too long"));
        }
        let length = (bytes.len() as u32).to_le_bytes();
        let whole = [&[kind][..], &length, &bytes].concat();
        let sent = rights::send(socket, &whole, descriptors)?;
        socket.write_all(&whole[sent..])
    }

    /// Receives a message; `UnexpectedEof` when the other side is gone.
    pub(super) fn receive(socket: &UnixStream) -> io::Result<Self> {
        Self::receive_with(socket).map(|(message, _)| message)
    }

    /// The same, with the descriptors that came along.
    pub(super) fn receive_with(mut socket: &UnixStream) -> io::Result<(Self, Vec<OwnedFd>)> {
        let mut head = [0; 5];
        let (count, descriptors) = loop {
            match rights::receive(socket, &mut head) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        socket.read_exact(&mut head[count..])?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        if length > LENGTH_LIMIT {
            return Err(io::Error::other("message too long"));
        }
        let mut bytes = vec![0; length];
        socket.read_exact(&mut bytes)?;
        let message = Self::decode(kind, bytes).ok_or_else(|| io::Error::other("malformed message"))?;
        Ok((message, descriptors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let (a, b) = UnixStream::pair().unwrap();
        let failure = Failure { step: "exec".into(), message: "sh: not found".into(), errno: 2 };
        for message in [
            Message::Spec(Hidden::new([0, 1, 255])),
            Message::Started(77),
            Message::Go,
            Message::Stubs(vec![
                Stub { path: b"run/x\xff".to_vec(), directory: true },
                Stub { path: b"run/x/f".to_vec(), directory: false },
            ]),
            Message::Stubs(Vec::new()),
            Message::Failed(failure),
            Message::ended(Ended::Exited(-7)),
            Message::Ended {
                ended: Ended::Signaled(9),
                stubs_left: vec![b"etc/x".to_vec()],
                untouched: vec![b"dev".to_vec(), b"sys".to_vec()],
                notes: vec!["no limit".to_owned()],
                journal: vec![
                    JournalEntry { inode: u64::MAX, birth: Some((-1, 7)), uid: 5, gid: u32::MAX },
                    JournalEntry { inode: 1, birth: None, uid: 0, gid: 8 },
                ],
            },
        ] {
            message.send(&a).unwrap();
            assert_eq!(Message::receive(&b).unwrap(), message);
        }
        drop(a);
        assert_eq!(Message::receive(&b).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn malformed_messages_are_errors() {
        for bytes in
            [&b"z\0\0\0\0"[..], b"p\x02\0\0\0ab", b"e\x01\0\0\0x", b"f\0\0\0\0", b"s\xff\xff\xff\xff"]
        {
            let (mut a, b) = UnixStream::pair().unwrap();
            a.write_all(bytes).unwrap();
            assert!(Message::receive(&b).is_err(), "{bytes:?}");
        }
    }
}
