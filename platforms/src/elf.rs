//! The little of an ELF file that tells whose program it is.
//!
//! Sources: System V ABI, "ELF header" and "Program header"; Linux
//! `fs/binfmt_elf.c` for the limit on program headers.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use crate::ARCHITECTURES;

/// Bytes of a file that [`machine_of`] needs.
pub const HEADER_LEN: usize = 20;

const PT_INTERP: u64 = 3;
/// The kernel refuses a larger table of program headers.
const MAX_PROGRAM_HEADERS: u64 = 65536;
/// `PATH_MAX`, above which the kernel refuses an interpreter's path.
const MAX_INTERPRETER: u64 = 4096;

/// Order of the bytes in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// What an ELF header says of the machine that runs the file.
///
/// `Display` prints the OCI architecture, or the numbers of an unknown machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// The `e_machine` field, such as 183 for AArch64.
    pub e_machine: u16,
    /// Bits of an address: 32 or 64.
    pub class: u8,
    /// Order of bytes.
    pub endian: Endian,
}

impl Machine {
    /// The OCI architecture of this machine's programs. The header does not
    /// tell the variants of one architecture apart.
    #[must_use]
    pub fn architecture(self) -> Option<&'static str> {
        ARCHITECTURES.iter().find(|row| row.machine == self).map(|row| row.name)
    }

    /// Bytes of this machine's integer as a number.
    fn number(self, bytes: &[u8]) -> u64 {
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        match self.endian {
            Endian::Little => bytes.iter().rev().fold(0, fold),
            Endian::Big => bytes.iter().fold(0, fold),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.architecture() {
            return f.write_str(name);
        }
        let endian = match self.endian {
            Endian::Little => "little",
            Endian::Big => "big",
        };
        write!(f, "ELF machine {} ({} bit, {endian}-endian)", self.e_machine, self.class)
    }
}

/// Reads the machine from the first [`HEADER_LEN`] bytes of a file, or more.
/// `None` if they are not those of an ELF file.
#[must_use]
pub fn machine_of(header: &[u8]) -> Option<Machine> {
    let header = header.get(..HEADER_LEN)?;
    if !header.starts_with(b"\x7fELF") {
        return None;
    }
    let class = match header[4] {
        1 => 32,
        2 => 64,
        _ => return None,
    };
    let (endian, from_bytes): (Endian, fn([u8; 2]) -> u16) = match header[5] {
        1 => (Endian::Little, u16::from_le_bytes),
        2 => (Endian::Big, u16::from_be_bytes),
        _ => return None,
    };
    Some(Machine { e_machine: from_bytes([header[18], header[19]]), class, endian })
}

/// Reads the path of the dynamic loader that an ELF program asks for
/// (`PT_INTERP`), without its final zero byte. `None` for a program that needs
/// none: one that is linked statically, position-independent or not.
///
/// # Errors
///
/// `InvalidData` if the file is not ELF or its headers contradict themselves,
/// `UnexpectedEof` if it is cut short, and what the reader says.
pub fn interpreter<R: Read + Seek>(file: &mut R) -> io::Result<Option<Vec<u8>>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut header = [0; 64];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut header[..52])?;
    let machine = machine_of(&header).ok_or_else(|| invalid("not an ELF file"))?;
    let wide = machine.class == 64;
    if wide {
        file.read_exact(&mut header[52..])?;
    }
    let (offset, entry_size, count, entry_len) = if wide {
        (&header[32..40], &header[54..56], &header[56..58], 56)
    } else {
        (&header[28..32], &header[42..44], &header[44..46], 32)
    };
    let count = machine.number(count);
    if count == 0 {
        return Ok(None);
    }
    if machine.number(entry_size) != entry_len || count * entry_len > MAX_PROGRAM_HEADERS {
        return Err(invalid("bad table of ELF program headers"));
    }
    file.seek(SeekFrom::Start(machine.number(offset)))?;
    let mut entry = [0; 56];
    let entry = &mut entry[..if wide { 56 } else { 32 }];
    for _ in 0..count {
        file.read_exact(entry)?;
        if machine.number(&entry[..4]) != PT_INTERP {
            continue;
        }
        let (offset, size) =
            if wide { (&entry[8..16], &entry[32..40]) } else { (&entry[4..8], &entry[16..20]) };
        let size = machine.number(size);
        if size > MAX_INTERPRETER {
            return Err(invalid("ELF interpreter path is too long"));
        }
        file.seek(SeekFrom::Start(machine.number(offset)))?;
        let mut path = Vec::new();
        if file.take(size).read_to_end(&mut path)? as u64 != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(path.len()));
        return Ok(Some(path));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// An ELF file of the given shape with a `PT_NOTE` and a `PT_INTERP` header.
    fn program(wide: bool, big: bool, path: &[u8]) -> Vec<u8> {
        let (header_len, entry_len) = if wide { (64, 56) } else { (52, 32) };
        let mut file = vec![0; header_len + 2 * entry_len];
        file[..7].copy_from_slice(b"\x7fELF\x00\x00\x01");
        file[4] = 1 + u8::from(wide);
        file[5] = 1 + u8::from(big);
        let mut put = |offset: usize, len: usize, number: usize| {
            let mut bytes = number.to_le_bytes()[..len].to_vec();
            if big {
                bytes.reverse();
            }
            file[offset..offset + len].copy_from_slice(&bytes);
        };
        let word = if wide { 8 } else { 4 };
        let (phoff, phentsize) = if wide { (32, 54) } else { (28, 42) };
        put(18, 2, 22);
        put(phoff, word, header_len);
        put(phentsize, 2, entry_len);
        put(phentsize + 2, 2, 2);
        put(header_len, 4, 4);
        let entry = header_len + entry_len;
        put(entry, 4, 3);
        put(entry + word, word, header_len + 2 * entry_len);
        put(entry + 4 * word, word, path.len());
        file.extend_from_slice(path);
        file
    }

    #[test]
    fn interpreters_are_read_in_all_shapes() {
        for (wide, big) in [(true, false), (true, true), (false, false), (false, true)] {
            let good = program(wide, big, b"/lib/ld.so.1\0");
            let read = |file: &[u8]| interpreter(&mut Cursor::new(file));
            assert_eq!(read(&good).expect("good"), Some(b"/lib/ld.so.1".to_vec()));
            let want = Machine {
                e_machine: 22,
                class: if wide { 64 } else { 32 },
                endian: if big { Endian::Big } else { Endian::Little },
            };
            assert_eq!(machine_of(&good), Some(want));
            for cut in 0..good.len() {
                assert!(read(&good[..cut]).is_err(), "cut at {cut}");
            }
            let long = program(wide, big, &[b'x'; 5000]);
            assert!(read(&long).expect_err("too long").to_string().contains("too long"));
        }
    }

    #[test]
    fn a_program_without_the_header_is_static() {
        let mut file = program(true, false, b"");
        file[64 + 56] = 1;
        assert_eq!(interpreter(&mut Cursor::new(&file)).expect("good"), None);
        file[54] = 7;
        assert!(interpreter(&mut Cursor::new(&file)).is_err());
    }

    #[test]
    fn other_files_have_no_machine() {
        let mut header = program(true, false, b"");
        for text in [&b"#!/bin/sh\nexit 0 # padded"[..], b"\x7fELF", b""] {
            assert_eq!(machine_of(text), None);
        }
        header[4] = 3;
        assert_eq!(machine_of(&header), None);
        let unknown = Machine { e_machine: 9999, class: 32, endian: Endian::Big };
        assert_eq!(unknown.to_string(), "ELF machine 9999 (32 bit, big-endian)");
    }
}
