//! Tracing a command: calls to execute programs, and to change the directory, get other arguments.
//!
//! A filter of the command's calls stops it before these, and only before these. A program of a foreign
//! processor is then executed by its interpreter, without any handler of the kernel; in a root that is not
//! the process's, paths become those that the kernel knows.
//!
//! Nothing in a traced command can trace: strace and debuggers do not work in it.
//!
//! Sources: ptrace(2), "Stopped states"; seccomp(2), `SECCOMP_RET_TRACE`.

mod arguments;
mod patched;
mod probe;
mod program;
mod rewrite;
mod scratch;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::libc;
use rustix::io::Errno;

use super::super::enter::Ended;
use super::super::sys::trace::{self, Registers, Waited};
use super::owners::Owner;
use super::task::Task;
use super::view::View;
use arguments::Layout;
use rewrite::{Rules, Wanted};
use scratch::{Scratch, Slot};

pub(in crate::sandbox) use patched::Patched;
pub(in crate::sandbox) use probe::intercepted;
pub(in crate::sandbox) use rewrite::{Loader, Seen};

/// The calls that execute programs, which a filter hands to the tracer.
pub(super) const EXECUTING: [libc::c_long; 2] = [libc::SYS_execve, libc::SYS_execveat];

/// Hears of programs that are executed.
pub(super) trait Executes: Send + Sync {
    /// A task is about to make a call with these arguments. Gives whose the program is, where its set-id bits
    /// may matter: the call can still fail.
    fn executes(&self, task: &Task<'_>, directory: i32, path: u64, flags: i32) -> Option<Owner>;

    /// The process now runs a program of this owner, which is at this path of the root where the call was
    /// rewritten.
    fn executed(&self, process: i32, program: Option<&[u8]>, owner: Option<Owner>);
}

/// How a command is traced.
pub(in crate::sandbox) struct Plan {
    /// Interpreters of foreign programs.
    pub(super) interpreters: Vec<Seen>,
    /// What paths mean.
    pub(super) view: Arc<dyn View>,
    /// Where the root is not the task's: what the kernel is to execute.
    pub(super) loader: Option<Box<dyn Loader>>,
    /// Is told of programs.
    pub(super) executed: Option<Arc<dyn Executes>>,
    /// /proc with the command's processes.
    pub(super) proc: OwnedFd,
}

/// Traces a process from now on, and all that it starts.
pub(super) fn seize(command: i32) -> io::Result<()> {
    trace::seize(command)
}

/// Lets the traced command run until it ends; reaps whatever else ends.
pub(super) fn trace(command: i32, plan: &Plan) -> io::Result<Ended> {
    let mut tracer = Tracer {
        plan,
        scratch: Scratch::default(),
        mapping: HashMap::new(),
        begun: HashMap::new(),
        owners: HashMap::new(),
        opening: HashMap::new(),
        opened: HashSet::new(),
    };
    loop {
        let (thread, waited) = trace::wait_any()?;
        match waited {
            Waited::Exited(code) if thread == command => return Ok(Ended::Exited(code)),
            Waited::Signaled(signal) if thread == command => return Ok(Ended::Signaled(signal)),
            Waited::Exited(_) | Waited::Signaled(_) => tracer.forget(thread),
            // A thread that is killed while it is stopped answers no request any more; its end comes next.
            stop => drop(tracer.stopped(thread, stop)),
        }
    }
}

/// The call that a thread makes instead of the one that it stands before.
#[derive(Debug, Clone, Copy)]
enum Becomes {
    /// execve(2), with the environment at this address.
    Execute { environment: u64 },
    /// chdir(2).
    ChangeDirectory,
    /// openat(2).
    OpenAsPath { flags: i32 },
}

struct Tracer<'a> {
    plan: &'a Plan,
    scratch: Scratch,
    /// Threads that map memory, with the registers that they had before the call they wanted to make.
    mapping: HashMap<i32, (Registers, u64)>,
    /// Programs that are about to run.
    begun: HashMap<i32, Vec<u8>>,
    /// Whose these are.
    owners: HashMap<i32, Owner>,
    /// Threads that open their process to the tracer, with the registers from before.
    opening: HashMap<i32, Registers>,
    /// Threads that have done so, and make their call again.
    opened: HashSet<i32>,
}

impl Tracer<'_> {
    fn forget(&mut self, thread: i32) {
        self.scratch.ended(thread);
        self.mapping.remove(&thread);
        self.begun.remove(&thread);
        self.owners.remove(&thread);
        self.opening.remove(&thread);
        self.opened.remove(&thread);
    }

    fn stopped(&mut self, thread: i32, stop: Waited) -> io::Result<()> {
        match stop {
            Waited::Signal(signal) => trace::resume(thread, signal),
            Waited::CallExit => match self.opening.remove(&thread) {
                Some(before) => {
                    self.opened.insert(thread);
                    before.again().set(thread)?;
                    trace::resume(thread, 0)
                }
                None => self.mapped(thread),
            },
            Waited::Event(libc::PTRACE_EVENT_SECCOMP, _) => self.call(thread),
            Waited::Event(libc::PTRACE_EVENT_VFORK, _) => {
                self.scratch.borrow(trace::event_message(thread)? as i32, process(&self.task(thread)));
                trace::resume(thread, 0)
            }
            Waited::Event(libc::PTRACE_EVENT_EXEC, _) => {
                // The thread that made the call has become the process.
                let before = trace::event_message(thread)? as i32;
                self.scratch.executed(thread, before);
                let (program, owner) = (self.begun.remove(&before), self.owners.remove(&before));
                if let Some(listener) = &self.plan.executed {
                    listener.executed(thread, program.as_deref(), owner);
                }
                trace::resume(thread, 0)
            }
            Waited::Event(libc::PTRACE_EVENT_STOP, signal) if signal != libc::SIGTRAP => {
                trace::listen(thread)
            }
            _ => trace::resume(thread, 0),
        }
    }

    fn task(&self, thread: i32) -> Task<'_> {
        Task::stopped(&self.plan.proc, thread)
    }

    /// A thread stands before a call that is ours.
    fn call(&mut self, thread: i32) -> io::Result<()> {
        let registers = Registers::of(thread)?;
        let opened = self.opened.remove(&thread);
        match self.rewritten(thread, &registers) {
            Ok(None) => trace::resume(thread, 0),
            Err(Errno::ACCESS | Errno::PERM) if !opened => self.open(thread, &registers),
            Err(errno) => {
                registers.failed(errno.raw_os_error()).set(thread)?;
                trace::resume(thread, 0)
            }
            Ok(Some((layout, call))) => self.place(thread, &registers, &layout, call),
        }
    }

    /// Has the thread open its process in place of the call, which it makes again afterwards: one that has
    /// become another user is closed until it executes something, also to a tracer without SYS_PTRACE.
    fn open(&mut self, thread: i32, registers: &Registers) -> io::Result<()> {
        const DUMPABLE: u64 = 1;
        let arguments = [libc::PR_SET_DUMPABLE as u64, DUMPABLE, 0, 0, 0, 0];
        registers.with_call(libc::SYS_prctl, arguments).set(thread)?;
        self.opening.insert(thread, *registers);
        trace::resume_to_exit(thread)
    }

    /// The new arguments of a call, and what it becomes.
    fn rewritten(&mut self, thread: i32, registers: &Registers) -> Result<Option<(Layout, Becomes)>, Errno> {
        let task = Task::stopped(&self.plan.proc, thread);
        let [first, second, third, fourth, fifth, _] = registers.arguments();
        let (directory, path, arguments, environment, flags) = match registers.call() {
            libc::SYS_execve => (libc::AT_FDCWD, first, second, third, 0),
            libc::SYS_execveat => (first as i32, second, third, fourth, fifth as i32),
            libc::SYS_chdir if self.plan.loader.is_some() => {
                let located = self.plan.view.locate(&task, libc::AT_FDCWD, &task.path(first)?, true)?;
                return Ok(Some((Layout::path(&located.path), Becomes::ChangeDirectory)));
            }
            libc::SYS_open if self.plan.loader.is_some() => {
                return self.opening(&task, libc::AT_FDCWD, first, second as i32).map(Some);
            }
            libc::SYS_openat if self.plan.loader.is_some() => {
                return self.opening(&task, first as i32, second, third as i32).map(Some);
            }
            _ => return Ok(None),
        };
        self.begun.remove(&thread);
        self.owners.remove(&thread);
        let heard = self.plan.executed.as_ref();
        if let Some(owner) = heard.and_then(|listener| listener.executes(&task, directory, path, flags)) {
            self.owners.insert(thread, owner);
        }
        let path = task.path(path)?;
        if path.is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
            return Err(Errno::NOENT);
        }
        let wanted = Wanted { directory, path: &path, follow: flags & libc::AT_SYMLINK_NOFOLLOW == 0 };
        let rules = Rules {
            interpreters: &self.plan.interpreters,
            view: &*self.plan.view,
            loader: self.plan.loader.as_deref(),
        };
        let Some(replacement) = rules.replacement(&task, &wanted)? else { return Ok(None) };
        let layout = Layout::new(&replacement, &arguments::pointers(&task, arguments)?);
        self.begun.insert(thread, replacement.inside);
        Ok(Some((layout, Becomes::Execute { environment })))
    }

    /// A call to open a file as a path, which no other process can do for the thread.
    fn opening(
        &self,
        task: &Task<'_>,
        directory: i32,
        path: u64,
        flags: i32,
    ) -> Result<(Layout, Becomes), Errno> {
        let path = task.path(path)?;
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        let located = self.plan.view.locate(task, directory, &path, flags & libc::O_NOFOLLOW == 0)?;
        // All links were followed that are to be.
        Ok((Layout::path(&located.path), Becomes::OpenAsPath { flags: flags | libc::O_NOFOLLOW }))
    }

    /// Puts new arguments into the thread's memory and lets it make the call with them.
    fn place(
        &mut self,
        thread: i32,
        registers: &Registers,
        layout: &Layout,
        becomes: Becomes,
    ) -> io::Result<()> {
        let task = Task::stopped(&self.plan.proc, thread);
        let below = registers.stack().saturating_sub(layout.length());
        let owner = process(&task);
        // A main stack only grows when its own program writes to it: there may be too little of it.
        let on_stack = scratch::is_main_stack(&task, registers.stack())
            .then(|| layout.at(below))
            .filter(|placed| task.write(placed.at, &placed.bytes).is_ok());
        let placed = match on_stack {
            Some(placed) => placed,
            None => {
                let Some(slot) = self.scratch.take(thread, owner, layout.length()) else {
                    return self.map(thread, registers, layout.length());
                };
                let placed = layout.at(slot.address);
                if task.write(placed.at, &placed.bytes).is_err() {
                    registers.failed(libc::ENOMEM).set(thread)?;
                    return trace::resume(thread, 0);
                }
                placed
            }
        };
        let changed = match becomes {
            Becomes::Execute { environment } => {
                let arguments = [placed.path, placed.arguments, environment, 0, 0, 0];
                registers.with_call(libc::SYS_execve, arguments)
            }
            Becomes::ChangeDirectory => registers.with_call(libc::SYS_chdir, [placed.path, 0, 0, 0, 0, 0]),
            Becomes::OpenAsPath { flags } => {
                let arguments = [libc::AT_FDCWD as u64, placed.path, flags as u64, 0, 0, 0];
                registers.with_call(libc::SYS_openat, arguments)
            }
        };
        changed.set(thread)?;
        trace::resume(thread, 0)
    }

    /// Has the thread map memory in place of the call, which it makes again afterwards.
    fn map(&mut self, thread: i32, registers: &Registers, length: u64) -> io::Result<()> {
        let length = length.next_multiple_of(4096);
        let access = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let kind = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        let arguments = [0, length, access, kind, u64::MAX, 0];
        registers.with_call(libc::SYS_mmap, arguments).set(thread)?;
        self.mapping.insert(thread, (*registers, length));
        trace::resume_to_exit(thread)
    }

    /// A thread has mapped memory.
    fn mapped(&mut self, thread: i32) -> io::Result<()> {
        let Some((before, length)) = self.mapping.remove(&thread) else { return trace::resume(thread, 0) };
        let address = Registers::of(thread)?.result();
        if (-4095..0).contains(&address) {
            before.failed(libc::ENOMEM).set(thread)?;
        } else {
            let process = process(&self.task(thread));
            self.scratch.add(process, Slot { address: address as u64, length });
            before.again().set(thread)?;
        }
        trace::resume(thread, 0)
    }
}

/// The process of a thread; the thread itself where it has gone.
fn process(task: &Task<'_>) -> i32 {
    task.process().unwrap_or(task.thread())
}
