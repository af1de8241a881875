//! Which filters of calls a command gets.
//!
//! The kernel takes a filter from who has the capability SYS_ADMIN, or sets `no_new_privs`. In
//! namespaces of ours every command has the capability. Root in a container often lacks it: the
//! container's own filter is in force there already, and set-user-id programs are to work as they do
//! everywhere else, so that ours is left out. Only a command that is to have no network, where no
//! namespace keeps it from there, gives up set-user-id programs for it.
//!
//! Sources: seccomp(2), capabilities(7).

use std::io;

use rustix::thread::CapabilitySet;

use super::filter;
use super::isolation::Isolation;
use super::spec::{Network, RunSpec};
use super::sys;
use super::wire::{Failure, Step};

/// Said of a command whose network [`install`] takes away.
pub(super) const OFFLINE_NOTE: &str = "no network namespace can be made here: a filter of calls keeps this \
    command from the network, which takes the loopback device and set-user-id programs from it as well";

/// Has the kernel filter the calls of this process and of all that it starts, while it still has its
/// capabilities. `apart` says that it has the namespaces that the command was to have.
pub(super) fn install(spec: &RunSpec, apart: bool) -> Result<(), Failure> {
    if spec.isolation == Isolation::Ptrace {
        // It has no rights that a set-user-id program could add to: those are simulated.
        rustix::thread::set_no_new_privs(true).step("no_new_privs")?;
    }
    let mut allowed = spec.isolation.has_namespaces() || may_filter().step("seccomp")?;
    if spec.network == Network::None && !apart {
        let program = filter::offline_program().ok_or_else(|| {
            io::Error::other("neither a network namespace can be made here, nor a filter for this processor")
        });
        let program = program.step("network")?;
        if !allowed {
            rustix::thread::set_no_new_privs(true).step("no_new_privs")?;
            allowed = true;
        }
        sys::seccomp::install(program).step("network")?;
    }
    match filter::default_program() {
        Some(program) if allowed => sys::seccomp::install(program).step("seccomp"),
        _ => Ok(()),
    }
}

/// Whether the kernel takes a filter from this process.
fn may_filter() -> io::Result<bool> {
    let capabilities = rustix::thread::capabilities(None)?;
    Ok(capabilities.effective.contains(CapabilitySet::SYS_ADMIN) || rustix::thread::no_new_privs()?)
}
