//! The calls that have no safe wrapper in nix or rustix, each behind a safe function.
//!
//! Owns: all `unsafe` of the program. Wrappers return `io::Error` and owned values.
//!
//! Sources: clone(2), mount_setattr(2), close_range(2), keyctl(2), netdevice(7).
#![expect(unsafe_code, reason = "the one place for system calls without a safe wrapper")]

pub(super) mod landlock;
pub(super) mod memory;
pub(super) mod notify;
pub(super) mod seccomp;
#[cfg(target_arch = "x86_64")]
pub(super) mod stat;
#[cfg(target_arch = "x86_64")]
pub(super) mod trace;

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::Pid;
use rustix::mount::MountAttrFlags;

/// Kinds of namespaces that [`clone_process`] can create, `CLONE_NEW*` bits.
pub(super) mod namespaces {
    use nix::libc;

    /// User ids, capabilities.
    pub(in crate::sandbox) const USER: i32 = libc::CLONE_NEWUSER;
    /// Mounts.
    pub(in crate::sandbox) const MOUNT: i32 = libc::CLONE_NEWNS;
    /// Process ids.
    pub(in crate::sandbox) const PID: i32 = libc::CLONE_NEWPID;
    /// System V IPC and POSIX message queues.
    pub(in crate::sandbox) const IPC: i32 = libc::CLONE_NEWIPC;
    /// Host name.
    pub(in crate::sandbox) const UTS: i32 = libc::CLONE_NEWUTS;
    /// Network devices, routes, abstract sockets.
    pub(in crate::sandbox) const NETWORK: i32 = libc::CLONE_NEWNET;
}

/// Bytes of the kernel's signal set, which has a bit for each signal.
const SIGNAL_SET: usize = if cfg!(any(target_arch = "mips64", target_arch = "mips")) { 16 } else { 8 };

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Forks this process, with the child in new `namespaces` (0: in the same ones).
///
/// Gives `None` in the child. The process must have one thread: the child has a copy of all
/// memory, and a lock that another thread held would stay held in it for ever.
pub(super) fn clone_process(namespaces: i32) -> io::Result<Option<Pid>> {
    let mut flags = namespaces;
    let mut child_tid = 0;
    // The C library keeps the thread id in memory; its own fork has the kernel write the child's
    // there. Elsewhere than glibc the kernel knows another address, so its content is compared.
    if let Ok(Some(address)) = rustix::thread::get_clear_child_tid_address() {
        // SAFETY: the address was registered by this thread's C library for the kernel to write a
        // pid_t to, so it is aligned, mapped, and lives as long as the thread.
        let known = unsafe { address.cast::<libc::pid_t>().read_volatile() };
        if known == rustix::thread::gettid().as_raw_nonzero().get() {
            flags |= libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID;
            child_tid = address.as_ptr() as u64;
        }
    }
    // SAFETY: `clone_args` is plain integers, for which zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags as u32 as u64;
    args.child_tid = child_tid;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child runs on a copy of this stack and memory, as after fork;
    // the caller guarantees one thread, so no lock is left held. `args` outlives the call.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut args, std::mem::size_of::<libc::clone_args>())
    });
    let pid = match pid {
        // What filters calls in a container cannot look at flags behind a pointer.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => old_clone(flags, child_tid),
        result => result,
    }?;
    Ok(if pid == 0 { None } else { Some(Pid::from_raw(pid as libc::pid_t)) })
}

/// As clone3, by the older call, whose arguments have another order on each architecture.
fn old_clone(flags: i32, child_tid: u64) -> io::Result<libc::c_long> {
    let flags = flags as u32 as u64 | libc::SIGCHLD as u64;
    let (first, second) = if cfg!(target_arch = "s390x") { (0, flags) } else { (flags, 0) };
    // SAFETY: as for clone3, with no stack of its own for the child. The fourth argument is the child's
    // thread id on some architectures and the fifth on others; the other of the two is thread-local
    // storage, which is ignored as no flag asks for it.
    check(unsafe { libc::syscall(libc::SYS_clone, first, second, 0u64, child_tid, child_tid) })
}

/// Takes ownership of a descriptor that a message has just brought.
pub(super) fn own_received(raw: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for the receiver, who owns it alone.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Ends this process at once, without the exit handlers that belong to the process it was forked
/// from.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Adds `attributes` to the mount that `tree` is the root of, and to those below when `recursive`.
pub(super) fn set_mount_attributes(
    tree: impl AsFd,
    attributes: MountAttrFlags,
    recursive: bool,
) -> io::Result<()> {
    let request = libc::mount_attr {
        attr_set: u64::from(attributes.bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated literal, `request` outlives the call and its size is
    // passed along, the descriptor is borrowed for the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const request,
            std::mem::size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Closes every descriptor from `first` on. Only for the start of a process, before any
/// descriptor has an owner.
pub(super) fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the caller guarantees that no owned descriptor exists yet in this process.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) })?;
    Ok(())
}

/// Has uname(2) name the 32-bit machine, for this process and what it starts.
pub(super) fn become_linux32() -> io::Result<()> {
    const PER_LINUX32: libc::c_ulong = 8;
    // SAFETY: the call takes no pointer and changes nothing but the answers of uname.
    check(libc::c_long::from(unsafe { libc::personality(PER_LINUX32) }))?;
    Ok(())
}

/// Has every descriptor from `first` on closed by the next exec.
pub(super) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: setting the flag closes nothing, so no owner is affected.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })?;
    Ok(())
}

/// Whether `signal` is ignored, as under nohup.
pub(super) fn is_ignored(signal: Signal) -> bool {
    // SAFETY: `sigaction` is plain data; with no new action the call only fills `old`.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `old` is valid for writing, and the null pointer asks for no change.
    let result = unsafe { libc::sigaction(signal as i32, std::ptr::null(), &raw mut old) };
    result == 0 && old.sa_sigaction == libc::SIG_IGN
}

/// Restores the default action of `signal`.
pub(super) fn set_default(signal: Signal) -> io::Result<()> {
    // SAFETY: the default action runs no code of this process.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    Ok(())
}

/// Ignores `signal` from now on.
pub(super) fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: ignoring runs no code of this process.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    Ok(())
}

/// Restores the default action of every signal and unblocks all of them.
pub(super) fn reset_signals() -> io::Result<()> {
    // All zero is the default action, no flags, an empty mask, in the kernel's own layout.
    let default = [0u64; 8];
    // The C library refuses to touch the two signals that it uses itself.
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: `default` is larger than the kernel's structure on every architecture, and the
        // default action runs no code of this process. SIGKILL and SIGSTOP answer EINVAL, and
        // cannot be changed by anybody.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                SIGNAL_SET,
            )
        };
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Leaves the session keyring of the caller for a new empty one, so that a command possesses
/// none of the user's keys.
pub(super) fn leave_session_keyring() -> io::Result<()> {
    // SAFETY: the null pointer asks for an anonymous keyring; nothing is read or written.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING as libc::c_long,
            std::ptr::null::<libc::c_char>(),
        )
    });
    match result {
        // No keyrings in this kernel, or a filter that keeps commands from them as well.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        other => other.map(drop),
    }
}

/// Brings up the loopback device of this network namespace.
pub(super) fn bring_up_loopback() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain data, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq` with a NUL-terminated name, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) };
    check(libc::c_long::from(result))?;
    Ok(())
}
