//! The process whose call is being answered.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::libc;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::sys::{memory, notify};

/// Bytes of a page, the unit in which memory is mapped.
const PAGE: u64 = 4096;
/// The kernel's bound on a path with its final NUL.
const PATH_LIMIT: usize = libc::PATH_MAX as usize;

/// A thread that waits for the answer to a call.
#[derive(Debug)]
pub(super) struct Task<'a> {
    /// /proc, as the supervisor sees the processes.
    proc: &'a OwnedFd,
    listener: Option<(BorrowedFd<'a>, u64)>,
    thread: i32,
    memory: OnceCell<File>,
}

impl<'a> Task<'a> {
    /// A thread whose call has arrived at `listener` under the name `id`.
    pub(super) fn new(proc: &'a OwnedFd, listener: BorrowedFd<'a>, id: u64, thread: i32) -> Self {
        Self { proc, listener: Some((listener, id)), thread, memory: OnceCell::new() }
    }

    /// A thread that a tracer has stopped.
    pub(super) fn stopped(proc: &'a OwnedFd, thread: i32) -> Self {
        Self { proc, listener: None, thread, memory: OnceCell::new() }
    }

    /// Its number.
    pub(super) fn thread(&self) -> i32 {
        self.thread
    }

    /// The /proc in which the thread has an entry.
    pub(super) fn proc(&self) -> &'a OwnedFd {
        self.proc
    }

    /// Whether it still waits: what was read of it was its own only if so.
    pub(super) fn is_waiting(&self) -> bool {
        self.listener.is_none_or(|(listener, id)| notify::is_waiting(listener, id))
    }

    /// Fills `into` from its memory.
    pub(super) fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        let found = match memory::read(self.thread, address, into) {
            Err(error) if is_refused(&error) => Ok(self.memory()?.read_at(into, address).unwrap_or(0)),
            other => other,
        };
        match found {
            Ok(count) if count == into.len() => Ok(()),
            Ok(_) => Err(Errno::FAULT),
            Err(error) => Err(errno(&error)),
        }
    }

    /// Writes to its memory.
    pub(super) fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        match memory::write(self.thread, address, from) {
            Err(error) if is_refused(&error) => {
                self.memory()?.write_all_at(from, address).map_err(|_| Errno::FAULT)
            }
            other => other.map_err(|error| errno(&error)),
        }
    }

    /// Its memory as a file: the way where a filter of calls, as containers have them, refuses the other one.
    fn memory(&self) -> Result<&File, Errno> {
        if let Some(file) = self.memory.get() {
            return Ok(file);
        }
        let path = format!("{}/mem", self.thread);
        let file = self.open_entry(&path, OFlags::RDWR)?;
        Ok(self.memory.get_or_init(|| file.into()))
    }

    /// Reads a string that ends with NUL, without it.
    pub(super) fn string(&self, address: u64, limit: usize) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        let mut piece = [0; 256];
        while text.len() < limit {
            let at = address + text.len() as u64;
            // Never across the end of a page: the next one may not be mapped.
            let room = (PAGE - at % PAGE) as usize;
            let length = room.min(piece.len());
            self.read(at, &mut piece[..length])?;
            if let Some(end) = piece[..length].iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return if text.len() < limit { Ok(text) } else { Err(Errno::NAMETOOLONG) };
            }
            text.extend_from_slice(&piece[..length]);
        }
        Err(Errno::NAMETOOLONG)
    }

    /// Reads a path.
    pub(super) fn path(&self, address: u64) -> Result<Vec<u8>, Errno> {
        self.string(address, PATH_LIMIT)
    }

    /// Its root directory.
    pub(super) fn root(&self) -> Result<OwnedFd, Errno> {
        self.open("root", OFlags::DIRECTORY)
    }

    /// Its working directory.
    pub(super) fn cwd(&self) -> Result<OwnedFd, Errno> {
        self.open("cwd", OFlags::DIRECTORY)
    }

    /// What one of its descriptors is open on, as a path descriptor. `EBADF` where there is none.
    pub(super) fn descriptor(&self, number: i32) -> Result<OwnedFd, Errno> {
        if number < 0 {
            return Err(Errno::BADF);
        }
        self.open(&format!("fd/{number}"), OFlags::empty()).map_err(|error| match error {
            Errno::NOENT => Errno::BADF,
            other => other,
        })
    }

    /// The directory that relative paths start from: `AT_FDCWD` or a descriptor.
    pub(super) fn directory(&self, number: i32) -> Result<OwnedFd, Errno> {
        if number == libc::AT_FDCWD { self.cwd() } else { self.descriptor(number) }
    }

    /// Puts a file in the place of one that it has open.
    pub(super) fn replace_descriptor(
        &self,
        number: i32,
        file: BorrowedFd<'_>,
        close_on_exec: bool,
    ) -> Result<(), Errno> {
        // Only a call that waits for its answer can be given one.
        let (listener, id) = self.listener.ok_or(Errno::SRCH)?;
        notify::replace_descriptor(listener, id, file, number, close_on_exec).map_err(|error| errno(&error))
    }

    fn open(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = format!("{}/{name}", self.thread);
        self.open_entry(&path, OFlags::PATH | flags)
    }

    /// Opens a file of /proc; without the capability SYS_PTRACE as the task's own user, whom the kernel
    /// shows a process that is open to others.
    fn open_entry(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let open = || rustix::fs::openat(self.proc, path, flags | OFlags::CLOEXEC, Mode::empty());
        match open() {
            Err(refused @ (Errno::ACCESS | Errno::PERM)) => {
                let id = |field| {
                    let text = self.status(field).ok()?;
                    text.split_ascii_whitespace().next()?.parse::<u32>().ok()
                };
                let (Some(uid), Some(gid)) = (id("Uid"), id("Gid")) else { return Err(refused) };
                // The ids of this thread alone, for looking at files.
                let old_gid = nix::unistd::setfsgid(gid.into());
                let old_uid = nix::unistd::setfsuid(uid.into());
                let opened = open();
                nix::unistd::setfsuid(old_uid);
                nix::unistd::setfsgid(old_gid);
                opened
            }
            other => other,
        }
    }

    /// Reads a file of its entry in /proc. Bytes that are no text, such as in a program's name, are replaced.
    pub(super) fn file(&self, name: &str) -> Result<String, Errno> {
        let path = format!("{}/{name}", self.thread);
        let file = rustix::fs::openat(self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).map_err(|error| errno(&error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A field of its `status` file, such as `Umask` or `Tgid`, without the name.
    pub(super) fn status(&self, field: &str) -> Result<String, Errno> {
        let text = self.file("status")?;
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(|value| value.trim().to_owned()).ok_or(Errno::SRCH)
    }

    /// Whether a signal has to be dealt with before anything else, or the thread has ended. A tracer's presence
    /// keeps signals from interrupting a call that waits for its answer.
    pub(super) fn is_interrupted(&self) -> bool {
        self.file("status").map_or(true, |status| is_interrupted(&status))
    }

    /// The process that the thread belongs to.
    pub(super) fn process(&self) -> Result<i32, Errno> {
        self.status("Tgid")?.parse().map_err(|_| Errno::SRCH)
    }

    /// Its mask for the modes of new files.
    pub(super) fn umask(&self) -> Result<u32, Errno> {
        u32::from_str_radix(&self.status("Umask")?, 8).map_err(|_| Errno::SRCH)
    }
}

/// Signals that do nothing to a process that has no handler for them: SIGCHLD, SIGCONT, SIGURG, SIGWINCH.
const HARMLESS: u64 =
    1 << (libc::SIGCHLD - 1) | 1 << (libc::SIGCONT - 1) | 1 << (libc::SIGURG - 1) | 1 << (libc::SIGWINCH - 1);

/// [`Task::is_interrupted`], of a `status` file.
fn is_interrupted(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let set = |name| field(name).and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    let ended = field("State:").is_some_and(|state| state.trim_start().starts_with(['Z', 'X']));
    let pending = (set("SigPnd:") | set("ShdPnd:")) & !set("SigBlk:") & !set("SigIgn:");
    ended || pending & (set("SigCgt:") | !HARMLESS) != 0
}

/// Whether a call was refused as such.
fn is_refused(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::PERM | Errno::NOSYS))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_interrupt_unless_nothing_comes_of_them() {
        let status = |state, pending: u64, blocked: u64, caught: u64| {
            format!(
                "State:\t{state}\nSigPnd:\t0\nShdPnd:\t{pending:x}\nSigBlk:\t{blocked:x}\nSigIgn:\t0\nSigCgt:\t{caught:x}\n"
            )
        };
        let (term, child) = (1 << (libc::SIGTERM - 1), 1 << (libc::SIGCHLD - 1));
        for (text, wanted) in [
            (status("S (sleeping)", 0, 0, child), false),
            (status("S (sleeping)", term, 0, 0), true),
            (status("S (sleeping)", term, term, 0), false),
            (status("S (sleeping)", child, 0, 0), false),
            (status("S (sleeping)", child, 0, child), true),
            (status("Z (zombie)", 0, 0, 0), true),
        ] {
            assert_eq!(is_interrupted(&text), wanted, "{text}");
        }
    }
}
