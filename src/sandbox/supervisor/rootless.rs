//! The supervisor of a command that has neither rights nor namespaces: its root is a directory that only the
//! supervisor makes one of, and its users are numbers that only the supervisor knows.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::enter::Ended;
use super::super::filter::{Action, Filter, Rule};
use super::super::root::{Root, Stub};
use super::super::spec::RunSpec;
use super::super::wire::{Failure, Step};
use super::abi::credential_rules;
use super::confine::Confinement;
use super::credential_calls;
use super::credential_sets::CredentialSets;
use super::credentials::Credentials;
use super::failsafe::{Failsafe, Health};
use super::notification::{Answer, Handler};
use super::one_id::set_id_owner;
use super::owners::{JournalEntry, Owner, Owners};
use super::paths::{self, PathView, Paths, Processes};
use super::start;
use super::task::Task;
use super::tracer::{self, Executes, Patched, Plan, Seen};
use super::view::View;
use crate::image::{Identity, Ownership};

/// Where programs are kept that were made to name their loader by its path outside of the root.
const PROGRAMS: &str = "programs";
/// Bytes of a name in what uname(2) tells.
const NAME: usize = 65;
/// Which of the names is the machine's own.
const NODE: usize = 1;

/// A root directory that is ready for a command.
pub(in crate::sandbox) struct Ready {
    view: Arc<PathView>,
    confinement: Result<Confinement, String>,
    /// The working directory, by its path outside.
    cwd: PathBuf,
    programs: PathBuf,
    /// What the command can use as long as it runs.
    _scratch: tempfile::TempDir,
}

/// Prepares the directory at `path` as the root of a command. Gives also who the command is, its null
/// device, and what was made in the root to be bound on.
pub(in crate::sandbox) fn prepare(
    spec: &RunSpec,
    path: &Path,
) -> Result<(Ready, Identity, OwnedFd, Vec<Stub>), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).step("opening the root")?;
    let root = Root::new(directory).step("opening the root")?;
    let identity = super::super::init::identity_of(spec, &root)?;
    let scratch = tempfile::tempdir_in(&spec.aside).step("scratch space")?;
    let prepared = paths::prepare(spec, path, scratch.path())?;
    let proc = || rustix::fs::open("/proc", flags, Mode::empty()).step("/proc");
    // The main thread traces.
    let processes = Processes::new(rustix::process::getpid().as_raw_nonzero().get(), proc()?);
    let view = PathView::new(path, prepared.binds, processes).step("opening the root")?;
    let view = Arc::new(view);
    let programs = spec.aside.join(PROGRAMS);
    match std::fs::create_dir(&programs) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.step("scratch space")?,
    }
    let interpreters = spec.interpreters.iter().map(|interpreter| &*interpreter.path);
    let programs_of_ours: Vec<&Path> = interpreters.chain([&*programs]).collect();
    let confinement = Confinement::new(&view, &programs_of_ours).map_err(|error| error.to_string());
    let proc = proc()?;
    let own = Task::stopped(&proc, rustix::process::getpid().as_raw_nonzero().get());
    let cwd = view.locate(&own, libc::AT_FDCWD, &spec.cwd, true).map_err(|error| {
        io::Error::other(format!("workdir `{}`: {error}", String::from_utf8_lossy(&spec.cwd)))
    });
    let cwd = PathBuf::from(std::ffi::OsStr::from_bytes(&cwd.step("workdir")?.path));
    let ready = Ready { view, confinement, cwd, programs, _scratch: scratch };
    Ok((ready, identity, prepared.null, prepared.stubs))
}

/// The filter of a command.
fn filter() -> Filter {
    let mut rules = credential_rules();
    rules.push(Rule { call: libc::SYS_uname, when: Vec::new(), action: Action::Notify });
    rules.extend(paths::rules());
    Filter {
        rules,
        compat: None,
        otherwise: Action::Allow,
        // The calls of 32-bit programs have other numbers, and would pass the supervisor by.
        other_abi: Action::Errno(libc::ENOSYS as u16),
    }
}

impl Ready {
    /// Puts this process, which is about to become the command, under supervision.
    ///
    /// # Errors
    ///
    /// Says why the kernel takes no filter with a listener.
    pub(in crate::sandbox) fn join(&self, socket: &UnixStream) -> io::Result<()> {
        rustix::process::chdir(&self.cwd)?;
        if let Ok(confinement) = &self.confinement {
            confinement.enter()?;
        }
        start::join(socket, &filter().assemble())
    }

    /// Supervises the command that joins by `socket`. For a process with one thread.
    pub(in crate::sandbox) fn supervise(
        self,
        socket: &UnixStream,
        command: i32,
        spec: &RunSpec,
        identity: &Identity,
    ) -> io::Result<Rootless> {
        let listener = start::listener(socket)?;
        // New files get the mask of whoever asks for them.
        rustix::process::umask(Mode::empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.view.root_path(), flags, Mode::empty())?;
        let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
        let owners = Owners::new(Ownership::Simulated, root.as_fd(), None, &spec.special_owners)?;
        let owners = Arc::new(owners);
        let sets = Arc::new(CredentialSets::new(Credentials::of(identity), command)?);
        let answers = Arc::new(Answers {
            paths: Paths::new(Arc::clone(&self.view), Arc::clone(&owners), Arc::clone(&sets) as _),
            view: Arc::clone(&self.view),
            owners: Arc::clone(&owners),
            sets,
            hostname: spec.hostname.clone(),
        });
        let seen = spec.interpreters.iter().map(|interpreter| Seen {
            machine: interpreter.machine,
            path: interpreter.path.as_os_str().as_bytes().to_vec(),
        });
        let loader = Patched { directory: self.programs.clone(), view: Arc::clone(&self.view) as _ };
        let plan = Plan {
            interpreters: seen.collect(),
            view: Arc::clone(&self.view) as _,
            loader: Some(Box::new(loader)),
            executed: Some(Arc::clone(&answers) as _),
            proc: proc.try_clone()?,
        };
        tracer::seize(command)?;
        let (handler, health) = Failsafe::new(answers);
        start::begin(listener, socket, proc, Arc::new(handler))?;
        Ok(Rootless { command, plan, owners, health, _ready: self })
    }
}

/// A command that is supervised.
pub(in crate::sandbox) struct Rootless {
    command: i32,
    plan: Plan,
    owners: Arc<Owners>,
    health: Health,
    _ready: Ready,
}

impl Rootless {
    /// Waits for the command's end, and reaps what else ends meanwhile.
    pub(in crate::sandbox) fn wait(&self) -> io::Result<Ended> {
        tracer::trace(self.command, &self.plan)
    }

    /// The owners of files that cannot carry theirs, as far as the command has made or changed them.
    ///
    /// # Errors
    ///
    /// Says that the supervisor has failed.
    pub(in crate::sandbox) fn journal(&self) -> io::Result<Vec<JournalEntry>> {
        self.health.check()?;
        Ok(self.owners.journal())
    }
}

/// Answers all calls of [`filter`].
struct Answers {
    sets: Arc<CredentialSets>,
    paths: Paths,
    view: Arc<PathView>,
    owners: Arc<Owners>,
    hostname: String,
}

impl Handler for Answers {
    fn handle(&self, task: &Task<'_>, call: libc::c_long, arguments: &[u64; 6]) -> Answer {
        if call == libc::SYS_uname {
            return self.name_machine(task, arguments[0]).into();
        }
        credential_calls::answer(&self.sets, task, call, arguments)
            .unwrap_or_else(|| self.paths.handle(task, call, arguments))
    }
}

impl Answers {
    /// Tells the names of the machine, with the one that the command is to see.
    fn name_machine(&self, task: &Task<'_>, address: u64) -> Result<(), Errno> {
        let found = rustix::system::uname();
        let names = [found.sysname(), found.nodename(), found.release(), found.version(), found.machine()];
        let mut text = [0; NAME * 6];
        for (at, name) in names.into_iter().enumerate() {
            let name = if at == NODE { self.hostname.as_bytes() } else { name.to_bytes() };
            let length = name.len().min(NAME - 1);
            text[at * NAME..at * NAME + length].copy_from_slice(&name[..length]);
        }
        let domain = found.domainname().to_bytes();
        let length = domain.len().min(NAME - 1);
        text[5 * NAME..5 * NAME + length].copy_from_slice(&domain[..length]);
        task.write(address, &text)
    }

    fn execution(&self, task: &Task<'_>, directory: i32, path: u64, flags: i32) -> Result<Owner, Errno> {
        let path = task.path(path)?;
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        let file = self.view.locate(task, directory, &path, follow)?.file;
        let stat = rustix::fs::fstat(&file)?;
        set_id_owner(&self.owners, &file, &stat)
    }
}

impl Executes for Answers {
    fn executes(&self, task: &Task<'_>, directory: i32, path: u64, flags: i32) -> Option<Owner> {
        // What fails here fails when the call is rewritten as well.
        self.execution(task, directory, path, flags).ok()
    }

    fn executed(&self, process: i32, program: Option<&[u8]>, owner: Option<Owner>) {
        if let Some(program) = program {
            self.view.processes().executed(process, program);
        }
        if let Some(owner) = owner {
            // A process that has just been killed needs no credentials.
            let _ = self.sets.on_exec(process, owner.uid, owner.gid, owner.mode);
        }
    }
}
