//! Memory and limits of another process.
//!
//! Sources: process_vm_readv(2), prlimit(2).
#![expect(unsafe_code, reason = "see the parent module")]

use std::io;

use nix::libc;

use super::check;

/// Reads from the memory of a thread's process; may give less than was asked for at the end of what is mapped.
pub(in crate::sandbox) fn read(thread: i32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: into.len() };
    // SAFETY: `local` is memory of ours, valid for writing; the other address is in another process,
    // where the kernel checks it.
    let count = check(unsafe {
        libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) as libc::c_long
    })?;
    Ok(count as usize)
}

/// Writes to the memory of a thread's process.
pub(in crate::sandbox) fn write(thread: i32, address: u64, from: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: from.len() };
    // SAFETY: `local` is memory of ours that the call reads; the other address is in another process,
    // where the kernel checks it.
    let count = check(unsafe {
        libc::process_vm_writev(thread, &raw const local, 1, &raw const remote, 1, 0) as libc::c_long
    })?;
    if count as usize == from.len() {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::EFAULT))
}

/// The soft and hard limit on realtime processor time of a process, in microseconds.
pub(in crate::sandbox) fn realtime_limit(process: i32) -> io::Result<(u64, u64)> {
    let mut found = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `found` is valid for writing; the null pointer asks for no change.
    check(libc::c_long::from(unsafe {
        libc::prlimit(process, libc::RLIMIT_RTTIME, std::ptr::null(), &raw mut found)
    }))?;
    Ok((found.rlim_cur, found.rlim_max))
}

/// Sets both of them.
pub(in crate::sandbox) fn set_realtime_limit(process: i32, limit: u64) -> io::Result<()> {
    let wanted = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: `wanted` outlives the call, which reads it; the null pointer asks for no old value.
    check(libc::c_long::from(unsafe {
        libc::prlimit(process, libc::RLIMIT_RTTIME, &raw const wanted, std::ptr::null_mut())
    }))?;
    Ok(())
}
