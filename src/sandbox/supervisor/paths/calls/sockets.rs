//! Sockets of the local machine, which have paths as their names.
//!
//! The supervisor cannot act on a socket of another process without a privilege, so it makes a new one,
//! connects or binds it, and puts it in the place of the caller's. What was set on the old one before,
//! other than not to block and to be closed on exec, does not go along.
//!
//! Invariant: a command never has a socket of this family that a call of its own could connect: what it
//! gets from socket(2) counts as connected already. Whatever it writes into its memory or its table of
//! descriptors while another of its calls waits, the kernel follows no path for it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, socketpair};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::super::notification::Answer;
use super::super::access::WRITE;
use super::create::{new_name, record};
use super::{Call, Outcome, PERMISSIONS};

/// Bytes of `sun_path`.
const PATH_SIZE: usize = 108;
/// How long a listener with a full queue is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);
/// Bits of a socket's type that are flags.
const TYPE_FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// socket(2), of the local family alone.
pub(in super::super) fn socket(call: &Call<'_>) -> Outcome {
    let flags = call.int(1) & TYPE_FLAGS;
    let kind = match call.int(1) & !TYPE_FLAGS {
        libc::SOCK_STREAM => SockType::Stream,
        libc::SOCK_SEQPACKET => SockType::SeqPacket,
        // Every message would bring a path of its own.
        libc::SOCK_DGRAM | libc::SOCK_RAW => return Err(Errno::ACCESS),
        _ => return Err(Errno::INVAL),
    };
    if !matches!(call.int(2), 0 | libc::AF_UNIX) {
        return Err(Errno::PROTONOSUPPORT);
    }
    let made = SockFlag::SOCK_CLOEXEC | SockFlag::from_bits_truncate(flags & libc::SOCK_NONBLOCK);
    let (file, _) = socketpair(AddressFamily::Unix, kind, None, made).map_err(errno)?;
    // With a name it cannot be bound either.
    nix::sys::socket::bind(file.as_raw_fd(), &UnixAddr::new_unnamed()).map_err(errno)?;
    Ok(Answer::Descriptor { file, close_on_exec: flags & libc::SOCK_CLOEXEC != 0 })
}

/// connect(2)
pub(in super::super) fn connect(call: &Call<'_>) -> Outcome {
    let Some(address) = Address::read(call)? else { return Ok(Answer::Continue) };
    let old = Old::of(call)?;
    let new = old.replacement()?;
    let target = match &address {
        Address::Abstract(name) => UnixAddr::new_abstract(name).map_err(errno)?,
        Address::Path(path) => {
            let found = call.find(libc::AT_FDCWD, path, true)?;
            if found.stat.st_mode & libc::S_IFMT != libc::S_IFSOCK {
                return Err(Errno::CONNREFUSED);
            }
            call.check(&*call.credentials()?, &found, WRITE)?;
            // The socket itself, whatever has its name by now; `found` lives until the end of the block.
            let target = UnixAddr::new(call.paths.view.own_path(&found.file).as_str()).map_err(errno)?;
            return connect_to(call, &old, new, &target);
        }
        Address::Unnamed => return Err(Errno::INVAL),
    };
    connect_to(call, &old, new, &target)
}

/// bind(2)
pub(in super::super) fn bind(call: &Call<'_>) -> Outcome {
    let Some(address) = Address::read(call)? else { return Ok(Answer::Continue) };
    let old = Old::of(call)?;
    let new = old.replacement()?;
    match &address {
        Address::Unnamed => bind_to(&new, &UnixAddr::new_unnamed())?,
        Address::Abstract(name) => bind_to(&new, &UnixAddr::new_abstract(name).map_err(errno)?)?,
        Address::Path(path) => {
            let parent = new_name(call, libc::AT_FDCWD, path, false).map_err(|error| match error {
                Errno::EXIST => Errno::ADDRINUSE,
                other => other,
            })?;
            let mode = call.new_mode(PERMISSIONS & 0o777)?;
            let mut own = call.paths.view.own_path(&parent.directory).into_bytes();
            own.push(b'/');
            own.extend_from_slice(&parent.name);
            let own = std::ffi::OsStr::new(std::str::from_utf8(&own).map_err(|_| Errno::INVAL)?);
            bind_to(&new, &UnixAddr::new(own).map_err(errno)?)?;
            record(call, &parent, mode)?;
        }
    }
    // As long as it does not listen it could be connected.
    nix::sys::socket::listen(&new, Backlog::MAXCONN).map_err(errno)?;
    old.put(call, &new)
}

fn bind_to(socket: &OwnedFd, address: &UnixAddr) -> Result<(), Errno> {
    nix::sys::socket::bind(socket.as_raw_fd(), address).map_err(errno)
}

fn connect_to(call: &Call<'_>, old: &Old, new: OwnedFd, target: &UnixAddr) -> Outcome {
    let begun = std::time::Instant::now();
    loop {
        match nix::sys::socket::connect(new.as_raw_fd(), target) {
            Err(nix::errno::Errno::EAGAIN) if !old.nonblocking && begun.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE);
                call.check_waiting()?;
            }
            Err(error) => return Err(errno(error)),
            Ok(()) => return old.put(call, &new),
        }
    }
}

fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}

/// A name of a local socket.
enum Address {
    Unnamed,
    Abstract(Vec<u8>),
    Path(Vec<u8>),
}

impl Address {
    /// Reads the second argument, with the third as its length; `None` for another family.
    fn read(call: &Call<'_>) -> Result<Option<Self>, Errno> {
        let mut bytes = [0; 2 + PATH_SIZE];
        let length = usize::try_from(call.int(2)).map_err(|_| Errno::INVAL)?;
        if length < 2 {
            // The kernel says what is wrong with it.
            return Ok(None);
        }
        let known = length.min(bytes.len());
        call.task.read(call.arguments[1], &mut bytes[..known])?;
        if i32::from(u16::from_ne_bytes([bytes[0], bytes[1]])) != libc::AF_UNIX {
            return Ok(None);
        }
        if length > bytes.len() {
            return Err(Errno::INVAL);
        }
        let name = &bytes[2..length];
        Ok(Some(match name.first() {
            None => Self::Unnamed,
            Some(0) => Self::Abstract(name[1..].to_vec()),
            Some(_) => Self::Path(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()),
        }))
    }
}

/// A socket of the caller.
struct Old {
    number: i32,
    kind: SockType,
    nonblocking: bool,
    close_on_exec: bool,
}

impl Old {
    /// The socket that the first argument is: one of the local family.
    fn of(call: &Call<'_>) -> Result<Self, Errno> {
        let number = call.int(0);
        if number < 0 {
            return Err(Errno::BADF);
        }
        let thread = call.task.thread();
        let link = match rustix::fs::readlinkat(call.task.proc(), format!("{thread}/fd/{number}"), Vec::new())
        {
            Err(Errno::NOENT) => return Err(Errno::BADF),
            other => other?,
        };
        let link = link.to_str().map_err(|_| Errno::NOTSOCK)?;
        let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        let inode = inode.ok_or(Errno::NOTSOCK)?;
        let table = text(call, &format!("{thread}/net/unix"))?;
        let kind = table.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            (fields.get(6) == Some(&inode)).then(|| fields[4].to_owned())
        });
        let kind = match kind.as_deref() {
            Some("0001") => SockType::Stream,
            Some("0005") => SockType::SeqPacket,
            Some(_) => return Err(Errno::ACCESS),
            None => return Err(Errno::AFNOSUPPORT),
        };
        let about = text(call, &format!("{thread}/fdinfo/{number}"))?;
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok()).ok_or(Errno::BADF)?;
        call.check_waiting()?;
        let is = |flag| flags & flag != 0;
        Ok(Self { number, kind, nonblocking: is(libc::O_NONBLOCK), close_on_exec: is(libc::O_CLOEXEC) })
    }

    /// A new socket of its kind, which does not block.
    fn replacement(&self) -> Result<OwnedFd, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        nix::sys::socket::socket(AddressFamily::Unix, self.kind, flags, None).map_err(errno)
    }

    /// Puts a socket in its place.
    fn put(&self, call: &Call<'_>, new: &OwnedFd) -> Outcome {
        if !self.nonblocking {
            let flags = rustix::fs::fcntl_getfl(new)?;
            rustix::fs::fcntl_setfl(new, flags - OFlags::NONBLOCK)?;
        }
        call.task.replace_descriptor(self.number, new.as_fd(), self.close_on_exec)?;
        Ok(Answer::DONE)
    }
}

fn text(call: &Call<'_>, path: &str) -> Result<String, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(call.task.proc(), path, flags, Mode::empty())?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes).map_err(|_| Errno::IO)?;
    // Names of sockets are any bytes.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
