//! The table of emulated architectures.

use fanfold_platforms::{Endian, Machine, Platform};

/// How one architecture is emulated. All variants of an architecture share it.
#[derive(Debug)]
pub(crate) struct Target {
    /// The OCI architecture; it also names the handler.
    pub(crate) architecture: &'static str,
    /// The upstream name of the emulator without `qemu-`.
    pub(crate) emulator: &'static str,
    /// Names that Debian gives it besides, without `qemu-`.
    pub(crate) aliases: &'static [&'static str],
    /// Which bits of the file's first 20 bytes must match.
    pub(crate) mask: [u8; MAGIC_LEN],
    /// `e_flags` of the probe's ELF header: the ABI.
    pub(crate) flags: u32,
    /// Machine code of `exit(42)`.
    pub(crate) exit: &'static [u8],
}

/// Bytes compared by a handler: up to and with `e_machine`.
pub(crate) const MAGIC_LEN: usize = 20;

/// The usual mask: any `EI_OSABI`, and `e_type` of an executable or of a
/// position-independent one, which differ in the lowest bit.
const USUAL: [u8; MAGIC_LEN] = mask(&[(7, 0x00), (16, 0xfe)]);
/// As [`USUAL`], and some latitude in byte order and version of the header,
/// as QEMU's own registration has it.
const X86: [u8; MAGIC_LEN] = mask(&[(5, 0xfe), (6, 0xfe), (7, 0x00), (16, 0xfe)]);

pub(crate) const TARGETS: &[Target] = &[
    Target {
        architecture: "amd64",
        emulator: "x86_64",
        aliases: &["amd64"],
        mask: X86,
        flags: 0,
        exit: b"\xbf\x2a\0\0\0\xb8\x3c\0\0\0\x0f\x05",
    },
    Target {
        architecture: "386",
        emulator: "i386",
        aliases: &[],
        mask: X86,
        flags: 0,
        exit: b"\xbb\x2a\0\0\0\xb8\x01\0\0\0\xcd\x80",
    },
    Target {
        architecture: "arm64",
        emulator: "aarch64",
        aliases: &["arm64"],
        mask: USUAL,
        flags: 0,
        exit: b"\x40\x05\x80\xd2\xa8\x0b\x80\xd2\x01\0\0\xd4",
    },
    Target {
        architecture: "arm",
        emulator: "arm",
        aliases: &["armhf", "armel"],
        mask: USUAL,
        // EABI version 5, soft-float calls, which every ARM CPU has.
        flags: 0x0500_0200,
        exit: b"\x2a\0\xa0\xe3\x01\x70\xa0\xe3\0\0\0\xef",
    },
    Target {
        architecture: "riscv64",
        emulator: "riscv64",
        aliases: &[],
        mask: USUAL,
        // Compressed instructions, double-float calls.
        flags: 5,
        exit: b"\x13\x05\xa0\x02\x93\x08\xd0\x05\x73\0\0\0",
    },
    Target {
        architecture: "ppc64le",
        emulator: "ppc64le",
        aliases: &["ppc64el"],
        mask: mask(&[(7, 0x00), (16, 0xfe), (19, 0x00)]),
        // ABI version 2.
        flags: 2,
        exit: b"\x01\0\0\x38\x2a\0\x60\x38\x02\0\0\x44",
    },
    Target {
        architecture: "s390x",
        emulator: "s390x",
        aliases: &[],
        // Big-endian: the low byte of `e_type` comes second.
        mask: mask(&[(7, 0x00), (17, 0xfe)]),
        flags: 0,
        exit: b"\xa7\x29\0\x2a\x0a\x01",
    },
    Target {
        architecture: "mips64le",
        emulator: "mips64el",
        aliases: &[],
        mask: mask(&[(7, 0x00), (8, 0x00), (16, 0xfe)]),
        // MIPS64 release 2, position-independent code with calls to such code.
        flags: 0x8000_0007,
        exit: b"\x2a\0\x04\x24\xc2\x13\x02\x24\x0c\0\0\0",
    },
    Target {
        architecture: "loong64",
        emulator: "loongarch64",
        aliases: &["loong64"],
        mask: mask(&[(7, 0xfc), (8, 0x00), (16, 0xfe)]),
        // Object ABI version 1, double-float calls.
        flags: 0x43,
        exit: b"\x04\xa8\x80\x03\x0b\x74\x81\x03\0\0\x2b\0",
    },
];

/// All ones but for the given bytes.
const fn mask(exceptions: &[(usize, u8)]) -> [u8; MAGIC_LEN] {
    let mut mask = [0xff; MAGIC_LEN];
    let mut next = 0;
    while next < exceptions.len() {
        mask[exceptions[next].0] = exceptions[next].1;
        next += 1;
    }
    mask
}

impl Target {
    /// The row of a platform's architecture, if QEMU emulates it for Linux.
    pub(crate) fn of(platform: &Platform) -> Option<&'static Self> {
        let same = |target: &&Self| target.architecture == platform.architecture();
        TARGETS.iter().find(same).filter(|_| platform.os() == "linux")
    }

    /// The upstream name of the emulator, such as `qemu-aarch64`.
    pub(crate) fn program(&self) -> String {
        format!("qemu-{}", self.emulator)
    }
}

/// The 16 identifying bytes at the start of an ELF file.
pub(crate) fn elf_identity(machine: Machine) -> [u8; 16] {
    let mut identity = *b"\x7fELF\0\0\x01\0\0\0\0\0\0\0\0\0";
    identity[4] = if machine.class == 64 { 2 } else { 1 };
    identity[5] = match machine.endian {
        Endian::Little => 1,
        Endian::Big => 2,
    };
    identity
}

/// An integer in the machine's byte order, `len` bytes wide.
pub(crate) fn bytes_of(machine: Machine, number: u64, len: usize) -> Vec<u8> {
    match machine.endian {
        Endian::Little => number.to_le_bytes()[..len].to_vec(),
        Endian::Big => number.to_be_bytes()[8 - len..].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_platform_with_a_machine() {
        for target in TARGETS {
            let platform = Platform::new("linux", target.architecture, None, None);
            let found = Target::of(&platform).expect(target.architecture);
            assert_eq!(found.emulator, target.emulator);
            assert!(platform.elf_machine().is_some(), "{platform}");
        }
        let foreign = Platform::new("windows", "arm64", None, None);
        assert!(Target::of(&foreign).is_none());
    }
}
