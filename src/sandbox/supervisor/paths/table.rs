//! What becomes of each call.

use nix::libc::{self, c_long};

use super::super::super::filter::{Action, Condition, Rule};
use super::super::tracer::EXECUTING;
use super::calls::{self, Call, Outcome};

type CarryOut = fn(&Call<'_>) -> Outcome;

/// Calls that are carried out here.
#[rustfmt::skip]
const HANDLED: [(c_long, CarryOut); 57] = [
    (libc::SYS_open, calls::open),
    (libc::SYS_openat, calls::openat),
    (libc::SYS_creat, calls::creat),
    (libc::SYS_stat, calls::stat_followed),
    (libc::SYS_lstat, calls::lstat),
    (libc::SYS_fstat, calls::fstat),
    (libc::SYS_newfstatat, calls::newfstatat),
    (libc::SYS_statx, calls::statx),
    (libc::SYS_access, calls::access),
    (libc::SYS_faccessat, calls::faccessat),
    (libc::SYS_faccessat2, calls::faccessat2),
    (libc::SYS_readlink, calls::readlink),
    (libc::SYS_readlinkat, calls::readlinkat),
    (libc::SYS_mkdir, calls::mkdir),
    (libc::SYS_mkdirat, calls::mkdirat),
    (libc::SYS_mknod, calls::mknod),
    (libc::SYS_mknodat, calls::mknodat),
    (libc::SYS_unlink, calls::unlink),
    (libc::SYS_unlinkat, calls::unlinkat),
    (libc::SYS_rmdir, calls::rmdir),
    (libc::SYS_rename, calls::rename),
    (libc::SYS_renameat, calls::renameat),
    (libc::SYS_renameat2, calls::renameat2),
    (libc::SYS_link, calls::link),
    (libc::SYS_linkat, calls::linkat),
    (libc::SYS_symlink, calls::symlink),
    (libc::SYS_symlinkat, calls::symlinkat),
    (libc::SYS_chmod, calls::chmod),
    (libc::SYS_fchmod, calls::fchmod),
    (libc::SYS_fchmodat, calls::fchmodat),
    (FCHMODAT2, calls::fchmodat2),
    (libc::SYS_chown, calls::chown),
    (libc::SYS_lchown, calls::lchown),
    (libc::SYS_fchown, calls::fchown),
    (libc::SYS_fchownat, calls::fchownat),
    (libc::SYS_utime, calls::utime),
    (libc::SYS_utimes, calls::utimes),
    (libc::SYS_futimesat, calls::futimesat),
    (libc::SYS_utimensat, calls::utimensat),
    (libc::SYS_truncate, calls::truncate),
    (libc::SYS_statfs, calls::statfs),
    (libc::SYS_getcwd, calls::getcwd),
    (libc::SYS_setxattr, calls::setxattr),
    (libc::SYS_lsetxattr, calls::lsetxattr),
    (libc::SYS_fsetxattr, calls::fsetxattr),
    (libc::SYS_getxattr, calls::getxattr),
    (libc::SYS_lgetxattr, calls::lgetxattr),
    (libc::SYS_fgetxattr, calls::fgetxattr),
    (libc::SYS_listxattr, calls::listxattr),
    (libc::SYS_llistxattr, calls::llistxattr),
    (libc::SYS_flistxattr, calls::flistxattr),
    (libc::SYS_removexattr, calls::removexattr),
    (libc::SYS_lremovexattr, calls::lremovexattr),
    (libc::SYS_fremovexattr, calls::fremovexattr),
    (libc::SYS_bind, calls::bind),
    (libc::SYS_connect, calls::connect),
    (libc::SYS_socket, calls::socket),
];

/// Numbers of calls that came later than the C library's list of them.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const GETXATTRAT: c_long = 464;
const LISTXATTRAT: c_long = 465;
const REMOVEXATTRAT: c_long = 466;
const OPEN_TREE_ATTR: c_long = 467;
const FILE_GETATTR: c_long = 468;
const FILE_SETATTR: c_long = 469;
const STATMOUNT: c_long = 457;
const LISTMOUNT: c_long = 458;

/// Calls that are root's, and not those of a container's root; and those that lead to other processes of
/// the same user, which here are not those of the command alone.
const FORBIDDEN: [c_long; 27] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_bpf,
    libc::SYS_unshare,
    libc::SYS_setns,
];

/// Calls that programs have another way for, as in older kernels.
const UNKNOWN: [c_long; 19] = [
    libc::SYS_openat2,
    libc::SYS_inotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    // What is asked for in memory is carried out by no call.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_uselib,
    libc::SYS_lookup_dcookie,
    SETXATTRAT,
    GETXATTRAT,
    LISTXATTRAT,
    REMOVEXATTRAT,
    OPEN_TREE_ATTR,
    FILE_GETATTR,
    FILE_SETATTR,
    STATMOUNT,
    LISTMOUNT,
    libc::SYS_quotactl_fd,
];

/// The kernel takes the arguments that are looked at as 32 bits.
const INT: u64 = 0xffff_ffff;
/// A new process or thread that no tracer gets.
const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;
/// The type of a socket, without its flags.
const SOCKET_TYPE: u64 = 0xf;

/// Who carries a call out; `None` for one that is not brought here.
pub(super) fn handler(call: c_long) -> Option<CarryOut> {
    HANDLED.iter().find(|(number, _)| *number == call).map(|(_, carry_out)| *carry_out)
}

/// The rules by which calls with paths are brought to the supervisor and the tracer, or refused. No other
/// call takes a path.
pub(in crate::sandbox::supervisor) fn rules() -> Vec<Rule> {
    let always = |call, action| Rule { call, when: Vec::new(), action };
    let is =
        |argument, mask, wanted: i32| Condition { argument, mask, wanted: wanted as u64, negated: false };
    let local = || is(0, INT, libc::AF_UNIX);
    let mut rules = Vec::new();
    // A pair for datagrams could send them to others as well.
    rules.push(Rule {
        call: libc::SYS_socketpair,
        when: vec![local(), is(1, SOCKET_TYPE, libc::SOCK_DGRAM)],
        action: Action::Errno(libc::EACCES as u16),
    });
    rules.push(Rule {
        call: libc::SYS_socketpair,
        when: vec![local(), is(1, SOCKET_TYPE, libc::SOCK_RAW)],
        action: Action::Errno(libc::EACCES as u16),
    });
    // A process that is not dumpable could not be answered: neither its memory nor its descriptors could be
    // reached. It is told that it is one.
    rules.push(Rule {
        call: libc::SYS_prctl,
        when: vec![is(0, INT, libc::PR_SET_DUMPABLE)],
        action: Action::Errno(0),
    });
    // The kernel hands no descriptor of a path to another process.
    for (call, flags) in [(libc::SYS_open, 1), (libc::SYS_openat, 2)] {
        rules.push(Rule {
            call,
            when: vec![is(flags, libc::O_PATH as u64, libc::O_PATH)],
            action: Action::Trace,
        });
    }
    // A process that is not traced would not end with the tracer.
    rules.push(Rule {
        call: libc::SYS_clone,
        when: vec![is(0, UNTRACED, libc::CLONE_UNTRACED)],
        action: Action::Errno(libc::EPERM as u16),
    });
    for (call, _) in HANDLED {
        // Sockets of other families have no paths.
        let when = if call == libc::SYS_socket { vec![local()] } else { Vec::new() };
        rules.push(Rule { call, when, action: Action::Notify });
    }
    let traced = EXECUTING.into_iter().chain([libc::SYS_chdir]);
    rules.extend(traced.map(|call| always(call, Action::Trace)));
    rules.extend(FORBIDDEN.map(|call| always(call, Action::Errno(libc::EPERM as u16))));
    rules.extend(UNKNOWN.map(|call| always(call, Action::Errno(libc::ENOSYS as u16))));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All calls of x86-64 that take a path, or that can be told a name in a file system otherwise.
    const WITH_PATHS: &[c_long] = &[
        libc::SYS_open,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_access,
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_socketpair,
        libc::SYS_execve,
        libc::SYS_truncate,
        libc::SYS_getcwd,
        libc::SYS_chdir,
        libc::SYS_rename,
        libc::SYS_mkdir,
        libc::SYS_rmdir,
        libc::SYS_creat,
        libc::SYS_link,
        libc::SYS_unlink,
        libc::SYS_symlink,
        libc::SYS_readlink,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_utime,
        libc::SYS_mknod,
        libc::SYS_uselib,
        libc::SYS_statfs,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_acct,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_quotactl,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_getxattr,
        libc::SYS_lgetxattr,
        libc::SYS_listxattr,
        libc::SYS_llistxattr,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        libc::SYS_lookup_dcookie,
        libc::SYS_utimes,
        libc::SYS_inotify_add_watch,
        libc::SYS_openat,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_fchownat,
        libc::SYS_futimesat,
        libc::SYS_newfstatat,
        libc::SYS_unlinkat,
        libc::SYS_renameat,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_readlinkat,
        libc::SYS_fchmodat,
        libc::SYS_faccessat,
        libc::SYS_utimensat,
        libc::SYS_fanotify_mark,
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
        libc::SYS_renameat2,
        libc::SYS_bpf,
        libc::SYS_execveat,
        libc::SYS_statx,
        libc::SYS_io_uring_setup,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_openat2,
        libc::SYS_faccessat2,
        libc::SYS_mount_setattr,
        FCHMODAT2,
        STATMOUNT,
        LISTMOUNT,
        SETXATTRAT,
        GETXATTRAT,
        LISTXATTRAT,
        REMOVEXATTRAT,
        OPEN_TREE_ATTR,
        FILE_GETATTR,
        FILE_SETATTR,
    ];

    #[test]
    fn every_call_with_a_path_has_a_rule() {
        let rules = rules();
        for call in WITH_PATHS {
            assert!(rules.iter().any(|rule| rule.call == *call), "{call}");
        }
        assert!(rules.iter().all(|rule| rule.action != Action::Allow));
        for rule in rules.iter().filter(|rule| rule.action == Action::Notify) {
            assert!(handler(rule.call).is_some(), "{}", rule.call);
        }
        let mut handled: Vec<_> = HANDLED.iter().map(|(call, _)| *call).collect();
        handled.sort_unstable();
        handled.dedup();
        assert_eq!(handled.len(), HANDLED.len());
    }
}
