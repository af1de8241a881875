//! Giving the kernel a filter of system calls.
//!
//! Sources: seccomp(2).

use std::io;

use nix::libc;

use super::check;

/// Has the kernel ask `program` about every call of this thread and of what it starts, from now on
/// and for good. Programs that are in force already are asked as well; the stricter answer holds.
///
/// Needs CAP_SYS_ADMIN in the user namespace, or `no_new_privs`. Mitigations that cost every
/// program half its speed on kernels before 5.16 are not asked for along with it: they guard
/// threads of one process against one another, which is not what this filter is for.
pub(in crate::sandbox) fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).ok().filter(|length| i32::from(*length) <= libc::BPF_MAXINSNS);
    let Some(len) = length else {
        return Err(io::Error::other(format!(
            "a filter of {} instructions is longer than the {} that the kernel takes",
            program.len(),
            libc::BPF_MAXINSNS
        )));
    };
    let request = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `request` and the instructions it points to outlive the call, `len` is their number,
    // and the kernel only reads them. The type wants a mutable pointer for historical reasons.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const request,
        )
    });
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            Err(io::Error::other("this kernel has no filters of system calls (CONFIG_SECCOMP_FILTER)"))
        }
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Err(io::Error::other(
            "a filter of system calls needs CAP_SYS_ADMIN in the user namespace, or no_new_privs",
        )),
        other => other.map(drop),
    }
}
