//! What stands between a command and the caller's ssh agent.
//!
//! Owns: a socket for one command, and what goes through it.
//!
//! Invariants:
//! - A command can list keys and have data signed. It cannot add, remove or lock keys: everything else
//!   is answered with a failure, and never reaches the agent.
//! - No message is longer than 256 KiB, as in OpenSSH, and no command has more than 64 connections.
//! - When the command has ended, no thread is left and the socket is gone.
//!
//! Sources: draft-ietf-sshm-ssh-agent; OpenSSH, `PROTOCOL.agent`.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use rustix::fs::{Mode, OFlags};

use crate::store::ScratchDir;

const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
const EXTENSION: u8 = 27;
const FAILURE: &[u8] = &[5];
/// Tells the agent which host a connection leads to, so that it can keep to the limits of a key.
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

const LONGEST_MESSAGE: u32 = 256 << 10;
const MOST_CONNECTIONS: usize = 64;
/// Between two attempts to accept while there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(20);
const SOCKET: &str = "agent";

/// A socket that leads to an agent. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    directory: ScratchDir,
    /// Another descriptor of the listening socket: shutting it down ends the listening.
    listener: UnixStream,
    open: Arc<Open>,
    thread: Option<JoinHandle<()>>,
}

/// Open connections, each with both of its ends; `None` when no more are wanted.
#[derive(Debug)]
struct Open(Mutex<Option<BTreeMap<u64, [UnixStream; 2]>>>);

/// Who may use a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    pub(super) mode: u32,
    /// User and group; `None` where ids are simulated, and the command is shown another owner.
    pub(super) owner: Option<(u32, u32)>,
}

impl Relay {
    /// Listens in `directory`, for an agent that can be reached now.
    pub(super) fn start(directory: ScratchDir, agent: &Path, access: Access) -> io::Result<Self> {
        drop(connect(agent)?);
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700))?;
        let listener = UnixListener::bind(Place::of(&directory.path().join(SOCKET))?.path())?;
        let socket = directory.path().join(SOCKET);
        if let Some((uid, gid)) = access.owner {
            chown(&socket, Some(uid), Some(gid))?;
        }
        fs::set_permissions(&socket, Permissions::from_mode(access.mode))?;
        let open = Arc::new(Open(Mutex::new(Some(BTreeMap::new()))));
        let other_end = UnixStream::from(OwnedFd::from(listener.try_clone()?));
        let (agent, shared) = (agent.to_owned(), Arc::clone(&open));
        let thread = std::thread::Builder::new().name("agent".to_owned());
        let thread = thread.spawn(move || listen(&listener, &agent, &shared))?;
        Ok(Self { directory, listener: other_end, open, thread: Some(thread) })
    }

    /// The socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.open.stop();
        drop(self.listener.shutdown(Shutdown::Both));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Open {
    /// Remembers a connection; false when it is not wanted.
    fn add(&self, number: u64, ends: [UnixStream; 2]) -> bool {
        match self.0.lock().as_deref_mut() {
            Ok(Some(open)) if open.len() < MOST_CONNECTIONS => open.insert(number, ends).is_none(),
            _ => false,
        }
    }

    fn remove(&self, number: u64) {
        if let Ok(Some(open)) = self.0.lock().as_deref_mut() {
            open.remove(&number);
        }
    }

    fn is_stopped(&self) -> bool {
        self.0.lock().map_or(true, |open| open.is_none())
    }

    fn stop(&self) {
        let open = self.0.lock().ok().and_then(|mut open| open.take());
        for end in open.into_iter().flat_map(BTreeMap::into_values).flatten() {
            // One that has ended needs no ending.
            drop(end.shutdown(Shutdown::Both));
        }
    }
}

/// Accepts connections until told to stop, and waits for their threads.
fn listen(listener: &UnixListener, agent: &Path, open: &Open) {
    std::thread::scope(|scope| {
        for number in 0.. {
            let accepted = listener.accept();
            if open.is_stopped() {
                return;
            }
            let Ok((client, _)) = accepted else {
                std::thread::sleep(PAUSE);
                continue;
            };
            // A client whose connection is dropped sees the agent go away.
            let Ok(upstream) = connect(agent) else { continue };
            let (Ok(client_end), Ok(upstream_end)) = (client.try_clone(), upstream.try_clone()) else {
                continue;
            };
            if !open.add(number, [client_end, upstream_end]) {
                continue;
            }
            let relayed = std::thread::Builder::new().spawn_scoped(scope, move || {
                // Whoever broke the protocol is cut off; there is nobody to tell.
                drop(relay(&client, &upstream));
                open.remove(number);
            });
            if relayed.is_err() {
                open.remove(number);
            }
        }
    });
}

/// Passes on the messages of one connection.
fn relay(client: &UnixStream, agent: &UnixStream) -> io::Result<()> {
    while let Some(request) = receive(client)? {
        if is_allowed(&request) {
            send(agent, &request)?;
            let answer = receive(agent)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            send(client, &answer)?;
        } else {
            send(client, FAILURE)?;
        }
    }
    Ok(())
}

fn is_allowed(request: &[u8]) -> bool {
    match request.split_first() {
        Some((&(REQUEST_IDENTITIES | SIGN_REQUEST), _)) => true,
        Some((&EXTENSION, rest)) => rest.split_first_chunk().is_some_and(|(length, rest)| {
            usize::try_from(u32::from_be_bytes(*length)).ok().and_then(|length| rest.get(..length))
                == Some(SESSION_BIND)
        }),
        _ => false,
    }
}

/// Receives a message: its type and contents. `None` at the end.
fn receive(mut stream: &UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if stream.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..])?;
    let length = u32::from_be_bytes(length);
    if !(1..=LONGEST_MESSAGE).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = Vec::new();
    if stream.take(u64::from(length)).read_to_end(&mut message)? as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(message))
}

fn send(mut stream: &UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat())
}

/// Connects, or fails: an agent that accepts no connections would be waited for without end.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let place = Place::of(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(stream.as_raw_fd(), &UnixAddr::new(&place.path())?)?;
    let stream = UnixStream::from(stream);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A short name for a socket, which has at most 107 bytes wherever it lies: its directory is open.
struct Place {
    directory: OwnedFd,
    name: std::ffi::OsString,
}

impl Place {
    fn of(socket: &Path) -> io::Result<Self> {
        let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::Error::other("not the path of a socket"));
        };
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        Ok(Self { directory, name: name.to_owned() })
    }

    fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::store::Store;

    /// An agent that answers a request with its type and length, and notes it.
    fn agent(path: &Path) -> Arc<Mutex<Vec<Vec<u8>>>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = UnixListener::bind(Place::of(path).unwrap().path()).unwrap();
        let noted = Arc::clone(&seen);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let noted = Arc::clone(&noted);
                std::thread::spawn(move || {
                    while let Ok(Some(request)) = receive(&stream) {
                        let kind = request[0];
                        noted.lock().unwrap().push(request);
                        send(&stream, &[99, kind]).unwrap();
                    }
                });
            }
        });
        seen
    }

    fn access() -> Access {
        Access {
            mode: 0o600,
            owner: Some((rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())),
        }
    }

    fn extension(name: &str) -> Vec<u8> {
        [&[EXTENSION][..], &(name.len() as u32).to_be_bytes(), name.as_bytes(), b"more"].concat()
    }

    #[test]
    fn only_listing_and_signing_go_through() {
        let root = tempfile::tempdir().unwrap();
        // Longer than the name of a socket can be.
        let deep = root.path().join("d".repeat(120));
        let store = Store::open(&deep).unwrap();
        let seen = agent(&deep.join("real"));
        let relay = Relay::start(store.scratch_dir().unwrap(), &deep.join("real"), access()).unwrap();
        assert_eq!(fs::metadata(relay.socket()).unwrap().mode() & 0o777, 0o600);
        let client = connect(&relay.socket()).unwrap();
        let mut long = vec![SIGN_REQUEST];
        long.resize(LONGEST_MESSAGE as usize, 7);
        let through = [vec![REQUEST_IDENTITIES], long, extension("session-bind@openssh.com")];
        for request in &through {
            send(&client, request).unwrap();
            assert_eq!(receive(&client).unwrap().unwrap(), [99, request[0]]);
        }
        for request in [
            vec![17],
            vec![18, 1],
            vec![19],
            vec![22, 0, 0, 0, 0],
            vec![25],
            vec![EXTENSION],
            vec![EXTENSION, 0xff, 0xff, 0xff, 0xff],
            extension("session-bind@openssh.co"),
            extension("query"),
        ] {
            send(&client, &request).unwrap();
            assert_eq!(receive(&client).unwrap().unwrap(), FAILURE, "{request:?}");
        }
        assert_eq!(*seen.lock().unwrap(), through);
    }

    #[test]
    fn who_breaks_the_protocol_is_cut_off() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(&root.path().join("store")).unwrap();
        let seen = agent(&root.path().join("real"));
        let relay = Relay::start(store.scratch_dir().unwrap(), &root.path().join("real"), access()).unwrap();
        for bytes in [&[0, 0, 0, 0][..], &[0, 4, 0, 1], &[0xff, 0xff, 0xff, 0xff, 11]] {
            let mut client = connect(&relay.socket()).unwrap();
            client.write_all(bytes).unwrap();
            assert!(!matches!(receive(&client), Ok(Some(_))), "{bytes:?}");
        }
        let kept: Vec<_> = (0..MOST_CONNECTIONS)
            .map(|_| {
                let client = connect(&relay.socket()).unwrap();
                send(&client, &[REQUEST_IDENTITIES]).unwrap();
                receive(&client).unwrap();
                client
            })
            .collect();
        let refused = connect(&relay.socket()).unwrap();
        assert!(!matches!(receive(&refused), Ok(Some(_))));
        drop(kept);
        assert_eq!(seen.lock().unwrap().len(), MOST_CONNECTIONS);
    }

    #[test]
    fn nothing_is_left_when_the_command_has_ended() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(&root.path().join("store")).unwrap();
        let real = root.path().join("real");
        assert!(Relay::start(store.scratch_dir().unwrap(), &real, access()).is_err());
        // This one never answers.
        let _listener = UnixListener::bind(&real).unwrap();
        let relay = Relay::start(store.scratch_dir().unwrap(), &real, access()).unwrap();
        let socket = relay.socket();
        let client = connect(&socket).unwrap();
        send(&client, &[REQUEST_IDENTITIES]).unwrap();
        drop(relay);
        assert!(!matches!(receive(&client), Ok(Some(_))));
        assert!(!socket.exists() && connect(&socket).is_err());
    }
}
