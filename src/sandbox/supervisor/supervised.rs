//! Supervising a command with one id, as process 1 sees it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::super::enter::Ended;
use super::super::mount::Mount;
use super::super::spec::RunSpec;
use super::abi::{self, Scope};
use super::attended::wait_for;
use super::credential_sets::CredentialSets;
use super::credentials::Credentials;
use super::failsafe::{Failsafe, Health};
use super::identity_calls::Identities;
use super::one_id::OneId;
use super::owners::{JournalEntry, Owners};
use super::start;
use super::traced::seen;
use super::tracer::{self, Plan};
use super::view::OwnRoot;
use crate::image::{Identity, Ownership};

/// What the supervisor does in the place of a command needs: looking at its processes, reaching files
/// whatever their mode, keeping set-id bits, removing the capabilities of programs.
const NEEDED: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);

/// A command that is supervised.
pub(in crate::sandbox) struct Supervised {
    owners: Arc<Owners>,
    health: Health,
    command: i32,
    /// Where programs are traced.
    plan: Option<Plan>,
}

fn scope(spec: &RunSpec, identity: &Identity) -> Scope {
    Scope {
        traced: !spec.interpreters.is_empty(),
        guarded: identity.uid != 0,
        moving: !spec.special_owners.is_empty(),
    }
}

/// Puts this process, which is about to become the command of `identity`, under supervision.
///
/// # Errors
///
/// Says why the kernel takes no filter with a listener.
pub(in crate::sandbox) fn join_one_id(
    socket: &UnixStream,
    spec: &RunSpec,
    identity: &Identity,
) -> io::Result<()> {
    start::join(socket, &abi::one_id_filter(scope(spec, identity)).assemble())
}

impl Supervised {
    /// Supervises the command that joins by `socket`. Its processes begin as `identity`.
    ///
    /// For process 1, when it has moved into the command's root, has dropped nothing yet, and has one
    /// thread. `changed` is the upper directory where the root is an overlay.
    pub(in crate::sandbox) fn start(
        socket: &UnixStream,
        command: i32,
        spec: &RunSpec,
        identity: &Identity,
        changed: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let listener = start::listener(socket)?;
        let sets =
            CapabilitySets { effective: NEEDED, permitted: NEEDED, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets)?;
        // New files get the mask of whoever asks for them.
        rustix::process::umask(Mode::empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty())?;
        let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
        let owners = Owners::new(Ownership::Recorded, root.as_fd(), changed, &spec.special_owners)?;
        for mount in &spec.mounts {
            match mount {
                Mount::File { uid: 0, gid: 0, .. } => {}
                Mount::File { target, uid, gid, .. } | Mount::Socket { target, uid, gid, .. } => {
                    owners.note_mounted(root.as_fd(), target, *uid, *gid);
                }
                _ => {}
            }
        }
        let owners = Arc::new(owners);
        let answers = Arc::new(OneId {
            sets: Arc::new(CredentialSets::new(Credentials::of(identity), command)?),
            identities: Identities { owners: Arc::clone(&owners), moved: AtomicBool::new(false) },
            guarded: scope(spec, identity).guarded,
        });
        let (handler, health) = Failsafe::new(Arc::clone(&answers));
        let plan = if spec.interpreters.is_empty() {
            None
        } else {
            tracer::seize(command)?;
            let interpreters = seen(&spec.interpreters);
            let executed = Some(Arc::clone(&answers) as _);
            let proc = proc.try_clone()?;
            Some(Plan { interpreters, view: Arc::new(OwnRoot), loader: None, executed, proc })
        };
        start::begin(listener, socket, proc, Arc::new(handler))?;
        Ok(Self { owners, health, command, plan })
    }

    /// Waits for the command's end, and reaps what else ends meanwhile.
    pub(in crate::sandbox) fn wait(&self) -> io::Result<Ended> {
        match &self.plan {
            Some(plan) => tracer::trace(self.command, plan),
            None => wait_for(self.command),
        }
    }

    /// The owners of files that cannot carry theirs, as far as the command has made or changed them.
    ///
    /// # Errors
    ///
    /// Fails where the supervisor has not been able to answer a call.
    pub(in crate::sandbox) fn journal(&self) -> io::Result<Vec<JournalEntry>> {
        self.health.check()?;
        Ok(self.owners.journal())
    }
}
