//! The handlers of foreign programs that belong to this user namespace alone.
//!
//! Invariant: the host's handlers are never touched. A binfmt_misc mount is the instance of the
//! caller's user namespace, so nothing is mounted in the initial one.
//!
//! Sources: the kernel's `admin-guide/binfmt-misc.rst`; private instances since Linux 6.7.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::mounts::new_file_system;

/// Inode of the initial user namespace, the same on every system.
const INITIAL_NAMESPACE: u64 = 0xEFFF_FFFD;

/// A private instance of binfmt_misc. Its handlers are gone when it is dropped.
#[derive(Debug)]
pub struct Binfmt {
    directory: OwnedFd,
}

/// A private instance is not to be had, or a handler not to be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BinfmtError {
    /// The handlers would be the host's.
    #[error("not in a user namespace of our own: the handlers of the host stay as they are")]
    InitialNamespace,
    /// The mount failed.
    #[error("private binfmt_misc: {reason} (mount: {source})")]
    Mount {
        /// What the error means.
        reason: &'static str,
        /// The error.
        source: io::Error,
    },
    /// The registration failed.
    #[error("binfmt_misc handler: {reason} (register: {source})")]
    Register {
        /// What the error means.
        reason: &'static str,
        /// The error.
        source: io::Error,
    },
}

impl Binfmt {
    /// Mounts the instance of this user namespace where no path leads to it.
    ///
    /// An instance without handlers hides the host's: register all that the build needs.
    ///
    /// # Errors
    ///
    /// Refuses in the initial user namespace, and fails before Linux 6.7.
    pub fn mount() -> Result<Self, BinfmtError> {
        let initial =
            rustix::fs::stat("/proc/self/ns/user").map_or(true, |found| found.st_ino == INITIAL_NAMESPACE);
        if initial {
            return Err(BinfmtError::InitialNamespace);
        }
        new_file_system("binfmt_misc", &[], MountAttrFlags::empty())
            .map(|directory| Self { directory })
            .map_err(|source| {
                let reason = match source.raw_os_error() {
                    Some(libc::EPERM | libc::EACCES) => {
                        "kernel older than 6.7, or a security policy forbids the mount"
                    }
                    Some(libc::ENODEV) => "kernel without CONFIG_BINFMT_MISC, or its module is not loaded",
                    _ => "unexpected error",
                };
                BinfmtError::Mount { reason, source }
            })
    }

    /// Registers a handler by its line, `:NAME:M:OFFSET:MAGIC:MASK:INTERPRETER:FLAGS`.
    ///
    /// # Errors
    ///
    /// Says what the kernel means when it refuses.
    pub fn register(&self, line: &[u8]) -> Result<(), BinfmtError> {
        let write = || {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&self.directory, "register", flags, Mode::empty())?;
            // The kernel parses each write by itself, so there must be one.
            rustix::io::write(&file, line)
        };
        let source: io::Error = match write() {
            Ok(count) if count == line.len() => return Ok(()),
            Ok(_) => io::ErrorKind::WriteZero.into(),
            Err(error) => error.into(),
        };
        let reason = match source.raw_os_error() {
            Some(libc::ENOENT) => "the interpreter is missing, or its path is relative",
            Some(libc::EEXIST) => "a handler of this name is registered already",
            Some(libc::EINVAL) => "malformed magic, mask or flags, or a line too long",
            Some(libc::EACCES | libc::EPERM) => "a security policy forbids it",
            _ => "unexpected error",
        };
        Err(BinfmtError::Register { reason, source })
    }
}
