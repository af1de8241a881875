//! Executing a tiny program to see whether this machine can run its kind.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::isolation::Isolation;
#[cfg(target_arch = "x86_64")]
use super::mounts::new_file_system;
use super::spec::Interpreter;
#[cfg(target_arch = "x86_64")]
use super::supervisor;
use super::sys;

/// What became of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It ran and ended with this exit code.
    Exited(i32),
    /// It ran and died of this signal; 9 also when it did not end in time.
    Signaled(i32),
    /// It could not be executed, for this error number.
    Errno(i32),
}

/// Executes the program `elf` below `directory` by an interpreter that its call to execute is turned into,
/// as commands with [`RunSpec::interpreters`](super::RunSpec::interpreters) do.
///
/// Call it in the build's own process, while it has one thread and no child.
///
/// # Errors
///
/// Fails where nothing can be traced, and on processors other than x86-64.
pub fn execute_intercepted(
    directory: &Path,
    elf: &[u8],
    interpreter: &Interpreter,
    isolation: Isolation,
) -> io::Result<ProbeOutcome> {
    #[cfg(target_arch = "x86_64")]
    {
        let proc = if isolation.has_namespaces() {
            new_file_system("proc", &[], rustix::mount::MountAttrFlags::empty())?
        } else {
            let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
            rustix::fs::open("/proc", flags, rustix::fs::Mode::empty())?
        };
        supervisor::intercepted(directory, elf, interpreter, proc)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (directory, elf, interpreter, isolation);
        Err(io::Error::new(io::ErrorKind::Unsupported, "only known on x86-64"))
    }
}

/// Milliseconds that a program of a few instructions may take under an emulator on a busy machine.
const PATIENCE: u16 = 10_000;

/// Executes the program `elf` in an otherwise empty root below `directory`, or outside of a root
/// where chroot is not permitted.
///
/// Call it while the process has one thread, and on the file system that holds the roots: what
/// the outcome says holds for that one.
///
/// # Errors
///
/// Fails when the program cannot be written or no process be started.
pub fn execute_probe(directory: &Path, elf: &[u8]) -> io::Result<ProbeOutcome> {
    let root = tempfile::TempDir::new_in(directory)?;
    let file = root.path().join("check");
    fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&file)?.write_all(elf)?;
    let outside = CString::new(file.as_os_str().as_bytes())?;
    let (mut errors, mut report) = io::pipe()?;
    let Some(child) = sys::clone_process(0)? else {
        let inside = rustix::process::chroot(root.path()).and_then(|()| rustix::process::chdir("/")).is_ok();
        let program = if inside { c"/check" } else { &outside };
        let Err(errno) = nix::unistd::execve::<_, &std::ffi::CStr>(program, &[c"check"], &[]);
        // Without the report the parent sees the exit code, which no probe has.
        let _ = report.write_all(&(errno as i32).to_le_bytes());
        sys::exit_now(127);
    };
    drop(report);
    let handle = Pid::from_raw(child.as_raw())
        .ok_or_else(|| io::Error::other("no process id"))
        .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
    if let Ok(handle) = &handle {
        let mut waited = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut waited, PollTimeout::from(PATIENCE)), Ok(1)) {
            pidfd_send_signal(handle, Signal::KILL)?;
        }
    }
    let ended = waitpid(child, None)?;
    let mut errno = [0; 4];
    if errors.read_exact(&mut errno).is_ok() {
        return Ok(ProbeOutcome::Errno(i32::from_le_bytes(errno)));
    }
    match ended {
        WaitStatus::Exited(_, code) => Ok(ProbeOutcome::Exited(code)),
        WaitStatus::Signaled(_, signal, _) => Ok(ProbeOutcome::Signaled(signal as i32)),
        _ => Err(io::Error::other("the program neither exited nor died")),
    }
}
