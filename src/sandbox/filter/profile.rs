//! The profile that commands run under: which system calls a build may make.
//!
//! It allows what Docker's default profile allows a container with the 14 default capabilities, as
//! of 2026, and no more: nothing that changes mounts, namespaces, modules, keys, the clock or the
//! machine, no io_uring, no sockets but those of families that programs use. Of what Docker allows
//! it leaves out the x32 ABI.
//!
//! A call that is known and not allowed fails with `EPERM`. One that is not known, because it is
//! newer than this list, fails with `ENOSYS`: a C library then falls back to what it used before.
//! `clone3` fails so as well. It takes its flags from memory, where a filter cannot look, and every
//! C library falls back to `clone`.
//!
//! What it cannot see: `socketcall`, by which i386 programs open sockets, has the family in memory,
//! too. As in Docker's profile it is allowed, for Debian's i386 programs have no other way.
//!
//! The flag `no_new_privs` is no part of it: set-user-id programs work, as in `docker build`.
//!
//! Sources: the default profile of Docker (moby/profiles, seccomp), clone(2), personality(2), socket(2).

use std::collections::HashSet;
use std::sync::OnceLock;

use nix::libc;

use super::bpf::{Action, Condition, Filter, Rule};
use super::calls::{Abi, Machine};

/// Calls that are allowed whatever their arguments.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64 arm_sync_file_range bind breakpoint
    brk cacheflush cachestat capget capset chdir chmod chown chown32 chroot clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
    fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64
    fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
    futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32
    geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid
    getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid
    getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch
    inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen
    listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64
    madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat
    mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv
    msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat
    openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
    ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv
    process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
    removexattrat rename renameat renameat2 restart_syscall riscv_flush_icache riscv_hwprobe rmdir rseq
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64
    sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address set_tls setfsgid setfsgid32
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid
    setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid
    setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack
    signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64
    statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill
    truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat
    utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// Families of sockets that are allowed, first and last of each run, those of nearly all calls
/// first: Unix, IPv4 and IPv6, netlink and packets.
///
/// Not among them are families that kernels have given up (DECnet 12, Econet 19, IrDA 23, WANPIPE
/// 25, ISDN 34), ATM's circuits (20) and CAIF (37), the kernel's ciphers (AF_ALG, 38), and AF_VSOCK
/// (40), which leads to the host of a virtual machine.
const FAMILIES: [(u64, u64); 9] =
    [(0, 11), (16, 18), (13, 15), (21, 22), (24, 24), (26, 33), (35, 36), (39, 39), (41, 45)];

/// Values of personality(2): Linux and its 32-bit form, both also with the release called 2.6, and
/// the question for the present one.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The bits of clone(2) that make namespaces: mount, cgroup, UTS, IPC, user, PID, network. The one
/// for time namespaces is a part of the exit signal there.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// The kernel takes the arguments that are looked at as 32 bits, and so ignores the other half.
const ARGUMENT: u64 = 0xffff_ffff;

const NO: Action = Action::Errno(libc::EPERM as u16);
const UNKNOWN: Action = Action::Errno(libc::ENOSYS as u16);

/// The program of the profile for commands on this host; `None` where the host's calls are not
/// known, on machines other than amd64, arm64, riscv64 and loongarch64.
///
/// The first call assembles it, which takes as long as having the kernel accept it (0.1 ms): a
/// process that forks others for commands makes that call before.
pub(in crate::sandbox) fn default_program() -> Option<&'static [libc::sock_filter]> {
    static PROGRAM: OnceLock<Option<Vec<libc::sock_filter>>> = OnceLock::new();
    PROGRAM.get_or_init(|| Machine::host().map(|machine| profile(machine).assemble())).as_deref()
}

fn profile(machine: Machine) -> Filter {
    let allowed: HashSet<&str> = ALLOWED.split_ascii_whitespace().collect();
    Filter {
        rules: rules(machine.native, &allowed),
        compat: machine.compat.map(|abi| rules(abi, &allowed)),
        otherwise: UNKNOWN,
        other_abi: UNKNOWN,
    }
}

fn rules(abi: Abi, allowed: &HashSet<&str>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (name, number) in abi.calls() {
        let mut add = |when, action| rules.push(Rule { call: number.into(), when, action });
        let mut allow_if = |mask, wanted| {
            add(vec![Condition { argument: 0, mask, wanted, negated: false }], Action::Allow);
        };
        let action = match name {
            "clone" => {
                allow_if(NAMESPACES, 0);
                NO
            }
            "clone3" => UNKNOWN,
            "personality" => {
                PERSONALITIES.iter().for_each(|value| allow_if(ARGUMENT, *value));
                NO
            }
            "socket" => {
                for (first, last) in FAMILIES {
                    blocks(first, last).for_each(|(first, size)| allow_if(ARGUMENT & !(size - 1), first));
                }
                NO
            }
            name if allowed.contains(name) => Action::Allow,
            _ => NO,
        };
        add(Vec::new(), action);
    }
    rules
}

/// Cuts the numbers from `first` to `last` into blocks that a mask can tell: each begins at a
/// multiple of its size, a power of two.
fn blocks(first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut next = first;
    std::iter::from_fn(move || {
        let left = (last + 1).checked_sub(next).filter(|left| *left > 0)?;
        let most = 1 << left.ilog2();
        let size = if next == 0 { most } else { most.min(1 << next.trailing_zeros()) };
        let block = (next, size);
        next += size;
        Some(block)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [Machine; 4] = [Machine::AMD64, Machine::ARM64, Machine::RISCV64, Machine::LOONGARCH64];

    /// What the profile does with a call of `abi` with this first argument, by name.
    fn outcome(rules: &[Rule], abi: Abi, name: &str, argument: u64) -> Action {
        let number = abi.calls().find(|call| call.0 == name).map_or(5000, |call| call.1);
        let holds = |condition: &Condition| {
            assert_eq!((condition.argument, condition.negated), (0, false));
            argument & condition.mask == condition.wanted
        };
        let found =
            rules.iter().find(|rule| rule.call == libc::c_long::from(number) && rule.when.iter().all(holds));
        found.map_or(UNKNOWN, |rule| rule.action)
    }

    fn each(mut check: impl FnMut(&[Rule], Abi)) {
        for machine in ALL {
            let profile = profile(machine);
            check(&profile.rules, machine.native);
            if let (Some(abi), Some(rules)) = (machine.compat, &profile.compat) {
                check(rules, abi);
            }
        }
    }

    #[test]
    fn every_allowed_call_exists_somewhere() {
        let mut left: BTreeSet<&str> = ALLOWED.split_ascii_whitespace().collect();
        for machine in ALL {
            for abi in [Some(machine.native), machine.compat].into_iter().flatten() {
                left.retain(|name| !abi.calls().any(|call| call.0 == *name));
            }
        }
        assert_eq!(left, BTreeSet::new());
        let names: Vec<&str> = ALLOWED.split_ascii_whitespace().collect();
        assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn what_a_build_must_not_do() {
        for name in "mount umount umount2 pivot_root setns unshare open_tree move_mount fsopen fsconfig \
                     fsmount fspick mount_setattr bpf perf_event_open userfaultfd keyctl add_key \
                     request_key kexec_load kexec_file_load init_module finit_module delete_module \
                     create_module query_module get_kernel_syms reboot swapon swapoff io_uring_setup \
                     io_uring_enter io_uring_register quotactl quotactl_fd nfsservctl acct syslog \
                     sethostname setdomainname settimeofday clock_settime clock_settime64 stime iopl \
                     ioperm vhangup kcmp pidfd_getfd process_madvise open_by_handle_at lookup_dcookie \
                     fanotify_init get_mempolicy set_mempolicy set_mempolicy_home_node mbind \
                     migrate_pages move_pages uselib ustat sysfs _sysctl vm86 vm86old afs_syscall \
                     lsm_get_self_attr lsm_set_self_attr lsm_list_modules pciconfig_write"
            .split_ascii_whitespace()
        {
            let mut seen = 0;
            each(|rules, abi| {
                if abi.calls().any(|call| call.0 == name) {
                    assert_eq!(outcome(rules, abi, name, 0), NO, "{name} of {:x}", abi.audit);
                    seen += 1;
                }
            });
            assert!(seen > 0, "{name}");
        }
    }

    #[test]
    fn what_a_build_needs() {
        each(|rules, abi| {
            for name in "read openat execve exit_group mknodat chroot ptrace process_vm_readv capset \
                         setresuid prctl seccomp close_range fchownat rt_sigaction fchmodat2 statx"
                .split_ascii_whitespace()
            {
                assert_eq!(outcome(rules, abi, name, u64::MAX), Action::Allow, "{name} of {:x}", abi.audit);
            }
            assert_eq!(outcome(rules, abi, "clone3", 0), UNKNOWN);
            assert_eq!(outcome(rules, abi, "of_tomorrow", 0), UNKNOWN);
        });
    }

    #[test]
    fn arguments_decide() {
        each(|rules, abi| {
            let is = |name, argument| outcome(rules, abi, name, argument) == Action::Allow;
            // A thread, a process, and each namespace.
            assert!(is("clone", 0x3d_0f00) && is("clone", 0x11) && is("clone", 0));
            for bit in [17, 25, 26, 27, 28, 29, 30] {
                assert!(!is("clone", 1 << bit | 0x11), "bit {bit}");
            }
            for value in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff, u64::MAX] {
                assert!(is("personality", value), "{value:x}");
            }
            for value in [1, 4, 0x4_0000, 0x40_0000, 0x2_0001] {
                assert!(!is("personality", value), "{value:x}");
            }
            let families: Vec<u64> = (0..100).filter(|family| is("socket", *family)).collect();
            let wanted = (0..46).filter(|family| ![12, 19, 20, 23, 25, 34, 37, 38, 40].contains(family));
            assert_eq!(families, wanted.collect::<Vec<_>>());
            assert!(!is("socket", 38 | 1 << 32), "the kernel ignores the upper half");
            assert!(!is("socket", 0xffff_ffff));
        });
    }

    #[test]
    fn runs_are_cut_into_blocks() {
        for (first, last) in [(0, 11), (13, 15), (24, 24), (26, 33), (41, 45), (0, 0), (1, 64)] {
            let mut next = first;
            for (start, size) in blocks(first, last) {
                assert_eq!(start, next);
                assert!(size.is_power_of_two() && start % size == 0, "{start} {size}");
                next = start + size;
            }
            assert_eq!(next, last + 1);
        }
    }

    #[test]
    fn the_program_is_small() {
        let program = default_program().map_or(0, <[_]>::len);
        assert!(program < 1000, "{program} instructions");
    }
}
