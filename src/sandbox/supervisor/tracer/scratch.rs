//! Memory in a traced process for new arguments of a call.
//!
//! Below the stack pointer there is room on a main stack. Elsewhere, on the stacks of threads and of
//! runtimes that make small ones, there may be none, and a process that shares its memory with the one it
//! was forked from would lose what lies there: such a one is made to map memory of its own, which is used
//! again by the next that shares it.

use std::collections::HashMap;

use super::super::task::Task;

/// A main stack is at least this large, as long as nobody has lowered the limit; a write beyond fails.
const STACK: u64 = 8 << 20;

/// Mapped memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) address: u64,
    pub(super) length: u64,
}

/// The memory that was mapped in traced processes.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What is free, by the process that the memory is of.
    free: HashMap<i32, Vec<Slot>>,
    /// What a thread has, and whose memory that is.
    taken: HashMap<i32, (i32, Slot)>,
    /// Processes that run in the memory of another one until they execute a program.
    borrowers: HashMap<i32, i32>,
}

impl Scratch {
    /// A process begins that runs in the memory of its parent.
    pub(super) fn borrow(&mut self, child: i32, parent: i32) {
        let owner = self.owner(parent);
        self.borrowers.insert(child, owner);
    }

    /// The process whose memory a process runs in.
    pub(super) fn owner(&self, process: i32) -> i32 {
        self.borrowers.get(&process).copied().unwrap_or(process)
    }

    /// Memory for a thread of `process`, where enough of it was mapped before.
    pub(super) fn take(&mut self, thread: i32, process: i32, length: u64) -> Option<Slot> {
        self.give_back(thread);
        let owner = self.owner(process);
        let free = self.free.get_mut(&owner)?;
        let at = free.iter().position(|slot| slot.length >= length)?;
        let slot = free.swap_remove(at);
        self.taken.insert(thread, (owner, slot));
        Some(slot)
    }

    /// Memory was mapped for `process`.
    pub(super) fn add(&mut self, process: i32, slot: Slot) {
        let owner = self.owner(process);
        self.free.entry(owner).or_default().push(slot);
    }

    /// A thread has no use for its memory any more.
    fn give_back(&mut self, thread: i32) {
        if let Some((owner, slot)) = self.taken.remove(&thread) {
            self.free.entry(owner).or_default().push(slot);
        }
    }

    /// A thread has executed a program: what it ran in before is the memory of others, or gone.
    pub(super) fn executed(&mut self, thread: i32, before: i32) {
        for thread in [thread, before] {
            self.give_back(thread);
            if self.borrowers.remove(&thread).is_none() {
                self.free.remove(&thread);
            }
        }
    }

    /// A thread has ended.
    pub(super) fn ended(&mut self, thread: i32) {
        self.executed(thread, thread);
    }
}

/// Whether `pointer` is in the main stack of the thread's program.
pub(super) fn is_main_stack(task: &Task<'_>, pointer: u64) -> bool {
    let start = task.file("stat").ok().and_then(|text| {
        // The name of the program may hold anything, also brackets.
        let rest = text.rsplit_once(") ")?.1;
        rest.split(' ').nth(25)?.parse::<u64>().ok()
    });
    start.is_some_and(|start| pointer < start && start - pointer < STACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot { address: 4096, length: 4096 };

    #[test]
    fn memory_is_used_again() {
        let mut scratch = Scratch::default();
        scratch.borrow(11, 10);
        assert_eq!(scratch.take(11, 11, 100), None);
        scratch.add(11, SLOT);
        assert_eq!(scratch.take(11, 11, 100), Some(SLOT));
        scratch.borrow(12, 10);
        assert_eq!(scratch.take(12, 12, 100), None);
        scratch.executed(11, 11);
        assert_eq!(scratch.take(12, 12, 5000), None);
        assert_eq!(scratch.take(12, 12, 100), Some(SLOT));
        scratch.ended(12);
        assert_eq!(scratch.take(10, 10, 100), Some(SLOT));
        scratch.executed(10, 10);
        assert_eq!(scratch.take(10, 10, 100), None);
    }
}
