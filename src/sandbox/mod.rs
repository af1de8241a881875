//! Namespaces, mounts and processes: the build's own, and those of each command.
//!
//! Owns: entering the best isolation that works ([`Isolation`]); overlay roots and whole trees as roots;
//! what a command finds in its root and what it may do; handlers of foreign programs; removing what
//! other ids own.
//! Refuses: a command that nothing keeps apart, a writable /sys or /proc/sys, a mount on a path
//! that leads out of the root, a host-wide handler, a secret on a disk.
//!
//! Invariants:
//! - This is the only room with `unsafe`, all of it in `sys/`.
//! - Nothing here knows of tokio, and nothing but [`Sandbox::spawn`] and the values it gives
//!   belongs into a process with threads.
//! - A command sees descriptors 0, 1 and 2 alone, no environment but its own, no process but its
//!   own, and cannot change anything of the host, also when host root started the build. Without a user
//!   namespace that holds as far as a changed root directory, fewer capabilities, and processes that
//!   are closed to others can keep it.
//! - A command makes no system call but those that Docker's default profile allows (`filter/`).
//!   In namespaces `no_new_privs` is not set: its set-user-id programs work.
//! - A secret is in the memory of the processes that set up its command, in a file system in memory
//!   that vanishes with the command, and in the environment of the command: nowhere else.
//!
//! Needs Linux 5.12 (mount_setattr); 5.11 brought overlay mounts in user namespaces, 6.7 private
//! handlers.
//!
//! The processes, outermost first: the original one waits ([`enter()`]); inside it the build runs
//! ([`Sandbox`]); for each command a launcher
//! (`launcher.rs`) forks a helper (`helper.rs`), which makes namespaces, process 1 (`init.rs`)
//! sets up the root, and its child is the command.
//!
//! Sources: namespaces(7), user_namespaces(7), pivot_root(2), seccomp(2), the kernel's overlayfs and
//! binfmt_misc documents, OCI runtime-spec.

mod apart;
mod binfmt;
mod cgroup;
mod chrooted;
mod codec;
mod copy;
mod enter;
mod exec;
mod executable;
mod filter;
mod filtered;
mod furnished;
mod held;
mod helper;
mod hidden;
mod identity;
mod idmap;
mod init;
mod isolation;
mod launcher;
mod mapping;
mod mount;
mod mounts;
mod namespaced;
mod overlay;
mod permit;
mod probe;
mod reaper;
mod refusal;
mod remove;
mod requested;
mod rights;
mod root;
mod run;
mod spec;
mod supervisor;
pub mod survey;
mod sys;
mod unspaced;
mod wire;

pub use apart::apart;
pub use binfmt::{Binfmt, BinfmtError};
pub use cgroup::{CgroupError, Cgroups, Limits, Usage};
pub use enter::{Config, Ended, Entered, Sandbox, enter, probe_ladder};
pub use held::HeldSignals;
pub use hidden::Hidden;
pub use isolation::{Isolation, UnknownIsolation};
pub use launcher::hidden_entry;
pub use mapping::{IdRange, Mapping};
pub use mount::{Discard, Mount};
pub use overlay::{OverlayError, probe_overlay, probe_overlay_in};
pub use permit::{LimitError, permit_limits};
pub use probe::{ProbeOutcome, execute_intercepted, execute_probe};
pub use refusal::{EnterError, Refused};
pub use remove::remove_tree;
pub use root::prepare_stubs;
pub use run::{Killer, RunEnd, RunError, Running, Spawned};
pub use spec::{Interpreter, Network, RootPlace, RunSpec, SpecialOwner};
pub use supervisor::JournalEntry;
