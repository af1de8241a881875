//! Reading the arguments of a call to execute a program, and laying out new ones.

use rustix::io::Errno;

use super::super::task::Task;
use super::rewrite::{Argument, Replacement};

/// More arguments than the kernel takes.
const LIMIT: usize = 1 << 21;
/// Bytes of a page.
const PAGE: u64 = 4096;
/// Bytes of a pointer.
const POINTER: u64 = 8;

/// Reads the addresses that end with a null; a null pointer is an empty list, as the kernel has it.
pub(super) fn pointers(task: &Task<'_>, address: u64) -> Result<Vec<u64>, Errno> {
    let mut found = Vec::new();
    if address == 0 {
        return Ok(found);
    }
    let mut at = address;
    let mut page = [0; PAGE as usize];
    while found.len() < LIMIT {
        let room = (PAGE - at % PAGE).max(POINTER) as usize;
        let bytes = &mut page[..room - room % POINTER as usize];
        task.read(at, bytes)?;
        for pointer in bytes.chunks_exact(POINTER as usize) {
            let value = u64::from_le_bytes(pointer.try_into().unwrap_or_default());
            if value == 0 {
                return Ok(found);
            }
            found.push(value);
        }
        at += bytes.len() as u64;
    }
    Err(Errno::TOOBIG)
}

/// New arguments, as they stand in memory.
#[derive(Debug)]
pub(super) struct Layout {
    strings: Vec<u8>,
    /// Offset of a string, or an address.
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy)]
enum Slot {
    Offset(u64),
    Address(u64),
}

impl Layout {
    /// The arguments of a replaced call, whose own are at `old`.
    pub(super) fn new(replacement: &Replacement, old: &[u64]) -> Self {
        let mut strings = Vec::new();
        let mut put = |text: &[u8]| {
            let offset = strings.len() as u64;
            strings.extend_from_slice(text);
            strings.push(0);
            Slot::Offset(offset)
        };
        // The first string is the path.
        put(&replacement.path);
        let mut slots: Vec<Slot> = Vec::with_capacity(replacement.front.len() + old.len());
        for argument in &replacement.front {
            slots.push(match (argument, old.first()) {
                (Argument::New(text), _) => put(text),
                (Argument::First, Some(address)) => Slot::Address(*address),
                (Argument::First, None) => put(&replacement.inside),
            });
        }
        slots.extend(old.iter().skip(1).map(|address| Slot::Address(*address)));
        Self { strings, slots }
    }

    /// One path alone.
    pub(super) fn path(path: &[u8]) -> Self {
        Self { strings: [path, b"\0"].concat(), slots: Vec::new() }
    }

    /// Bytes that it takes, with room for alignment.
    pub(super) fn length(&self) -> u64 {
        self.strings.len() as u64 + (self.slots.len() as u64 + 3) * POINTER
    }

    /// The bytes for a place in memory, and the addresses of path and arguments there.
    pub(super) fn at(&self, address: u64) -> Placed {
        let pointers = address.next_multiple_of(POINTER);
        let strings = pointers + (self.slots.len() as u64 + 1) * POINTER;
        let mut bytes = Vec::with_capacity(self.length() as usize);
        for slot in &self.slots {
            let value = match slot {
                Slot::Offset(offset) => strings + offset,
                Slot::Address(address) => *address,
            };
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; POINTER as usize]);
        bytes.extend_from_slice(&self.strings);
        Placed { at: pointers, bytes, path: strings, arguments: pointers }
    }
}

/// A layout at a place.
#[derive(Debug)]
pub(super) struct Placed {
    /// Where the bytes belong.
    pub(super) at: u64,
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    /// Address of the path.
    pub(super) path: u64,
    /// Address of the arguments.
    pub(super) arguments: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        let replacement = Replacement {
            path: b"/q".to_vec(),
            front: vec![Argument::New(b"x".to_vec()), Argument::First],
            inside: b"/p".to_vec(),
        };
        let layout = Layout::new(&replacement, &[7000, 8000]);
        let placed = layout.at(1001);
        assert_eq!((placed.at, placed.arguments, placed.path), (1008, 1008, 1040));
        let word = |at: usize| u64::from_le_bytes(placed.bytes[at..at + 8].try_into().unwrap());
        assert_eq!([word(0), word(8), word(16), word(24)], [1043, 7000, 8000, 0]);
        assert_eq!(&placed.bytes[32..], b"/q\0x\0");
        assert!(placed.at + placed.bytes.len() as u64 - 1001 <= layout.length());
        let empty = Layout::new(&replacement, &[]).at(0);
        assert_eq!(&empty.bytes[24..], b"/q\0x\0/p\0");
    }
}
