//! Confining a command to its root by the kernel, beside what the supervisor does.
//!
//! Calls that go through the tracer are made by the command itself, with a path that the tracer has put
//! into its memory. Another thread could write another path there. With this the kernel refuses whatever
//! lies outside of the root and of what is bound in it, and signals to what is not the command's.
//!
//! Limits: it is about files that are opened, executed, made, removed or moved. To change into a directory
//! and to ask what a file is are not among them; what is found by that is again answered by the supervisor.
//!
//! Source: landlock(7), "Filesystem actions".

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::sys::landlock;
use super::paths::{BindSource, PathView};

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIRECTORY: u64 = 1 << 3;
/// Moving between directories (version 2).
const REFER: u64 = 1 << 13;
/// Version 3.
const TRUNCATE: u64 = 1 << 14;
/// Commands for devices (version 5).
const DEVICE: u64 = 1 << 15;
/// Making and removing: all from version 1 that is not above.
const MAKE: u64 = (1 << 13) - (1 << 4);

/// Signals to processes that are not under the rules (version 6): without a namespace of processes, those
/// of fanfold and all others of the same user.
const SIGNALS: u64 = 1 << 1;
/// The version that knows it.
const SCOPES: u32 = 6;

/// The rights that only a directory can give.
const ON_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE;
const READ: u64 = EXECUTE | READ_FILE | READ_DIRECTORY;

/// The oldest version that is of use: before it nothing could be moved between directories.
const NEEDED: u32 = 2;

/// Rules for a command, made before it is started.
#[derive(Debug)]
pub(in crate::sandbox) struct Confinement {
    rules: OwnedFd,
}

/// The rights that a version of the interface knows.
fn known(version: u32) -> u64 {
    let mut rights = READ | WRITE_FILE | MAKE | REFER;
    if version >= 3 {
        rights |= TRUNCATE;
    }
    if version >= 5 {
        rights |= DEVICE;
    }
    rights
}

impl Confinement {
    /// Rules for commands with this view. Programs in the directory `programs` can be executed as well.
    ///
    /// # Errors
    ///
    /// Says why there are none: this kernel has no Landlock, or it was not switched on, or it is too old.
    /// The supervisor then has to be relied on alone.
    pub(in crate::sandbox) fn new(view: &PathView, programs: &[&Path]) -> io::Result<Self> {
        let version = usable_version()?;
        let known = known(version);
        let scoped = if version < SCOPES { 0 } else { SIGNALS };
        let confinement = Self { rules: landlock::create(known, scoped)? };
        let writable = known;
        let readable = known & READ;
        confinement.allow(&open(view.root_path())?, writable)?;
        for path in programs {
            confinement.allow(&open(path)?, readable)?;
        }
        for bind in view.binds() {
            // A device is made to be written to.
            let rights = if bind.read_only { readable } else { writable };
            match &bind.source {
                BindSource::Directory { directory, .. } => confinement.allow(directory, rights)?,
                BindSource::Processes { directory } => {
                    confinement.allow(directory, known & (READ_FILE | READ_DIRECTORY | WRITE_FILE))?;
                }
                BindSource::File { file, .. } => {
                    confinement.allow(file, readable | known & (WRITE_FILE | DEVICE))?;
                }
                // No path leads there.
                BindSource::Memory { .. } => {}
            }
        }
        Ok(confinement)
    }

    fn allow(&self, place: &OwnedFd, rights: u64) -> io::Result<()> {
        let is_directory = FileType::from_raw_mode(rustix::fs::fstat(place)?.st_mode).is_dir();
        landlock::allow(&self.rules, place, if is_directory { rights } else { rights & ON_FILES })
    }

    /// Puts this process, which has one thread, under the rules for good. To be called in the command's
    /// process before it is executed.
    pub(in crate::sandbox) fn enter(&self) -> io::Result<()> {
        rustix::thread::set_no_new_privs(true)?;
        landlock::restrict_self(&self.rules)
    }
}

/// The version of the interface here, where it is of use.
fn usable_version() -> io::Result<u32> {
    let version = landlock::version().map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NOSYS) => {
            io::Error::other("this kernel has no Landlock, or a filter of calls refuses it")
        }
        Some(Errno::OPNOTSUPP) => io::Error::other("Landlock is not switched on (boot parameter `lsm=`)"),
        Some(Errno::PERM) => io::Error::other("a filter of calls, as of a container, refuses Landlock"),
        _ => error,
    })?;
    if version < NEEDED {
        let reason = format!("Landlock of this kernel is version {version}, and {NEEDED} is needed");
        return Err(io::Error::other(reason));
    }
    Ok(version)
}

/// What users have to know where commands cannot be confined.
pub(in crate::sandbox) fn remarks() -> Vec<String> {
    let said = match usable_version() {
        Ok(version) if version >= SCOPES => return Vec::new(),
        Ok(_) => "commands can signal other processes of this user: Landlock of this kernel, older than \
                  Linux 6.12, does not keep them from it"
            .to_owned(),
        Err(reason) => format!(
            "no Landlock: {reason}; the supervisor alone keeps commands in their root, and they can signal \
             other processes of this user"
        ),
    };
    vec![said]
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}
