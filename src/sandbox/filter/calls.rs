//! System calls by name and number, for every ABI that a command of this host may use.
//!
//! A table is a list of runs: a first number, and the names of the calls from there on; `-` stands
//! for a number that no call has. All tables are compiled everywhere, so tests on one machine see
//! the programs of all. The numbers are the kernel's promise to programs: they never change.
//!
//! Sources: the kernel's `syscall.tbl` of each architecture, `scripts/syscall.tbl`; audit.h for the
//! names of ABIs.

/// Runs of calls: the number of the first, and the names.
type Table = &'static [(u32, &'static str)];

/// An ABI of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abi {
    /// What seccomp(2) says of a call of this ABI, an `AUDIT_ARCH_` value.
    pub(super) audit: u32,
    tables: &'static [Table],
}

impl Abi {
    /// Every call, its name and number, ordered by numbers within a table.
    pub(super) fn calls(self) -> impl Iterator<Item = (&'static str, u32)> {
        self.tables.iter().copied().flatten().flat_map(|(first, names)| {
            names.split_ascii_whitespace().zip(*first..).filter(|(name, _)| *name != "-")
        })
    }
}

/// A kind of host: which ABIs the calls of its programs may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    /// The ABI of its own programs.
    pub(super) native: Abi,
    /// The 32-bit ABI that its kernel may have as well.
    pub(super) compat: Option<Abi>,
}

impl Machine {
    /// 64-bit x86; x32 is not an ABI here.
    pub(super) const AMD64: Self = Self {
        native: Abi { audit: 0xc000_003e, tables: &[X86_64, NEW] },
        compat: Some(Abi { audit: 0x4000_0003, tables: &[I386, TIME, NEW] }),
    };
    /// 64-bit Arm.
    pub(super) const ARM64: Self = Self {
        native: Abi { audit: 0xc000_00b7, tables: &[GENERIC, NEW] },
        compat: Some(Abi { audit: 0x4000_0028, tables: &[ARM, TIME, NEW] }),
    };
    /// 64-bit RISC-V.
    pub(super) const RISCV64: Self =
        Self { native: Abi { audit: 0xc000_00f3, tables: &[GENERIC, NEW] }, compat: None };
    /// 64-bit LoongArch.
    pub(super) const LOONGARCH64: Self =
        Self { native: Abi { audit: 0xc000_0102, tables: &[GENERIC, NEW] }, compat: None };

    /// The machine of `architecture`, in the words of [`std::env::consts::ARCH`]. `None` for one
    /// whose calls are not listed here.
    pub(super) fn of(architecture: &str) -> Option<Self> {
        match architecture {
            "x86_64" => Some(Self::AMD64),
            "aarch64" => Some(Self::ARM64),
            "riscv64" => Some(Self::RISCV64),
            "loongarch64" => Some(Self::LOONGARCH64),
            _ => None,
        }
    }

    /// This machine.
    pub(super) fn host() -> Option<Self> {
        Self::of(std::env::consts::ARCH)
    }
}

/// Calls from 5.1 on, which have the same numbers everywhere. The names of those to come are not known
/// here, and neither are those calls.
const NEW: Table = &[(
    424,
    "pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen \
         fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 \
         process_madvise epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset \
         landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv \
         set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait \
         futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal \
         setxattrat getxattrat listxattrat removexattrat",
)];

/// Calls with 64-bit times, which only the 32-bit ABIs have.
const TIME: Table = &[(
    403,
    "clock_gettime64 clock_settime64 clock_adjtime64 clock_getres_time64 clock_nanosleep_time64 \
         timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 utimensat_time64 \
         pselect6_time64 ppoll_time64 - io_pgetevents_time64 recvmmsg_time64 mq_timedsend_time64 \
         mq_timedreceive_time64 semtimedop_time64 rt_sigtimedwait_time64 futex_time64 \
         sched_rr_get_interval_time64",
)];

/// x86-64.
const X86_64: Table = &[(
    0,
    "read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction \
         rt_sigprocmask rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select \
         sched_yield mremap msync mincore madvise shmget shmat shmctl dup dup2 pause nanosleep \
         getitimer alarm setitimer getpid sendfile socket connect accept sendto recvfrom sendmsg \
         recvmsg shutdown bind listen getsockname getpeername socketpair setsockopt getsockopt clone \
         fork vfork execve exit wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl \
         fcntl flock fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir \
         rmdir creat link unlink symlink readlink chmod fchmod chown fchown lchown umask gettimeofday \
         getrlimit getrusage sysinfo times ptrace getuid syslog getgid setuid setgid geteuid getegid \
         setpgid getppid getpgrp setsid setreuid setregid getgroups setgroups setresuid getresuid \
         setresgid getresgid getpgid setfsuid setfsgid getsid capget capset rt_sigpending \
         rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod uselib personality \
         ustat statfs fstatfs sysfs getpriority setpriority sched_setparam sched_getparam \
         sched_setscheduler sched_getscheduler sched_get_priority_max sched_get_priority_min \
         sched_rr_get_interval mlock munlock mlockall munlockall vhangup modify_ldt pivot_root _sysctl \
         prctl arch_prctl adjtimex setrlimit chroot sync acct settimeofday mount umount2 swapon \
         swapoff reboot sethostname setdomainname iopl ioperm create_module init_module delete_module \
         get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg afs_syscall tuxcall security \
         gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr \
         llistxattr flistxattr removexattr lremovexattr fremovexattr tkill time futex \
         sched_setaffinity sched_getaffinity set_thread_area io_setup io_destroy io_getevents \
         io_submit io_cancel get_thread_area lookup_dcookie epoll_create epoll_ctl_old epoll_wait_old \
         remap_file_pages getdents64 set_tid_address restart_syscall semtimedop fadvise64 timer_create \
         timer_settime timer_gettime timer_getoverrun timer_delete clock_settime clock_gettime \
         clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes vserver mbind \
         set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify \
         mq_getsetattr kexec_load waitid add_key request_key keyctl ioprio_set ioprio_get inotify_init \
         inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat futimesat \
         newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll \
         unshare set_robust_list get_robust_list splice tee sync_file_range vmsplice move_pages \
         utimensat epoll_pwait signalfd timerfd_create eventfd fallocate timerfd_settime \
         timerfd_gettime accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv \
         pwritev rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 \
         name_to_handle_at open_by_handle_at clock_adjtime syncfs sendmmsg setns getcpu \
         process_vm_readv process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2 \
         seccomp getrandom memfd_create kexec_file_load bpf execveat userfaultfd membarrier mlock2 \
         copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq \
         uretprobe",
)];

/// i386.
const I386: Table = &[
    (
        0,
        "restart_syscall exit fork read write open close waitpid creat link unlink execve chdir time \
         mknod chmod lchown break oldstat lseek getpid mount umount setuid getuid stime ptrace alarm \
         oldfstat pause utime stty gtty access nice ftime sync kill rename mkdir rmdir dup pipe times \
         prof brk setgid getgid signal geteuid getegid acct umount2 lock ioctl fcntl mpx setpgid \
         ulimit oldolduname umask chroot ustat dup2 getppid getpgrp setsid sigaction sgetmask ssetmask \
         setreuid setregid sigsuspend sigpending sethostname setrlimit getrlimit getrusage \
         gettimeofday settimeofday getgroups setgroups select symlink oldlstat readlink uselib swapon \
         reboot readdir mmap munmap truncate ftruncate fchmod fchown getpriority setpriority profil \
         statfs fstatfs ioperm socketcall syslog setitimer getitimer stat lstat fstat olduname iopl \
         vhangup idle vm86old wait4 swapoff sysinfo ipc fsync sigreturn clone setdomainname uname \
         modify_ldt adjtimex mprotect sigprocmask create_module init_module delete_module \
         get_kernel_syms quotactl getpgid fchdir bdflush sysfs personality afs_syscall setfsuid \
         setfsgid _llseek getdents _newselect flock msync readv writev getsid fdatasync _sysctl mlock \
         munlock mlockall munlockall sched_setparam sched_getparam sched_setscheduler \
         sched_getscheduler sched_yield sched_get_priority_max sched_get_priority_min \
         sched_rr_get_interval nanosleep mremap setresuid getresuid vm86 query_module poll nfsservctl \
         setresgid getresgid prctl rt_sigreturn rt_sigaction rt_sigprocmask rt_sigpending \
         rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend pread64 pwrite64 chown getcwd capget capset \
         sigaltstack sendfile getpmsg putpmsg vfork ugetrlimit mmap2 truncate64 ftruncate64 stat64 \
         lstat64 fstat64 lchown32 getuid32 getgid32 geteuid32 getegid32 setreuid32 setregid32 \
         getgroups32 setgroups32 fchown32 setresuid32 getresuid32 setresgid32 getresgid32 chown32 \
         setuid32 setgid32 setfsuid32 setfsgid32 pivot_root mincore madvise getdents64 fcntl64 - - \
         gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr \
         llistxattr flistxattr removexattr lremovexattr fremovexattr tkill sendfile64 futex \
         sched_setaffinity sched_getaffinity set_thread_area get_thread_area io_setup io_destroy \
         io_getevents io_submit io_cancel fadvise64 - exit_group lookup_dcookie epoll_create epoll_ctl \
         epoll_wait remap_file_pages set_tid_address timer_create timer_settime timer_gettime \
         timer_getoverrun timer_delete clock_settime clock_gettime clock_getres clock_nanosleep \
         statfs64 fstatfs64 tgkill utimes fadvise64_64 vserver mbind get_mempolicy set_mempolicy \
         mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr kexec_load waitid - \
         add_key request_key keyctl ioprio_set ioprio_get inotify_init inotify_add_watch \
         inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat futimesat fstatat64 unlinkat \
         renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll unshare \
         set_robust_list get_robust_list splice sync_file_range tee vmsplice move_pages getcpu \
         epoll_pwait utimensat signalfd timerfd_create eventfd fallocate timerfd_settime \
         timerfd_gettime signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev \
         rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 \
         name_to_handle_at open_by_handle_at clock_adjtime syncfs sendmmsg setns process_vm_readv \
         process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom \
         memfd_create bpf execveat socket socketpair bind connect listen accept4 getsockopt setsockopt \
         getsockname getpeername sendto sendmsg recvfrom recvmsg shutdown userfaultfd membarrier \
         mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx arch_prctl \
         io_pgetevents rseq",
    ),
    (393, "semget semctl shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl"),
];

/// The kernel's generic table for 64 bits: arm64, riscv64 and loongarch64, each of which lacks some.
const GENERIC: Table = &[
    (
        0,
        "io_setup io_destroy io_submit io_cancel io_getevents setxattr lsetxattr fsetxattr getxattr \
         lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr \
         getcwd lookup_dcookie eventfd2 epoll_create1 epoll_ctl epoll_pwait dup dup3 fcntl \
         inotify_init1 inotify_add_watch inotify_rm_watch ioctl ioprio_set ioprio_get flock mknodat \
         mkdirat unlinkat symlinkat linkat - umount2 mount pivot_root nfsservctl statfs fstatfs \
         truncate ftruncate fallocate faccessat chdir fchdir chroot fchmod fchmodat fchownat fchown \
         openat close vhangup pipe2 quotactl getdents64 lseek read write readv writev pread64 pwrite64 \
         preadv pwritev sendfile pselect6 ppoll signalfd4 vmsplice splice tee readlinkat newfstatat \
         fstat sync fsync fdatasync sync_file_range timerfd_create timerfd_settime timerfd_gettime \
         utimensat acct capget capset personality exit exit_group waitid set_tid_address unshare futex \
         set_robust_list get_robust_list nanosleep getitimer setitimer kexec_load init_module \
         delete_module timer_create timer_gettime timer_getoverrun timer_settime timer_delete \
         clock_settime clock_gettime clock_getres clock_nanosleep syslog ptrace sched_setparam \
         sched_setscheduler sched_getscheduler sched_getparam sched_setaffinity sched_getaffinity \
         sched_yield sched_get_priority_max sched_get_priority_min sched_rr_get_interval \
         restart_syscall kill tkill tgkill sigaltstack rt_sigsuspend rt_sigaction rt_sigprocmask \
         rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigreturn setpriority getpriority reboot \
         setregid setgid setreuid setuid setresuid getresuid setresgid getresgid setfsuid setfsgid \
         times setpgid getpgid getsid setsid getgroups setgroups uname sethostname setdomainname \
         getrlimit setrlimit getrusage umask prctl getcpu gettimeofday settimeofday adjtimex getpid \
         getppid getuid geteuid getgid getegid gettid sysinfo mq_open mq_unlink mq_timedsend \
         mq_timedreceive mq_notify mq_getsetattr msgget msgctl msgrcv msgsnd semget semctl semtimedop \
         semop shmget shmctl shmat shmdt socket socketpair bind listen accept connect getsockname \
         getpeername sendto recvfrom setsockopt getsockopt shutdown sendmsg recvmsg readahead brk \
         munmap mremap add_key request_key keyctl clone execve mmap fadvise64 swapon swapoff mprotect \
         msync mlock munlock mlockall munlockall mincore madvise remap_file_pages mbind get_mempolicy \
         set_mempolicy migrate_pages move_pages rt_tgsigqueueinfo perf_event_open accept4 recvmmsg",
    ),
    (
        258,
        "riscv_hwprobe riscv_flush_icache wait4 prlimit64 fanotify_init fanotify_mark \
         name_to_handle_at open_by_handle_at clock_adjtime syncfs setns sendmmsg process_vm_readv \
         process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom \
         memfd_create bpf execveat userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 \
         pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq kexec_file_load",
    ),
];

/// arm EABI.
const ARM: Table = &[
    (
        0,
        "restart_syscall exit fork read write open close - creat link unlink execve chdir - mknod \
         chmod lchown - - lseek getpid mount - setuid getuid - ptrace - - pause - - - access nice - \
         sync kill rename mkdir rmdir dup pipe times - brk setgid getgid - geteuid getegid acct \
         umount2 - ioctl fcntl - setpgid - - umask chroot ustat dup2 getppid getpgrp setsid sigaction \
         - - setreuid setregid sigsuspend sigpending sethostname setrlimit - getrusage gettimeofday \
         settimeofday getgroups setgroups - symlink - readlink uselib swapon reboot - - munmap \
         truncate ftruncate fchmod fchown getpriority setpriority - statfs fstatfs - - syslog \
         setitimer getitimer stat lstat fstat - - vhangup - - wait4 swapoff sysinfo - fsync sigreturn \
         clone setdomainname uname - adjtimex mprotect sigprocmask - init_module delete_module - \
         quotactl getpgid fchdir bdflush sysfs personality - setfsuid setfsgid _llseek getdents \
         _newselect flock msync readv writev getsid fdatasync _sysctl mlock munlock mlockall \
         munlockall sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_yield \
         sched_get_priority_max sched_get_priority_min sched_rr_get_interval nanosleep mremap \
         setresuid getresuid - - poll nfsservctl setresgid getresgid prctl rt_sigreturn rt_sigaction \
         rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend pread64 pwrite64 \
         chown getcwd capget capset sigaltstack sendfile - - vfork ugetrlimit mmap2 truncate64 \
         ftruncate64 stat64 lstat64 fstat64 lchown32 getuid32 getgid32 geteuid32 getegid32 setreuid32 \
         setregid32 getgroups32 setgroups32 fchown32 setresuid32 getresuid32 setresgid32 getresgid32 \
         chown32 setuid32 setgid32 setfsuid32 setfsgid32 getdents64 pivot_root mincore madvise fcntl64 \
         - - gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr \
         llistxattr flistxattr removexattr lremovexattr fremovexattr tkill sendfile64 futex \
         sched_setaffinity sched_getaffinity io_setup io_destroy io_getevents io_submit io_cancel \
         exit_group lookup_dcookie epoll_create epoll_ctl epoll_wait remap_file_pages - - \
         set_tid_address timer_create timer_settime timer_gettime timer_getoverrun timer_delete \
         clock_settime clock_gettime clock_getres clock_nanosleep statfs64 fstatfs64 tgkill utimes \
         arm_fadvise64_64 pciconfig_iobase pciconfig_read pciconfig_write mq_open mq_unlink \
         mq_timedsend mq_timedreceive mq_notify mq_getsetattr waitid socket bind connect listen accept \
         getsockname getpeername socketpair send sendto recv recvfrom shutdown setsockopt getsockopt \
         sendmsg recvmsg semop semget semctl msgsnd msgrcv msgget msgctl shmat shmdt shmget shmctl \
         add_key request_key keyctl semtimedop vserver ioprio_set ioprio_get inotify_init \
         inotify_add_watch inotify_rm_watch mbind get_mempolicy set_mempolicy openat mkdirat mknodat \
         fchownat futimesat fstatat64 unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat \
         pselect6 ppoll unshare set_robust_list get_robust_list splice arm_sync_file_range tee \
         vmsplice move_pages getcpu epoll_pwait kexec_load utimensat signalfd timerfd_create eventfd \
         fallocate timerfd_settime timerfd_gettime signalfd4 eventfd2 epoll_create1 dup3 pipe2 \
         inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open recvmmsg accept4 fanotify_init \
         fanotify_mark prlimit64 name_to_handle_at open_by_handle_at clock_adjtime syncfs sendmmsg \
         setns process_vm_readv process_vm_writev kcmp finit_module sched_setattr sched_getattr \
         renameat2 seccomp getrandom memfd_create bpf execveat userfaultfd membarrier mlock2 \
         copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx rseq io_pgetevents \
         migrate_pages kexec_file_load",
    ),
    (0xf_0001, "breakpoint cacheflush usr26 usr32 set_tls get_tls"),
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const ALL: [Machine; 4] = [Machine::AMD64, Machine::ARM64, Machine::RISCV64, Machine::LOONGARCH64];

    fn abis() -> Vec<Abi> {
        ALL.iter().flat_map(|machine| [Some(machine.native), machine.compat]).flatten().collect()
    }

    #[test]
    fn every_number_has_one_call() {
        for abi in abis() {
            let numbers: Vec<_> = abi.calls().map(|(_, number)| number).collect();
            let distinct: BTreeSet<_> = numbers.iter().collect();
            assert_eq!(numbers.len(), distinct.len(), "{:x}", abi.audit);
            assert!(numbers.iter().all(|number| *number < 0x10_0000), "{:x}", abi.audit);
            assert!(numbers.len() > 300, "{:x}", abi.audit);
        }
    }

    #[test]
    fn every_name_has_one_number() {
        for abi in abis() {
            let names: BTreeSet<_> = abi.calls().map(|(name, _)| name).collect();
            assert_eq!(names.len(), abi.calls().count(), "{:x}", abi.audit);
        }
    }

    #[test]
    fn well_known_numbers() {
        let number = |abi: Abi, name: &str| abi.calls().find(|call| call.0 == name).map(|call| call.1);
        let (amd64, i386) = (Machine::AMD64.native, Machine::AMD64.compat.unwrap());
        let (arm64, arm) = (Machine::ARM64.native, Machine::ARM64.compat.unwrap());
        for (name, wanted) in [
            // x86-64, i386, arm64, arm; the last of each run among them.
            ("read", [Some(0), Some(3), Some(63), Some(3)]),
            ("mount", [Some(165), Some(21), Some(40), Some(21)]),
            ("clone", [Some(56), Some(120), Some(220), Some(120)]),
            ("socket", [Some(41), Some(359), Some(198), Some(281)]),
            ("personality", [Some(135), Some(136), Some(92), Some(136)]),
            ("ptrace", [Some(101), Some(26), Some(117), Some(26)]),
            ("socketcall", [None, Some(102), None, None]),
            ("keyctl", [Some(250), Some(288), Some(219), Some(311)]),
            ("setns", [Some(308), Some(346), Some(268), Some(375)]),
            ("rseq", [Some(334), Some(386), Some(293), Some(398)]),
            ("semget", [Some(64), Some(393), Some(190), Some(299)]),
            ("msgctl", [Some(71), Some(402), Some(187), Some(304)]),
            ("setdomainname", [Some(171), Some(121), Some(162), Some(121)]),
            ("recvmmsg", [Some(299), Some(337), Some(243), Some(365)]),
            ("kexec_file_load", [Some(320), None, Some(294), Some(401)]),
            ("futex_time64", [None, Some(422), None, Some(422)]),
            ("set_tls", [None, None, None, Some(0xf_0005)]),
            ("clone3", [Some(435); 4]),
            ("fchmodat2", [Some(452); 4]),
            ("mseal", [Some(462); 4]),
            ("removexattrat", [Some(466); 4]),
        ] {
            assert_eq!([amd64, i386, arm64, arm].map(|abi| number(abi, name)), wanted, "{name}");
        }
    }

    /// The C library's own list of the calls of this host, for a good part of them.
    #[test]
    fn numbers_are_those_of_the_c_library() {
        use nix::libc;
        macro_rules! calls {
            ($($name:ident)*) => { [$((stringify!($name).trim_start_matches("SYS_"), libc::$name)),*] };
        }
        let Some(host) = Machine::host() else { return };
        let known: BTreeMap<_, _> = host.native.calls().collect();
        for (name, number) in calls!(
            SYS_accept4 SYS_acct SYS_add_key SYS_adjtimex SYS_bind SYS_bpf SYS_brk SYS_capset SYS_chroot
            SYS_clock_settime SYS_clone SYS_clone3 SYS_close SYS_close_range SYS_connect SYS_copy_file_range
            SYS_delete_module SYS_dup3 SYS_epoll_pwait2 SYS_execve SYS_execveat SYS_exit_group SYS_faccessat2
            SYS_fanotify_init SYS_fchownat SYS_fcntl SYS_fsconfig SYS_fsmount SYS_fsopen SYS_fspick SYS_futex
            SYS_getdents64 SYS_getrandom SYS_init_module SYS_io_uring_enter SYS_io_uring_register
            SYS_io_uring_setup SYS_ioctl SYS_kcmp SYS_kexec_load SYS_keyctl SYS_landlock_restrict_self
            SYS_lookup_dcookie SYS_lseek SYS_mbind SYS_memfd_secret SYS_mmap SYS_mount SYS_mount_setattr
            SYS_move_mount SYS_move_pages SYS_msgget SYS_name_to_handle_at SYS_open_by_handle_at SYS_open_tree
            SYS_openat SYS_openat2 SYS_perf_event_open SYS_personality SYS_pidfd_getfd SYS_pivot_root SYS_prctl
            SYS_process_madvise SYS_process_vm_writev SYS_ptrace SYS_quotactl SYS_quotactl_fd SYS_read
            SYS_reboot SYS_renameat2 SYS_request_key SYS_rseq SYS_rt_sigreturn SYS_seccomp SYS_semtimedop
            SYS_set_mempolicy_home_node SYS_setdomainname SYS_sethostname SYS_setns SYS_setresuid
            SYS_settimeofday SYS_shmdt SYS_socket SYS_socketpair SYS_statx SYS_swapoff SYS_swapon SYS_syslog
            SYS_tee SYS_umask SYS_umount2 SYS_unshare SYS_userfaultfd SYS_utimensat SYS_vhangup SYS_vmsplice
            SYS_wait4 SYS_waitid SYS_write SYS_writev
        ) {
            assert_eq!(known.get(name).map(|number| i64::from(*number)), Some(number), "{name}");
        }
    }
}
