//! A command whose programs come to interpreters by rewriting its calls, and that is not supervised otherwise.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::super::enter::Ended;
use super::super::filter::{Action, Filter, Rule};
use super::super::identity::KEPT;
use super::super::spec::Interpreter;
use super::super::sys;
use super::tracer::{self, EXECUTING, Plan, Seen};
use super::view::OwnRoot;

/// What looking at processes of other users, and at programs that only they may read, needs.
const NEEDED: CapabilitySet =
    CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_OVERRIDE).union(CapabilitySet::DAC_READ_SEARCH);

/// Puts this process, which is about to become the command, before its tracer at the other end of `socket`.
///
/// Without CAP_SYS_ADMIN in its user namespace, set-user-id programs have no effect in it from now on.
pub(in crate::sandbox) fn join_traced(mut socket: &UnixStream) -> io::Result<()> {
    let admin = rustix::thread::capabilities(None)?.effective.contains(CapabilitySet::SYS_ADMIN);
    if !admin {
        rustix::thread::set_no_new_privs(true)?;
    }
    let rules = EXECUTING.into_iter().map(|call| Rule { call, when: Vec::new(), action: Action::Trace });
    let filter =
        Filter { rules: rules.collect(), compat: None, otherwise: Action::Allow, other_abi: Action::Allow };
    sys::seccomp::install(&filter.assemble())?;
    socket.write_all(b"t")?;
    socket.read_exact(&mut [0])
}

/// A command that is traced.
pub(in crate::sandbox) struct Traced {
    command: i32,
    plan: Plan,
}

impl Traced {
    /// Traces the command that joins by `socket`. `proc` shows its processes where its root does not. For process 1, when it has moved into the command's root, and
    /// has one thread.
    pub(in crate::sandbox) fn start(
        mut socket: &UnixStream,
        command: i32,
        interpreters: &[Interpreter],
        proc: Option<OwnedFd>,
    ) -> io::Result<Self> {
        socket.read_exact(&mut [0])?;
        let permitted = rustix::thread::capabilities(None)?.permitted;
        // Without the one that looks at everybody, the kernel shows who has no more than the tracer.
        let has = permitted.contains(CapabilitySet::SYS_PTRACE);
        let has = permitted & if has { NEEDED } else { NEEDED.union(KEPT) };
        let sets = CapabilitySets { effective: has, permitted: has, inheritable: CapabilitySet::empty() };
        tracer::seize(command)?;
        rustix::thread::set_capabilities(None, sets)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = match proc {
            Some(proc) => proc,
            None => rustix::fs::open("/proc", flags, Mode::empty())?,
        };
        let interpreters = seen(interpreters);
        let plan = Plan { interpreters, view: Arc::new(OwnRoot), loader: None, executed: None, proc };
        socket.write_all(b"g")?;
        Ok(Self { command, plan })
    }

    /// Waits for the command's end.
    pub(in crate::sandbox) fn wait(&self) -> io::Result<Ended> {
        tracer::trace(self.command, &self.plan)
    }
}

/// Interpreters, where commands find them.
pub(super) fn seen(interpreters: &[Interpreter]) -> Vec<Seen> {
    let seen = |interpreter: &Interpreter| Seen {
        machine: interpreter.machine,
        path: interpreter.place().as_os_str().as_bytes().to_vec(),
    };
    interpreters.iter().map(seen).collect()
}
