//! Trying whether a program runs by an interpreter that the tracer gives it to.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustix::process::DumpableBehavior;

use super::super::super::enter::Ended;
use super::super::super::filter::{Action, Filter, Rule};
use super::super::super::probe::ProbeOutcome;
use super::super::super::spec::Interpreter;
use super::super::super::sys;
use super::super::view::OwnRoot;
use super::{EXECUTING, Plan, Seen, seize, trace};

/// Seconds that a program of a few instructions may take under an emulator on a busy machine.
const PATIENCE: u32 = 10;

/// Executes the program `elf`, written below `directory`, by its interpreter. `proc` shows the processes of
/// this process's namespace.
///
/// Call it while the process has one thread and no child that may end meanwhile.
pub(in crate::sandbox) fn intercepted(
    directory: &Path,
    elf: &[u8],
    interpreter: &Interpreter,
    proc: OwnedFd,
) -> io::Result<ProbeOutcome> {
    let place = tempfile::TempDir::new_in(directory)?;
    let file = place.path().join("check");
    fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&file)?.write_all(elf)?;
    let file = CString::new(file.as_os_str().as_bytes())?;
    let (mut ours, mut theirs) = UnixStream::pair()?;
    let Some(child) = sys::clone_process(0)? else {
        drop(ours);
        sys::exit_now(execute(&mut theirs, &file));
    };
    drop(theirs);
    let seen = Seen { machine: interpreter.machine, path: interpreter.path.as_os_str().as_bytes().to_vec() };
    let plan = Plan { interpreters: vec![seen], view: Arc::new(OwnRoot), loader: None, executed: None, proc };
    let begun =
        ours.read_exact(&mut [0]).and_then(|()| seize(child.as_raw())).and_then(|()| ours.write_all(b"g"));
    if let Err(error) = begun {
        drop(ours);
        nix::sys::wait::waitpid(child, None)?;
        return Err(error);
    }
    let ended = trace(child.as_raw(), &plan)?;
    let mut errno = [0; 4];
    Ok(match (ours.read_exact(&mut errno), ended) {
        (Ok(()), _) => ProbeOutcome::Errno(i32::from_le_bytes(errno)),
        (Err(_), Ended::Exited(code)) => ProbeOutcome::Exited(code),
        (Err(_), Ended::Signaled(signal)) => ProbeOutcome::Signaled(signal),
    })
}

/// The child: waits to be traced, and becomes the program. Gives the code to exit with where it cannot.
fn execute(socket: &mut UnixStream, file: &CString) -> i32 {
    // What it was forked from may be closed to others.
    let opened = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
    let told = opened.map_err(io::Error::from).and_then(|()| socket.write_all(b"t"));
    // The parent has gone, or could not trace.
    if told.and_then(|()| socket.read_exact(&mut [0])).is_err() {
        return 1;
    }
    let rules = EXECUTING.into_iter().map(|call| Rule { call, when: Vec::new(), action: Action::Trace });
    let filter =
        Filter { rules: rules.collect(), compat: None, otherwise: Action::Allow, other_abi: Action::Allow };
    nix::unistd::alarm::set(PATIENCE);
    let errno = match rustix::thread::set_no_new_privs(true)
        .map_err(io::Error::from)
        .and_then(|()| sys::seccomp::install(&filter.assemble()))
    {
        Ok(()) => match nix::unistd::execve::<_, &std::ffi::CStr>(file, &[c"check"], &[]) {
            Err(errno) => errno as i32,
        },
        Err(error) => error.raw_os_error().unwrap_or(0),
    };
    // Without the report the parent sees the exit code, which no probe has.
    let _ = socket.write_all(&errno.to_le_bytes());
    127
}
