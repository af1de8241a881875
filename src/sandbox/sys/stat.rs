//! What the kernel says of a file, in the form in which a program gets it.
//!
//! Sources: stat(2), statx(2).
#![expect(unsafe_code, reason = "see the parent module")]

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

use super::check;

/// Where the fields are that a supervisor changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) struct Fields {
    pub(in crate::sandbox) uid: usize,
    pub(in crate::sandbox) gid: usize,
}

/// Bytes of the kernel's `struct stat`.
pub(in crate::sandbox) const STAT: usize = 144;
/// Bytes of `struct statx`.
pub(in crate::sandbox) const STATX: usize = 256;

const _: () = assert!(size_of::<libc::stat>() == STAT && size_of::<libc::statx>() == STATX);

/// Fields of `struct stat`.
pub(in crate::sandbox) const STAT_FIELDS: Fields =
    Fields { uid: offset_of!(libc::stat, st_uid), gid: offset_of!(libc::stat, st_gid) };

/// Fields of `struct statx`.
pub(in crate::sandbox) const STATX_FIELDS: Fields =
    Fields { uid: offset_of!(libc::statx, stx_uid), gid: offset_of!(libc::statx, stx_gid) };

/// Fills in a `struct stat` for an open file.
pub(in crate::sandbox) fn stat(file: BorrowedFd<'_>) -> io::Result<[u8; STAT]> {
    let mut bytes = [0; STAT];
    // SAFETY: the kernel writes its structure, which has this many bytes on this architecture.
    check(unsafe { libc::syscall(libc::SYS_fstat, file.as_raw_fd(), bytes.as_mut_ptr()) })?;
    Ok(bytes)
}

/// Fills in a `struct statx` for an open file.
pub(in crate::sandbox) fn statx(file: BorrowedFd<'_>, flags: i32, mask: u32) -> io::Result<[u8; STATX]> {
    let mut bytes = [0; STATX];
    let flags = flags | libc::AT_EMPTY_PATH;
    // SAFETY: the path is a literal with its NUL, and the kernel writes its structure, which has this many
    // bytes everywhere.
    check(unsafe {
        libc::syscall(libc::SYS_statx, file.as_raw_fd(), c"".as_ptr(), flags, mask, bytes.as_mut_ptr())
    })?;
    Ok(bytes)
}
