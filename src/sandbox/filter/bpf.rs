//! An assembler for seccomp programs, which are classic BPF.
//!
//! A program is made from its end: when an instruction is placed, those that it may jump to stand
//! already, so the distance is known. A conditional jump reaches 255 instructions far; where a
//! target is farther away, a jump without condition is put in between.
//!
//! Calls with the same rules and neighbouring numbers are one range, and a balanced tree of
//! comparisons finds the range: seven comparisons for a profile of 400 calls. A call that is always
//! allowed gets there by the ABI and the number alone, so the kernel, since 5.11, works out once
//! that it need not run the program for it at all.

use nix::libc::{self, sock_filter};

use super::calls::Machine;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Action {
    /// The kernel carries it out.
    Allow,
    /// It fails with this number, and nothing else happens.
    Errno(u16),
    /// Whoever has the filter's listener answers it; without a listener it is `ENOSYS`.
    Notify,
    /// The tracer of the process is told before the kernel carries it out; without a tracer it is
    /// `ENOSYS`.
    Trace,
}

impl Action {
    /// What a program returns to have the kernel do this.
    fn value(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(number) => libc::SECCOMP_RET_ERRNO | u32::from(number),
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
            Self::Trace => libc::SECCOMP_RET_TRACE,
        }
    }
}

/// What becomes of a call under conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sandbox) struct Rule {
    /// Number of the call, below 0x40000000; a rule for another number matches nothing.
    pub(in crate::sandbox) call: libc::c_long,
    /// All have to hold; none: the rule always matches.
    pub(in crate::sandbox) when: Vec<Condition>,
    pub(in crate::sandbox) action: Action,
}

/// Holds if `argument & mask` is `wanted`, or if it is not, when negated.
///
/// Arguments are compared as 64 bits. Where the kernel takes an argument as 32 bits, a program may
/// put anything into the upper half, so a mask has to leave that half out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) struct Condition {
    /// Which argument, 0 to 5; the kernel refuses a program that asks for another.
    pub(in crate::sandbox) argument: u8,
    pub(in crate::sandbox) mask: u64,
    pub(in crate::sandbox) wanted: u64,
    pub(in crate::sandbox) negated: bool,
}

/// What becomes of every call. Of the rules for a call the first that matches wins.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Filter {
    /// Rules for calls of the host's own ABI.
    pub(in crate::sandbox) rules: Vec<Rule>,
    /// Rules for calls of the host's 32-bit ABI (i386 on x86-64, arm on arm64), which has other
    /// numbers; `None`: these calls are of another ABI.
    pub(in crate::sandbox) compat: Option<Vec<Rule>>,
    /// For calls of these ABIs that no rule matches.
    pub(in crate::sandbox) otherwise: Action,
    /// For calls of other ABIs, x32 among them, which is told by the number.
    pub(in crate::sandbox) other_abi: Action,
}

impl Filter {
    /// The program for this host, for seccomp(2).
    ///
    /// The call number -1 is always allowed: the kernel does nothing for it, and a tracer sets it
    /// to have a call skipped whose result it has set itself.
    pub(in crate::sandbox) fn assemble(&self) -> Vec<sock_filter> {
        let machine = Machine::host();
        self.assemble_for(Layout {
            native: machine.map(|machine| machine.native.audit),
            compat: machine.and_then(|machine| machine.compat).map(|abi| abi.audit),
            big_endian: cfg!(target_endian = "big"),
        })
    }

    fn assemble_for(&self, layout: Layout) -> Vec<sock_filter> {
        let mut assembler = Assembler::new(layout.big_endian);
        let mut start = Target::End(self.other_abi);
        if let (Some(audit), Some(rules)) = (layout.compat, &self.compat) {
            let table = assembler.table(rules, self);
            start = assembler.branch(libc::BPF_JEQ, audit, table, start);
        }
        if let Some(audit) = layout.native {
            let table = assembler.table(&self.rules, self);
            start = assembler.branch(libc::BPF_JEQ, audit, table, start);
        }
        assembler.load(ABI, start);
        assembler.program()
    }
}

/// What a program has to know of the host: the values that name its ABIs (`AUDIT_ARCH_`), and
/// which half of a number comes first in memory.
#[derive(Debug, Clone, Copy)]
struct Layout {
    native: Option<u32>,
    compat: Option<u32>,
    big_endian: bool,
}

// Offsets in what a program sees of a call, `struct seccomp_data`.
const NUMBER: u32 = 0;
const ABI: u32 = 4;
const ARGUMENTS: u32 = 16;

/// From here on numbers are calls of x32, which has the value of x86-64's ABI, and nobody's else.
const FOREIGN: u32 = 0x4000_0000;

/// The call of which the kernel does nothing.
const SKIPPED: u32 = u32::MAX;

/// How far a target may be for a conditional jump: less than 255 by the instructions that may have
/// to come in between for the other target.
const NEAR: usize = 250;

/// Where a jump goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// To the instruction at this place, counted from the end of the program.
    At(usize),
    /// To the end, with this result.
    End(Action),
}

struct Assembler {
    /// The program, last instruction first.
    code: Vec<sock_filter>,
    /// The last place of the instruction for each result.
    ends: Vec<(Action, usize)>,
    big_endian: bool,
}

impl Assembler {
    fn new(big_endian: bool) -> Self {
        Self { code: Vec::new(), ends: Vec::new(), big_endian }
    }

    fn program(mut self) -> Vec<sock_filter> {
        self.code.reverse();
        self.code
    }

    fn push(&mut self, code: u32, k: u32) -> Target {
        self.code.push(sock_filter { code: code as u16, jt: 0, jf: 0, k });
        Target::At(self.code.len() - 1)
    }

    /// How many instructions lie between the next one to be placed and that at `place`.
    fn distance(&self, place: usize) -> usize {
        self.code.len() - place - 1
    }

    fn end(&mut self, action: Action) -> usize {
        let place = self.code.len();
        self.push(libc::BPF_RET | libc::BPF_K, action.value());
        self.ends.retain(|(other, _)| *other != action);
        self.ends.push((action, place));
        place
    }

    fn jump(&mut self, place: usize) -> usize {
        self.push(libc::BPF_JMP | libc::BPF_JA, self.distance(place) as u32);
        self.code.len() - 1
    }

    /// A place near enough for a conditional jump from which `target` is reached.
    fn near(&mut self, target: Target) -> usize {
        match target {
            Target::At(place) if self.distance(place) <= NEAR => place,
            Target::At(place) => self.jump(place),
            Target::End(action) => {
                let known = self.ends.iter().find(|(other, _)| *other == action).map(|(_, place)| *place);
                match known {
                    Some(place) if self.distance(place) <= NEAR => place,
                    _ => self.end(action),
                }
            }
        }
    }

    /// A conditional jump on the loaded number.
    fn branch(&mut self, test: u32, k: u32, yes: Target, no: Target) -> Target {
        let yes = self.near(yes);
        let no = self.near(no);
        let (yes, no) = (self.distance(yes) as u8, self.distance(no) as u8);
        let code = (libc::BPF_JMP | test | libc::BPF_K) as u16;
        self.code.push(sock_filter { code, jt: yes, jf: no, k });
        Target::At(self.code.len() - 1)
    }

    /// Loads the 32 bits at `offset` and goes on at `next`.
    fn load(&mut self, offset: u32, next: Target) -> Target {
        match next {
            Target::At(place) if self.distance(place) == 0 => {}
            Target::At(place) => {
                self.jump(place);
            }
            Target::End(action) => {
                self.end(action);
            }
        }
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
    }

    /// Compares 32 bits of the call.
    fn word(&mut self, offset: u32, mask: u32, wanted: u32, equal: Target, differs: Target) -> Target {
        if wanted & !mask != 0 {
            return differs;
        }
        if mask == 0 || equal == differs {
            return equal;
        }
        self.branch(libc::BPF_JEQ, wanted, equal, differs);
        if mask != u32::MAX {
            self.push(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask);
        }
        // Nothing can have come between this and the comparison.
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
    }

    fn condition(&mut self, condition: Condition, holds: Target, fails: Target) -> Target {
        let Condition { argument, mask, wanted, negated } = condition;
        let (equal, differs) = if negated { (fails, holds) } else { (holds, fails) };
        let first = ARGUMENTS + 8 * u32::from(argument);
        let (low, high) = if self.big_endian { (first + 4, first) } else { (first, first + 4) };
        let rest = self.word(low, mask as u32, wanted as u32, equal, differs);
        self.word(high, (mask >> 32) as u32, (wanted >> 32) as u32, rest, differs)
    }

    /// The rules of one call, one after the other.
    fn body(&mut self, rules: &[&Rule], otherwise: Action) -> Target {
        rules.iter().rev().fold(Target::End(otherwise), |next, rule| {
            let matched = Target::End(rule.action);
            rule.when.iter().rev().fold(matched, |holds, condition| self.condition(*condition, holds, next))
        })
    }

    /// Everything of one ABI, from loading the number on.
    fn table(&mut self, rules: &[Rule], filter: &Filter) -> Target {
        let mut ranges = vec![(0, Target::End(filter.otherwise))];
        let mut last: &[&Rule] = &[];
        let rules = by_call(rules);
        for (index, (call, own)) in rules.iter().enumerate() {
            let adjacent = index > 0 && rules[index - 1].0 + 1 == *call;
            if !adjacent {
                extend(&mut ranges, rules[..index].last().map_or(0, |(call, _)| call + 1), filter.otherwise);
            }
            let same = adjacent
                && own.len() == last.len()
                && own
                    .iter()
                    .zip(last)
                    .all(|(one, other)| one.when == other.when && one.action == other.action);
            if !same {
                let target = self.body(own, filter.otherwise);
                put(&mut ranges, *call, target);
            }
            last = own;
        }
        extend(&mut ranges, rules.last().map_or(0, |(call, _)| call + 1), filter.otherwise);
        let known = self.tree(&ranges);
        let foreign =
            self.branch(libc::BPF_JEQ, SKIPPED, Target::End(Action::Allow), Target::End(filter.other_abi));
        let all = self.branch(libc::BPF_JGE, FOREIGN, foreign, known);
        self.load(NUMBER, all)
    }

    /// Finds the range of the loaded number; each goes from its first number to the next range.
    fn tree(&mut self, ranges: &[(u32, Target)]) -> Target {
        match ranges {
            [] => Target::End(Action::Errno(libc::ENOSYS as u16)),
            [(_, target)] => *target,
            _ => {
                let (lower, upper) = ranges.split_at(ranges.len() / 2);
                let (high, low) = (self.tree(upper), self.tree(lower));
                self.branch(libc::BPF_JGE, upper[0].0, high, low)
            }
        }
    }
}

/// Has the calls from `first` on end with `action`.
fn extend(ranges: &mut Vec<(u32, Target)>, first: u32, action: Action) {
    put(ranges, first, Target::End(action));
}

/// Has the calls from `first` on go to `target`.
fn put(ranges: &mut Vec<(u32, Target)>, first: u32, target: Target) {
    while ranges.pop_if(|(start, _)| *start >= first).is_some() {}
    if ranges.last().is_none_or(|(_, last)| *last != target) {
        ranges.push((first, target));
    }
}

/// The rules of each call, by its number, without those that an earlier one leaves nothing to.
fn by_call(rules: &[Rule]) -> Vec<(u32, Vec<&Rule>)> {
    let mut calls = std::collections::BTreeMap::<u32, Vec<&Rule>>::new();
    for rule in rules {
        let Some(call) = u32::try_from(rule.call).ok().filter(|call| *call < FOREIGN) else { continue };
        let own = calls.entry(call).or_default();
        if own.last().is_none_or(|last| !last.when.is_empty()) {
            own.push(rule);
        }
    }
    calls.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAYOUTS: [Layout; 3] = [
        Layout { native: Some(0xc000_003e), compat: Some(0x4000_0003), big_endian: false },
        Layout { native: Some(0x8000_0016), compat: Some(0x16), big_endian: true },
        Layout { native: Some(0xc000_00f3), compat: None, big_endian: false },
    ];

    /// A call as the program sees it.
    #[derive(Debug, Clone, Copy)]
    struct Call {
        abi: u32,
        number: u32,
        arguments: [u64; 6],
    }

    impl Call {
        fn bytes(&self, big_endian: bool) -> Vec<u8> {
            let short = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
            let long = |value: u64| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
            let mut bytes = [short(self.number), short(self.abi), [0; 4], [0; 4]].concat();
            bytes.extend(self.arguments.iter().flat_map(|value| long(*value)));
            bytes
        }
    }

    /// Runs a program as the kernel would; gives its result and how many instructions that took.
    fn run(program: &[sock_filter], data: &[u8], big_endian: bool) -> (u32, usize) {
        assert!(program.len() <= libc::BPF_MAXINSNS as usize, "{} instructions", program.len());
        let (mut at, mut loaded) = (0, 0);
        for steps in 1.. {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                0x20 => {
                    assert_eq!(k % 4, 0);
                    let bytes = data[k as usize..k as usize + 4].try_into().unwrap();
                    loaded = if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
                }
                0x54 => loaded &= k,
                0x05 => at += k as usize,
                0x15 => at += usize::from(if loaded == k { jt } else { jf }),
                0x35 => at += usize::from(if loaded >= k { jt } else { jf }),
                0x06 => return (k, steps),
                other => panic!("no such instruction: {other:x}"),
            }
        }
        unreachable!("a program only goes forward")
    }

    /// What the rules say, without a program.
    fn evaluate(filter: &Filter, layout: Layout, call: Call) -> Action {
        let rules = if Some(call.abi) == layout.native {
            &filter.rules
        } else if let (Some(abi), Some(rules)) = (layout.compat, &filter.compat)
            && abi == call.abi
        {
            rules
        } else {
            return filter.other_abi;
        };
        match call.number {
            SKIPPED => return Action::Allow,
            FOREIGN.. => return filter.other_abi,
            _ => {}
        }
        let holds = |condition: &Condition| {
            let masked = call.arguments[usize::from(condition.argument)] & condition.mask;
            (masked == condition.wanted) != condition.negated
        };
        let found = rules
            .iter()
            .find(|rule| rule.call == libc::c_long::from(call.number) && rule.when.iter().all(holds));
        found.map_or(filter.otherwise, |rule| rule.action)
    }

    fn same(filter: &Filter, layout: Layout, calls: impl IntoIterator<Item = Call>) {
        let program = filter.assemble_for(layout);
        for call in calls {
            let (result, _) = run(&program, &call.bytes(layout.big_endian), layout.big_endian);
            assert_eq!(result, evaluate(filter, layout, call).value(), "{call:x?}");
        }
    }

    fn rule(call: i64, when: Vec<Condition>, action: Action) -> Rule {
        Rule { call, when, action }
    }

    fn filter(rules: Vec<Rule>) -> Filter {
        Filter { rules, compat: None, otherwise: Action::Errno(38), other_abi: Action::Errno(1) }
    }

    #[test]
    fn results_are_the_kernels() {
        for (action, value) in [
            (Action::Allow, 0x7fff_0000),
            (Action::Errno(38), 0x0005_0026),
            (Action::Notify, 0x7fc0_0000),
            (Action::Trace, 0x7ff0_0000),
        ] {
            assert_eq!(action.value(), value);
        }
    }

    #[test]
    fn both_halves_of_an_argument_count() {
        let wide = 0x1234_5678_9abc_def0;
        for (mask, wanted, argument, holds) in [
            (u64::MAX, wide, wide, true),
            (u64::MAX, wide, wide ^ 1, false),
            (u64::MAX, wide, wide ^ 1 << 63, false),
            (0xffff_ffff, 5, 5 | 7 << 32, true),
            (0xffff_ffff, 5, 6 | 7 << 32, false),
            (0xff << 32, 7 << 32, 7 << 32 | 9, true),
            (0xff << 32, 7 << 32, 8 << 32 | 9, false),
            // What the mask leaves out cannot be wanted.
            (0xf0, 0x01, 0x01, false),
            (0, 0, 77, true),
        ] {
            for negated in [false, true] {
                for (layout, position) in LAYOUTS.into_iter().flat_map(|layout| [(layout, 0), (layout, 5)]) {
                    let condition = Condition { argument: position, mask, wanted, negated };
                    let filter = filter(vec![rule(7, vec![condition], Action::Allow)]);
                    let mut arguments = [0; 6];
                    arguments[usize::from(position)] = argument;
                    let call = Call { abi: layout.native.unwrap(), number: 7, arguments };
                    let wanted = if holds != negated { Action::Allow } else { Action::Errno(38) };
                    assert_eq!(evaluate(&filter, layout, call), wanted);
                    same(&filter, layout, [call]);
                }
            }
        }
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let condition = Condition { argument: 1, mask: 1, wanted: 1, negated: false };
        let filter = filter(vec![
            rule(3, vec![condition], Action::Notify),
            rule(3, Vec::new(), Action::Trace),
            rule(3, Vec::new(), Action::Allow),
            rule(-1, Vec::new(), Action::Trace),
            rule(1 << 30, Vec::new(), Action::Trace),
        ]);
        for (number, arguments) in [
            (3, [0, 1, 0, 0, 0, 0]),
            (3, [0, 2, 0, 0, 0, 0]),
            (2, [0; 6]),
            (4, [0; 6]),
            (1 << 30, [0; 6]),
            (u32::MAX, [0; 6]),
            (u32::MAX - 1, [0; 6]),
        ] {
            for abi in [0xc000_003e, 0x4000_0003, 0] {
                same(&filter, LAYOUTS[0], [Call { abi, number, arguments }]);
            }
        }
    }

    #[test]
    fn far_targets_are_reached() {
        // Bodies of hundreds of instructions between calls with other results.
        let many = |call| {
            (0..130u64).map(move |wanted| {
                let condition = Condition { argument: 0, mask: u64::MAX, wanted, negated: false };
                rule(call, vec![condition], Action::Errno(wanted as u16))
            })
        };
        let mut rules: Vec<_> =
            (0..600).step_by(2).map(|call| rule(call, Vec::new(), Action::Allow)).collect();
        rules.extend(many(301).chain(many(599)));
        let filter = Filter { compat: Some(rules.clone()), ..filter(rules) };
        for layout in LAYOUTS {
            for abi in [layout.native, layout.compat].into_iter().flatten() {
                let numbers = (0..610).chain([FOREIGN, SKIPPED]);
                let calls = numbers.flat_map(|number| {
                    [0, 65, 129, 130, 1 << 40].map(|argument| Call { abi, number, arguments: [argument; 6] })
                });
                same(&filter, layout, calls);
            }
        }
    }

    #[test]
    fn calls_are_found_in_few_steps() {
        let rules = (0..512).step_by(2).map(|call| rule(call, Vec::new(), Action::Allow)).collect();
        let filter = filter(rules);
        let program = filter.assemble_for(LAYOUTS[0]);
        for number in 0..512 {
            let call = Call { abi: 0xc000_003e, number, arguments: [0; 6] };
            let (_, steps) = run(&program, &call.bytes(false), false);
            // The ABI, the number, x32, nine comparisons, the end, and jumps in between.
            assert!(steps <= 20, "{steps} steps for {number}");
        }
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            Just(Action::Allow),
            Just(Action::Notify),
            Just(Action::Trace),
            (0..3u16).prop_map(Action::Errno),
        ]
    }

    /// Values that meet one another often, in both halves.
    fn value() -> impl Strategy<Value = u64> {
        (0..3u64, 0..3u64).prop_map(|(high, low)| high << 32 | low)
    }

    fn mask() -> impl Strategy<Value = u64> {
        prop_oneof![Just(u64::MAX), Just(0xffff_ffff), Just(0xffff_ffff << 32), value()]
    }

    fn rules() -> impl Strategy<Value = Vec<Rule>> {
        let condition = (0..6u8, mask(), value(), any::<bool>())
            .prop_map(|(argument, mask, wanted, negated)| Condition { argument, mask, wanted, negated });
        let call = prop_oneof![0..40i64, 0..600i64];
        let rule = (call, prop::collection::vec(condition, 0..3), action())
            .prop_map(|(call, when, action)| Rule { call, when, action });
        prop::collection::vec(rule, 0..120)
    }

    proptest! {
        #[test]
        fn programs_do_what_the_rules_say(
            rules in rules(),
            compat in prop::option::of(rules()),
            otherwise in action(),
            other_abi in action(),
            layout in prop::sample::select(LAYOUTS.to_vec()),
            calls in prop::collection::vec((0..3usize, 0..620u32, prop::array::uniform6(value())), 1..40),
        ) {
            let filter = Filter { rules, compat, otherwise, other_abi };
            same(&filter, layout, calls.into_iter().map(|(abi, number, arguments)| {
                let abi = [layout.native, layout.compat, Some(1)][abi].unwrap_or(2);
                Call { abi, number, arguments }
            }));
        }
    }
}
