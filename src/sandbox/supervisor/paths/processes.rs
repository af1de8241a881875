//! The processes of a command, among all that are listed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc::pid_t;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::task::Task;
use super::place::Place;

/// What is known of the processes of a command.
///
/// The command is in the same process namespace as everything else of its user, so what it may see below
/// /proc is decided here: processes that the supervisor traces, which are those of the command.
#[derive(Debug)]
pub(in crate::sandbox) struct Processes {
    /// The thread that traces the command's processes.
    tracer: pid_t,
    /// What each process executes, as a path in the root.
    executables: Mutex<HashMap<pid_t, Vec<u8>>>,
}

/// What a link below /proc leads to, that is more than a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Magic {
    /// The process that looks.
    Own,
    /// The thread that looks.
    OwnThread,
    /// The root directory of a process of the command, which is the command's.
    Root,
    /// The working directory of the process with this entry.
    Cwd,
    /// What the process executes.
    Executable(pid_t),
    /// Something that it has open.
    Descriptor,
    /// Namespaces, mapped files.
    Other,
}

impl Processes {
    /// `tracer` is the thread that traces the command.
    pub(in crate::sandbox) fn new(tracer: pid_t) -> Self {
        Self { tracer, executables: Mutex::new(HashMap::new()) }
    }

    /// Notes what a process executes from now on: a path in the root.
    pub(in crate::sandbox) fn executes(&self, process: pid_t, path: Vec<u8>) {
        self.table().insert(process, path);
    }

    /// Notes that a process is a copy of another one.
    pub(in crate::sandbox) fn forked(&self, parent: pid_t, child: pid_t) {
        let mut table = self.table();
        if let Some(path) = table.get(&parent).cloned() {
            table.insert(child, path);
        }
    }

    /// Forgets a process that has gone.
    pub(in crate::sandbox) fn ended(&self, process: pid_t) {
        self.table().remove(&process);
    }

    /// What a process executes, as a path in the root.
    pub(super) fn executable(&self, process: pid_t) -> Option<Vec<u8>> {
        self.table().get(&process).cloned()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<pid_t, Vec<u8>>> {
        self.executables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the command sees what is at `rest` below /proc.
    pub(super) fn shows(&self, task: &Task<'_>, rest: &[u8]) -> bool {
        let mut names = rest.split(|byte| *byte == b'/');
        let Some(process) = names.next().and_then(number) else { return true };
        if !self.is_ours(task, process) {
            return false;
        }
        // Threads of another process have no entry here: the kernel sees to that.
        true
    }

    /// Whether a process belongs to the command.
    fn is_ours(&self, task: &Task<'_>, process: pid_t) -> bool {
        if process == task.thread() || self.table().contains_key(&process) {
            return true;
        }
        let tracer = field(task, &format!("{process}/status"), "TracerPid");
        tracer.is_some_and(|tracer| tracer == self.tracer)
    }
}

fn field(task: &Task<'_>, path: &str, name: &str) -> Option<pid_t> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(task.proc(), path, flags, Mode::empty()).ok()?;
    let text = std::io::read_to_string(std::fs::File::from(file)).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().parse().ok()
}

fn number(name: &[u8]) -> Option<pid_t> {
    std::str::from_utf8(name).ok()?.parse().ok().filter(|number| *number > 0)
}

/// What the link at `rest` below /proc leads to; `None` for one that is a text.
pub(super) fn magic(rest: &[u8]) -> Option<Magic> {
    let names: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
    let (process, below) = match names.as_slice() {
        [b"self"] => return Some(Magic::Own),
        [b"thread-self"] => return Some(Magic::OwnThread),
        [process, b"task", thread, below @ ..] if number(thread).is_some() => (number(process)?, below),
        [process, below @ ..] => (number(process)?, below),
        [] => return None,
    };
    match below {
        [b"root"] => Some(Magic::Root),
        [b"cwd"] => Some(Magic::Cwd),
        [b"exe"] => Some(Magic::Executable(process)),
        [b"fd", _] => Some(Magic::Descriptor),
        [] => None,
        _ => Some(Magic::Other),
    }
}

/// What `self` and `thread-self` say to a task.
pub(super) fn own_link(task: &Task<'_>, link: &Magic) -> Result<Vec<u8>, Errno> {
    let process = task.process()?;
    Ok(match link {
        Magic::OwnThread => format!("{process}/task/{}", task.thread()).into_bytes(),
        _ => process.to_string().into_bytes(),
    })
}

/// The path below the list of processes, of a place in it.
pub(super) fn relative<'a>(place: &'a Place, target: &Place) -> Option<&'a str> {
    std::str::from_utf8(place.below(target)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_below_proc_are_told_apart() {
        for (rest, wanted) in [
            ("self", Some(Magic::Own)),
            ("thread-self", Some(Magic::OwnThread)),
            ("12/root", Some(Magic::Root)),
            ("12/task/13/root", Some(Magic::Root)),
            ("12/cwd", Some(Magic::Cwd)),
            ("12/exe", Some(Magic::Executable(12))),
            ("12/task/13/exe", Some(Magic::Executable(12))),
            ("12/fd/3", Some(Magic::Descriptor)),
            ("12/task/13/fd/3", Some(Magic::Descriptor)),
            ("12/map_files/0-1", Some(Magic::Other)),
            ("12/ns/user", Some(Magic::Other)),
            ("12", None),
            ("mounts", None),
            ("net", None),
            ("sys/x", None),
        ] {
            assert_eq!(magic(rest.as_bytes()), wanted, "{rest}");
        }
    }
}
