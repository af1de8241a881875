//! The smallest program of each architecture, to find out whether it runs.

use fanfold_platforms::{Machine, Platform};

use crate::target::{Target, bytes_of, elf_identity};

/// The exit status of a probe that ran. Not zero, because a shell that takes
/// the file for an empty script would return that.
pub const PROBE_STATUS: i32 = 42;

/// A static program of the platform's architecture that exits with
/// [`PROBE_STATUS`]; `None` if the architecture is not in the table.
///
/// Run it where the build will run: in the same namespaces, from the same file
/// system, as the only file of an otherwise empty root, and by `execve` itself,
/// since the fallback of `execvp` to a shell hides the error. It says nothing
/// of variants, which share their header.
#[must_use]
pub fn probe(platform: &Platform) -> Option<Vec<u8>> {
    let target = Target::of(platform)?;
    Some(program(platform.elf_machine()?, target.flags, target.exit))
}

/// An ELF file with one loaded segment, the whole file, that starts at `code`.
pub(crate) fn program(machine: Machine, flags: u32, code: &[u8]) -> Vec<u8> {
    let wide = machine.class == 64;
    let (word, header_len, entry_len): (usize, u64, u64) = if wide { (8, 64, 56) } else { (4, 52, 32) };
    let address: u64 = if wide { 0x40_0000 } else { 0x1_0000 };
    let start = header_len + entry_len;
    let len = start + code.len() as u64;

    const READ_EXECUTE: u64 = 5;
    let identity = elf_identity(machine);
    let mut file = identity.to_vec();
    let mut put = |fields: &[(u64, usize)]| {
        for &(number, len) in fields {
            file.extend(bytes_of(machine, number, len));
        }
    };
    // e_type, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags, then
    // the sizes and counts of headers; there are no sections.
    put(&[(2, 2), (machine.e_machine.into(), 2), (1, 4)]);
    put(&[(address + start, word), (header_len, word), (0, word), (flags.into(), 4)]);
    put(&[(header_len, 2), (entry_len, 2), (1, 2)]);
    put(&[(0, 2), (0, 2), (0, 2)]);
    // The flags come second in a 64-bit entry, last but one in a 32-bit one.
    put(&[(1, 4)]);
    if wide {
        put(&[(READ_EXECUTE, 4)]);
    }
    put(&[(0, word), (address, word), (address, word), (len, word), (len, word)]);
    if !wide {
        put(&[(READ_EXECUTE, 4)]);
    }
    put(&[(0x1_0000, word)]);
    file.extend_from_slice(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_those_of_the_golden_data() {
        let mut seen = 0;
        for line in include_str!("golden.txt").lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let ["FILE", architecture, want] = fields[..] else {
                continue;
            };
            seen += 1;
            let platform = Platform::new("linux", architecture, None, None);
            let file = probe(&platform).expect(architecture);
            let hex: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, want, "{architecture}");
            assert_eq!(fanfold_platforms::elf::machine_of(&file), platform.elf_machine());
        }
        assert_eq!(seen, 9);
    }

    #[test]
    fn unknown_architectures_have_none() {
        assert_eq!(probe(&Platform::new("linux", "sparc64", None, None)), None);
        assert_eq!(probe(&Platform::new("windows", "arm64", None, None)), None);
    }
}
