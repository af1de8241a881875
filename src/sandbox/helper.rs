//! The helper process of one command, forked by the launcher.
//!
//! It has one thread. It makes process 1 of the command in new namespaces and maps its ids, all before it
//! hears of the command, hands the description on, waits for the end, and removes the mount points that had
//! to be made from the upper directory. Without namespaces it furnishes the root, ends all that the command
//! has left, and puts the root back.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::enter::Ended;
use super::filtered::OFFLINE_NOTE;
use super::furnished::{Furnished, Restored};
use super::hidden::Hidden;
use super::idmap::write_map;
use super::init;
use super::isolation::Isolation;
use super::mapping::{self, IdRange};
use super::reaper::{self, Spared};
use super::root::{Stub, remove_stubs};
use super::spec::{Network, RootPlace, RunSpec};
use super::supervisor::{self, JournalEntry};
use super::sys::{self, namespaces};
use super::unspaced::SPACES;
use super::wire::{Failure, Message, Step};

/// Exit code of a helper that nobody is there to listen to.
const UNHEARD: i32 = 125;

/// Process 1 of a command.
struct First {
    child: Pid,
    /// To speak with it.
    socket: UnixStream,
    /// Whether it has the namespaces of mounts and processes that it is to have where they can be had.
    apart: bool,
}

/// Does the helper's work in a process that was just forked for it, and gives the exit code to end
/// with. `spaces` says that commands have user namespaces.
pub(super) fn main(socket: &UnixStream, null: &fs::File, spaces: bool) -> i32 {
    if help(socket, null, spaces).is_ok() { 0 } else { UNHEARD }
}

fn help(socket: &UnixStream, null: &fs::File, spaces: bool) -> io::Result<()> {
    let first = spaces.then(|| start_ahead(socket));
    let Ok((Message::Spec(text), outputs)) = Message::receive_with(socket) else {
        // No command has come.
        if let Some(Ok(first)) = first {
            drop(first.socket);
            waitpid(first.child, None)?;
        }
        return Err(io::Error::other("not a step description"));
    };
    let result = RunSpec::decode(text.bytes())
        .map_err(io::Error::other)
        .step("reading the step description")
        .and_then(|spec| run(&spec, &text, outputs, socket, null, first));
    match result {
        Ok(message) => message.send(socket),
        Err(failure) => {
            Message::Failed(failure).send(socket)?;
            Message::ended(Ended::Exited(UNHEARD)).send(socket)
        }
    }
}

/// Makes process 1 in namespaces of its own before it is known what for.
fn start_ahead(socket: &UnixStream) -> Result<First, Failure> {
    let read = |file| fs::read_to_string(file).step(file);
    let own = |text: String| mapping::nested(&mapping::parse_map(&text));
    let maps = [("uid_map", own(read("/proc/self/uid_map")?)), ("gid_map", own(read("/proc/self/gid_map")?))];
    let (ours, theirs) = UnixStream::pair().step("socketpair")?;
    let Some(child) = sys::clone_process(namespaces::USER | SPACES).step("clone")? else {
        drop(ours);
        sys::exit_now(init::main(None, true, socket, &theirs));
    };
    drop(theirs);
    let first = First { child, socket: ours, apart: true };
    match map_ids(&first, &maps)
        .and_then(|()| Message::Started(child.as_raw()).send(socket).step("answering"))
    {
        Ok(()) => Ok(first),
        Err(failure) => {
            drop(first.socket);
            waitpid(child, None).step("waiting for process 1")?;
            Err(failure)
        }
    }
}

/// Maps the ids of process 1, once it has said under which number it is found.
fn map_ids(first: &First, maps: &[(&str, Vec<IdRange>)]) -> Result<(), Failure> {
    let Message::Started(pid) = Message::receive(&first.socket).step("starting process 1")? else {
        return Err(io::Error::other("unexpected message")).step("starting process 1");
    };
    for (file, ranges) in maps {
        write_map(pid, file, ranges).step(file)?;
    }
    Ok(())
}

fn run(
    spec: &RunSpec,
    text: &Hidden,
    outputs: Vec<OwnedFd>,
    socket: &UnixStream,
    null: &fs::File,
    first: Option<Result<First, Failure>>,
) -> Result<Message, Failure> {
    let first = match first {
        Some(first) => {
            let first = first?;
            let borrowed: Vec<_> = outputs.iter().map(AsFd::as_fd).collect();
            // Process 1 may have been killed: then it is found ended below.
            let _ = Message::Spec(text.clone()).send_with(&first.socket, &borrowed);
            // The command's output ends when the command does, not when this process does.
            drop(outputs);
            first
        }
        None => start_for(spec, outputs, socket, null)?,
    };
    let First { child, socket: ours, apart } = first;
    let mut furnished = None;
    let released = release(socket, &ours, || {
        if let (Isolation::Chroot, RootPlace::Directory { path }) = (spec.isolation, &spec.root) {
            furnished = Some(Furnished::new(spec, path)?);
        }
        Ok(())
    });
    let ended = match released {
        Ok(()) => wait(spec, socket, &ours, child).step("waiting for process 1"),
        Err(failure) => {
            // Without its other end process 1 ends by itself.
            drop(ours);
            waitpid(child, None).step("waiting for process 1")?;
            Err(failure)
        }
    };
    if !spec.isolation.has_namespaces() {
        reaper::end_descendants(&Spared::default()).step("ending the processes of the command")?;
    }
    let restored = furnished.map(Furnished::restore).transpose()?;
    let (ended, stubs, journal) = ended?;
    let Restored { mut stubs_left, untouched, mut notes } = restored.unwrap_or_default();
    if spec.network == Network::None && !apart {
        notes.push(OFFLINE_NOTE.to_owned());
    }
    stubs_left.extend(remove_stubs(spec.root.changed(), &stubs));
    Ok(Message::Ended { ended, stubs_left, untouched, notes, journal })
}

/// Makes process 1 of a command without a user namespace.
fn start_for(
    spec: &RunSpec,
    outputs: Vec<OwnedFd>,
    socket: &UnixStream,
    null: &fs::File,
) -> Result<First, Failure> {
    if spec.isolation == Isolation::Ptrace {
        supervisor::end_with_parent().step("prctl")?;
    }
    reaper::adopt(true).step("prctl")?;
    init::take_outputs(&outputs)?;
    drop(outputs);
    let (ours, theirs) = UnixStream::pair().step("socketpair")?;
    let (child, apart) = start(spec)?;
    let Some(child) = child else {
        drop(ours);
        sys::exit_now(init::main(Some(spec), apart, socket, &theirs));
    };
    // As above.
    nix::unistd::dup2_stdout(null).step("dup2")?;
    nix::unistd::dup2_stderr(null).step("dup2")?;
    let first = First { child, socket: ours, apart };
    map_ids(&first, &[])?;
    Message::Started(child.as_raw()).send(socket).step("answering")?;
    Ok(first)
}

/// Forks process 1, and says whether it has the namespaces that it is to have where they can be had: of
/// mounts and processes, and of the network where the command is to have none.
fn start(spec: &RunSpec) -> Result<(Option<Pid>, bool), Failure> {
    let network = if spec.network == Network::None { namespaces::NETWORK } else { 0 };
    if spec.isolation == Isolation::Chroot
        && let Ok(child) = sys::clone_process(SPACES | network)
    {
        return Ok((child, true));
    }
    // Its network is taken away by a filter, where that was asked for.
    Ok((sys::clone_process(0).step("fork")?, false))
}

/// Has process 1 go on once the coordinator can kill it and all else is ready.
fn release(
    socket: &UnixStream,
    ours: &UnixStream,
    ready: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    Message::receive(socket).step("waiting for the coordinator")?;
    ready()?;
    Message::Go.send(ours).step("starting process 1")
}

/// Waits for process 1. Gives how the command ended, the mount points that were made for it, and what the
/// supervisor's journal says.
fn wait(
    spec: &RunSpec,
    socket: &UnixStream,
    ours: &UnixStream,
    child: Pid,
) -> io::Result<(Ended, Vec<Stub>, Vec<JournalEntry>)> {
    let mut stubs = Vec::new();
    let mut reported = None;
    let mut journal = Vec::new();
    let mut watched = !spec.isolation.has_namespaces();
    loop {
        if watched && !is_heard(ours, socket)? {
            // The build is gone, and no namespace ends the command with it.
            kill(child, Signal::SIGKILL)?;
            watched = false;
        }
        // Process 1 closes its end by ending, after its report or because it was killed.
        let Ok(message) = Message::receive(ours) else { break };
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
    Ok((ended, stubs, journal))
}

/// Waits for process 1 to report or end; false when the build has ended before.
fn is_heard(ours: &UnixStream, socket: &UnixStream) -> io::Result<bool> {
    loop {
        let mut waited =
            [PollFd::new(ours.as_fd(), PollFlags::POLLIN), PollFd::new(socket.as_fd(), PollFlags::empty())];
        match poll(&mut waited, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if waited[0].any().unwrap_or(true) {
            return Ok(true);
        }
        if waited[1].any().unwrap_or(true) {
            return Ok(false);
        }
    }
}
