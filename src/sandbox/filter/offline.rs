//! The network taken away by a filter of calls, where no network namespace can be made.
//!
//! A command that can make no socket but those of the Unix family reaches no network, not even the
//! loopback device. What a network namespace has more: with this filter the abstract Unix sockets of
//! the container are still there.
//!
//! Sources: socket(2), socketcall(2), io_uring_setup(2).

use std::sync::OnceLock;

use nix::libc;

use super::bpf::{Action, Condition, Filter, Rule};
use super::calls::{Abi, Machine};

/// As if the kernel had no other family: programs then try the next one, and say so in the end.
const NO_FAMILY: Action = Action::Errno(libc::EAFNOSUPPORT as u16);
const UNKNOWN: Action = Action::Errno(libc::ENOSYS as u16);

/// The kernel takes the family as 32 bits.
const FAMILY: u64 = 0xffff_ffff;

/// The program for commands on this host; `None` where the host's calls are not known, on machines
/// other than amd64, arm64, riscv64 and loongarch64.
pub(in crate::sandbox) fn offline_program() -> Option<&'static [libc::sock_filter]> {
    static PROGRAM: OnceLock<Option<Vec<libc::sock_filter>>> = OnceLock::new();
    PROGRAM.get_or_init(|| Machine::host().map(|machine| offline(machine).assemble())).as_deref()
}

fn offline(machine: Machine) -> Filter {
    Filter {
        rules: rules(machine.native),
        compat: machine.compat.map(rules),
        otherwise: Action::Allow,
        // Such a call might make a socket.
        other_abi: UNKNOWN,
    }
}

fn rules(abi: Abi) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (name, number) in abi.calls() {
        let mut add = |when, action| rules.push(Rule { call: number.into(), when, action });
        match name {
            "socket" | "socketpair" => {
                let wanted = libc::AF_UNIX as u64;
                add(vec![Condition { argument: 0, mask: FAMILY, wanted, negated: false }], Action::Allow);
                add(Vec::new(), NO_FAMILY);
            }
            // Their arguments are in memory, where a filter cannot look; both can make sockets.
            "socketcall" | "io_uring_setup" => add(Vec::new(), UNKNOWN),
            _ => {}
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_abi_keeps_unix_sockets_alone() {
        for machine in [Machine::AMD64, Machine::ARM64, Machine::RISCV64, Machine::LOONGARCH64] {
            let filter = offline(machine);
            let compat = filter.compat.clone().zip(machine.compat);
            for (rules, abi) in [(filter.rules, machine.native)].into_iter().chain(compat) {
                let outcome = |name: &str, argument: u64| {
                    let number = abi.calls().find(|call| call.0 == name)?.1;
                    let holds = |condition: &Condition| argument & condition.mask == condition.wanted;
                    let found = rules
                        .iter()
                        .find(|rule| rule.call == libc::c_long::from(number) && rule.when.iter().all(holds));
                    Some(found.map_or(Action::Allow, |rule| rule.action))
                };
                for family in [0, 2, 10, 16, 17, 38, 40, u64::MAX] {
                    assert_eq!(outcome("socket", family), Some(NO_FAMILY), "{family}");
                }
                assert_eq!(outcome("socket", 1), Some(Action::Allow));
                assert_eq!(outcome("socket", 1 << 32 | 2), Some(NO_FAMILY));
                assert_eq!(outcome("socketpair", 1), Some(Action::Allow));
                assert_eq!(outcome("io_uring_setup", 0), Some(UNKNOWN));
                assert!(matches!(outcome("socketcall", 1), None | Some(UNKNOWN)));
                assert_eq!(outcome("connect", 3), Some(Action::Allow));
            }
        }
    }
}
