//! Landlock: a process takes rights on files away from itself, and from all that it starts.
//!
//! Source: landlock(7).
#![expect(unsafe_code, reason = "see the parent module")]

use std::io;

use nix::libc;

use super::check;

// The number of this call is the same for every processor.
const CREATE_RULESET: libc::c_long = 444;

const VERSION: libc::c_ulong = 1;

/// The version of the interface: 1 and up.
pub(in crate::sandbox) fn version() -> io::Result<u32> {
    // SAFETY: with this flag the call takes no structure.
    let version = check(unsafe { libc::syscall(CREATE_RULESET, std::ptr::null::<u8>(), 0_usize, VERSION) })?;
    Ok(version as u32)
}
