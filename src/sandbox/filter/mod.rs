//! Filters of system calls: how their programs are made, and the one that commands run under.
//!
//! Owns: the assembler of seccomp programs, the tables of system calls, the default profile.
//! Refuses: nothing by itself; `sys/seccomp.rs` has the kernel take a program.
//!
//! Invariants:
//! - A program looks at a call's ABI first. A call of an ABI that its author did not think of never
//!   meets the rules of another one, where the same number means something else.
//! - The profile names what is allowed. A call of tomorrow's kernel is not.
//!
//! A filter is not what keeps a command from the host: namespaces and capabilities are. It takes
//! away the calls that a build does not need and in which kernels had their faults.
//!
//! Sources: seccomp(2), the kernel's documents on seccomp filters and classic BPF.

mod bpf;
mod calls;
mod offline;
mod profile;

pub(super) use bpf::{Action, Condition, Filter, Rule};
pub(super) use offline::offline_program;
pub(super) use profile::default_program;
