//! Which process has which credentials.
//!
//! A set of credentials has a number, and the kernel hands that on for us over fork and exec: it is in a
//! limit on processor time that no ordinary process reaches, as its distance from what the limit was at
//! first. Numbers only grow, so limits only fall, which needs no privilege. Threads of a process share a
//! set: a C library changes all of them together.
//!
//! Source: getrlimit(2) (`RLIMIT_RTTIME`), prlimit(2).

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;
use rustix::io::Errno;

use super::super::sys::memory;
use super::credentials::{Change, Credentials};

/// Where there is no limit at first: microseconds that nothing lasts.
const FAR: u64 = 1 << 62;

/// The lowest limit from which there are enough numbers to count down, in microseconds.
const LEAST: u64 = 1_000_000;

/// The sets that there have been.
#[derive(Debug)]
pub(super) struct CredentialSets {
    /// The limit as it was, soft and hard.
    first: (u64, u64),
    sets: Mutex<Sets>,
}

#[derive(Debug)]
struct Sets {
    all: Vec<Arc<Credentials>>,
    /// The latest number of a set.
    latest: HashMap<Arc<Credentials>, u64>,
}

impl CredentialSets {
    /// All processes have the `initial` credentials as long as their limit is that of `process` now.
    pub(super) fn new(initial: Credentials, process: i32) -> io::Result<Self> {
        let first = memory::realtime_limit(process)?;
        if first.1 < LEAST {
            return Err(io::Error::other(
                "the limit `rttime` is below one second: where ids are simulated, it is needed to tell users \
                 apart; --ulimit with a higher one would help",
            ));
        }
        let initial = Arc::new(initial);
        let latest = HashMap::from([(Arc::clone(&initial), 0)]);
        Ok(Self { first, sets: Mutex::new(Sets { all: vec![initial], latest }) })
    }

    /// The limit as a command is to see it, soft and hard.
    pub(super) fn shown_limit(&self) -> (u64, u64) {
        self.first
    }

    /// The limit from which numbers are counted down.
    fn base(&self) -> u64 {
        if self.first.1 == libc::RLIM_INFINITY { FAR } else { self.first.1 }
    }

    /// The credentials of a thread.
    pub(super) fn of(&self, thread: i32) -> Result<Arc<Credentials>, Errno> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        self.current(&sets, thread).map(|(_, found)| found)
    }

    fn current(&self, sets: &Sets, thread: i32) -> Result<(u64, Arc<Credentials>), Errno> {
        let (_, hard) = memory::realtime_limit(thread).map_err(errno)?;
        let number = self.base().saturating_sub(hard);
        let index = usize::try_from(number).map_err(|_| Errno::SRCH)?;
        let found = sets.all.get(index).ok_or(Errno::SRCH)?;
        Ok((number, Arc::clone(found)))
    }

    /// Changes the credentials of a thread's process. Gives those that it had before.
    pub(super) fn change(&self, thread: i32, change: &Change) -> Result<Arc<Credentials>, Errno> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, before) = self.current(&sets, thread)?;
        let after = before.after(change)?;
        if after != *before {
            let number = sets.number(after, number);
            memory::set_realtime_limit(thread, self.base().saturating_sub(number)).map_err(errno)?;
        }
        Ok(before)
    }

    /// A thread is about to execute a program with this owner and mode, or has just done so.
    pub(super) fn on_exec(&self, thread: i32, uid: u32, gid: u32, mode: u32) -> Result<(), Errno> {
        self.change(thread, &Change::Execute(uid, gid, mode)).map(drop)
    }
}

impl Sets {
    /// The number of a set, no smaller than `least`.
    fn number(&mut self, wanted: Credentials, least: u64) -> u64 {
        if let Some(number) = self.latest.get(&wanted).filter(|number| **number >= least) {
            return *number;
        }
        let wanted = Arc::new(wanted);
        let number = self.all.len() as u64;
        self.all.push(Arc::clone(&wanted));
        self.latest.insert(wanted, number);
        number
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Identity;

    fn root() -> Credentials {
        Credentials::of(&Identity { uid: 0, gid: 0, groups: Vec::new(), home: "/".into() })
    }

    #[test]
    fn numbers_grow_when_credentials_change_back() {
        let first = Arc::new(root());
        let mut sets = Sets { all: vec![Arc::clone(&first)], latest: HashMap::from([(first, 0)]) };
        let app = root().after(&Change::User(5)).unwrap();
        assert_eq!(sets.number(app.clone(), 0), 1);
        // Another process that is at the start takes the same number.
        assert_eq!(sets.number(app.clone(), 0), 1);
        assert_eq!(sets.number(root(), 1), 2);
        assert_eq!(sets.number(app.clone(), 2), 3);
        assert_eq!(sets.number(app, 0), 3);
        assert_eq!(sets.number(root(), 0), 2);
    }

    /// A child's limit is its own, and it inherits what it had when it was forked.
    #[test]
    fn a_process_hands_its_credentials_on() {
        let sets = CredentialSets::new(root(), std::process::id() as i32).unwrap();
        // The shell waits, so that its child is forked after the change.
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "read x; sleep 60 & echo $!; read x; kill $!"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = shell.id() as i32;
        assert_eq!(*sets.of(pid).unwrap(), root());
        let app = sets.change(pid, &Change::User(5)).and_then(|_| sets.of(pid)).unwrap();
        assert_eq!((app.file_user(), app.is_root()), (5, false));
        assert_eq!(sets.change(pid, &Change::User(6)), Err(Errno::PERM));
        let mut input = shell.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"\n").unwrap();
        let mut line = String::new();
        let mut output = io::BufReader::new(shell.stdout.take().unwrap());
        io::BufRead::read_line(&mut output, &mut line).unwrap();
        let child = line.trim().parse().unwrap();
        assert_eq!(sets.of(child).unwrap(), app);
        sets.on_exec(child, 0, 0, 0o4755).unwrap();
        assert!(sets.of(child).unwrap().is_root());
        assert!(!sets.of(pid).unwrap().is_root());
        drop(input);
        shell.wait().unwrap();
    }
}
