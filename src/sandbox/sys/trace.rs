//! Tracing of other processes: their stops, and the registers of a stopped one.
//!
//! The wrappers of nix know neither realtime signals, which the C library itself uses, nor listening to a
//! stopped group.
//!
//! Sources: ptrace(2), wait(2).
#![expect(unsafe_code, reason = "see the parent module")]

use std::io;

use nix::libc;

use super::check;

/// Why a traced process has stopped, or that it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Waited {
    /// It has exited.
    Exited(i32),
    /// A signal has ended it.
    Signaled(i32),
    /// A signal is about to be delivered.
    Signal(i32),
    /// A call is about to return, as [`resume_to_exit`] has asked for.
    CallExit,
    /// An event, `PTRACE_EVENT_*`, with its signal.
    Event(i32, i32),
}

/// What stops a traced process, and what it is when its tracer dies: dead.
const OPTIONS: i32 = libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_EXITKILL;

fn request(kind: libc::c_uint, thread: i32, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: for the kinds that this module uses here, address and data are numbers or memory that
    // outlives the call; no memory of this process is written that is not lent for it.
    check(unsafe { libc::ptrace(kind, thread, address, data) }).map(drop)
}

/// Traces a process and all that it will start, without stopping it.
pub(in crate::sandbox) fn seize(process: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, process, 0, OPTIONS as usize)
}

/// Lets a stopped thread go on, with a signal unless that is 0.
pub(in crate::sandbox) fn resume(thread: i32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_CONT, thread, 0, signal as usize)
}

/// Lets a thread that stands before a call go on until that call is about to return.
pub(in crate::sandbox) fn resume_to_exit(thread: i32) -> io::Result<()> {
    request(libc::PTRACE_SYSCALL, thread, 0, 0)
}

/// Leaves a thread stopped that job control has stopped, until it is continued by a signal.
pub(in crate::sandbox) fn listen(thread: i32) -> io::Result<()> {
    request(libc::PTRACE_LISTEN, thread, 0, 0)
}

/// The number that belongs to the present event: of a new process, for instance.
pub(in crate::sandbox) fn event_message(thread: i32) -> io::Result<u64> {
    let mut message: libc::c_ulong = 0;
    request(libc::PTRACE_GETEVENTMSG, thread, 0, &raw mut message as usize)?;
    Ok(message)
}

/// Waits for any child or traced thread. `ECHILD` when there is none.
pub(in crate::sandbox) fn wait_any() -> io::Result<(i32, Waited)> {
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    let thread = loop {
        match unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) } {
            -1 => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::EINTR) {
                    return Err(error);
                }
            }
            thread => break thread,
        }
    };
    let waited = if libc::WIFEXITED(status) {
        Waited::Exited(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        Waited::Signaled(libc::WTERMSIG(status))
    } else {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        match event {
            0 if signal == libc::SIGTRAP | 0x80 => Waited::CallExit,
            0 => Waited::Signal(signal),
            event => Waited::Event(event, signal),
        }
    };
    Ok((thread, waited))
}

/// The registers of a thread that stands before a call.
#[derive(Clone, Copy)]
pub(in crate::sandbox) struct Registers(libc::user_regs_struct);

/// Bytes below the stack pointer that a function may use without moving it (x86-64 ABI).
const RED_ZONE: u64 = 128;
/// Length of the instruction that makes a call.
const CALL_INSTRUCTION: u64 = 2;

impl Registers {
    /// Reads them.
    pub(in crate::sandbox) fn of(thread: i32) -> io::Result<Self> {
        // SAFETY: the structure is plain integers, for which zero is a valid value.
        let mut found: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        request(libc::PTRACE_GETREGS, thread, 0, &raw mut found as usize)?;
        Ok(Self(found))
    }

    /// Writes them.
    pub(in crate::sandbox) fn set(&self, thread: i32) -> io::Result<()> {
        request(libc::PTRACE_SETREGS, thread, 0, &raw const self.0 as usize)
    }

    /// Number of the call.
    pub(in crate::sandbox) fn call(&self) -> libc::c_long {
        self.0.orig_rax as libc::c_long
    }

    /// Its arguments.
    pub(in crate::sandbox) fn arguments(&self) -> [u64; 6] {
        [self.0.rdi, self.0.rsi, self.0.rdx, self.0.r10, self.0.r8, self.0.r9]
    }

    /// The same with another call.
    pub(in crate::sandbox) fn with_call(mut self, call: libc::c_long, arguments: [u64; 6]) -> Self {
        self.0.orig_rax = call as u64;
        self.0.rax = call as u64;
        [self.0.rdi, self.0.rsi, self.0.rdx, self.0.r10, self.0.r8, self.0.r9] = arguments;
        self
    }

    /// The same without a call, which seems to fail.
    pub(in crate::sandbox) fn failed(mut self, errno: i32) -> Self {
        self.0.orig_rax = u64::MAX;
        self.0.rax = i64::from(-errno) as u64;
        self
    }

    /// The same once more before the call, from what they are when it has returned.
    pub(in crate::sandbox) fn again(mut self) -> Self {
        self.0.rax = self.0.orig_rax;
        self.0.rip -= CALL_INSTRUCTION;
        self
    }

    /// What a call has returned.
    pub(in crate::sandbox) fn result(&self) -> i64 {
        self.0.rax as i64
    }

    /// Where the unused part of the stack ends, which grows downwards.
    pub(in crate::sandbox) fn stack(&self) -> u64 {
        self.0.rsp.saturating_sub(RED_ZONE)
    }
}
