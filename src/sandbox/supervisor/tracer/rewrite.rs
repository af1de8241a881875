//! What a call to execute a file becomes.
//!
//! Sources: execve(2), execveat(2).

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::task::Task;
use super::super::view::{Located, View};
use super::program::{HEAD, Program};

/// As many scripts may stand before a program.
const SCRIPTS: usize = 5;

/// A call to execute a file.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The directory that a relative path starts from.
    pub(super) directory: i32,
    /// The path; empty with `AT_EMPTY_PATH`, which means the descriptor itself.
    pub(super) path: &'a [u8],
    /// Whether a link at its end is followed.
    pub(super) follow: bool,
}

/// One argument of the new call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Argument {
    /// A new one.
    New(Vec<u8>),
    /// The first of the call's own.
    First,
}

/// The call that is made instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replacement {
    /// Path of the program, as the kernel finds it for the task.
    pub(super) path: Vec<u8>,
    /// What stands in place of the first argument.
    pub(super) front: Vec<Argument>,
    /// The program's path in the root of the command.
    pub(super) inside: Vec<u8>,
}

/// An interpreter of foreign programs, where commands find it.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Seen {
    /// The processor, as ELF files name it.
    pub(in crate::sandbox) machine: u16,
    /// A path by which the task's calls reach it.
    pub(in crate::sandbox) path: Vec<u8>,
}

/// Finds the file by which the kernel can execute a native program of a root that is not the task's.
pub(in crate::sandbox) trait Loader: Send + Sync {
    /// Gives the path for the program, which is open as `program`.
    fn native(&self, task: &Task<'_>, program: &Located, content: &File) -> Result<Vec<u8>, Errno>;
}

/// How calls are rewritten.
pub(super) struct Rules<'a> {
    pub(super) interpreters: &'a [Seen],
    pub(super) view: &'a dyn View,
    /// Where the root is not the task's.
    pub(super) loader: Option<&'a dyn Loader>,
}

impl Rules<'_> {
    /// What becomes of a call; `None` when it can stay as it is.
    ///
    /// # Errors
    ///
    /// Gives what the call is to fail with, where the kernel must not be asked.
    pub(super) fn replacement(
        &self,
        task: &Task<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Replacement>, Errno> {
        match self.find(task, wanted) {
            // The kernel finds the same, and says so.
            Err(_) if self.loader.is_none() => Ok(None),
            result => result,
        }
    }

    fn find(&self, task: &Task<'_>, wanted: &Wanted<'_>) -> Result<Option<Replacement>, Errno> {
        let mut located = self.view.locate(task, wanted.directory, wanted.path, wanted.follow)?;
        let mut text = match (wanted.path, wanted.directory) {
            (path, libc::AT_FDCWD) => path.to_vec(),
            (path, _) if path.starts_with(b"/") => path.to_vec(),
            _ => located.inside.clone(),
        };
        let mut front = Vec::new();
        let inside = located.inside.clone();
        for _ in 0..=SCRIPTS {
            let mut file = open(task, &located.file)?;
            let mut head = Vec::with_capacity(HEAD);
            (&mut file).take(HEAD as u64).read_to_end(&mut head).map_err(|_| Errno::IO)?;
            match Program::of(&head) {
                Program::Script { interpreter, argument } => {
                    if front.is_empty() {
                        front.push(Argument::New(text));
                    }
                    front.splice(0..0, [interpreter.clone()].into_iter().chain(argument).map(Argument::New));
                    located = self.view.locate(task, libc::AT_FDCWD, &interpreter, true)?;
                    text = interpreter;
                }
                Program::Elf(machine) => {
                    if let Some(interpreter) = self.interpreters.iter().find(|seen| seen.machine == machine) {
                        return Ok(Some(emulated(interpreter, text, front, inside)));
                    }
                    let Some(loader) = self.loader else { return Ok(None) };
                    let path = loader.native(task, &located, &file)?;
                    let front = if front.is_empty() { vec![Argument::First] } else { front };
                    return Ok(Some(Replacement { path, front, inside: located.inside }));
                }
                Program::Unknown if self.loader.is_some() => return Err(Errno::NOEXEC),
                Program::Unknown => return Ok(None),
            }
        }
        Err(Errno::LOOP)
    }
}

/// `INTERPRETER -0 ARGV0 PROGRAM ARGUMENTS...`
fn emulated(interpreter: &Seen, program: Vec<u8>, front: Vec<Argument>, inside: Vec<u8>) -> Replacement {
    let mut arguments = front.into_iter();
    let first = arguments.next().unwrap_or(Argument::First);
    let new = [
        Argument::New(interpreter.path.clone()),
        Argument::New(b"-0".to_vec()),
        first,
        Argument::New(program),
    ];
    let front = new.into_iter().chain(arguments).collect();
    Replacement { path: interpreter.path.clone(), front, inside }
}

/// Opens a regular file that may be executed, for reading.
fn open(task: &Task<'_>, file: &OwnedFd) -> Result<File, Errno> {
    let found = rustix::fs::fstat(file)?;
    if !FileType::from_raw_mode(found.st_mode).is_file() || found.st_mode & 0o111 == 0 {
        return Err(Errno::ACCESS);
    }
    let path = format!("self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::openat(task.proc(), path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(text: &str) -> Argument {
        Argument::New(text.as_bytes().to_vec())
    }

    #[test]
    fn emulated_programs_keep_their_first_argument() {
        let qemu = Seen { machine: 183, path: b"/q".to_vec() };
        let plain = emulated(&qemu, b"/bin/sh".to_vec(), Vec::new(), b"/bin/busybox".to_vec());
        assert_eq!(plain.front, [new("/q"), new("-0"), Argument::First, new("/bin/sh")]);
        let front = vec![new("/bin/sh"), new("-e"), new("./script")];
        let script = emulated(&qemu, b"/bin/sh".to_vec(), front, Vec::new());
        assert_eq!(
            script.front,
            [new("/q"), new("-0"), new("/bin/sh"), new("/bin/sh"), new("-e"), new("./script")]
        );
        assert_eq!(script.path, b"/q");
    }
}
