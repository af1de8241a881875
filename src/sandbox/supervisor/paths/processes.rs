//! The processes of a command, among all that are listed.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::OwnedFd;
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
    proc: OwnedFd,
    executables: Mutex<Executables>,
}

/// Programs, as paths in the root.
#[derive(Debug, Default)]
struct Executables {
    /// By process, with what the kernel executes, by which another process of the same number is told.
    of_processes: HashMap<pid_t, (Vec<u8>, Vec<u8>)>,
    /// By what the kernel executes: a copy of a process executes the same.
    of_programs: HashMap<Vec<u8>, Vec<u8>>,
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
    /// `tracer` is the thread that traces the command, `proc` where its processes are listed.
    pub(in crate::sandbox) fn new(tracer: pid_t, proc: OwnedFd) -> Self {
        Self { tracer, proc, executables: Mutex::default() }
    }

    /// The list of processes.
    pub(super) fn list(&self) -> &OwnedFd {
        &self.proc
    }

    /// Notes what a process executes from now on: a path in the root.
    pub(in crate::sandbox) fn executed(&self, process: pid_t, path: &[u8]) {
        let Ok(kernels) = self.kernels(process) else { return };
        let mut table = self.table();
        table.of_programs.insert(kernels.clone(), path.to_vec());
        table.of_processes.insert(process, (kernels, path.to_vec()));
    }

    /// What a process executes, as a path in the root.
    pub(super) fn executable(&self, process: pid_t) -> Option<Vec<u8>> {
        let kernels = self.kernels(process).ok()?;
        let table = self.table();
        match table.of_processes.get(&process) {
            Some((known, path)) if *known == kernels => Some(path.clone()),
            _ => table.of_programs.get(&kernels).cloned(),
        }
    }

    /// What the kernel says that a process executes.
    fn kernels(&self, process: pid_t) -> Result<Vec<u8>, Errno> {
        let path = rustix::fs::readlinkat(&self.proc, format!("{process}/exe"), Vec::with_capacity(256))?;
        Ok(path.into_bytes())
    }

    fn table(&self) -> MutexGuard<'_, Executables> {
        self.executables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the command sees what is at `rest` below /proc.
    pub(super) fn shows(&self, task: &Task<'_>, rest: &[u8]) -> bool {
        let mut names = rest.split(|byte| *byte == b'/');
        let Some(process) = names.next().and_then(number) else { return true };
        self.is_ours(task, process)
    }

    /// Whether a process belongs to the command.
    fn is_ours(&self, task: &Task<'_>, process: pid_t) -> bool {
        process == task.thread() || self.tracer_of(process) == Some(self.tracer)
    }

    fn tracer_of(&self, process: pid_t) -> Option<pid_t> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.proc, format!("{process}/status"), flags, Mode::empty()).ok()?;
        let mut bytes = Vec::with_capacity(2048);
        std::fs::File::from(file).read_to_end(&mut bytes).ok()?;
        // The name of a program is any bytes, but has no line of its own.
        let text = String::from_utf8_lossy(&bytes);
        text.lines().find_map(|line| line.strip_prefix("TracerPid:"))?.trim().parse().ok()
    }
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
