//! Landlock: a process takes rights on files away from itself, and from all that it starts.
//!
//! Source: landlock(7).
#![expect(unsafe_code, reason = "see the parent module")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

use super::check;

// The numbers of these calls are the same for every processor.
const CREATE_RULESET: libc::c_long = 444;
const ADD_RULE: libc::c_long = 445;
const RESTRICT_SELF: libc::c_long = 446;

const VERSION: libc::c_ulong = 1;
const PATH_BENEATH: libc::c_ulong = 1;

/// What rules are about. The first field of the kernel's structure may be given alone.
#[repr(C)]
struct RulesetAttribute {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// Rights below a directory, or on one file.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// The version of the interface: 1 and up.
pub(in crate::sandbox) fn version() -> io::Result<u32> {
    // SAFETY: with this flag the call takes no structure.
    let version = check(unsafe { libc::syscall(CREATE_RULESET, std::ptr::null::<u8>(), 0_usize, VERSION) })?;
    Ok(version as u32)
}

/// A new set of rules: of the rights in `handled`, none is left but those that are added. What is named in
/// `scoped`, which the kernel knows from version 6 on, works among processes under the rules alone.
pub(in crate::sandbox) fn create(handled: u64, scoped: u64) -> io::Result<OwnedFd> {
    let attribute = RulesetAttribute { handled_access_fs: handled, handled_access_net: 0, scoped };
    let size = if scoped == 0 { size_of::<u64>() } else { size_of::<RulesetAttribute>() };
    // SAFETY: `attribute` outlives the call, and no more than its size is passed along.
    let raw =
        check(unsafe { libc::syscall(CREATE_RULESET, &raw const attribute, size, 0 as libc::c_ulong) })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// Allows `rights` on what is below `place`, or on `place` itself.
pub(in crate::sandbox) fn allow(ruleset: &OwnedFd, place: impl AsFd, rights: u64) -> io::Result<()> {
    let rule = PathBeneath { allowed_access: rights, parent_fd: place.as_fd().as_raw_fd() };
    // SAFETY: `rule` outlives the call, which reads it; the descriptors are borrowed for the call.
    check(unsafe {
        libc::syscall(ADD_RULE, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0 as libc::c_ulong)
    })?;
    Ok(())
}

/// Puts this thread under the rules, for good. It must not be able to gain privileges.
pub(in crate::sandbox) fn restrict_self(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: the call takes no pointer.
    check(unsafe { libc::syscall(RESTRICT_SELF, ruleset.as_raw_fd(), 0 as libc::c_ulong) })?;
    Ok(())
}
