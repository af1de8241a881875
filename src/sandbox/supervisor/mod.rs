//! The supervisor: answers calls of a command where the kernel would refuse them, or would carry them out
//! in the wrong place.
//!
//! Owns: the loop that receives calls and answers them, what is known of the calling process, credentials
//! that the kernel does not give, owners of files that it does not keep, paths of a root that is not the
//! process's, programs of foreign processors.
//! Refuses: calls of the 32-bit interface; it knows those of x86-64 alone.
//!
//! Invariants:
//! - What a supervised process writes into its memory while it waits can lead it to another answer, never
//!   the supervisor to another file than one of the root: a path is read once, and resolved by the
//!   supervisor inside the root.
//! - The supervisor has no right on files that the build has not.
//! - It is not dumpable, and its descriptors are given to nobody.
//!
//! It lives in the process that is process 1 where the command has a process namespace. Its threads answer
//! notifications; its main thread traces, and waits for the command's end.
//!
//! Sources: seccomp_unotify(2), ptrace(2).

#[cfg(target_arch = "x86_64")]
mod abi;
#[cfg(target_arch = "x86_64")]
mod access;
mod attended;
#[cfg(target_arch = "x86_64")]
mod attribute_calls;
#[cfg(target_arch = "x86_64")]
mod confine;
#[cfg(target_arch = "x86_64")]
mod creation_calls;
#[cfg(target_arch = "x86_64")]
mod credential_calls;
mod credential_sets;
mod credentials;
#[cfg(target_arch = "x86_64")]
mod failsafe;
#[cfg(target_arch = "x86_64")]
mod identity_calls;
#[cfg(target_arch = "x86_64")]
mod move_calls;
mod notification;
#[cfg(target_arch = "x86_64")]
mod one_id;
mod owners;
#[cfg(target_arch = "x86_64")]
mod paths;
#[cfg(target_arch = "x86_64")]
mod permission_calls;
#[cfg(target_arch = "x86_64")]
mod probe;
#[cfg(target_arch = "x86_64")]
mod rootless;
mod start;
#[cfg(target_arch = "x86_64")]
mod supervised;
mod task;
#[cfg(target_arch = "x86_64")]
mod traced;
#[cfg(target_arch = "x86_64")]
mod tracer;
#[cfg(not(target_arch = "x86_64"))]
mod unsupported;
mod view;

pub(super) use attended::{Attended, end_with_parent, join_early, join_late};
#[cfg(target_arch = "x86_64")]
pub(super) use confine::remarks;
pub use owners::JournalEntry;
#[cfg(target_arch = "x86_64")]
pub(super) use probe::probe_all;
#[cfg(target_arch = "x86_64")]
pub(super) use rootless::{Ready, Rootless, prepare};
#[cfg(target_arch = "x86_64")]
use supervised::{Supervised, join_one_id};
#[cfg(target_arch = "x86_64")]
use traced::{Traced, join_traced};
#[cfg(target_arch = "x86_64")]
pub(super) use tracer::intercepted;
#[cfg(not(target_arch = "x86_64"))]
pub(super) use unsupported::{Ready, prepare, probe_all, remarks};
#[cfg(not(target_arch = "x86_64"))]
use unsupported::{Rootless, Supervised, Traced, join_one_id, join_traced};
