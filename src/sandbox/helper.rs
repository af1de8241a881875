//! The helper process of one command, forked by the launcher.
//!
//! It has one thread. It makes process 1 of the command in new namespaces, maps its ids, waits
//! for its end, and removes the mount points that had to be made from the upper directory.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::enter::Ended;
use super::idmap::write_map;
use super::init;
use super::mapping::{self, IdRange};
use super::root::remove_stubs;
use super::spec::{Network, RunSpec};
use super::sys::{self, namespaces};
use super::wire::{Failure, Message, Step};

/// Exit code of a helper that nobody is there to listen to.
const UNHEARD: i32 = 125;

/// Does the helper's work in a process that was just forked for it, and gives the exit code to end
/// with.
pub(super) fn main(socket: &UnixStream, null: &fs::File, stdout: &OwnedFd, stderr: &OwnedFd) -> i32 {
    if help(socket, null, stdout, stderr).is_ok() { 0 } else { UNHEARD }
}

fn help(socket: &UnixStream, null: &fs::File, stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
    nix::unistd::dup2_stdout(stdout)?;
    nix::unistd::dup2_stderr(stderr)?;
    let Message::Spec(spec) = Message::receive(socket)? else {
        return Err(io::Error::other("not a step description"));
    };
    let result = RunSpec::decode(spec.bytes())
        .map_err(io::Error::other)
        .step("reading the step description")
        .and_then(|spec| run(&spec, socket, null));
    match result {
        Ok(message) => message.send(socket),
        Err(failure) => {
            Message::Failed(failure).send(socket)?;
            let ended = Ended::Exited(UNHEARD);
            Message::Ended { ended, stubs_left: Vec::new(), journal: Vec::new() }.send(socket)
        }
    }
}

fn run(spec: &RunSpec, socket: &UnixStream, null: &fs::File) -> Result<Message, Failure> {
    let read = |file| fs::read_to_string(file).step(file);
    let own = |text: String| mapping::nested(&mapping::parse_map(&text));
    let maps = [("uid_map", own(read("/proc/self/uid_map")?)), ("gid_map", own(read("/proc/self/gid_map")?))];
    let (ours, theirs) = UnixStream::pair().step("socketpair")?;
    let mut kinds =
        namespaces::USER | namespaces::MOUNT | namespaces::PID | namespaces::IPC | namespaces::UTS;
    if spec.network == Network::None {
        kinds |= namespaces::NETWORK;
    }
    let Some(child) = sys::clone_process(kinds).step("clone")? else {
        drop(ours);
        sys::exit_now(init::main(spec, socket, &theirs));
    };
    drop(theirs);
    if let Err(failure) = release(socket, &ours, null, child, &maps) {
        // Without its other end process 1 ends by itself.
        drop(ours);
        waitpid(child, None).step("waiting for process 1")?;
        return Err(failure);
    }
    finish(spec, &ours, child).step("waiting for process 1")
}

/// Maps the ids of process 1, and has it go on once the coordinator can kill it.
fn release(
    socket: &UnixStream,
    ours: &UnixStream,
    null: &fs::File,
    child: Pid,
    maps: &[(&str, Vec<IdRange>)],
) -> Result<(), Failure> {
    // The command's output ends when the command does, not when this process does.
    nix::unistd::dup2_stdout(null).step("dup2")?;
    nix::unistd::dup2_stderr(null).step("dup2")?;
    Message::Started(child.as_raw()).send(socket).step("answering")?;
    let Message::Started(pid) = Message::receive(ours).step("starting process 1")? else {
        return Err(io::Error::other("unexpected message")).step("starting process 1");
    };
    for (file, ranges) in maps {
        write_map(pid, file, ranges).step(file)?;
    }
    Message::receive(socket).step("waiting for the coordinator")?;
    Message::Go.send(ours).step("starting process 1")
}

/// Waits for process 1 and cleans up after it.
fn finish(spec: &RunSpec, ours: &UnixStream, child: Pid) -> io::Result<Message> {
    let mut stubs = Vec::new();
    let mut reported = None;
    let mut journal = Vec::new();
    // Process 1 closes its end by ending, after its report or because it was killed.
    while let Ok(message) = Message::receive(ours) {
        match message {
            Message::Stubs(made) => stubs = made,
            Message::Ended { ended, journal: found, .. } => {
                reported = Some(ended);
                journal = found;
            }
            _ => return Err(io::Error::other("unexpected message")),
        }
    }
    let ended = match waitpid(child, None)? {
        WaitStatus::Signaled(_, signal, _) => Ended::Signaled(signal as i32),
        WaitStatus::Exited(_, code) => reported.unwrap_or(Ended::Exited(code)),
        _ => return Err(io::Error::other("process 1 stopped")),
    };
    let stubs_left = remove_stubs(spec.root.changed(), &stubs);
    Ok(Message::Ended { ended, stubs_left, journal })
}
