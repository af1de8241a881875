//! Calls that isolation and supervision need.
//!
//! Sources: seccomp(2), ptrace(2), landlock(7), user_namespaces(7).

use std::io;

#[cfg(target_arch = "x86_64")]
use nix::sys::signal::{Signal, kill};
#[cfg(target_arch = "x86_64")]
use nix::sys::wait::waitpid;
use rustix::mount::{MountAttrFlags, MountPropagationFlags};

use super::super::filter::{Action, Filter};
use super::super::mounts::new_file_system;
use super::super::refusal::EnterError;
use super::super::sys::{self, namespaces};
use super::child::attempt;

/// Whether the kernel makes a user namespace, and mounts can be changed inside it.
///
/// # Errors
///
/// Says why not, with the settings that bear on it.
pub fn user_namespace() -> Result<(), EnterError> {
    // Ubuntu lets the namespace be made, but takes its capabilities away.
    let mounts = || {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        Ok(rustix::mount::mount_change("/", private)?)
    };
    attempt(namespaces::USER | namespaces::MOUNT, mounts).map_err(EnterError::clone_failed)
}

/// Whether the kernel makes a network namespace within a user namespace, as `RUN --network=none` needs it.
///
/// # Errors
///
/// Gives the kernel's answer.
pub fn network_namespace() -> io::Result<()> {
    attempt(namespaces::USER | namespaces::NETWORK, || Ok(()))
}

/// Whether this process may change its root directory.
///
/// # Errors
///
/// Gives the kernel's answer.
pub fn chroot() -> io::Result<()> {
    attempt(0, || Ok(rustix::process::chroot("/")?))
}

/// A filter that allows everything.
fn open_filter() -> Filter {
    Filter { rules: Vec::new(), compat: None, otherwise: Action::Allow, other_abi: Action::Allow }
}

/// Whether a process can be put under a filter of system calls.
///
/// # Errors
///
/// Gives the kernel's answer.
pub fn call_filter() -> io::Result<()> {
    attempt(0, || {
        rustix::thread::set_no_new_privs(true)?;
        sys::seccomp::install(&open_filter().assemble())
    })
}

/// Whether a supervisor can be told of the calls of a process. Only one can be: `EBUSY` means that this
/// process already has one, of the surrounding container for instance.
///
/// # Errors
///
/// Gives the kernel's answer.
pub fn call_listener() -> io::Result<()> {
    attempt(0, || {
        rustix::thread::set_no_new_privs(true)?;
        sys::notify::install_with_listener(&open_filter().assemble()).map(drop)
    })
}

/// Whether a process can trace its own child.
///
/// # Errors
///
/// Gives the kernel's answer; fails on processors other than x86-64, whose calls the tracer does not know.
#[cfg(target_arch = "x86_64")]
pub fn tracing() -> io::Result<()> {
    attempt(0, || {
        let Some(child) = sys::clone_process(0)? else {
            // A tracer that is ended in the attempt leaves nobody behind.
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            loop {
                nix::unistd::pause();
            }
        };
        let seized = sys::trace::seize(child.as_raw());
        kill(child, Signal::SIGKILL)?;
        waitpid(child, None)?;
        seized
    })
}

/// Whether a process can trace its own child.
///
/// # Errors
///
/// Always: the tracer knows the calls of x86-64 alone.
#[cfg(not(target_arch = "x86_64"))]
pub fn tracing() -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "the supervisor knows the calls of x86-64 alone"))
}

/// The version of Landlock's interface, 1 and up.
///
/// # Errors
///
/// `ENOSYS` where the kernel has none, `EOPNOTSUPP` where it is not switched on.
pub fn landlock_version() -> io::Result<u32> {
    sys::landlock::version()
}

/// Whether a /proc of the build's own processes can be had. Call it inside the entered namespaces.
///
/// # Errors
///
/// `EPERM` where parts of the outer /proc are covered, as in containers.
pub fn fresh_proc() -> io::Result<()> {
    new_file_system("proc", &[], MountAttrFlags::empty()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_landlock_begin_with_one() {
        match landlock_version() {
            Ok(version) => assert!(version >= 1),
            Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
        }
    }

    #[test]
    fn a_filter_that_allows_everything_is_made() {
        assert!(!open_filter().assemble().is_empty());
    }
}
