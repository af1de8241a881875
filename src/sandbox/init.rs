//! Process 1 of a command: sets up its root, starts it, and waits for it.
//!
//! The command is not process 1 itself. To process 1 the kernel delivers no signal that it has no
//! handler for, not even its own: an emulator that means to die of the signal of the program it
//! runs would wait for ever, and orphans would stay as zombies.
//!
//! Invariants:
//! - Process 1 is not dumpable: the command can neither trace it nor look into its descriptors,
//!   memory or executable by /proc/1.
//! - When it ends, the kernel ends all processes of the command, and then unmounts its root. Without a
//!   process namespace the helper ends them.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use rustix::process::set_parent_process_death_signal;

use crate::image::{Accounts, Identity};

use super::chrooted;
use super::exec;
use super::filtered;
use super::identity;
use super::isolation::Isolation;
use super::mounts;
use super::overlay;
use super::reaper;
use super::requested;
use super::root::{Kind, Root};
use super::run::MOUNT;
use super::spec::{Network, RootPlace, RunSpec};
use super::supervisor::{self, Attended};
use super::sys;
use super::unspaced;
use super::wire::{Failure, Message, Step};

/// Exit code of a process that has reported a failure.
pub(super) const FAILED: i32 = 125;

/// Runs until the command has ended; gives the exit code. Without a `spec` this process was made before there
/// was a command: the helper sends the description. `apart` says that this process is the first of a process
/// namespace, and has namespaces of mounts and of the host name.
pub(super) fn main(
    spec: Option<&RunSpec>,
    apart: bool,
    coordinator: &UnixStream,
    helper: &UnixStream,
) -> i32 {
    let result = introduce(spec, helper).and_then(|()| match spec {
        Some(spec) => run(spec, apart, coordinator, helper),
        None => match receive(helper)? {
            Some(spec) => run(&spec, apart, coordinator, helper),
            // No command has come.
            None => Ok(()),
        },
    });
    match result {
        Ok(()) => 0,
        Err(failure) => {
            // Nobody listens any more when the build was killed.
            let _ = Message::Failed(failure).send(coordinator);
            FAILED
        }
    }
}

/// Says under which number this process is found: whatever /proc is mounted, its entry for this process
/// has the number that the helper needs to find it there.
fn introduce(spec: Option<&RunSpec>, helper: &UnixStream) -> Result<(), Failure> {
    let own = rustix::fs::readlink("/proc/self", Vec::new()).step("/proc/self")?;
    let own = own.to_str().ok().and_then(|text| text.parse().ok());
    let own = own.ok_or_else(|| io::Error::other("not a number")).step("/proc/self")?;
    if spec.is_some_and(|spec| spec.isolation == Isolation::Ptrace) {
        supervisor::end_with_parent().step("prctl")?;
    }
    Message::Started(own).send(helper).step("answering")
}

/// Waits for the description of the command, and takes on its output. `None` where there is to be none.
fn receive(helper: &UnixStream) -> Result<Option<RunSpec>, Failure> {
    let Ok((Message::Spec(text), outputs)) = Message::receive_with(helper) else { return Ok(None) };
    take_outputs(&outputs)?;
    RunSpec::decode(text.bytes()).map_err(io::Error::other).step("reading the step description").map(Some)
}

/// Makes the command's output and errors this process's own.
pub(super) fn take_outputs(outputs: &[OwnedFd]) -> Result<(), Failure> {
    let [stdout, stderr] = outputs else {
        return Err(io::Error::other("a description without descriptors")).step("output");
    };
    nix::unistd::dup2_stdout(stdout).step("dup2")?;
    nix::unistd::dup2_stderr(stderr).step("dup2")
}

/// A root that this process has moved into.
pub(super) struct Prepared {
    pub(super) identity: Identity,
    pub(super) null: OwnedFd,
    /// Where only the supervisor makes a root of it.
    pub(super) ready: Option<supervisor::Ready>,
    /// Shows the processes of the command, where its root does not.
    pub(super) proc: Option<OwnedFd>,
}

fn run(spec: &RunSpec, apart: bool, coordinator: &UnixStream, helper: &UnixStream) -> Result<(), Failure> {
    if Message::receive(helper).is_err() {
        // The helper says why, unless it is gone.
        return Ok(());
    }

    rustix::process::umask(Mode::from_raw_mode(0o022));
    if apart {
        rustix::system::sethostname(spec.hostname.as_bytes()).step("sethostname")?;
    } else {
        // What the command leaves behind comes to this process, as it does to process 1.
        reaper::adopt(true).step("prctl")?;
    }
    // Elsewhere a filter keeps the command from the network.
    if spec.network == Network::None && apart {
        if spec.isolation.has_namespaces() {
            // Of this one alone it was not known whether it would be needed.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).step("network namespace")?;
        }
        sys::bring_up_loopback().step("loopback device")?;
    }
    let changed = open_changed(spec)?;
    let prepared = match (spec.isolation, &spec.root) {
        (Isolation::Userns | Isolation::OneId, _) => {
            // In namespaces of its own a command would have every capability again. Where an outer
            // container has made the setting read-only, what that container allows holds.
            let _ = std::fs::write("/proc/sys/user/max_user_namespaces", "0");
            enter_root(spec, helper)?
        }
        (Isolation::Chroot, RootPlace::Directory { path }) => chrooted::enter(spec, open_root(path)?, apart)?,
        (Isolation::Ptrace, RootPlace::Directory { path }) => {
            let (ready, identity, null, stubs) = supervisor::prepare(spec, path)?;
            Message::Stubs(stubs).send(helper).step("answering")?;
            Prepared { identity, null, ready: Some(ready), proc: None }
        }
        (Isolation::Chroot | Isolation::Ptrace, RootPlace::Overlay { .. }) => {
            return Err(io::Error::other("layers can only be mounted in a user namespace")).step("root");
        }
    };

    unspaced::close_to_others().step("prctl")?;
    let (ours, theirs) = UnixStream::pair().step("socketpair")?;
    let Some(command) = sys::clone_process(0).step("clone")? else {
        drop(ours);
        let failure = become_command(spec, apart, prepared, &theirs);
        // As above.
        let _ = Message::Failed(failure).send(coordinator);
        sys::exit_now(FAILED);
    };
    drop(theirs);
    let Prepared { identity, ready, proc, .. } = prepared;
    let begun = Attended::begin(spec, &ours, command.as_raw(), &identity, changed, ready, proc)
        .step("attending to the command");
    if let Err(failure) = &begun {
        // Said before the command learns of it, which could only say that it was left alone.
        let _ = Message::Failed(failure.clone()).send(coordinator);
    }
    let attended = begun?;
    let ended = attended.wait().step("waiting for the command")?;
    let journal = attended.journal().step("supervising the command")?;
    Message::ended_with(ended, journal).send(helper).step("answering")
}

/// Opens the upper directory where a supervisor will look up in it what the command has changed.
fn open_changed(spec: &RunSpec) -> Result<Option<OwnedFd>, Failure> {
    match &spec.root {
        RootPlace::Overlay { upper, .. } if spec.isolation == Isolation::OneId => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(upper, flags, Mode::empty()).step("opening the upper directory").map(Some)
        }
        _ => Ok(None),
    }
}

/// Mounts the root with all that belongs into it, and makes it the root of this process.
fn enter_root(spec: &RunSpec, helper: &UnixStream) -> Result<Prepared, Failure> {
    let mut root = Root::new(mount_root(&spec.root)?).step("opening the root")?;
    // Before /proc is there: no file of the image can then lead to a process.
    let identity = identity_of(spec, &root)?;
    let null = fill_root(spec, &mut root)?;
    let cwd = open_cwd(spec, &mut root);
    Message::Stubs(root.stubs().to_vec()).send(helper).step("answering")?;
    let cwd = cwd?;

    rustix::process::fchdir(root.directory()).step("fchdir")?;
    rustix::process::pivot_root(".", ".").step("pivot_root")?;
    // The old root now lies over the new one.
    rustix::mount::unmount(".", UnmountFlags::DETACH).step("leaving the old root")?;
    rustix::process::chdir("/").step("chdir")?;
    rustix::process::fchdir(&cwd).step("workdir")?;
    check_inside()?;
    Ok(Prepared { identity, null, ready: None, proc: None })
}

/// The user of the command, by the accounts that its root has.
pub(super) fn identity_of(spec: &RunSpec, root: &Root) -> Result<Identity, Failure> {
    let accounts = Accounts::new(
        root.read("etc/passwd").step("reading /etc/passwd")?,
        root.read("etc/group").step("reading /etc/group")?,
    );
    accounts.identity(&spec.user).map_err(io::Error::other).step("user")
}

/// Makes sure that the working directory lies in the root.
pub(super) fn check_inside() -> Result<(), Failure> {
    let path = rustix::process::getcwd(Vec::new()).step("workdir")?;
    if !path.as_bytes().starts_with(b"/") {
        return Err(io::Error::other("it is outside of the root")).step("workdir");
    }
    Ok(())
}

fn open_root(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).step("opening the root")
}

/// Mounts what the root directory is made of, and opens it.
fn mount_root(place: &RootPlace) -> Result<OwnedFd, Failure> {
    match place {
        RootPlace::Overlay { lowers, upper, work, merged } => {
            overlay::mount(lowers, Some((upper, work)), merged)
                .map_err(|error| overlay::explain(error, upper))
                .step("mounting the layers")?;
            open_root(merged)
        }
        RootPlace::Directory { path } => {
            let directory = open_root(path)?;
            let tree = mounts::clone(&directory, "").step("mounting the root")?;
            mounts::attach(&tree, &directory).step("mounting the root")?;
            open_root(path)
        }
    }
}

/// Opens the working directory. The layers have it; where a mount hides it, it is made in the mount.
pub(super) fn open_cwd(spec: &RunSpec, root: &mut Root) -> Result<OwnedFd, Failure> {
    let shown = String::from_utf8_lossy(&spec.cwd);
    match root.open(&spec.cwd, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !spec.mounts.is_empty() => {
            root.mount_point(&spec.cwd, Kind::Directory).map_err(|error| Failure {
                step: MOUNT.to_owned(),
                message: format!("the working directory {shown} cannot be made in what hides it: {error}"),
                errno: error.raw_os_error().unwrap_or(0),
            })
        }
        other => other
            .map_err(|error| io::Error::other(format!("workdir `{shown}` does not exist: {error}")))
            .step("workdir"),
    }
}

/// Mounts what every command has, and then what this one has. Gives an open /dev/null of the root.
fn fill_root(spec: &RunSpec, root: &mut Root) -> Result<OwnedFd, Failure> {
    let proc = mounts::proc(root).step("mounting /proc")?;
    let (dev, covers) = mounts::dev(root, spec.shm_size).step("mounting /dev")?;
    if let Some(proc) = proc {
        mounts::protect_proc(&proc, &covers).step("protecting /proc")?;
    }
    mounts::sys(root, &covers).step("mounting /sys")?;
    let target = root.mount_point(b"/etc/resolv.conf", Kind::File).step("/etc/resolv.conf")?;
    mounts::file(&spec.resolv_conf, &target).step("mounting /etc/resolv.conf")?;
    let target = root.mount_point(b"/etc/hosts", Kind::File).step("/etc/hosts")?;
    mounts::hosts(&spec.hosts, &spec.extra_hosts, &dev, &target).step("mounting /etc/hosts")?;
    // On the read-only mount: through another descriptor of the host's node, its owner could
    // change its mode. And before a mount that is asked for may cover it.
    let null = rustix::fs::openat(&dev, "null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .step("opening /dev/null")?;
    for interpreter in &spec.interpreters {
        let place = interpreter.place();
        let target = root.mount_point(place.as_os_str().as_bytes(), Kind::File).step("interpreter")?;
        mounts::program(&interpreter.path, &target).step("mounting the interpreter")?;
    }
    requested::mount(spec, root)?;
    Ok(null)
}

/// Turns this process into the command; comes back only with a failure.
fn become_command(spec: &RunSpec, apart: bool, prepared: Prepared, socket: &UnixStream) -> Failure {
    let Prepared { identity, null, ready, .. } = prepared;
    let ready = || -> Result<(), Failure> {
        rustix::process::setsid().step("setsid")?;
        nix::unistd::dup2_stdin(&null).step("dup2")?;
        identity::set_limits(&spec.ulimits)?;
        if spec.linux32 {
            sys::become_linux32().step("personality")?;
        }
        supervisor::join_early(spec, socket).step("joining the tracer")?;
        // While there is the capability for it. What is still to come is allowed.
        filtered::install(spec, apart)?;
        if spec.isolation == Isolation::OneId {
            identity::assume_simulated()?;
        } else if spec.isolation != Isolation::Ptrace {
            identity::assume(&identity, spec.isolation)?;
        }
        if !apart {
            // No namespace ends it with process 1. Taking on another user resets this.
            set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).step("prctl")?;
        }
        sys::reset_signals().step("resetting signals")?;
        sys::close_on_exec_from(3).step("close_range")?;
        supervisor::join_late(spec, &identity, socket, ready.as_ref()).step("joining the supervisor")
    };
    match ready() {
        Ok(()) => exec::execute(spec, &identity.home),
        Err(failure) => failure,
    }
}
