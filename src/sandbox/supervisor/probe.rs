//! Trying out what supervision needs.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::fs::{Mode, OFlags, XattrFlags};

use super::super::filter::{Action, Filter, Rule};
use super::super::sys;
use super::super::sys::memory;
use super::super::sys::notify::{self, Response};
use super::start;
use super::task::Task;
use crate::image::{OWNER_RECORD, owner_record, parse_owner_record};

/// A user that the child is told to be.
const USER: u32 = 54_321;
/// A path that the child asks for, and that exists nowhere.
const FILE: &CStr = c"/.fanfold-probe/none";
/// A limit that nobody has.
const LIMIT: u64 = (1 << 62) - 1;
/// Time for three calls on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries out what supervised commands with their roots below `scratch`, which need not exist yet, need. Call
/// it while the process has one thread.
///
/// # Errors
///
/// Says what does not work.
pub(in crate::sandbox) fn probe_all(scratch: &Path) -> Result<(), String> {
    probe()?;
    let existing = scratch.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    probe_records(existing)
}

/// Supervises a child for a moment: two of its calls are answered, its memory is read, its limit is
/// lowered, and it is given a descriptor. Call it while the process has one thread.
///
/// # Errors
///
/// Says what does not work.
fn probe() -> Result<(), String> {
    let (ours, theirs) = UnixStream::pair().map_err(|error| format!("socketpair: {error}"))?;
    let Some(child) = sys::clone_process(0).map_err(|error| format!("clone: {error}"))? else {
        drop(ours);
        sys::exit_now(act(&theirs));
    };
    drop(theirs);
    let answered = answer(&ours, child.as_raw());
    drop(ours);
    if answered.is_err() {
        // It may wait for an answer that never comes.
        let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
    }
    let ended = waitpid(child, None).map_err(|error| format!("waitpid: {error}"))?;
    match (answered, ended) {
        // The child knows best why it could not join. Whatever else it meets is a consequence.
        (Err(_), WaitStatus::Exited(_, code @ 1..)) if !CONSEQUENCES.contains(&code) => Err(refusal(code)),
        (Err(error), _) => Err(error.to_string()),
        (Ok(()), WaitStatus::Exited(_, code @ 1..)) => Err(refusal(code)),
        (Ok(()), WaitStatus::Exited(_, 0)) => Ok(()),
        (Ok(()), ended) => Err(format!("a supervised process ended with {ended:?}")),
    }
}

/// Exit codes of the child that are not the number of an error.
const UNANSWERED: i32 = 254;
const NO_DESCRIPTOR: i32 = 253;
const CONSEQUENCES: [i32; 2] = [UNANSWERED, NO_DESCRIPTOR];

/// What the child does.
fn act(socket: &UnixStream) -> i32 {
    let calls = [libc::SYS_getuid, libc::SYS_open, libc::SYS_openat];
    let rules = calls.map(|call| Rule { call, when: Vec::new(), action: Action::Notify });
    let filter = Filter {
        rules: rules.to_vec(),
        compat: None,
        otherwise: Action::Allow,
        other_abi: Action::Errno(libc::ENOSYS as u16),
    };
    let joined = rustix::thread::set_no_new_privs(true)
        .map_err(io::Error::from)
        .and_then(|()| start::join(socket, &filter.assemble()));
    if let Err(error) = joined {
        return error.raw_os_error().or_else(|| inner_errno(&error)).unwrap_or(libc::EIO);
    }
    if rustix::process::getuid().as_raw() != USER {
        return UNANSWERED;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match rustix::fs::open(FILE, flags, Mode::empty()) {
        Ok(_) => 0,
        Err(_) => NO_DESCRIPTOR,
    }
}

/// The number of an error whose text was extended.
fn inner_errno(error: &io::Error) -> Option<i32> {
    error.get_ref()?.downcast_ref::<start::Refused>().map(|refused| refused.errno)
}

fn refusal(code: i32) -> String {
    match code {
        UNANSWERED => "a filter of system calls has no effect here".to_owned(),
        NO_DESCRIPTOR => "a supervisor can give no descriptor to a process: that needs Linux 5.14".to_owned(),
        errno => start::explain(io::Error::from_raw_os_error(errno)).to_string(),
    }
}

/// Answers the child.
fn answer(socket: &UnixStream, child: i32) -> io::Result<()> {
    let listener = start::listener(socket)?;
    io::Write::write_all(&mut &*socket, b"g")?;
    let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let end = Instant::now() + PATIENCE;
    let mut answered = 0;
    while answered < 2 {
        wait(&listener, end)?;
        let Some(call) = notify::receive(listener.as_fd())? else { continue };
        let task = Task::new(&proc, listener.as_fd(), call.id, call.thread);
        match call.call {
            libc::SYS_getuid => {
                memory::set_realtime_limit(child, LIMIT)
                    .map_err(|error| other("setting a limit of a supervised process", &error))?;
                notify::respond(listener.as_fd(), call.id, Response::Value(USER.into()))?;
            }
            number => {
                let at = if number == libc::SYS_open { call.arguments[0] } else { call.arguments[1] };
                let path = task.path(at).map_err(|error| other("reading a supervised process", &error))?;
                if path != FILE.to_bytes() {
                    notify::respond(listener.as_fd(), call.id, Response::Continue)?;
                    continue;
                }
                // Not one that is open as a path alone: the kernel hands on no such descriptor.
                if let Err(error) = notify::respond_with_descriptor(listener.as_fd(), call.id, socket, true) {
                    let refused = error.raw_os_error().unwrap_or(libc::EIO);
                    notify::respond(listener.as_fd(), call.id, Response::Errno(refused))?;
                }
            }
        }
        answered += 1;
    }
    Ok(())
}

fn other(what: &str, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{what}: {error}"))
}

/// Waits for a call.
fn wait(listener: &OwnedFd, end: Instant) -> io::Result<()> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut waited = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut waited, patience) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(0) => return Err(io::Error::other("no call of a supervised process arrived")),
            Ok(_) => {}
        }
        let events = waited[0].revents().unwrap_or(PollFlags::empty());
        if events.contains(PollFlags::POLLIN) {
            return Ok(());
        }
        return Err(io::Error::other("the supervised process ended too early"));
    }
}

/// Whether files below `directory` can carry the owners that they have in the image.
///
/// # Errors
///
/// Says what does not work.
fn probe_records(directory: &Path) -> Result<(), String> {
    let tried = || -> io::Result<bool> {
        let file = tempfile::NamedTempFile::new_in(directory)?;
        let record = owner_record(1, 2, 0o644);
        rustix::fs::setxattr(file.path(), OWNER_RECORD, record.as_bytes(), XattrFlags::empty())?;
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(file.path(), OWNER_RECORD, &mut value)?;
        Ok(parse_owner_record(&value[..length]) == Some((1, 2)))
    };
    let place = directory.display();
    match tried() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("an extended attribute in {place} was not kept")),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Err(format!(
            "the file system of {place} has no extended attributes of users (a tmpfs has them since Linux \
             6.6); --root on another one would help"
        )),
        Err(error) => Err(format!("writing an extended attribute in {place}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_here_carry_owners() {
        probe_records(&std::env::temp_dir()).unwrap();
    }

    #[test]
    fn refusals_are_explained() {
        assert!(refusal(libc::EBUSY).contains("another supervisor"));
        assert!(refusal(NO_DESCRIPTOR).contains("5.14"));
    }
}
