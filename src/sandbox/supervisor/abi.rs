//! The calls that arrive at the supervisor: the one table of numbers, which are those of x86-64.
//!
//! Sources: seccomp(2), syscall(2), the kernel's `syscall_64.tbl`.

use nix::libc;

use super::super::filter::{Action, Condition, Filter, Rule};
use super::{
    attribute_calls, creation_calls, credential_calls, identity_calls, move_calls, permission_calls,
};

/// Arguments of 32 bits, as the kernel takes flags and names of limits.
const WORD: u64 = 0xffff_ffff;

/// Which argument of a call says for which limit it is.
const LIMITS: [(libc::c_long, u8); 3] =
    [(libc::SYS_getrlimit, 0), (libc::SYS_setrlimit, 0), (libc::SYS_prlimit64, 1)];

/// Calls that open files, and which argument holds the flags.
const OPENING: [(libc::c_long, u8); 2] = [(libc::SYS_open, 1), (libc::SYS_openat, 2)];

/// What a command needs of its supervisor beyond the ids of processes and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope {
    /// A tracer hears of programs that are executed, or else the supervisor does.
    pub(super) traced: bool,
    /// It begins as another user than root, who may not do everything.
    pub(super) guarded: bool,
    /// Its root has files whose owners are known by their names.
    pub(super) moving: bool,
}

/// The filter of a command whose root is its own, and whose ids are simulated.
pub(super) fn one_id_filter(scope: Scope) -> Filter {
    let mut rules = credential_rules();
    let calls = identity_calls::CALLS.into_iter().chain(creation_calls::CALLS).chain(attribute_calls::CALLS);
    rules.extend(calls.chain([libc::SYS_creat]).map(|call| rule(call, None, Action::Notify)));
    if scope.guarded {
        rules.extend(permission_calls::CALLS.map(|call| rule(call, None, Action::Notify)));
    } else {
        for (call, argument) in OPENING {
            for bit in creation_calls::MAKING {
                let flag = Condition { argument, mask: bit, wanted: bit, negated: false };
                rules.push(rule(call, Some(flag), Action::Notify));
            }
        }
        if scope.moving {
            rules.extend(move_calls::CALLS.map(|call| rule(call, None, Action::Notify)));
        }
    }
    let execution = if scope.traced { Action::Trace } else { Action::Notify };
    rules.extend([libc::SYS_execve, libc::SYS_execveat].map(|call| rule(call, None, execution)));
    Filter {
        rules,
        compat: None,
        otherwise: Action::Allow,
        // The calls of 32-bit programs have other numbers, and would pass the supervisor by.
        other_abi: Action::Errno(libc::ENOSYS as u16),
    }
}

/// The rules for calls about credentials, which are the same wherever credentials are simulated.
pub(super) fn credential_rules() -> Vec<Rule> {
    let rules = credential_calls::CALLS.into_iter().map(|call| {
        let limit = LIMITS.iter().find(|(other, _)| *other == call).map(|(_, argument)| Condition {
            argument: *argument,
            mask: WORD,
            wanted: libc::RLIMIT_RTTIME.into(),
            negated: false,
        });
        rule(call, limit, Action::Notify)
    });
    rules.collect()
}

fn rule(call: libc::c_long, when: Option<Condition>, action: Action) -> Rule {
    Rule { call, when: when.into_iter().collect(), action }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_fits_into_the_kernel() {
        for guarded in [false, true] {
            let scope = Scope { traced: true, guarded, moving: true };
            assert!(one_id_filter(scope).assemble().len() < 300);
        }
        let numbers = [libc::SYS_chown, libc::SYS_newfstatat, libc::SYS_setresuid, libc::SYS_openat2];
        assert_eq!(numbers, [92, 262, 117, 437]);
    }
}
